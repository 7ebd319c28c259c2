"""Baselines that every model is shown beside: popularity, the last item again, and item-item co-occurrence.

Co-occurrence counts, for each item, the items among the next three clicks of the same session, each by 1 / distance: a
method that takes seconds and that neural models of sessions do not always beat (Ludewig and Jannach 2018).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from pocketrec.gru4rec.ranking import Floats
from pocketrec.schema import Int32, Int64

REACH = 3
"""Clicks ahead that count as following."""
SIXTHS = 6
"""A weight of 1: thirds and halves are then whole numbers, so that equal sums are equal whatever the order."""


class Popularity:
    """Every session gets the most clicked items. Args: support: clicks of each item, (n_items,)."""

    name, lanes = "popularity", 256

    def __init__(self, support: Int64) -> None:
        # Counts above 2**24 are not all float32s; their order is all that matters.
        self._scores = np.unique(support, return_inverse=True)[1].astype(np.float32)

    def scores(self, feat: Int32, mask: Int32) -> Floats:  # noqa: ARG002
        """The same for all lanes, (lanes, n_items)."""
        return np.broadcast_to(self._scores, (len(feat), len(self._scores)))


class LastItem:
    """The current item is expected again, and no other. Args: n_items: of the index."""

    name, lanes = "repeat the last item", 256

    def __init__(self, n_items: int) -> None:
        self._n_items = n_items

    def scores(self, feat: Int32, mask: Int32) -> Floats:  # noqa: ARG002
        """1 for the current item of a lane, 0 for the others, (lanes, n_items)."""
        found = np.zeros((len(feat), self._n_items), np.float32)
        found[np.arange(len(feat)), feat] = 1
        return found


class CoOccurrence:
    """What followed the current item in training.

    Args:
        sessions: items and lengths of some sessions at a time, as `read_sequences` gives them.
        n_items: of the index.
    """

    name, lanes = "item-item co-occurrence", 256

    def __init__(self, sessions: Iterable[tuple[Int32, Int64]], n_items: int) -> None:
        pairs = count_pairs(sessions)
        items, self._next = (pairs[name].to_numpy() for name in ("item", "next"))
        self._weights, self._n_items = pairs["weight"].to_numpy().astype(np.float32), n_items
        self._begins = np.searchsorted(items, np.arange(n_items + 1))

    def scores(self, feat: Int32, mask: Int32) -> Floats:  # noqa: ARG002
        """Weights, in sixths, of what followed the current item of a lane, 0 for what never did, (lanes, n_items)."""
        begins, counts = self._begins[feat], self._begins[feat + 1] - self._begins[feat]
        places = np.repeat(begins - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
        found = np.zeros((len(feat), self._n_items), np.float32)
        found[np.repeat(np.arange(len(feat)), counts), self._next[places]] = self._weights[places]
        return found


def count_pairs(sessions: Iterable[tuple[Int32, Int64]]) -> pl.DataFrame:
    """Which item followed which, by both: item, next, weight in sixths. Memory grows with the different pairs."""
    schema = {"item": pl.Int32, "next": pl.Int32, "weight": pl.Int64}
    counted = pl.DataFrame(schema=schema)
    for items, lengths in sessions:
        session = np.repeat(np.arange(len(lengths)), lengths)
        here = [counted, *(_pairs(items, session, distance) for distance in range(1, REACH + 1))]
        counted = pl.concat(here).group_by("item", "next").agg(pl.col("weight").sum())
    return counted.sort("item", "next")


def _pairs(items: Int32, session: npt.NDArray[np.int64], distance: int) -> pl.DataFrame:
    same = np.flatnonzero(session[distance:] == session[:-distance])
    weights = np.full(len(same), SIXTHS // distance)
    return pl.DataFrame({"item": items[same], "next": items[same + distance], "weight": weights})
