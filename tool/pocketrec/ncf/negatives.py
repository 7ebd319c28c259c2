"""Negatives by a closed form: the r-th smallest item that a user does not have, without a table and without rejection.

With a user's sorted items p_0 < p_1 < ..., T_j = p_j - j items outside the set are smaller than p_j. The r-th item
outside it (from 0) therefore has as many members below it as there are j with T_j <= r: it is r + #{j : T_j <= r}.

The thresholds of all users stand in one ascending array, each shifted by its user, and one binary search finds the count.
Searching in ascending order is what makes that fast: neighbouring questions touch the same few cache lines.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pocketrec.errors import DatasetError, SettingsError
from pocketrec.ncf.interactions import Interactions
from pocketrec.schema import Int32, Int64, UInt64

_ROWS_PER_BLOCK = 1 << 20

LARGEST = np.uint64(2**64 - 1)
"""The end of the range that draws are made from; it is never drawn itself, as in the original."""


class Negatives:
    """The items that each user does not have in the train set. 8 bytes for a train rating.

    Attributes:
        counts: (U,) uint64, how many such items a user has.
    """

    def __init__(self, interactions: Interactions) -> None:
        """Raises:
        SettingsError: a user has every item, so there is none to draw.
        DatasetError: a user has an item twice.
        """
        self._starts, self._stride = interactions.starts, np.int64(interactions.n_items + 1)
        self.counts = (interactions.n_items - interactions.counts).astype(np.uint64)
        if full := int((interactions.counts >= interactions.n_items).sum()):
            raise no_negatives(full, f"number {np.argmax(interactions.counts)}", interactions.n_items)
        self._thresholds = interactions.items.astype(np.int64)
        for begin, end, users in self._blocks():
            keys = self._thresholds[begin:end]
            keys += users * self._stride
            keys.sort()  # a block holds whole users, and users ascend
            if (keys[1:] == keys[:-1]).any():
                raise DatasetError("a user has an item twice in the train set.", expected="each item once for a user",
                                   do="pocketrec ncf prep RATINGS --fresh")  # fmt: skip
            keys -= np.arange(begin, end) - self._starts[users]

    def _blocks(self) -> list[tuple[int, int, Int64]]:
        """Begin and end of blocks of whole users, and the user of each row."""
        ends = np.searchsorted(
            self._starts, np.arange(_ROWS_PER_BLOCK, self._starts[-1] + _ROWS_PER_BLOCK, _ROWS_PER_BLOCK)
        )
        cuts = np.unique(np.concatenate([[0], np.minimum(ends, len(self._starts) - 1)]))
        return [
            (int(self._starts[a]), int(self._starts[b]), np.repeat(np.arange(a, b), np.diff(self._starts[a : b + 1])))
            for a, b in pairwise(cuts.tolist())
        ]

    def at(self, users: Int32, draws: UInt64) -> Int32:
        """A negative of each user.

        Args:
            users: (n,) codes.
            draws: (n,) any numbers; the rank of the item among the user's negatives is its remainder by their count.

        Returns:
            (n,) item codes.
        """
        ranks = (draws % self.counts[users]).astype(np.int64)
        asked = users * self._stride + ranks
        order = np.argsort(asked)
        found = np.empty_like(asked)
        found[order] = np.searchsorted(self._thresholds, asked[order], side="right")
        return (ranks + found - self._starts[users]).astype(np.int32)


def no_negatives(users: int, first: object, n_items: int) -> SettingsError:
    """The error for users who have everything; `first` is the id of one of them, or what else it is known by."""
    others = f" (and {users - 1:,} more)" if users > 1 else ""
    return SettingsError(
        f"user {first}{others} has all {n_items:,} items in the train set, so there is no negative left to draw.",
        expected="an item or more that a user does not have",
        do="leave such users out of the ratings, or add ratings of other items",
    )


def draw(rng: np.random.RandomState, count: int) -> UInt64:
    """Draws for `Negatives.at`, (count,): those of the original, from numpy's legacy generator."""
    return rng.randint(0, LARGEST, size=count, dtype=np.uint64)
