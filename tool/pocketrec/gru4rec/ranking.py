"""Recall@N and MRR@N of the next item among all items, as the official GRU4Rec defines them.

The rank of the next item is one more than the items with a higher score. Items that score the same count by the tie mode:

    standard: none of them;  median: half of them;  conservative: all of them

Recall@N is the share of events whose next item has rank N or better, MRR@N the mean of 1 / rank, 0 beyond N. A model that
gives all items one score is perfect in `standard` and worthless in `conservative`; a report must name the mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketrec.errors import ModelError
from pocketrec.gru4rec.options import Ties
from pocketrec.schema import Bool, Int32

Floats = npt.NDArray[np.float32]
TIED_SHARE: Mapping[str, float] = {"standard": 0.0, "conservative": 1.0, "median": 0.5}
"""How much of an item with the same score counts as one with a higher score."""


@dataclass(frozen=True)
class Accuracy:
    """Of one model.

    Attributes:
        name: of the model.
        recall: by N.
        mrr: by N.
    """

    name: str
    recall: Mapping[int, float]
    mrr: Mapping[int, float]


class Ranking:
    """Counts ranks, step by step.

    Args:
        cutoffs: every N.
        ties: the tie mode.

    Attributes:
        events: ranks counted.
    """

    def __init__(self, cutoffs: Sequence[int] = (1, 5, 10, 20), ties: Ties = "conservative") -> None:
        self.cutoffs, self.ties, self.events = tuple(sorted(set(cutoffs))), ties, 0
        self._hits = np.zeros(len(self.cutoffs))
        self._reciprocals = np.zeros(len(self.cutoffs))

    def add(self, scores: Floats, target: Int32) -> None:
        """Count one step.

        Args:
            scores: of all items, (lanes, n_items).
            target: the next item of each lane, int32 (lanes,); -1 where there is none.

        Raises:
            ModelError: a score is not a finite number: nothing can be said about its rank.
        """
        lanes = np.flatnonzero(target >= 0)
        ranks = ranks_of(scores[lanes] if len(lanes) < len(target) else scores, target[lanes], self.ties)
        within: Bool = ranks[:, None] <= np.array(self.cutoffs)
        self.events += len(ranks)
        self._hits += within.sum(axis=0)
        self._reciprocals += (within / ranks[:, None]).sum(axis=0)

    def accuracy(self, name: str) -> Accuracy:
        """The means over what was counted; 0 where that is nothing."""
        recall, mrr = (
            dict(zip(self.cutoffs, (sums / max(self.events, 1)).tolist(), strict=True))
            for sums in (self._hits, self._reciprocals)
        )
        return Accuracy(name, recall, mrr)


def ranks_of(scores: Floats, target: Int32, ties: Ties) -> npt.NDArray[np.float64]:
    """The rank of each row's target, 1 for the best; with ties `median` also halves.

    Raises:
        ModelError: a score is not a finite number.
    """
    if not np.isfinite(scores).all():
        raise ModelError(
            "The model scores an item with a number that is not finite.",
            expected="finite scores",
            do="train again with a lower learning rate",
        )
    own = scores[np.arange(len(target)), target][:, None]
    above, level = np.count_nonzero(scores > own, axis=1), np.count_nonzero(scores == own, axis=1)
    ranks: npt.NDArray[np.float64] = 1 + above + (level - 1) * TIED_SHARE[ties]
    return ranks
