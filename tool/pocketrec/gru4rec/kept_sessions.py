"""The sessions that a model is trained on, as arrays in memory, in order of time: what methods without training know.

Of a long log the newest sessions are kept, about `MOST_CLICKS` clicks of them, so memory has a limit. They say most about
what comes next: items and tastes of long ago are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pocketrec.ingestion.parts import Parts
from pocketrec.lite.neighbours import SessionIndex, ranges
from pocketrec.progress import Advance
from pocketrec.schema import Int32, Int64
from pocketrec.sessions.options import BatchSettings, TrainOn
from pocketrec.sessions.sequences import SESSIONS_PER_READ, Sessions, Sets, sessions_of_parts
from pocketrec.sessions.vocabulary import training_items
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import read_records

MOST_CLICKS = 1 << 21
"""Clicks that are kept."""


@dataclass(frozen=True)
class KeptSessions:
    """Sessions by the time of their first click; those of one time by id.

    Attributes:
        items: item codes, one session after the other, int32.
        lengths: clicks of each session, int64.
        starts: the time of its first click, in ms since 1970, int64.
        all: sessions that there are; more than are kept where the log is long.
    """

    items: Int32
    lengths: Int64
    starts: Int64
    all: int

    def blocks(self) -> Iterator[tuple[Int32, Int64]]:
        """Items and lengths of some sessions at a time, as `read_sequences` gives them."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        for begin in range(0, len(self.lengths), SESSIONS_PER_READ):
            some = self.lengths[begin : begin + SESSIONS_PER_READ]
            yield self.items[ends[begin] : ends[begin + len(some)]], some

    def index(self, n_items: int) -> SessionIndex:
        """The index in which neighbours are found."""
        return SessionIndex.of(self.items, self.lengths, self.starts, n_items)


def kept_sessions(
    where: Dataset, index_of: TrainOn, train_on: TrainOn, most: int = MOST_CLICKS, advance: Advance = lambda _: None
) -> KeptSessions:
    """Read the sessions of a set.

    Args:
        where: a dataset in which `batches` was run.
        index_of: the set that the item index was made of.
        train_on: the set to read.
        most: clicks that are kept; the session that crosses this number from the newest on is left out, too.
        advance: is told about the rows read.
    """
    parts, roles = Parts(where), read_records(where.roles.parent)["roles"]
    items, _ = training_items(where, index_of)
    sets = Sets(where, parts, roles, items, BatchSettings(train_on=train_on))
    waiting: list[Sessions] = []
    total = 0
    for rows, found in sessions_of_parts(sets, ["train_tr"]):
        waiting.append(found["train_tr"])
        total += len(found["train_tr"].lengths)
        if sum(len(one.items) for one in waiting) > 2 * most:
            waiting = [_newest(waiting, most)]
        advance(rows)
    kept = _newest(waiting, most)
    return KeptSessions(kept.items, kept.lengths, kept.starts, total)


def _newest(found: list[Sessions], most: int) -> Sessions:
    """The newest of some sessions, in order of time."""
    items, lengths, starts = (
        np.concatenate([getattr(one, what) for one in found]) for what in ("items", "lengths", "starts")
    )
    order = np.argsort(starts, kind="stable")
    order = order[np.cumsum(lengths[order][::-1])[::-1] <= most]
    heads, length = np.cumsum(lengths) - lengths, lengths[order]
    return Sessions(items[ranges(heads[order], length)], length, starts[order], 0)
