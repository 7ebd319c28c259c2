"""Every set as its sessions in order: item codes one session after the other, and how many clicks each session has.

That is all that mini-batches need of a log, whatever their size, so it is made once and kept in DIR/parquet/sequences:
{set}_items.npy and {set}_lengths.npy, int32 of shape (clicks, 1) and (sessions, 1).

Parts are ranges of session ids, so sessions come in the order of their ids. The official GRU4Rec takes them by the time of
their first click (`time_sort`): then the starts of all sessions are kept, 8 bytes each, and the files are written twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pocketrec.ingestion.parts import Parts, read_column
from pocketrec.parallel import ahead
from pocketrec.progress import Advance
from pocketrec.schema import ITEM, SESSION, TIME, Int32, Int64, UInt8
from pocketrec.sessions.holdout import ROLE_OF
from pocketrec.sessions.item_codes import MISSING, ItemCodes
from pocketrec.sessions.options import BatchSettings, TrainOn
from pocketrec.storage.formats import Npy
from pocketrec.storage.layout import SPLITS, Dataset
from pocketrec.storage.manifest import OutputFile, Record
from pocketrec.storage.npy import open_array
from pocketrec.storage.repair import check_files
from pocketrec.storage.stage import Stage
from pocketrec.storage.writer import Writer

SESSIONS_PER_READ = 1 << 16


@dataclass(frozen=True)
class Sets:
    """What the sets are made of; `roles` is the record of which row is in which set, `index` the items that are trained on.

    Of the settings, `train_on` says what the set named train_tr holds (with train_full the sessions of train_valid, too);
    `session_order` is "id", or "time": by first click, sessions that begin at the same time by id.
    """

    where: Dataset
    parts: Parts
    roles: Record
    index: ItemCodes
    settings: BatchSettings

    def rows(self, name: str, role: UInt8) -> Int64:
        """Which rows of a part are in one of `SPLITS`, by the roles of its rows."""
        return rows_of_set(name, role, self.settings.train_on)


@dataclass(frozen=True)
class Sessions:
    """Whole sessions in ascending order of id: their items, one session after the other, their lengths, their first times.

    unknown: clicks that were left out because of their item, or because that left their session with a single click.
    """

    items: Int32
    lengths: Int64
    starts: Int64
    unknown: int


def rows_of_set(name: str, role: UInt8, train_on: TrainOn) -> Int64:
    """Which rows have a role in one of `SPLITS`, of which train_tr stands for the set that is trained on."""
    return np.flatnonzero(role & ROLE_OF[train_on if name == "train_tr" else name])


def sequences(
    sets: Sets, argv: Sequence[str], advance: Advance, *, needed: int = 0, fresh: bool = False, force: bool = False
) -> Record:
    """The record of the sequences, which are made now unless it is current. Its counts are the unknown clicks of each set.

    `argv` is the command that makes them again, `advance` is told about rows read; `needed` is about how many bytes they
    take; `fresh` and `force` as of `batches`.
    """
    inputs = {"clicks": sets.parts.record.content, "roles": sets.roles.content}
    settings = {"train_on": sets.settings.train_on, "session_order": sets.settings.session_order}
    stage = Stage(sets.where.sequences.parent, "sequences", settings, inputs, argv)
    if not fresh and (found := stage.current()):
        check_files(stage.folder, found)
        return found
    with stage.replacing(needed, force=force, into=sets.where.sequences) as draft:
        draft.files, draft.counts["unknown"] = _write(sets, draft.folder, advance)
    return draft.record


def _write(sets: Sets, folder: Path, advance: Advance) -> tuple[dict[str, OutputFile], dict[str, int]]:
    """The files by name, and the unknown clicks of each set."""
    unknown = dict.fromkeys(SPLITS, 0)
    starts: dict[str, list[Int64]] = {name: [] for name in SPLITS}
    with contextlib.ExitStack() as stack:
        writers = {name: SetFiles.opened(folder, name, stack) for name in SPLITS}
        for rows, found_here in sessions_of_parts(sets):
            for name, sessions in found_here.items():
                writers[name].write(sessions.items, sessions.lengths)
                unknown[name] += sessions.unknown
                if sets.settings.session_order == "time":
                    starts[name].append(sessions.starts)
            advance(rows)
        files = {path: file for writer in writers.values() for path, file in writer.commit().items()}
    for name in (name for name in SPLITS if starts[name]):
        files |= _in_order_of_time(folder, name, np.concatenate(starts.pop(name)))
    return files, unknown


@dataclass(frozen=True)
class SetFiles:
    """The two files of a set in the making: items and lengths."""

    items: Writer
    lengths: Writer

    @classmethod
    def opened(cls, folder: Path, name: str, stack: contextlib.ExitStack) -> SetFiles:
        """Without `commit` they are removed when the stack is closed."""
        return cls(*(stack.enter_context(Writer(_path(folder, name, what), Npy(1))) for what in ("items", "lengths")))

    def write(self, items: Int32, lengths: Int64 | Int32) -> None:
        self.items.write(items.reshape(-1, 1))
        self.lengths.write(lengths.reshape(-1, 1))

    def commit(self) -> dict[str, OutputFile]:
        return {writer.path.name: writer.commit() for writer in (self.items, self.lengths)}


def _in_order_of_time(folder: Path, name: str, starts: Int64) -> dict[str, OutputFile]:
    """Write one set again, its sessions by their starts; takes 20 bytes of memory a session."""
    lengths, items = (open_array(_path(folder, name, what), shape=(None, 1))[:, 0] for what in ("lengths", "items"))
    order, heads = np.argsort(starts, kind="stable"), np.cumsum(lengths) - lengths
    with contextlib.ExitStack() as stack:
        writer = SetFiles.opened(folder, name, stack)
        for begin in range(0, len(order), SESSIONS_PER_READ):
            some = order[begin : begin + SESSIONS_PER_READ]
            length = lengths[some].astype(np.int64)
            places = np.repeat(heads[some] - (np.cumsum(length) - length), length) + np.arange(int(length.sum()))
            writer.write(items[places], lengths[some])
        return writer.commit()


def read_sequences(where: Dataset, name: str) -> Iterator[tuple[Int32, Int64]]:
    """Items and lengths of one set, some sessions at a time."""
    with contextlib.ExitStack() as stack:
        items, lengths = (
            stack.enter_context(_path(where.sequences, name, what).open("rb")) for what in ("items", "lengths")
        )
        _skip_header(items)
        # Read, not mapped: mapped pages stay in the process as long as the file is open.
        for _ in range(0, _skip_header(lengths), SESSIONS_PER_READ):
            some = np.fromfile(lengths, "<i4", SESSIONS_PER_READ).astype(np.int64)
            yield np.fromfile(items, "<i4", int(some.sum())), some


def _skip_header(file: BinaryIO) -> int:
    """Rows of an npy file that has been opened; what follows is its content."""
    np.lib.format.read_magic(file)
    shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return int(shape[0])


def _path(folder: Path, name: str, what: str) -> Path:
    return folder / f"{name}_{what}.npy"


def sessions_of_parts(sets: Sets, names: Sequence[str] = SPLITS) -> Iterator[tuple[int, Mapping[str, Sessions]]]:
    """For each part its rows, and the sessions of each set, or of some of `SPLITS`."""

    def read(path: Path) -> tuple[int, Mapping[str, Sessions]]:
        sets.parts.check(path)
        role = open_array(sets.where.roles_of(path), dtype=np.uint8, shape=(None,))
        rows_of = {name: sets.rows(name, role) for name in names}
        session, time, item = (
            {name: values[rows] for name, rows in rows_of.items()}
            for values in (read_column(path, column) for column in (SESSION, TIME, ITEM))
        )
        return len(role), {name: whole_sessions(session[name], time[name], sets.index.of(item[name])) for name in names}

    # A part that is not one piece of the log must be sorted, which takes twice the memory: one at a time then.
    in_pieces = all(rows == last + 1 - first for rows, first, last in sets.roles.counts["lines"].values())
    yield from ahead(read, sets.parts.folders, threads=2 if in_pieces else 1)


def whole_sessions(session: Int64, time: Int64, codes: Int32) -> Sessions:
    """The sessions of some rows of one part in log order, without items that have no code; equal times stay as they are."""
    rows = len(codes)
    if (codes == MISSING).any():
        known = np.flatnonzero(codes != MISSING)
        _, numbers, lengths = np.unique(session[known], return_inverse=True, return_counts=True)
        left = known[(lengths > 1)[numbers]]  # a session of one click has no next one
        session, time, codes = session[left], time[left], codes[left]
    if not len(codes):
        return Sessions(codes, np.empty(0, np.int64), np.empty(0, np.int64), rows)
    if (np.diff(session) < 0).any():
        order = np.lexsort((time, session))
        session, time, codes = session[order], time[order], codes[order]
    heads = np.flatnonzero(np.diff(session, prepend=session[0] - 1))
    lengths = np.diff(heads, append=len(session))
    items = _in_time_order(time, codes, heads, lengths)
    return Sessions(items, lengths, np.minimum.reduceat(time, heads), rows - len(codes))


def _in_time_order(time: Int64, items: Int32, heads: Int64, lengths: Int64) -> Int32:
    """Sort each session by time. In a real log a few sessions are out of order, and only those are touched."""
    backwards = np.flatnonzero(np.diff(time) < 0) + 1
    sessions = np.searchsorted(heads, backwards, side="right") - 1
    sessions = np.unique(sessions[heads[sessions] != backwards])  # going back in time at a head is a new session
    if not len(sessions):
        return items
    mixed = np.zeros(len(heads), bool)
    mixed[sessions] = True
    rows = np.flatnonzero(np.repeat(mixed, lengths))
    owner = np.repeat(np.arange(len(sessions)), lengths[sessions])
    items = items.copy()
    items[rows] = items[rows[np.lexsort((time[rows], owner))]]
    return items
