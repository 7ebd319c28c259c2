"""The distinct candidates of each step of a sampled softmax, and the weight each has there.

Popular items are drawn many times in a step. In the softmax an item that is there n times is one with n times the weight,
so it need be gathered, scored and updated once, its score raised by the logarithm of its weight:

    weight = sum over its places of support ** -logq as a target, of support ** -(alpha logq) as a drawn item

That is the logQ correction: targets come with a chance ~ support, drawn items ~ support ** alpha. It takes no model to find
all this, so another thread does it for the steps that come next.

The candidates of a step come in two halves for two threads. The items that the step names itself, its targets and inputs,
are all in the first: their rows have more to be added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketrec.schema import Int32, Int64

Floats = npt.NDArray[np.float32]

CELLS = 1 << 17
"""Marks, two for each item and step, that are made at a time: as many as a cache holds."""
NEVER = -1e9
"""The logarithm of the weight of an item that is no candidate but stands in the step as an input."""


@dataclass(frozen=True)
class Candidates:
    """Of some steps, one after the other.

    Attributes:
        items: of each step, first those that it names, then the others, both ascending; int32 (all,).
        log_weights: of each of them, float32 (all,).
        bounds: where each step begins in these two, where its second half does, which may be empty, and where it ends;
            int32 (steps, 3).
        targets: which candidate of its step each lane's target is, 0 where there is none; int32 (steps, B).
        inputs: the same of what was asked for as input; int32 (steps, any).
    """

    items: Int32
    log_weights: Floats
    bounds: Int32
    targets: Int32
    inputs: Int32


class Finder:
    """Finds them.

    Args:
        support: how often each item was clicked, 1 or more; (n_items,).
        alpha: the power of support that items are drawn with.
        logq: share of the correction; 0: a weight is a count.
    """

    def __init__(self, support: Int64, alpha: float, logq: float) -> None:
        often = np.maximum(np.asarray(support, np.float64), 1)
        self._weights = often**-logq, often ** -(alpha * logq)

    def find(self, targets: Int32, inputs: Int32, drawn: Int32) -> Candidates:
        """Candidates of some steps.

        Args:
            targets: int32 (steps, B), -1 where a lane has none and so puts up no candidate.
            inputs: items that must be among them without weight; int32 (steps, any).
            drawn: int32 (steps, S).
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

    def _find(self, targets: Int32, inputs: Int32, drawn: Int32) -> tuple[Int64, Int32, Floats, Int64, Int32, Int32]:
        """Counts of the steps, items, logarithms of weights, counts of first halves, places of targets and of inputs."""
        (steps, lanes), items = targets.shape, len(self._weights[0])
        known, first = np.maximum(targets, 0), np.arange(steps, dtype=np.int64)[:, None] * items
        often = np.bincount((drawn + first).ravel(), minlength=steps * items).reshape(steps, items)
        mark = np.zeros((steps, 2, items), bool)  # what a step names, and what is only drawn
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
