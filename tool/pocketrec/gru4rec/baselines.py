"""Baselines, methods without training that models are compared with. Neural models are not always better (Ludewig & Jannach
2018); on a small log with many views of the same items again, neighbours are, by far.

    popularity, the last item again, the session's own items from the newest on
    items that followed the current one in training: at once (Markov chain), or among the next 3 clicks (co-occurrence),
        with the weight 1 / distance
    items that followed one of the last 5 clicks among the next 10 (sequential rules): 1 / distance there, and here a 32nd
        for each click since. The published rules begin at the last click alone, which found .04 and .12 less of
        Recall@20 on two real logs.
    sessions like the current one: S-KNN, V-SKNN, STAN, VSTAN (`lite/neighbours.py`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pocketrec.gru4rec.scoring import SessionScorer
from pocketrec.lite.neighbours import ranges
from pocketrec.schema import Float32, Int32, Int64

RULES = {"Markov chain": (1, 1), "item-item co-occurrence": (3, 1), "sequential rules": (10, 5)}
"""Name -> how many of the next clicks are counted, and how many of the last clicks of a session are looked at."""
WHOLE = 2520
"""Stands for a weight of 1: shares of 1 to 10 are whole numbers then, and sums do not depend on their order."""
BITS = WHOLE.bit_length()
FADING = 32
"""How much less an item says of what comes next for each click since."""


@dataclass
class Baseline:
    """A `Scorer` that looks only at the current item of each session, so it has no states."""

    name: str
    score: Callable[[Int32], Float32]
    lanes: int = 64

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


def following(name: str, sessions: Iterable[tuple[Int32, Int64]], n_items: int) -> SessionScorer:
    """Scores items by how often they followed the last items of a session in training; 0 for those that never did.

    Args:
        name: one of `RULES`.
        sessions: item codes and lengths of some sessions at a time, as `read_sequences` returns them.
        n_items: number of items in the item index.
    """
    reach, looked_at = RULES[name]
    items, after, weights = count_pairs(sessions, reach, n_items)
    starts = np.searchsorted(items, np.arange(n_items + 1))

    def score(session: Sequence[int]) -> Float32:
        last = np.array(session[-looked_at:])
        begins, counts = starts[last], starts[last + 1] - starts[last]
        pairs, places = ranges(begins, counts), np.repeat(np.arange(len(last)), counts)
        # Whole numbers below 2^53: the sums do not depend on their order.
        found = np.bincount(after[pairs], weights[pairs] * FADING**places, n_items)
        return found.astype(np.float32)

    return SessionScorer(name, score)


def count_pairs(sessions: Iterable[tuple[Int32, Int64]], reach: int, n_items: int) -> tuple[Int32, Int32, Int64]:
    """Pairs of items up to `reach` clicks apart, each once: the item, the one after it, and their weight (see `WHOLE`).

    Each pair of clicks is one number, with the weight in its last bits, so that one sort in place brings equal pairs
    together. 8 bytes for each are held, and as much again for the result.
    """
    found = [np.empty(0, np.int64)]
    for items, lengths in sessions:
        session = np.repeat(np.arange(len(lengths)), lengths)
        for distance in range(1, reach + 1):
            same = np.flatnonzero(session[distance:] == session[:-distance])
            pairs = items[same].astype(np.int64) * n_items + items[same + distance]
            found.append(pairs << BITS | WHOLE // distance)
    numbers = np.concatenate(found)
    found.clear()
    numbers.sort()
    heads = np.flatnonzero(np.diff(numbers >> BITS, prepend=-1))
    pairs = numbers[heads] >> BITS
    numbers &= (1 << BITS) - 1
    weights = np.add.reduceat(numbers, heads) if len(heads) else numbers
    return (pairs // n_items).astype(np.int32), (pairs % n_items).astype(np.int32), weights


def _places(counts: Int64) -> Float32:
    """The places of counts in their order, from 0: float32 holds these, not all counts above 2**24, and order is enough."""
    return np.unique(counts, return_inverse=True)[1].astype(np.float32)
