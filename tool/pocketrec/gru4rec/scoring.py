"""A model at work on the sessions of a set, and its ranks."""

from __future__ import annotations

from typing import Protocol

from pocketrec.gru4rec.ranking import Floats, Ranking
from pocketrec.progress import Advance
from pocketrec.schema import Int32
from pocketrec.sessions.sequences import read_sequences
from pocketrec.sessions.session_parallel import Blocks
from pocketrec.storage.layout import Dataset


class Scorer(Protocol):
    """A model at work on lanes of sessions, fresh: its states are those before a session's first item."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    @property
    def lanes(self) -> int:
        """Sessions side by side."""
        ...

    def scores(self, feat: Int32, mask: Int32) -> Floats:
        """Scores of all items after one more item of each lane, (lanes, n_items); any order-preserving numbers.

        Args:
            feat: the items, int32 (lanes,).
            mask: 0 where a session begins, so that the state is reset before the step; int32 (lanes,).
        """
        ...


def rank(scorer: Scorer, where: Dataset, on: str, ranking: Ranking, advance: Advance = lambda _: None) -> Ranking:
    """Count every event of a set; one block of steps in memory at a time."""
    lanes = Blocks(scorer.lanes, tail="pad")
    for items, lengths in read_sequences(where, on):
        for block in lanes.add(items, lengths):
            _follow(scorer, block.feats, block.targets, block.masks, ranking)
        advance(len(items))
    for block in lanes.finish():
        _follow(scorer, block.feats, block.targets, block.masks, ranking)
    return ranking


def _follow(scorer: Scorer, feats: Int32, targets: Int32, masks: Int32, ranking: Ranking) -> None:
    for feat, target, mask in zip(feats, targets, masks, strict=True):
        ranking.add(scorer.scores(feat, mask), target)
