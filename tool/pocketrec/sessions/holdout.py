"""Split: the support filters and the time hold-out of the rsc15 protocol, part by part.

The protocol (facts of the original GRU4Rec preparation), one pass each, not iterated:

1. keep sessions of at least `min_session_length` clicks;
2. keep items of at least `min_item_support` clicks, counted on what 1 left;
3. keep sessions of at least `min_session_length` clicks, counted on what 2 left;
4. tmax = the latest time left; a session whose own latest time is < tmax - holdout is train_full, else test;
5. test keeps the items of train_full, then sessions of at least `min_session_length` clicks;
6. 4 and 5 again inside train_full with its own tmax: train_tr and train_valid.

This needs three passes over the parts: `count` does 1 and counts for 2; `survey` does 2 and 3, and finds tmax and for every
item the earliest end of a session that has it, which decides 5 without another look at train_full; `assign` gives every
row its role. No pass holds a table of sessions: what is held in memory between passes grows with the items alone.

The rules are functions of the arrays of one part; `count`, `survey` and `cuts` call them over the parts on a disk, and
`spark/` over those of a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import get_args

import numpy as np

from pocketrec.ingestion.parts import Parts, read_column
from pocketrec.parallel import ahead
from pocketrec.schema import ITEM, MS, SESSION, TIME, Bool, Int32, Int64, UInt8
from pocketrec.sessions.item_codes import MISSING, ItemCodes, ItemCounts
from pocketrec.sessions.options import SplitSettings, TrainOn

TRAIN_FULL, TEST, TRAIN_TR, TRAIN_VALID = 1, 2, 4, 8
ROLE_OF = {"train_full": TRAIN_FULL, "test": TEST, "train_tr": TRAIN_TR, "train_valid": TRAIN_VALID}
"""The bit of each set in a row's role. A row of train_tr is also one of train_full: 5."""
TRAINED_ON: tuple[TrainOn, ...] = get_args(TrainOn)
"""The sets that a model can be trained on, each with an item index of its own."""

NEVER = np.iinfo(np.int64).max
"""In place of a first row, or of an earliest time, where there is none."""
LONG_AGO = np.iinfo(np.int64).min
"""In place of a latest time, where there is none."""


@dataclass
class SetCounts:
    """Size of one set. known: for each item code, whether the set has the item."""

    events: int
    sessions: int
    known: Bool

    @property
    def items(self) -> int:
        """Number of different items."""
        return int(np.count_nonzero(self.known))


@dataclass
class ItemTally:
    """By item code: how often a set has the item, and the first line in the log that has it there (else `NEVER`)."""

    support: Int64
    first_row: Int64

    def index(self) -> Int64:
        """The codes of the items that the set has, in order of first appearance: the item index."""
        return np.argsort(self.first_row, kind="stable")[: np.count_nonzero(self.support)]


@dataclass
class Tally:
    """Sizes of the four sets over some parts; and of each of `TRAINED_ON` its items."""

    sets: dict[str, SetCounts]
    trained: dict[TrainOn, ItemTally]

    @classmethod
    def empty(cls, items: int) -> Tally:
        """Nothing counted yet, for a vocabulary of `items` codes."""
        sets = {name: SetCounts(0, 0, np.zeros(items, bool)) for name in ROLE_OF}
        return cls(sets, {name: ItemTally(np.zeros(items, np.int64), np.full(items, NEVER)) for name in TRAINED_ON})

    def add(self, other: Tally) -> None:
        """Count other parts in."""
        for name, total in self.sets.items():
            more = other.sets[name]
            total.events += more.events
            total.sessions += more.sessions
            total.known |= more.known
        for name, trained in self.trained.items():
            trained.support += other.trained[name].support
            np.minimum(trained.first_row, other.trained[name].first_row, out=trained.first_row)


