"""What is in an ingested log, and whether its split is honest: counted part by part, in memory that follows the items.

A part holds whole sessions. It is read column by column, sorted by session and time where it is not, and counted; between
parts there are only sums, and for each item its clicks and its first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.ingestion.parts import Parts, read_columns
from pocketrec.page.words import short
from pocketrec.parallel import ahead
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import ITEM, MS, SESSION, TIME, Bool, Int64, UInt8
from pocketrec.sessions.holdout import TEST, TRAIN_FULL, TRAIN_TR, TRAIN_VALID
from pocketrec.sessions.item_codes import ItemCounts
from pocketrec.storage.layout import Dataset
from pocketrec.storage.npy import open_array

HOUR = 3_600_000
"""Milliseconds."""
DAYS_OF_WEEK = 7
MOST_BINS = 240
"""Points of a line over time."""
BIN_HOURS = (1, 3, 6, 12, 24, 2 * 24, 7 * 24, 28 * 24, 91 * 24, 364 * 24)
"""Hours of a bin: the first that needs no more than `MOST_BINS`."""
LENGTHS = (1, 2, 3, 4, 5, 6, 8, 11, 16, 21, 51, 101)
"""Clicks of a session: the first of each group."""
GAPS = (0, 1, 1000, 10_000, 30_000, 60_000, 300_000, 1_800_000, HOUR, 24 * HOUR)
"""Milliseconds between two clicks of a session: the first of each group."""
GAP_EDGES = np.unique(np.concatenate([[0, 1], np.round(10 ** np.linspace(0, 12, 721)).astype(np.int64)]))
"""Finer groups, 2 % wide, that the median is taken from."""
SETS = ("train_tr", "train_valid", "test", "train_full", "none")
"""Of a row; train_full for one that is in neither of its halves."""
SET_OF = np.array([4, 3, 2, 2, 0, 0, 2, 2, 1, 1, 2, 2, 0, 0, 2, 2])
"""Place in `SETS` of each sum of the bits of `ROLE_OF`."""
MOST_SECONDS = 1 << 26
"""Two years: of a longer overlap of train and test the seconds that both have are not counted."""
TOP_ITEMS = 10
NEVER = np.iinfo(np.int64).max


@dataclass
class Overlap:
    """Where train and test lie in time, in ms: the earliest click of the test, the latest of train_full.

    `seconds` says of each second between the two whether train_full has a click in it; None where there are none or too
    many of them.
    """

    first_test: int = NEVER
    last_train: int = -1
    seconds: Bool | None = None


@dataclass
class Counts:
    """Sums over parts. Arrays of hours begin at the log's first hour and have a column for each of `SETS`."""

    hours: Int64
    first_hour: int
    lengths: Int64 = field(default_factory=lambda: np.zeros(len(LENGTHS), np.int64))
    length_clicks: Int64 = field(default_factory=lambda: np.zeros(len(LENGTHS), np.int64))
    exact_lengths: Int64 = field(default_factory=lambda: np.zeros(4096, np.int64))
    gaps: Int64 = field(default_factory=lambda: np.zeros(len(GAPS), np.int64))
    fine_gaps: Int64 = field(default_factory=lambda: np.zeros(len(GAP_EDGES), np.int64))
    sums: dict[str, int] = field(default_factory=dict)
    items: ItemCounts = field(default_factory=ItemCounts)
    first: Int64 = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, name: str, count: Any) -> None:
        """Add to one of the sums."""
        self.sums[name] = self.sums.get(name, 0) + int(count)

    def most(self, name: str, count: Any) -> None:
        """Keep the largest of some numbers."""
        self.sums[name] = max(self.sums.get(name, 0), int(count))


@dataclass(frozen=True)
class Part:
    """The rows of a part by session and time; equal times as in the log. `heads` are the first rows of sessions."""

    session: Int64
    time: Int64
    item: Int64
    role: UInt8
    heads: Int64

    @property
    def follows(self) -> Bool:
        """For each row but the first whether it is of the same session as the one before."""
        same: Bool = self.session[1:] == self.session[:-1]
        return same


def log_figures(where: Dataset, *, split: bool, progress: Progress = SILENT) -> dict[str, Any]:
    """Count an ingested log; with `split` also by the sets that its rows are in, as `pocketrec split` has it now.

    Raises:
        DatasetError: nothing was ingested, or a part is damaged.
    """
    parts = Parts(where)
    record = parts.record.counts
    first_hour = record["first_ms"] // HOUR
    hours = record["last_ms"] // HOUR - first_hour + 1
    counts = Counts(np.zeros((hours, len(SETS)), np.int64), first_hour)
    overlap = _overlap(where, parts) if split else None

    def read(path: Path) -> Part:
        parts.check(path)
        return _part(where, path, split=split)

    with progress.task("report", record["rows"], "rows") as advance:
        for part in ahead(read, parts.folders, threads=1):
            _count(part, counts, overlap)
            advance(len(part.session))
    found = {"rows": record["rows"], **_described(counts, parts)}
    return {**found, "split": _split(counts, overlap)} if overlap else found


