"""Scores of a network and of kept sessions in one: shares of both, with a weight."""

from __future__ import annotations

import numpy as np

from pocketrec.schema import Float32


def blended(network: Float32, sessions: Float32, weight: float) -> Float32:
    """Both as shares of 1, (1 - weight) of the network's and `weight` of the sessions'.

    Args:
        network: logits or probabilities of all items, (lanes, n_items).
        sessions: scores of `WeighedNeighbours`, 0 or more; a row without any leaves the network alone.
        weight: 0 to 1.
    """
    totals = sessions.sum(axis=1, keepdims=True)
    share = np.where(totals > 0, weight, 0)
    found: Float32 = ((1 - share) * _shares(network) + share * sessions / np.maximum(totals, 1e-30)).astype(np.float32)
    return found


def _shares(scores: Float32) -> Float32:
    """Logits as probabilities; probabilities, such as LiteRT's `infer` gives, as they are."""
    if scores.min() >= 0 and np.abs(scores.sum(axis=1) - 1).max() < 1e-3:
        return scores
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Float32 = raised / raised.sum(axis=1, keepdims=True)
    return found