@dataclass
class Survey:
    """What the second pass found, times in ms: the latest that is left, and the folder of temporary files (see `survey`).

    first_end: by item code, the earliest end of a session that still has the item: the item is in train_full exactly if
        that session is.
    left: how many rows there were, and how many the protocol's steps 1, 2 and 3 left, (4,).
    """

    tmax: int
    first_end: Int64
    scratch: Path
    left: Int64


def session_codes(session: Int64) -> tuple[Int64, int]:
    """Sessions of one part numbered 0.. in ascending order of id: the number of each row's session, and how many."""
    if not len(session):
        return np.empty(0, np.int64), 0
    if (session[1:] >= session[:-1]).all():  # a log grouped by ascending session
        codes = np.zeros(len(session), np.int64)
        codes[1:] = session[1:] != session[:-1]
        np.cumsum(codes, out=codes)
        return codes, int(codes[-1]) + 1
    low, high = int(session.min()), int(session.max())
    if high - low < 8 * len(session):  # ids close together: a table is faster than sorting
        numbers = np.zeros(high - low + 1, np.int64)
        numbers[session - low] = 1
        np.cumsum(numbers, out=numbers)
        return numbers[session - low] - 1, int(numbers[-1])
    ids, codes = np.unique(session, return_inverse=True)
    return codes, len(ids)


def count(parts: Parts, rules: SplitSettings) -> ItemCounts:
    """First pass: clicks of each item in sessions that are long enough."""

    def items_that_count(path: Path) -> Int64:
        parts.check(path)  # in the first pass; the later ones read the same files
        return in_long_sessions(read_column(path, SESSION), read_column(path, ITEM), rules)

    counts = ItemCounts()
    for items in ahead(items_that_count, parts.folders, threads=3):
        counts.add(items)
    return counts


def survey(parts: Parts, rules: SplitSettings, items: ItemCodes, scratch: Path) -> Survey:
    """Second pass: which rows survive the filters, and when their sessions end.

    Writes two arrays a part to `scratch`: kept_NAME.npy, the item code of each row (MISSING where it was dropped), and
    ends_NAME.npy, the end of each session in ms (LONG_AGO where nothing is left of it).
    """

    def what_is_left(path: Path) -> tuple[Int32, Int64, list[int]]:
        codes, sessions = session_codes(read_column(path, SESSION))
        kept = items.of(read_column(path, ITEM))
        counts = drop_filtered(kept, codes, sessions, rules)
        ends = session_ends(kept, codes, sessions, read_column(path, TIME))
        np.save(scratch / f"kept_{path.name}.npy", kept)
        np.save(scratch / f"ends_{path.name}.npy", ends)
        left = np.flatnonzero(kept != MISSING)
        return kept[left], ends[codes[left]], counts

    found = Survey(LONG_AGO, np.full(len(items), NEVER), scratch, np.zeros(4, np.int64))
    for left, ends, counts in ahead(what_is_left, parts.folders, threads=3):
        found.left += counts
        np.minimum.at(found.first_end, left, ends)
        found.tmax = max(found.tmax, int(ends.max(initial=LONG_AGO)))
    return found


def cuts(parts: Parts, rules: SplitSettings, found: Survey) -> tuple[float, float]:
    """The ends of train_full and of train_tr: sessions that end before are in them. Float seconds, as in the original."""
    test, latest = cut_before(found.tmax, rules), LONG_AGO
    for folder in parts.folders:
        ends = np.load(found.scratch / f"ends_{folder.name}.npy", allow_pickle=False)
        latest = max(latest, latest_before(test, ends))
    return test, cut_before(latest, rules)


def cut_before(latest: int, rules: SplitSettings) -> float:
    """The time, in seconds, before which sessions end that are not held out; `latest`, in ms, is the last time there is."""
    return latest / MS - rules.holdout


def latest_before(cut: float, ends: Int64) -> int:
    """The latest end of a session before a cut, in ms; `LONG_AGO` if there is none."""
    return int(ends.max(where=ends / MS < cut, initial=LONG_AGO))