def _part(where: Dataset, path: Path, *, split: bool) -> Part:
    session, time, item = (read_columns(path, [name])[0] for name in (SESSION, TIME, ITEM))
    role = _roles(where, path) if split else np.zeros(len(session), np.uint8)
    after = session[1:] - session[:-1]
    if (after < 0).any() or (time[1:] < time[:-1])[after == 0].any():
        order = np.lexsort((time, session))
        session, time, item, role = session[order], time[order], item[order], role[order]
    heads = np.append(0, np.flatnonzero(session[1:] != session[:-1]) + 1)
    return Part(session, time, item, role, heads)


def _roles(where: Dataset, path: Path) -> UInt8:
    return np.array(open_array(where.roles_of(path), dtype=np.uint8, shape=(None,)))


def _overlap(where: Dataset, parts: Parts) -> Overlap:
    """Two passes over times and roles: where train and test lie, and the seconds of train in between, if there are any."""
    found = Overlap()
    for path in parts.folders:
        time, role = read_columns(path, [TIME])[0], _roles(where, path)
        found.first_test = min(found.first_test, int(time.min(where=role & TEST > 0, initial=NEVER)))
        found.last_train = max(found.last_train, int(time.max(where=role & TRAIN_FULL > 0, initial=-1)))
    length = found.last_train // MS - found.first_test // MS + 1
    if 0 < length <= MOST_SECONDS:
        found.seconds = np.zeros(length, bool)
        for path in parts.folders:
            time, role = read_columns(path, [TIME])[0], _roles(where, path)
            seconds = time[role & TRAIN_FULL > 0] // MS - found.first_test // MS
            found.seconds[seconds[seconds >= 0]] = True
    return found


