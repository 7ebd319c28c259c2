"""Every set as its sessions in order: item codes one session after the other, and how long each session is.

That is all that mini-batches need of a log, whatever their size, so it is made once and kept in DIR/parquet/sequences:
{set}_items.npy and {set}_lengths.npy, int32 of shape (clicks, 1) and (sessions, 1).

Parts are ranges of session ids, so sessions come in the order of their ids. The official GRU4Rec takes them by the time of
their first click (`time_sort`): the starts of all sessions are then kept, 8 bytes each, and the files written once more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pocketrec.ingestion.parts import Parts, read_column
from pocketrec.parallel import ahead
from pocketrec.schema import ITEM, SESSION, TIME, Bool, Int32, Int64
from pocketrec.sessions.holdout import ROLE_OF
from pocketrec.sessions.item_codes import MISSING, ItemCodes
from pocketrec.sessions.options import SessionOrder, TrainOn
from pocketrec.storage.formats import Npy
from pocketrec.storage.layout import SPLITS, Dataset
from pocketrec.storage.manifest import OutputFile, Record
from pocketrec.storage.npy import open_array
from pocketrec.storage.repair import check_files
from pocketrec.storage.stage import Stage
from pocketrec.storage.writer import Writer

SESSIONS_PER_READ = 1 << 16


@dataclass(frozen=True)
class Choice:
    """What the sets hold, and in which order.

    Attributes:
        train_on: what the set named train_tr holds. With train_full, the sessions of train_valid are in it as well.
        session_order: id: sessions ascend by id; time: by their first click, sessions that begin together by id.
    """

    train_on: TrainOn = "train_tr"
    session_order: SessionOrder = "id"

    def role(self, name: str) -> int:
        """The bit of a row's role that puts it into one of `SPLITS`."""
        return ROLE_OF[self.train_on if name == "train_tr" else name]


@dataclass(frozen=True)
class Sessions:
    """Whole sessions in ascending order of id: their items, one session after the other, their lengths, their first times.

    unknown: clicks that were left out because of their item, or because that left their session with a single click.
    """

    items: Int32
    lengths: Int64
    starts: Int64
    unknown: int


def sequences(
    where: Dataset,
    parts: Parts,
    roles: Record,
    index: ItemCodes,
    choice: Choice,
    argv: Sequence[str],
    advance: Callable[[int], None],
    *,
    needed: int = 0,
    fresh: bool = False,
    force: bool = False,
) -> Record:
    """The record of the sequences, made now unless it is current. Its counts are the unknown clicks of each set.

    Args:
        where: the dataset.
        parts: of the log.
        roles: record of which row is in which set.
        index: the vocabulary of what is trained on.
        choice: of the sets and their order.
        argv: the command that makes them again.
        advance: told about rows read.
        needed: bytes that they take, about.
        fresh: make them again even where nothing has changed.
        force: begin even where less is free.
    """
    inputs, settings = {"clicks": parts.record.content, "roles": roles.content}, asdict(choice)
    stage = Stage(where.sequences.parent, "sequences", settings, inputs, argv)
    if not fresh and (found := stage.current()):
        check_files(stage.folder, found)
        return found
    with stage.replacing(needed, force=force, into=where.sequences) as draft:
        draft.files, draft.counts["unknown"] = _write(where, parts, roles, index, choice, draft.folder, advance)
    return draft.record


def _write(
    where: Dataset,
    parts: Parts,
    roles: Record,
    index: ItemCodes,
    choice: Choice,
    folder: Path,
    advance: Callable[[int], None],
) -> tuple[dict[str, OutputFile], dict[str, int]]:
    """The files by name, and the unknown clicks of each set."""
    unknown = dict.fromkeys(SPLITS, 0)
    starts: dict[str, list[Int64]] = {name: [] for name in SPLITS}
    in_pieces = all(rows == last + 1 - first for rows, first, last in roles.counts["lines"].values())
    with contextlib.ExitStack() as stack:
        writers = {
            (name, what): stack.enter_context(Writer(_path(folder, name, what), Npy(1)))
            for name in SPLITS
            for what in ("items", "lengths")
        }
        for rows, found_here in _sessions_of_parts(where, parts, index, choice, in_pieces):
            for name, sessions in found_here.items():
                writers[name, "items"].write(sessions.items.reshape(-1, 1))
                writers[name, "lengths"].write(sessions.lengths.astype(np.int32).reshape(-1, 1))
                unknown[name] += sessions.unknown
                if choice.session_order == "time":
                    starts[name].append(sessions.starts)
            advance(rows)
        files = {writer.path.name: writer.commit() for writer in writers.values()}
    for name in (name for name in SPLITS if starts[name]):
        files |= _in_order_of_time(folder, name, np.concatenate(starts.pop(name)))
    return files, unknown


