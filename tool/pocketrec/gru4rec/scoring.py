"""Lets a model score the sessions of a set, and counts the ranks of the next items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from pocketrec.gru4rec.ranking import Ranking
from pocketrec.progress import Advance
from pocketrec.schema import Float32, Int32, Int64
from pocketrec.sessions.sequences import read_sequences
from pocketrec.sessions.session_parallel import Block, Blocks
from pocketrec.storage.layout import Dataset


class Scorer(Protocol):
    """Something that scores next items in lanes of sessions, and remembers the state of each lane.

    Attributes:
        name: its name in the report.
        lanes: number of sessions that it scores side by side.
    """

    name: str
    lanes: int

    def scores(self, feat: Int32, mask: Int32) -> Float32:
        """Scores of all items after one more item in each lane, (lanes, n_items); only their order matters.

        Args:
            feat: code of the item in each lane, int32 (lanes,).
            mask: 0 where a session begins and the state is reset first, else 1; int32 (lanes,).
        """
        ...


class Clicks:
    """The clicks so far of the session in each lane: `of`, item codes, oldest first."""

    def __init__(self, lanes: int) -> None:
        self.of: list[list[int]] = [[] for _ in range(lanes)]

    def add(self, feat: Int32, mask: Int32) -> None:
        """One more click in each lane; see `Scorer.scores`."""
        for lane, (item, goes_on) in enumerate(zip(feat.tolist(), mask.tolist(), strict=True)):
            if goes_on:
                self.of[lane].append(item)
            else:
                self.of[lane] = [item]

    def own_last(self, scores: Float32) -> Float32:
        """A copy of some scores, (lanes, n_items), in which the items of a lane's own session are below all others."""
        left = np.array(scores)
        rows = np.repeat(np.arange(len(self.of)), [len(one) for one in self.of])
        left[rows, [item for one in self.of for item in one]] = left.min() - 1
        return left


class SessionScorer:
    """A `Scorer` made of a function from the clicks of a session, oldest first, to scores of all items, (n_items,)."""

    def __init__(self, name: str, score: Callable[[Sequence[int]], Float32], lanes: int = 8) -> None:
        self.name, self.lanes, self._score, self._clicks = name, lanes, score, Clicks(lanes)

    def scores(self, feat: Int32, mask: Int32) -> Float32:
        """See `Scorer`."""
        self._clicks.add(feat, mask)
        return np.stack([self._score(session) for session in self._clicks.of])


class WithoutOwn:
    """A `Scorer` that never expects an item which the session has already."""

    def __init__(self, scorer: Scorer) -> None:
        self.name, self.lanes = f"{scorer.name}, own items left out", scorer.lanes
        self._scorer, self._clicks = scorer, Clicks(scorer.lanes)

    def scores(self, feat: Int32, mask: Int32) -> Float32:
        """See `Scorer`."""
        self._clicks.add(feat, mask)
        return self._clicks.own_last(self._scorer.scores(feat, mask))


def rank(scorer: Scorer, where: Dataset, on: str, ranking: Ranking, advance: Advance = lambda _: None) -> Ranking:
    """Add all events of the set `on` to a ranking; one block of steps is in memory at a time."""
    for feat, target, mask in steps(scorer.lanes, read_sequences(where, on), advance):
        ranking.add(scorer.scores(feat, mask), target)
    return ranking


def rank_with_and_without_own(
    scorer: Scorer, sessions: Iterable[tuple[Int32, Int64]], cutoffs: Sequence[int]
) -> tuple[Ranking, Ranking]:
    """Rankings of all events of some sessions, with the session's own items among the candidates, and without them."""
    clicks, rankings = Clicks(scorer.lanes), (Ranking(cutoffs), Ranking(cutoffs))
    for feat, target, mask in steps(scorer.lanes, sessions):
        clicks.add(feat, mask)
        scores = scorer.scores(feat, mask)
        for ranking, some in zip(rankings, (scores, clicks.own_last(scores)), strict=True):
            ranking.add(some, target)
    return rankings


def steps(
    lanes: int, sessions: Iterable[tuple[Int32, Int64]], advance: Advance = lambda _: None
) -> Iterator[tuple[Int32, Int32, Int32]]:
    """Sessions laid into lanes until all are done, step by step: feat, target and mask, int32 (lanes,) each."""
    found = Blocks(lanes, tail="pad")

    def blocks() -> Iterator[Block]:
        for items, lengths in sessions:
            yield from found.add(items, lengths)
            advance(len(items))
        yield from found.finish()

    for block in blocks():
        yield from zip(block.feats, block.targets, block.masks, strict=True)
