"""The distinct candidates of each step of a sampled softmax, and their weights.

Candidates are the items that a step scores: the targets of the batch and the drawn items. Popular items are drawn many
times in a step. In a softmax, an item that is there n times is equal to one item with n times the weight. So each item is
gathered, scored and updated once, and the logarithm of its weight is added to its score:

    weight = sum of support ** -logq for each time it is a target, and of support ** -(alpha logq) for each time it is drawn

This includes the logQ correction: items are targets with a probability proportional to support, and are drawn with one
proportional to support ** alpha. No model is needed for this, so another thread does it for the next steps.

The candidates of a step are split into two halves for two threads. Targets and inputs of the step are all in the first
half, since their rows get further gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pocketrec.schema import Float32, Int32, Int64

CELLS = 1 << 17
"""Marks (two for each item and step) that are made at a time: as many as the processor's cache holds."""
NEVER = -1e9
"""Log weight of an item that is only an input of the step and no candidate."""


class Candidates(NamedTuple):
    """The candidates of several steps.

    Attributes:
        items: item codes, step after step: first targets and inputs of the step, then the others, each ascending; (all,).
        log_weights: logarithms of their weights, (all,).
        bounds: for each step, where in `items` it begins, its second half (which may be empty) begins, and it ends;
            int32 (steps, 3).
        targets: place of each lane's target among the candidates of its step, 0 if there is no target; int32 (steps, B).
        inputs: place of each input among them; int32 (steps, number of inputs).
    """

    items: Int32
    log_weights: Float32
    bounds: Int32
    targets: Int32
    inputs: Int32


class Finder:
    """Finds the candidates of steps.

    Args:
        support: clicks of each item, (n_items,); 0 counts as 1.
        alpha: the power of support with which items are drawn.
        logq: strength of the logQ correction; 0: a weight is a count.
    """

    def __init__(self, support: Int64, alpha: float, logq: float) -> None:
        often = np.maximum(np.asarray(support, np.float64), 1)
        self._weights = often**-logq, often ** -(alpha * logq)

    def find(self, targets: Int32, inputs: Int32, drawn: Int32) -> Candidates:
        """Find the candidates of several steps.

        Args:
            targets: target of each lane, -1 for none; int32 (steps, B).
            inputs: items that must be in `Candidates.items` although they have no weight; int32 (steps, any number).
            drawn: drawn items, int32 (steps, S).
        """
        most = max(1, CELLS // (2 * len(self._weights[0])))
        parts = [
            self._find(*(rows[first : first + most] for rows in (targets, inputs, drawn)))
            for first in range(0, len(targets), most)
        ]
        counts, *others = (np.concatenate(some) for some in zip(*parts, strict=True))
        items, log_weights, cuts, of_targets, of_inputs = others
        ends = np.cumsum(counts)
        bounds = np.stack([ends - counts, ends - counts + cuts, ends], axis=1).astype(np.int32)
        return Candidates(items, log_weights, bounds, of_targets, of_inputs)

    def _find(self, targets: Int32, inputs: Int32, drawn: Int32) -> tuple[Int64, Int32, Float32, Int64, Int32, Int32]:
        """Number of candidates of each step, items, log weights, sizes of first halves, places of targets and inputs."""
        (steps, lanes), items = targets.shape, len(self._weights[0])
        known, first = np.maximum(targets, 0), np.arange(steps, dtype=np.int64)[:, None] * items
        often = np.bincount((drawn + first).ravel(), minlength=steps * items).reshape(steps, items)
        mark = np.zeros((steps, 2, items), bool)  # targets and inputs of a step; items that are only drawn
        named = np.concatenate([known, inputs], axis=1) + 2 * first
        mark.reshape(-1)[named] = True
        np.logical_and(often, ~mark[:, 0], out=mark[:, 1])
        found, planes = np.flatnonzero(mark), np.arange(2 * steps + 1) * items
        halves = np.diff(np.searchsorted(found, planes)).reshape(steps, 2)
        counts = halves.sum(axis=1)
        cuts = np.maximum(halves[:, 0], counts // 2)
        rank = np.empty(mark.size, np.int32)
        rank[found] = np.arange(len(found), dtype=np.int32)
        places, codes = rank[named], found - np.repeat(planes[:-1], halves.ravel())
        of_target, of_drawn = self._weights
        weights = often.reshape(-1)[codes + np.repeat(first[:, 0], counts)] * of_drawn[codes]
        weights += np.bincount(places[:, :lanes].ravel(), (of_target[known] * (targets >= 0)).ravel(), len(found))
        with np.errstate(divide="ignore"):
            log_weights = np.where(weights > 0, np.log(weights), NEVER).astype(np.float32)
        places -= (np.cumsum(counts) - counts).astype(np.int32)[:, None]
        return counts, codes.astype(np.int32), log_weights, cuts, places[:, :lanes], places[:, lanes:]
