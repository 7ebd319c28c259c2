"""Lets a model score the sessions of a set, and counts the ranks of the next items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pocketrec.gru4rec.ranking import Ranking
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
    for block in _blocks(scorer.lanes, where, on, advance):
        for feat, target, mask in zip(block.feats, block.targets, block.masks, strict=True):
            ranking.add(scorer.scores(feat, mask), target)
    return ranking


def _blocks(lanes: int, where: Dataset, on: str, advance: Advance) -> Iterator[Block]:
    found = Blocks(lanes, tail="pad")
    for items, lengths in read_sequences(where, on):
        yield from found.add(items, lengths)
        advance(len(items))
    yield from found.finish()
