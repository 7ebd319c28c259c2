"""Lets a model score the sessions of a set, and counts the ranks of the next items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np

from pocketrec.gru4rec.options import Ties
from pocketrec.gru4rec.ranking import Ranking, ranks_of
from pocketrec.progress import Advance
from pocketrec.schema import Float32, Int32
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


def rank(scorer: Scorer, where: Dataset, on: str, ranking: Ranking, advance: Advance = lambda _: None) -> Ranking:
    """Add all events of the set `on` to a ranking; one block of steps is in memory at a time."""
    place = np.zeros(scorer.lanes, np.int64)
    for block in _blocks(scorer.lanes, where, on, advance):
        for feat, target, mask in zip(block.feats, block.targets, block.masks, strict=True):
            place = place * mask + 1
            ranking.add(scorer.scores(feat, mask), target, place)
    return ranking


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
        blocks = Blocks(scorer.lanes, tail="pad")
        lengths = np.array([len(one) for one in here])
        best: list[list[tuple[str, ...]]] = [[] for _ in here]
        ranks: list[list[float]] = [[] for _ in here]
        step = 0
        for block in chain(blocks.add(np.concatenate(here), lengths), blocks.finish()):
            for feat, target, mask in zip(block.feats, block.targets, block.masks, strict=True):
                scores = scorer.scores(feat, mask if step else np.zeros_like(mask))
                step += 1
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


def _blocks(lanes: int, where: Dataset, on: str, advance: Advance) -> Iterator[Block]:
    found = Blocks(lanes, tail="pad")
    for items, lengths in read_sequences(where, on):
        yield from found.add(items, lengths)
        advance(len(items))
    yield from found.finish()
