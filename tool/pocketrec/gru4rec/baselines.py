"""Baselines, simple methods that models are compared with: popularity, the last item again, item-item co-occurrence.

Co-occurrence counts, for each item, the items among the next three clicks of the same session, each with the weight
1 / distance. It takes seconds, and neural models of sessions are not always better (Ludewig and Jannach 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from pocketrec.schema import Float32, Int32, Int64

REACH = 3
"""How many of the next clicks are counted."""
SIXTHS = 6
"""Stands for a weight of 1, so that halves and thirds are whole numbers and sums do not depend on their order."""


@dataclass
class Baseline:
    """A `Scorer` that looks only at the current item of each session, so it has no states."""

    name: str
    score: Callable[[Int32], Float32]
    lanes: int = 256

    def scores(self, feat: Int32, mask: Int32) -> Float32:  # noqa: ARG002
        """See `Scorer`."""
        return self.score(feat)


def popularity(support: Int64) -> Baseline:
    """Scores items by their clicks in training, `support`, (n_items,); all sessions get the same scores."""
    # float32 cannot hold all counts above 2**24. Places in the order of the counts fit, and only the order matters.
    scores = np.unique(support, return_inverse=True)[1].astype(np.float32)
    return Baseline("popularity", lambda feat: np.broadcast_to(scores, (len(feat), len(scores))))


def last_item(n_items: int) -> Baseline:
    """Expects the current item again: it scores 1, all others 0."""

    def score(feat: Int32) -> Float32:
        found = np.zeros((len(feat), n_items), np.float32)
        found[np.arange(len(feat)), feat] = 1
        return found

    return Baseline("repeat the last item", score)


def co_occurrence(sessions: Iterable[tuple[Int32, Int64]], n_items: int) -> Baseline:
    """Scores items by how often they followed the current item in training, in sixths; 0 for those that never did.

    Args:
        sessions: item codes and lengths of some sessions at a time, as `read_sequences` returns them.
        n_items: number of items in the item index.
    """
    pairs = count_pairs(sessions)
    items, following, weights = (pairs[name].to_numpy() for name in ("item", "next", "weight"))
    starts = np.searchsorted(items, np.arange(n_items + 1))

    def score(feat: Int32) -> Float32:
        begins, counts = starts[feat], starts[feat + 1] - starts[feat]
        places = np.repeat(begins - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
        found = np.zeros((len(feat), n_items), np.float32)
        found[np.repeat(np.arange(len(feat)), counts), following[places]] = weights[places]
        return found

    return Baseline("item-item co-occurrence", score)


def count_pairs(sessions: Iterable[tuple[Int32, Int64]]) -> pl.DataFrame:
    """Pairs of items that followed each other: columns item, next, weight in sixths. Memory grows with their number."""
    schema = {"item": pl.Int32, "next": pl.Int32, "weight": pl.Int64}
    counted = pl.DataFrame(schema=schema)
    for items, lengths in sessions:
        session = np.repeat(np.arange(len(lengths)), lengths)
        here = [counted, *(_pairs(items, session, distance) for distance in range(1, REACH + 1))]
        counted = pl.concat(here).group_by("item", "next").agg(pl.col("weight").sum())
    return counted.sort("item", "next")


def _pairs(items: Int32, session: Int64, distance: int) -> pl.DataFrame:
    same = np.flatnonzero(session[distance:] == session[:-distance])
    weights = np.full(len(same), SIXTHS // distance)
    return pl.DataFrame({"item": items[same], "next": items[same + distance], "weight": weights})