def in_long_sessions(session: Int64, item: Int64, rules: SplitSettings) -> Int64:
    """The items of the rows of one part whose sessions are long enough."""
    codes, sessions = session_codes(session)
    return item[_long_enough(codes, sessions, rules)]


def drop_filtered(kept: Int32, codes: Int64, sessions: int, rules: SplitSettings) -> list[int]:
    """Steps 1 to 3 for one part: its dropped rows become MISSING in `kept`, the codes of frequent items or MISSING.

    Returns how many rows there were, and how many steps 1, 2 and 3 left.
    """
    long_enough = _long_enough(codes, sessions, rules)
    kept[~long_enough] = MISSING
    frequent = np.count_nonzero(kept != MISSING)
    kept[~_long_enough(codes, sessions, rules, kept != MISSING)] = MISSING
    return [len(kept), int(np.count_nonzero(long_enough)), int(frequent), int(np.count_nonzero(kept != MISSING))]


def session_ends(kept: Int32, codes: Int64, sessions: int, time: Int64) -> Int64:
    """The latest time of each session of a part among the rows that are kept; `LONG_AGO` where none is."""
    left, ends = np.flatnonzero(kept != MISSING), np.full(sessions, LONG_AGO)
    np.maximum.at(ends, codes[left], time[left])
    return ends


def assign(
    kept: Int32, ends: Int64, codes: Int64, first_end: Int64, cut: tuple[float, float], rules: SplitSettings
) -> dict[str, Bool]:
    """Third pass, one part: for each set of `ROLE_OF`, which of the part's rows are in it.

    `first_end` is that of the `Survey`, `cut` what `cuts` returned.
    """
    left = kept != MISSING
    end_of_full, end_of_tr = cut
    in_full, in_tr = ends / MS < end_of_full, ends / MS < end_of_tr  # by session
    full = left & in_full[codes]
    tr = left & in_tr[codes]
    test = _known(left & ~full, kept, codes, len(ends), first_end / MS < end_of_full, rules)
    valid = _known(full & ~tr, kept, codes, len(ends), first_end / MS < end_of_tr, rules)
    return {"train_full": full, "test": test, "train_tr": tr, "train_valid": valid}


def roles(members: dict[str, Bool]) -> UInt8:
    """The role of each row, an OR of the bits in `ROLE_OF`; 0 for a row that is in no set."""
    bits = [rows.view(np.uint8) * np.uint8(ROLE_OF[name]) for name, rows in members.items()]
    return reduce(or_, bits)


def _known(rows: Bool, kept: Int32, codes: Int64, sessions: int, known: Bool, rules: SplitSettings) -> Bool:
    """Those of some rows that have a known item, and whose sessions are long enough then."""
    if not rows.any():
        return rows
    rows = rows & known[kept]
    return rows & _long_enough(codes, sessions, rules, rows)


def _long_enough(codes: Int64, sessions: int, rules: SplitSettings, rows: Bool | None = None) -> Bool:
    """For each row, whether its session has enough clicks among `rows` (all rows if None)."""
    lengths = np.bincount(codes if rows is None else codes[rows], minlength=sessions)
    return (lengths >= rules.min_session_length)[codes]


def tally(members: dict[str, Bool], kept: Int32, codes: Int64, sessions: int, row: Int64, items: int) -> Tally:
    """Count one part; `items` is the size of the vocabulary that `kept` refers to."""
    counted = Tally.empty(items)
    for name, chosen in members.items():
        rows, here = np.flatnonzero(chosen), np.zeros(sessions, bool)
        here[codes[rows]] = True
        size, item = counted.sets[name], kept[rows]
        size.events, size.sessions = len(rows), int(np.count_nonzero(here))
        support = np.bincount(item, minlength=items)
        np.greater(support, 0, out=size.known)
        if name in TRAINED_ON:
            trained = counted.trained[name]
            trained.support += support
            trained.first_row[item[::-1]] = row[rows[::-1]]  # rows ascend, so the last to be written is the first to occur
    return counted
