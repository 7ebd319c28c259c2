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
from pocketrec.schema import Bool, Float32, Float64, Int32, Int64

JUDGED_AT = 20
"""N of the MRR@N on train_valid that decides which epoch's weights are kept, and which settings are chosen."""
TIED_SHARE: Mapping[str, float] = {"standard": 0.0, "conservative": 1.0, "median": 0.5}
"""Tie mode -> share of the other items with the same score that counts as higher."""


PLACES = (1, 2, 3, 4, 6, 11)
"""Of the click in its session, from 1, from which the next one is guessed: the first of each group of events."""
SUPPORTS = (1, 10, 100, 1000, 10_000)
"""Clicks of the next item in training: the first of each group."""


@dataclass(frozen=True)
class Group:
    """The accuracy on some of the events, at the largest N.

    Attributes:
        least: the smallest place in the session, or the fewest clicks of the next item in training, that is in the group.
        most: the largest; None where there is no limit.
        events: how many events there are.
        recall: Recall@N of them.
        mrr: MRR@N of them.
    """

    least: int
    most: int | None
    events: int
    recall: float
    mrr: float


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of one model.

    Attributes:
        name: the name of the model in the report.
        recall: N -> Recall@N.
        mrr: N -> MRR@N.
        by_place: the same by the place in the session, where it was counted.
        by_support: the same by how often the next item was clicked in training, where it was counted.
        settings: those of a baseline that were chosen for it, by name; empty where there are none.
    """

    name: str
    recall: Mapping[int, float]
    mrr: Mapping[int, float]
    by_place: tuple[Group, ...] = ()
    by_support: tuple[Group, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


class _Groups:
    """Counts events, hits and reciprocal ranks by groups, whose first values are `firsts`."""

    def __init__(self, firsts: Sequence[int]) -> None:
        self.firsts, self.sums = np.array(firsts), np.zeros((len(firsts), 3))

    def add(self, values: Int64, hits: Bool, reciprocals: Float64) -> None:
        groups = np.searchsorted(self.firsts, values, side="right") - 1
        np.add.at(self.sums, np.maximum(groups, 0), np.stack([np.ones(len(values)), hits, reciprocals], axis=1))

    def found(self) -> tuple[Group, ...]:
        lasts = [*(int(first) - 1 for first in self.firsts[1:]), None]
        rows = zip(self.firsts.tolist(), lasts, self.sums.tolist(), strict=True)
        return tuple(Group(least, most, int(n), hits / n, sums / n) for least, most, (n, hits, sums) in rows if n)


class Ranking:
    """Counts the ranks of next items, step by step; `cutoffs` are the values N, `events` is the number of ranks so far.

    With `support`, the clicks of each item in training, (n_items,), they are also counted by groups.
    """

    def __init__(
        self, cutoffs: Sequence[int] = (1, 5, 10, 20), ties: Ties = "conservative", support: Int64 | None = None
    ) -> None:
        self.cutoffs, self.ties, self.events = tuple(sorted(set(cutoffs))), ties, 0
        self._support, self._by_place, self._by_support = support, _Groups(PLACES), _Groups(SUPPORTS)
        self._hits = np.zeros(len(self.cutoffs))
        self._reciprocals = np.zeros(len(self.cutoffs))

    def add(self, scores: Float32, target: Int32, place: Int64 | None = None) -> None:
        """Count one step.

        Args:
            scores: scores of all items, (lanes, n_items).
            target: the next item of each lane, int32 (lanes,); -1 where there is none.
            place: which click of its session the current one is in each lane, from 1; needed to count by groups.
        """
        lanes = np.flatnonzero(target >= 0)
        ranks = ranks_of(scores[lanes] if len(lanes) < len(target) else scores, target[lanes], self.ties)
        within: Bool = ranks[:, None] <= np.array(self.cutoffs)
        self.events += len(ranks)
        self._hits += within.sum(axis=0)
        self._reciprocals += (within / ranks[:, None]).sum(axis=0)
        if place is not None and self._support is not None:
            hits = within[:, -1]
            self._by_place.add(place[lanes], hits, hits / ranks)
            self._by_support.add(self._support[target[lanes]], hits, hits / ranks)

    def accuracy(self, name: str) -> Accuracy:
        """Recall and MRR over all counted events; 0 if there are none."""
        recall, mrr = (
            dict(zip(self.cutoffs, (sums / max(self.events, 1)).tolist(), strict=True))
            for sums in (self._hits, self._reciprocals)
        )
        return Accuracy(name, recall, mrr, self._by_place.found(), self._by_support.found())


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