def _in_order_of_time(folder: Path, name: str, starts: Int64) -> dict[str, OutputFile]:
    """Write one set again, its sessions by start; memory grows with the number of sessions, 20 bytes each."""
    lengths, items = (open_array(_path(folder, name, what), shape=(None, 1))[:, 0] for what in ("lengths", "items"))
    order, heads = np.argsort(starts, kind="stable"), np.cumsum(lengths) - lengths
    with contextlib.ExitStack() as stack:
        writers = {what: stack.enter_context(Writer(_path(folder, name, what), Npy(1))) for what in ("items", "lengths")}
        for begin in range(0, len(order), SESSIONS_PER_READ):
            some = order[begin : begin + SESSIONS_PER_READ]
            length = lengths[some].astype(np.int64)
            places = np.repeat(heads[some] - (np.cumsum(length) - length), length) + np.arange(int(length.sum()))
            writers["items"].write(items[places].reshape(-1, 1))
            writers["lengths"].write(lengths[some].reshape(-1, 1))
        return {writer.path.name: writer.commit() for writer in writers.values()}


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


def _sessions_of_parts(
    where: Dataset, parts: Parts, index: ItemCodes, choice: Choice, in_pieces: bool
) -> Iterator[tuple[int, Mapping[str, Sessions]]]:
    """For each part its rows, and the sessions of each set."""

    def read(path: Path) -> tuple[int, Mapping[str, Sessions]]:
        parts.check(path)
        role = open_array(where.roles_of(path), dtype=np.uint8, shape=(None,))
        rows_of = {name: np.flatnonzero(role & choice.role(name)) for name in SPLITS}
        session, time, item = (
            {name: values[rows] for name, rows in rows_of.items()}
            for values in (read_column(path, column) for column in (SESSION, TIME, ITEM))
        )
        return len(role), {name: whole_sessions(session[name], time[name], index.of(item[name])) for name in SPLITS}

    # A part that is not one piece of the log must be sorted, which takes twice the memory: one at a time then.
    yield from ahead(read, parts.folders, threads=2 if in_pieces else 1)


def whole_sessions(session: Int64, time: Int64, codes: Int32) -> Sessions:
    """The sessions of some rows of one part in log order, without items that have no code."""
    rows = len(codes)
    if (codes == MISSING).any():
        known = np.flatnonzero(codes != MISSING)
        left = known[_has_company(session[known])]
        session, time, codes = session[left], time[left], codes[left]
    if not len(codes):
        return Sessions(codes, np.empty(0, np.int64), np.empty(0, np.int64), rows)
    return Sessions(*in_session_order(session, time, codes), rows - len(codes))


def _has_company(session: Int64) -> Bool:
    """For each row, whether its session has another."""
    _, codes, lengths = np.unique(session, return_inverse=True, return_counts=True)
    more: Bool = (lengths > 1)[codes]
    return more


def in_session_order(session: Int64, time: Int64, items: Int32) -> tuple[Int32, Int64, Int64]:
    """Items of whole sessions, ascending by session, then time, equal times as they came; their lengths and starts."""
    if (np.diff(session) < 0).any():
        order = np.lexsort((time, session))
        session, time, items = session[order], time[order], items[order]
    heads = np.flatnonzero(np.diff(session, prepend=session[0] - 1))
    lengths = np.diff(heads, append=len(session))
    return _in_time_order(time, items, heads, lengths), lengths, np.minimum.reduceat(time, heads)


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
