"""The four rsc15 txt files: rows of the parts back in the order of the log, as tab-separated text.

Parts are ranges of session ids; the txt files follow the lines of the log. In a log grouped by session the two orders are
nearly the same; in a shuffled one every part has rows everywhere. Every line of the log is in exactly one part, so a block
of lines is an array that the parts fill, each row at its place, and nothing is sorted; each part is read in slices by a
cursor.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.ingestion.ids import ID
from pocketrec.ingestion.parts import equal_share, read_columns, read_frame
from pocketrec.parallel import THREADS, ahead
from pocketrec.schema import ITEM, MS, ROW, SESSION, TIME, Int64, UInt8
from pocketrec.sessions.holdout import ROLE_OF
from pocketrec.storage.npy import open_array
from pocketrec.storage.writer import Writer

HEADER = b"SessionId\tItemId\tTime\n"
LINES_PER_BLOCK = 1 << 17
ROWS_IN_HAND = 1 << 20
"""Rows of all open slices together."""
MIN_SLICE, MAX_SLICE = 1 << 12, 1 << 17


@dataclass
class Clicks:
    """Rows of the log, ascending by line number; all arrays of the same length."""

    session: Int64
    item: Int64
    time: Int64
    row: Int64
    role: UInt8
    ids: pl.DataFrame | None = None
    """The ids that came in, where they are text: session_id, item_id or both."""

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, rows: slice | Int64) -> Clicks:
        ids = None if self.ids is None else self.ids[rows]
        return Clicks(self.session[rows], self.item[rows], self.time[rows], self.row[rows], self.role[rows], ids)


@dataclass(frozen=True)
class Part:
    """Where a part's clicks and the roles of its rows are.

    Attributes:
        files: of its clicks, in the order of the log, and the rows of each.
        first, last: its first and its last line in the log.
        ids: columns of text that stand for session or item in the txt files.
    """

    files: Sequence[tuple[Path, int]]
    roles: Path
    rows: int
    first: int
    last: int
    ids: tuple[str, ...] = ()


Place = tuple[Path, slice, slice]
"""Some rows of a part: the file they are in, which of the file they are, and which of the part."""


class Cursor:
    """Reads one part slice by slice; with `read_ahead` the next slice while the one before is in use."""

    def __init__(self, part: Part, slice_rows: int, reader: Executor, *, read_ahead: bool) -> None:
        self.part, self.slice_rows, self.reader, self.read_ahead = part, slice_rows, reader, read_ahead
        self.places = _places(part, slice_rows)
        self.following = next(self.places, None)
        """The slice to be read next."""
        self.next: Future[Clicks] | None = None
        self.held: Clicks | None = None
        """What was read and not taken yet; None if that is no row."""

    @property
    def exhausted(self) -> bool:
        """Whether all rows of the part have been taken."""
        return self.held is None and self.next is None and self.following is None

    def begin(self) -> None:
        """Have the next slice read, if there is one and it is not under way."""
        if self.next is None and self.following is not None:
            self.next = self.reader.submit(_read, self.part, self.following)
            self.following = next(self.places, None)

    def take(self, end: int) -> Iterator[Clicks]:
        """All rows before line `end` that were not taken yet, in pieces."""
        while not self.exhausted:
            if self.held is None:
                self.begin()
                assert self.next is not None
                self.held, self.next = self.next.result(), None
                if self.read_ahead:
                    self.begin()
            count = int(np.searchsorted(self.held.row, end))
            if count:
                yield self.held[:count]
            self.held = self.held[count:] if count < len(self.held) else None
            if self.held is not None:
                return


def _places(part: Part, slice_rows: int) -> Iterator[Place]:
    """A part in slices. Each is within one file, so that it is one read and begins where a row group does."""
    before = 0
    for file, rows in part.files:
        for start in range(0, rows, slice_rows):
            stop = min(start + slice_rows, rows)
            yield file, slice(start, stop), slice(before + start, before + stop)
        before += rows


def in_log_order(parts: list[Part]) -> Iterator[Clicks]:
    """All rows, block by block, in the order of the log."""
    open_at_once = _open_at_once(parts)
    slice_rows = equal_share(ROWS_IN_HAND, open_at_once, MIN_SLICE, MAX_SLICE)
    read_ahead = 2 * open_at_once * slice_rows <= ROWS_IN_HAND
    lines = sum(part.rows for part in parts)
    with ThreadPoolExecutor(THREADS) as reader:
        in_order = sorted(parts, key=lambda part: part.first)
        waiting = deque(Cursor(part, slice_rows, reader, read_ahead=read_ahead) for part in in_order)
        active: list[Cursor] = []
        for first in range(0, lines, LINES_PER_BLOCK):
            end = min(first + LINES_PER_BLOCK, lines)
            while waiting and waiting[0].part.first < end:
                active.append(waiting.popleft())
            for cursor in active:
                if cursor.held is None:
                    cursor.begin()
            if read_ahead and waiting:
                waiting[0].begin()
            yield _merge((piece for cursor in active for piece in cursor.take(end)), first, end)
            active = [cursor for cursor in active if not cursor.exhausted]


def _open_at_once(parts: list[Part]) -> int:
    """How many parts have rows on both sides of the same line of the log, at most."""
    starts = np.sort([part.first for part in parts])
    ends = np.sort([part.last for part in parts])
    return int((np.arange(1, len(parts) + 1) - np.searchsorted(ends, starts, side="left")).max(initial=1))


def _read(part: Part, place: Place) -> Clicks:
    file, rows, in_part = place
    session, item, time = read_columns(file, (SESSION, ITEM, TIME), rows)
    if part.rows == part.last + 1 - part.first:  # they are consecutive lines of the log
        row = part.first + np.arange(in_part.start, in_part.stop)
    else:
        (row,) = read_columns(file, [ROW], rows)
    ids = read_frame(file, list(part.ids), rows) if part.ids else None
    roles = open_array(part.roles, dtype=np.uint8, shape=(part.rows,))[in_part]
    return Clicks(session, item, time, row, np.array(roles), ids)


def _merge(pieces: Iterable[Clicks], first: int, end: int) -> Clicks:
    """The pieces that together have every line from `first` to before `end`, each row put at its place."""
    lines = end - first
    session, item, time = np.empty((3, lines), np.int64)
    merged = Clicks(session, item, time, np.arange(first, end), np.empty(lines, np.uint8))
    texts: list[tuple[Int64, pl.DataFrame]] = []
    for piece in pieces:
        low, high = int(piece.row[0]) - first, int(piece.row[-1]) + 1 - first
        place = slice(low, high) if high - low == len(piece) else piece.row - first
        merged.session[place], merged.item[place], merged.time[place] = piece.session, piece.item, piece.time
        merged.role[place] = piece.role
        if piece.ids is not None:
            texts.append((piece.row, piece.ids))
    if texts:
        merged.ids = pl.concat([ids for _, ids in texts])[np.argsort(np.concatenate([row for row, _ in texts]))]
    return merged


Text = list[bytes]
"""Lines in pieces, as Polars writes them: joining them would be one more copy."""


class _Pieces(io.BytesIO):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.text: Text = []

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        self.text.append(bytes(piece))
        return len(self.text[-1])


def encode(clicks: Clicks, rows: Int64) -> Text:
    """Some rows as `session TAB item TAB seconds` lines, the seconds as the shortest float that reads back equal.

    The milliseconds are divided by numpy: its division rounds correctly, so the float is the nearest one to the decimal
    with three places, and its shortest text is that decimal. (Polars divides by multiplying, which is off by one bit for
    some values and then prints 17 digits.)
    """
    if not len(rows):
        return []
    pieces = _Pieces()
    frame = pl.DataFrame({SESSION: clicks.session[rows], ITEM: clicks.item[rows], TIME: clicks.time[rows] / MS})
    if clicks.ids is not None:
        given = clicks.ids[rows]
        frame = frame.with_columns(given[ID[name]].alias(name) for name in (SESSION, ITEM) if ID[name] in given.columns)
    frame.write_csv(pieces, include_header=False, separator="\t", quote_style="never", batch_size=1 << 12)
    return pieces.text


def write_sets(parts: list[Part], writers: dict[str, Writer]) -> Iterator[int]:
    """Write every set's rows to its writer (by the names of `ROLE_OF`); yield the number of rows done, block by block."""
    for writer in writers.values():
        writer.write_bytes(HEADER, 0)
    for rows, texts in ahead(encode_sets, in_log_order(parts)):
        for name, (text, lines) in texts.items():
            for piece in text:
                writers[name].write_bytes(piece, 0)
            writers[name].rows += lines
        yield rows


def encode_sets(clicks: Clicks) -> tuple[int, dict[str, tuple[Text, int]]]:
    """Number of rows, and for each set its text and lines."""
    texts: dict[str, tuple[Text, int]] = {}
    for name, bit in ROLE_OF.items():
        rows = np.flatnonzero(clicks.role & bit)
        # train_tr is train_full but for its last days: mostly the very same lines.
        same = name == "train_tr" and len(rows) == texts["train_full"][1]
        texts[name] = texts["train_full"] if same else (encode(clicks, rows), len(rows))
    return len(clicks), texts
