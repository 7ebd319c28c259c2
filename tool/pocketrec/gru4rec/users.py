"""What a log says of how a model is to be used for one user: whether people come back to an item, and what a session is."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from pocketrec.lite.options import Between, ExportSettings, Seen, UserSettings
from pocketrec.sessions.sequences import read_sequences
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import read_records

SELDOM = 0.01
"""Where fewer of the next clicks than this are on an item of the session, its items are hidden: among the best 20 each of
them takes the place of another."""
_PERSON = re.compile(r"(user|visitor|customer|reviewer|member|client|person)[^+]*", re.IGNORECASE)
"""Names of columns whose values are people."""


@dataclass(frozen=True)
class Habits:
    """How a model is used for its user, and why.

    Attributes:
        use: what goes into the file.
        repeats: share of the next clicks in training that are on an item which their session has had before; None where the
            dataset has no sessions in order.
        column: the log's column of sessions, where its values are users; "" where they are not, or nobody knows.
    """

    use: UserSettings
    repeats: float | None
    column: str


def habits_of(place: Dataset, chosen: ExportSettings) -> Habits:
    """What was chosen, and where that is "log" what the dataset says."""
    repeats, column = _repeats(place), _column_of_users(place)
    hide: Seen = "hide" if repeats is not None and repeats < SELDOM else "show"
    carry: Between = "carry" if column else "reset"
    use = UserSettings(
        chosen.passes,
        chosen.cache_share,
        carry if chosen.between == "log" else chosen.between,
        hide if chosen.seen == "log" else chosen.seen,
    )
    return Habits(use, repeats, column)


def _repeats(place: Dataset) -> float | None:
    record = read_records(place.sequences.parent).get("sequences")
    if record is None or record.missing(place.sequences.parent):
        return None
    clicks = sessions = different = 0
    for items, lengths in read_sequences(place, "train_tr"):
        pairs = np.sort(np.repeat(np.arange(len(lengths), dtype=np.int64) << 32, lengths) | items)
        clicks, sessions = clicks + len(pairs), sessions + len(lengths)
        different += int((pairs[1:] != pairs[:-1]).sum()) + bool(len(pairs))
    return (clicks - different) / (clicks - sessions) if clicks > sessions else None


def _column_of_users(place: Dataset) -> str:
    """The column that sessions are read from, where it is one of people and nothing cuts what they did into sessions."""
    record = read_records(place.clicks.parent).get("ingest")
    if record is None or record.settings.get("session_gap"):
        return ""
    column = str((record.settings.get("columns") or {}).get("session", ""))
    return column if _PERSON.fullmatch(column) else ""
