"""Baselines, methods without training that models are compared with. Neural models are not always better (Ludewig & Jannach
2018); on a small log with many views of the same items again, neighbours are, by far.

    popularity, the last item again, the session's own items from the newest on
    items that followed the current one in training: at once (Markov chain), among the next 3 clicks (co-occurrence), among
        the next 10 (sequential rules); each time with the weight 1 / distance
    sessions like the current one: S-KNN, V-SKNN, STAN, VSTAN (`lite/neighbours.py`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pocketrec.gru4rec.scoring import SessionScorer
from pocketrec.lite.neighbours import ranges
from pocketrec.schema import Float32, Int32, Int64

REACH = {"Markov chain": 1, "item-item co-occurrence": 3, "sequential rules": 10}
"""How many of the next clicks are counted."""
WHOLE = 2520
"""Stands for a weight of 1: shares of 1 to 10 are whole numbers then, and sums do not depend on their order."""


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
    scores = _places(support)
    return Baseline("popularity", lambda feat: np.broadcast_to(scores, (len(feat), len(scores))))


def last_item(n_items: int) -> Baseline:
    """Expects the current item again: it scores 1, all others 0."""

    def score(feat: Int32) -> Float32:
        found = np.zeros((len(feat), n_items), np.float32)
        found[np.arange(len(feat)), feat] = 1
        return found

    return Baseline("repeat the last item", score)


def own_items(n_items: int) -> SessionScorer:
    """Expects the items of the session again, the newest first."""

    def score(session: Sequence[int]) -> Float32:
        found = np.zeros(n_items, np.float32)
        found[session] = np.arange(1, len(session) + 1)  # of an item that is there twice, the later place stays
        return found

    return SessionScorer("own items, newest first", score, lanes=32)


def following(name: str, sessions: Iterable[tuple[Int32, Int64]], n_items: int) -> Baseline:
    """Scores items by how often they followed the current item in training; 0 for those that never did.

    Args:
        name: one of `REACH`.
        sessions: item codes and lengths of some sessions at a time, as `read_sequences` returns them.
        n_items: number of items in the item index.
    """
    pairs = count_pairs(sessions, REACH[name])
    items, after = (pairs[column].to_numpy() for column in ("item", "next"))
    weights, starts = 1 + _places(pairs["weight"].to_numpy()), np.searchsorted(items, np.arange(n_items + 1))

    def score(feat: Int32) -> Float32:
        begins, counts = starts[feat], starts[feat + 1] - starts[feat]
        places = ranges(begins, counts)
        found = np.zeros((len(feat), n_items), np.float32)
        found[np.repeat(np.arange(len(feat)), counts), after[places]] = weights[places]
        return found

    return Baseline(name, score)


def count_pairs(sessions: Iterable[tuple[Int32, Int64]], reach: int) -> pl.DataFrame:
    """Pairs of items up to `reach` clicks apart: item, next, weight (see `WHOLE`). Memory grows with their number."""
    schema = {"item": pl.Int32, "next": pl.Int32, "weight": pl.Int64}
    counted = pl.DataFrame(schema=schema)
    for items, lengths in sessions:
        session = np.repeat(np.arange(len(lengths)), lengths)
        here = [counted, *(_pairs(items, session, distance) for distance in range(1, reach + 1))]
        counted = pl.concat(here).group_by("item", "next").agg(pl.col("weight").sum())
    return counted.sort("item", "next")


def _pairs(items: Int32, session: Int64, distance: int) -> pl.DataFrame:
    same = np.flatnonzero(session[distance:] == session[:-distance])
    weights = np.full(len(same), WHOLE // distance)
    return pl.DataFrame({"item": items[same], "next": items[same + distance], "weight": weights})


def _places(counts: Int64) -> Float32:
    """The places of counts in their order, from 0: float32 holds these, not all counts above 2**24, and order is enough."""
    return np.unique(counts, return_inverse=True)[1].astype(np.float32)