def _count(part: Part, counts: Counts, overlap: Overlap | None) -> None:
    rows, heads, follows = len(part.session), part.heads, part.follows
    lengths = np.diff(heads, append=rows)
    own = SET_OF[part.role & 15]
    cells = (part.time // HOUR - counts.first_hour) * len(SETS) + own
    counts.hours += np.bincount(cells, minlength=counts.hours.size).reshape(counts.hours.shape)
    groups = np.searchsorted(LENGTHS, lengths, side="right") - 1
    counts.lengths += np.bincount(groups, minlength=len(LENGTHS))
    counts.length_clicks += np.bincount(groups, lengths, len(LENGTHS)).astype(np.int64)
    exact = np.minimum(lengths, len(counts.exact_lengths) - 1)
    counts.exact_lengths += np.bincount(exact, minlength=len(counts.exact_lengths))
    counts.most("longest", lengths.max())
    gaps = np.diff(part.time)[follows]
    counts.gaps += np.bincount(np.searchsorted(GAPS, gaps, side="right") - 1, minlength=len(GAPS))
    counts.fine_gaps += np.bincount(np.searchsorted(GAP_EDGES, gaps, side="right") - 1, minlength=len(GAP_EDGES))
    counts.add("sessions", len(heads))
    counts.add("directly_again", np.count_nonzero(follows & (part.item[1:] == part.item[:-1])))
    _count_items(part, counts, lengths, own)
    if overlap:
        _count_leaks(part, counts, overlap, lengths)


def _count_items(part: Part, counts: Counts, lengths: Int64, own: Int64) -> None:
    counts.items.add(part.item)
    codes = counts.items.codes.of(part.item)
    first = np.full(len(counts.items.counts), NEVER)
    first[: len(counts.first)] = counts.first
    np.minimum.at(first, codes, part.time)
    counts.first = first
    key = np.repeat(np.arange(len(lengths)), lengths) * len(first) + codes
    order = np.argsort(key, kind="stable")  # of one session and item the earliest first
    again = np.diff(key[order]) == 0
    repeated = order[1:][again & (np.diff(part.time[order]) == 0)]
    counts.add("again", np.count_nonzero(again))
    counts.add("repeated_rows", len(repeated))
    for name, number in zip(SETS, np.bincount(own[repeated], minlength=len(SETS)).tolist(), strict=True):
        counts.add(f"repeated_{name}", number)


def _count_leaks(part: Part, counts: Counts, overlap: Overlap, lengths: Int64) -> None:
    bits = np.bitwise_or.reduceat(part.role, part.heads)
    test, full = bits & TEST > 0, bits & TRAIN_FULL > 0
    counts.add("test_sessions", np.count_nonzero(test))
    counts.add("train_sessions", np.count_nonzero(full))
    counts.add("sessions_in_both", np.count_nonzero(test & full))
    counts.add("valid_in_train", np.count_nonzero((bits & TRAIN_TR > 0) & (bits & TRAIN_VALID > 0)))
    starts = np.minimum.reduceat(np.where(part.role & TEST > 0, part.time, NEVER), part.heads)
    counts.add("early_test_sessions", np.count_nonzero(test & (starts <= overlap.last_train)))
    same = part.follows & (np.diff(part.time) == 0)
    counts.add("test_same_time", np.count_nonzero(same & (part.role[1:] & TEST > 0)))
    if overlap.seconds is not None:
        early = np.flatnonzero((part.role & TEST > 0) & (part.time // MS <= overlap.last_train // MS))
        shared = early[overlap.seconds[part.time[early] // MS - overlap.first_test // MS]]
        owner = np.repeat(np.arange(len(lengths)), lengths)
        counts.add("test_shares_second", len(np.unique(owner[shared])))


def _described(counts: Counts, parts: Parts) -> dict[str, Any]:
    rows, support = parts.record.counts["rows"], counts.items.counts
    by_hour = counts.hours.sum(axis=1)
    week = np.bincount((np.arange(len(by_hour)) + counts.first_hour + 3 * 24) % (24 * DAYS_OF_WEEK), by_hour, 24 * 7)
    falling = np.sort(support)[::-1]
    below = np.cumsum(falling)
    ranks = np.unique(np.round(np.geomspace(1, len(falling), 60)).astype(np.int64))
    top = np.lexsort((counts.items.codes.ids, -support))[:TOP_ITEMS]
    names = [short(str(one)) for one in parts.item_ids(counts.items.codes.ids[top]).to_list()]
    hours, new = _bin_hours(len(by_hour)), np.bincount(counts.first // HOUR - counts.first_hour, minlength=len(by_hour))
    return {
        "sessions": counts.sums["sessions"],
        "items": len(support),
        "first_ms": parts.record.counts["first_ms"],
        "last_ms": parts.record.counts["last_ms"],
        "time": {
            "bin_hours": hours,
            "first_ms": counts.first_hour // hours * hours * HOUR,
            "clicks": _binned(by_hour, hours, counts.first_hour),
            "new_items": _binned(new, hours, counts.first_hour),
        },
        "week": week.astype(np.int64).reshape(DAYS_OF_WEEK, 24).tolist(),
        "lengths": _groups(LENGTHS, sessions=counts.lengths, clicks=counts.length_clicks),
        "median_length": _median(counts.exact_lengths, np.arange(len(counts.exact_lengths))),
        "longest": counts.sums["longest"],
        "gaps": _groups(GAPS, pairs=counts.gaps),
        "median_gap_ms": _median(counts.fine_gaps, GAP_EDGES),
        "popularity": {
            "ranks": ranks.tolist(),
            "clicks": falling[ranks - 1].tolist(),
            "items_of_half": int(np.searchsorted(below, rows / 2)) + 1,
            "share_of_top_percent": float(below[max(0, round(len(falling) / 100) - 1)] / rows),
            "once": int((support == 1).sum()),
            "top": [{"item": name, "clicks": int(support[at])} for name, at in zip(names, top.tolist(), strict=True)],
        },
        "again": counts.sums["again"],
        "directly_again": counts.sums["directly_again"],
        "repeated_rows": counts.sums["repeated_rows"],
    }


def _split(counts: Counts, overlap: Overlap) -> dict[str, Any]:
    hours = _bin_hours(len(counts.hours))
    return {
        "time": {name: _binned(counts.hours[:, at], hours, counts.first_hour) for at, name in enumerate(SETS)},
        "first_test_ms": overlap.first_test if overlap.first_test < NEVER else None,
        "last_train_ms": overlap.last_train if overlap.last_train >= 0 else None,
        "repeated_rows": {name: counts.sums[f"repeated_{name}"] for name in SETS},
        **{
            name: counts.sums[name]
            for name in (
                "test_sessions", "train_sessions", "sessions_in_both", "valid_in_train", "early_test_sessions",
                "test_same_time",
            )
        },
        "test_shares_second": None if _too_long(overlap) else counts.sums.get("test_shares_second", 0),
    }  # fmt: skip


def _too_long(overlap: Overlap) -> bool:
    return overlap.seconds is None and overlap.last_train >= overlap.first_test


def _bin_hours(hours: int) -> int:
    return next((one for one in BIN_HOURS if hours <= one * MOST_BINS), BIN_HOURS[-1])


def _binned(by_hour: Int64, hours: int, first_hour: int) -> list[int]:
    """Sums over bins of so many hours, which begin at whole days where they are that long."""
    starts = np.maximum(0, np.arange(-(first_hour % hours), len(by_hour), hours))
    found: list[int] = np.add.reduceat(by_hour, starts).tolist()
    return found


def _groups(firsts: Sequence[int], **counts: Int64) -> list[dict[str, Any]]:
    lasts = [*(first - 1 for first in firsts[1:]), None]
    return [
        {"least": least, "most": most, **{name: int(values[at]) for name, values in counts.items()}}
        for at, (least, most) in enumerate(zip(firsts, lasts, strict=True))
    ]


def _median(counts: Int64, values: Int64) -> int:
    """The value that the middle one of all counted ones has; 0 where nothing was counted."""
    return int(values[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]) if counts.sum() else 0
