"""Lets a model score the sessions of a set, and counts the ranks of the next items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pocketrec.gru4rec.options import Ties
from pocketrec.gru4rec.ranking import Ranking, ranks_of
from pocketrec.progress import Advance
from pocketrec.schema import Float32, Int32, Int64
from pocketrec.sessions.sequences import read_sequences
from pocketrec.sessions.session_parallel import LaneState, lay
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
    place = np.zeros(scorer.lanes, np.int64)
    for feat, target, mask in steps(scorer.lanes, read_sequences(where, on), advance):
        place = place * mask + 1
        ranking.add(scorer.scores(feat, mask), target, place)
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


@dataclass(frozen=True)
class Example:
    """A session of a set, and what was recommended in it. Items are ids.

    Attributes:
        clicks: the items that were clicked, in order, the first `CLICKS_SHOWN`.
        recommended: after each click but the last the best items, best first.
        ranks: the rank that the next click had each time, as the accuracy counts it.
    """

    clicks: tuple[str, ...]
    recommended: tuple[tuple[str, ...], ...]
    ranks: tuple[float, ...]


EXAMPLES, BEST, CLICKS_SHOWN = 5, 5, 8


def examples(scorer: Scorer, where: Dataset, on: str, sessions: int, ids: Sequence[str], ties: Ties) -> tuple[Example, ...]:
    """Some sessions from all over the set `on`, which has so many `sessions`, with what a model recommends in them."""
    chosen, found = _some_sessions(where, on, sessions), []
    for first in range(0, len(chosen), scorer.lanes):
        here = chosen[first : first + scorer.lanes]
        lengths = np.array([len(one) for one in here])
        best: list[list[tuple[str, ...]]] = [[] for _ in here]
        ranks: list[list[float]] = [[] for _ in here]
        for step, (feat, target, mask) in enumerate(steps(scorer.lanes, [(np.concatenate(here), lengths)])):
            scores = scorer.scores(feat, mask if step else np.zeros_like(mask))
            for lane in np.flatnonzero(target[: len(here)] >= 0).tolist():
                order = np.argsort(-scores[lane], kind="stable")[:BEST]
                best[lane].append(tuple(str(ids[code]) for code in order.tolist()))
                ranks[lane].append(float(ranks_of(scores[lane][None], target[lane][None], ties)[0]))
        for one, recommended, rank_of in zip(here, best, ranks, strict=True):
            clicks = tuple(str(ids[code]) for code in one.tolist())
            found.append(Example(clicks, tuple(recommended), tuple(rank_of)))
    return tuple(found)


def _some_sessions(where: Dataset, on: str, sessions: int) -> list[Int32]:
    """Items of the sessions at some places of a set, each cut to `CLICKS_SHOWN`; if there are, of three or more."""
    wanted = [sessions * (2 * place + 1) // (2 * EXAMPLES) for place in range(min(EXAMPLES, sessions))]
    found: list[Int32] = []
    before = 0
    for items, lengths in read_sequences(where, on):
        starts = np.cumsum(lengths) - lengths
        for place in [one - before for one in wanted if before <= one < before + len(lengths)]:
            near = slice(place, place + max(1, sessions // (2 * EXAMPLES)))
            at = place + int(np.argmax(lengths[near] > 2))
            found.append(items[starts[at] : starts[at] + min(int(lengths[at]), CLICKS_SHOWN)])
        before += len(lengths)
    return found


def steps(
    lanes: int, sessions: Iterable[tuple[Int32, Int64]], advance: Advance = lambda _: None
) -> Iterator[tuple[Int32, Int32, Int32]]:
    """Sessions laid into lanes until all are done, step by step: feat, target and mask, int32 (lanes,) each."""
    for block in lay(LaneState.empty(lanes), sessions, tail="pad", advance=advance):
        yield from zip(*block.arrays(), strict=True)
