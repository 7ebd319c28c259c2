"""Scores of a network and of kept sessions in one: a weighted mean of the logarithms of both shares.

A mean of the shares themselves was worse on the logs that were tried: a network is sure of a few items, sessions of many a
little.
"""

from __future__ import annotations

import numpy as np

from pocketrec.schema import Float32

UNSEEN = 1e-4
"""What is added to the share of an item among the sessions, so that one that none of them holds is not ruled out."""


def blended(network: Float32, sessions: Float32, weight: float) -> Float32:
    """Scores of all items, (lanes, n_items), 0 or less; higher is better.

    Args:
        network: logits or probabilities of all items, (lanes, n_items).
        sessions: scores of `WeighedNeighbours`, 0 or more; a row without any leaves the order to the network.
        weight: of the sessions, 0 to 1.
    """
    shares = sessions / np.maximum(sessions.sum(axis=1, keepdims=True), 1e-30)
    found: Float32 = ((1 - weight) * _logs(network) + weight * np.log(shares + UNSEEN)).astype(np.float32)
    return found


def _logs(scores: Float32) -> Float32:
    """Logarithms of probabilities, from logits or from probabilities themselves, such as LiteRT's `infer` gives."""
    if scores.min() >= 0 and np.abs(scores.sum(axis=1) - 1).max() < 1e-3:
        return np.log(np.maximum(scores, np.float32(1e-30)))
    lower = scores - scores.max(axis=1, keepdims=True)
    found: Float32 = lower - np.log(np.exp(lower).sum(axis=1, keepdims=True))
    return found
