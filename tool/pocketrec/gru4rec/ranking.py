"""Recall@N and MRR@N of the next item among all items, as the official GRU4Rec defines them.

The rank of the next item is 1 + the number of items with a higher score. The tie mode says how many of the other items with
the same score count as higher:

    standard: none of them;  median: half of them;  conservative: all of them

Recall@N is the share of events whose next item has rank N or better. MRR@N is the mean of 1 / rank, where ranks beyond N
count as 0. A model that gives all items the same score is perfect in `standard` and worst in `conservative`, so a report
must name the mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.errors import ModelError
from pocketrec.gru4rec.options import Ties
from pocketrec.schema import Bool, Float32, Int32

JUDGED_AT = 20
"""N of the MRR@N on train_valid that decides which epoch's weights are kept, and which settings are chosen."""
TIED_SHARE: Mapping[str, float] = {"standard": 0.0, "conservative": 1.0, "median": 0.5}
"""Tie mode -> share of the other items with the same score that counts as higher."""


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of one model.

    Attributes:
        name: the name of the model in the report.
        recall: N -> Recall@N.
        mrr: N -> MRR@N.
        settings: those of a baseline that were chosen for it, by name; empty where there are none.
    """

    name: str
    recall: Mapping[int, float]
    mrr: Mapping[int, float]
    settings: Mapping[str, Any] = field(default_factory=dict)


class Ranking:
    """Counts the ranks of next items, step by step; `cutoffs` are the values N, `events` is the number of ranks so far."""

    def __init__(self, cutoffs: Sequence[int] = (1, 5, 10, 20), ties: Ties = "conservative") -> None:
        self.cutoffs, self.ties, self.events = tuple(sorted(set(cutoffs))), ties, 0
        self._hits = np.zeros(len(self.cutoffs))
        self._reciprocals = np.zeros(len(self.cutoffs))

    def add(self, scores: Float32, target: Int32) -> None:
        """Count one step.

        Args:
            scores: scores of all items, (lanes, n_items).
            target: the next item of each lane, int32 (lanes,); -1 where there is none.
        """
        lanes = np.flatnonzero(target >= 0)
        ranks = ranks_of(scores[lanes] if len(lanes) < len(target) else scores, target[lanes], self.ties)
        within: Bool = ranks[:, None] <= np.array(self.cutoffs)
        self.events += len(ranks)
        self._hits += within.sum(axis=0)
        self._reciprocals += (within / ranks[:, None]).sum(axis=0)

    def accuracy(self, name: str) -> Accuracy:
        """Recall and MRR over all counted events; 0 if there are none."""
        recall, mrr = (
            dict(zip(self.cutoffs, (sums / max(self.events, 1)).tolist(), strict=True))
            for sums in (self._hits, self._reciprocals)
        )
        return Accuracy(name, recall, mrr)


def ranks_of(scores: Float32, target: Int32, ties: Ties) -> npt.NDArray[np.float64]:
    """The rank of each row's target, 1 for the best; with the tie mode `median` ranks can be halves.

    Raises:
        ModelError: a score is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise ModelError(
            "The model gives an item a score that is not finite (NaN or infinite).",
            expected="finite scores",
            do="train again with a lower learning rate",
        )
    own = scores[np.arange(len(target)), target][:, None]
    above, level = np.count_nonzero(scores > own, axis=1), np.count_nonzero(scores == own, axis=1)
    ranks: npt.NDArray[np.float64] = 1 + above + (level - 1) * TIED_SHARE[ties]
    return ranks
