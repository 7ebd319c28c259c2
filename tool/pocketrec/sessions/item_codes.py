"""Item ids to dense codes and back, for columns of tens of millions of ids.

`ItemCodes` maps ids to the positions of a fixed vocabulary; `ItemCounts` builds a vocabulary while counting. The item
index of a dataset, `final/items.parquet`, is the vocabulary of train_tr in order of first appearance.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pocketrec.schema import Int32, Int64

MISSING = -1
"""The code of an id that is not in the vocabulary."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MAX_BITS = 22
_AT_A_TIME = 1 << 15
"""Ids looked up together, few enough for the temporary arrays to stay in a core's cache."""


class ItemCodes:
    """A fixed vocabulary of item ids; an id's code is its position in `ids`.

    Looking an id up by binary search costs a dozen cache misses. Here a multiplicative hash finds a candidate in a sparse
    table (1/16 full or less) and one comparison confirms it; only the few ids that collide are searched for.
    """

    def __init__(self, ids: Int64) -> None:
        """Args: ids: unique ids, in the order of their codes."""
        self.ids = ids
        bits = min(_MAX_BITS, max(8, len(ids).bit_length() + 4))
        self._shift = np.uint64(64 - bits)
        self._candidates = np.zeros(1 << bits, np.int32)
        self._candidates[self._slots(ids)] = np.arange(len(ids), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, ids: Int64) -> Int32:
        """The code of each id, `MISSING` where it has none; int32, the shape of `ids`."""
        codes, flat = np.full(ids.size, MISSING, np.int32), ids.reshape(-1)
        for begin in range(0, ids.size if len(self.ids) else 0, _AT_A_TIME):
            some = slice(begin, begin + _AT_A_TIME)
            codes[some] = self._look_up(flat[some])
        return codes.reshape(ids.shape)

    def _look_up(self, ids: Int64) -> Int32:
        codes = self._candidates[self._slots(ids)]
        doubtful = np.flatnonzero(self.ids[codes] != ids)
        if len(doubtful):
            codes[doubtful] = self._search(ids[doubtful])
        return codes

    @cached_property
    def _order(self) -> Int32:
        return np.argsort(self.ids).astype(np.int32)

    def _slots(self, ids: Int64) -> Int64:
        hashed = ids.view(np.uint64) * _GOLDEN
        return (hashed >> self._shift).view(np.int64)

    def _search(self, ids: Int64) -> Int32:
        places = np.searchsorted(self.ids, ids, sorter=self._order)
        codes = self._order[np.minimum(places, len(self.ids) - 1)]
        return np.where(self.ids[codes] == ids, codes, np.int32(MISSING))


class ItemCounts:
    """Counts ids block by block. Memory grows with the number of different ids, not with the rows."""

    def __init__(self) -> None:
        self.codes = ItemCodes(np.empty(0, np.int64))
        self.counts = np.empty(0, np.int64)

    def add(self, ids: Int64) -> None:
        """Count every id of a block once for each time it occurs."""
        codes = self.codes.of(ids)
        known = codes != MISSING
        if not known.all():
            new, new_counts = np.unique(ids[~known], return_counts=True)
            self.codes = ItemCodes(np.concatenate([self.codes.ids, new]))
            self.counts = np.concatenate([self.counts, new_counts])
            codes = codes[known]
        self.counts += np.bincount(codes, minlength=len(self.counts))

    def at_least(self, support: int) -> ItemCodes:
        """The vocabulary of the ids counted `support` times or more, ascending by id."""
        return ItemCodes(np.sort(self.codes.ids[self.counts >= support]))
