"""The four rsc15 txt files: rows of the parts back in the order of the log, as tab-separated text.

Parts are ranges of session ids; the txt files follow the lines of the log. In a log grouped by session the two orders
agree but for the cuts; in a shuffled one every part has rows everywhere. Both are one merge: each part is read through a
cursor in slices, and what lies before the end of every slice in hand can be placed by its line number, without sorting.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.ahead import ahead
from pocketrec.holdout import ROLE_OF
from pocketrec.parts import read_columns
from pocketrec.schema import CLICK_COLUMNS, ITEM, MS, SESSION, TIME, Int64, UInt8
from pocketrec.writers import Writer

HEADER = b"SessionId\tItemId\tTime\n"
ROWS_IN_HAND = 1 << 20
"""Rows of all open slices together."""
MIN_SLICE, MAX_SLICE = 1 << 12, 1 << 18


@dataclass
class Clicks:
    """Rows of the log, ascending by line number; all arrays of the same length."""

    session: Int64
    item: Int64
    time: Int64
    row: Int64
    role: UInt8

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, rows: slice | Int64) -> Clicks:
        return Clicks(self.session[rows], self.item[rows], self.time[rows], self.row[rows], self.role[rows])


@dataclass(frozen=True)
class Part:
    """A part's clicks, the roles of its rows, and the first and last line of the log it has."""

    clicks: Path
    roles: Path
    rows: int
    first: int
    last: int


class Cursor:
    """Reads one part slice by slice, the next slice while the one before is in use."""

    def __init__(self, part: Part, slice_rows: int, reader: Executor) -> None:
        self.part, self.slice_rows, self.reader = part, slice_rows, reader
        self.offset = 0
        """The row after the slice that is being read."""
        self.held = _read(part, 0, 0)
        self.reached = part.first - 1
        """Every row of the part up to this line has been read."""
        self.next: Future[Clicks] | None = None

    def begin(self) -> None:
        """Have the next slice read, if there is one and it is not under way."""
        if self.next is None and self.offset < self.part.rows:
            self.next = self.reader.submit(_read, self.part, self.offset, self.slice_rows)
            self.offset += self.slice_rows

    @property
    def exhausted(self) -> bool:
        """Whether the whole part has been read."""
        return self.next is None and self.offset >= self.part.rows

    def fill(self) -> None:
        """Take the next slice if nothing is held."""
        if len(self.held) or self.exhausted:
            return
        self.begin()
        assert self.next is not None
        clicks, self.next = self.next.result(), None
        self.reached = self.part.last if self.exhausted else int(clicks.row[-1])
        self.held = clicks
        self.begin()

    def take(self, last: int) -> Clicks:
        """The held rows up to a line, and hold on to the rest."""
        end = int(np.searchsorted(self.held.row, last, side="right"))
        taken, self.held = self.held[:end], self.held[end:]
        return taken


def in_log_order(parts: list[Part]) -> Iterator[Clicks]:
    """All rows, block by block, in the order of the log."""
    slice_rows = _slice_rows(parts)
    with ThreadPoolExecutor(1) as reader:
        waiting = deque(Cursor(part, slice_rows, reader) for part in sorted(parts, key=lambda part: part.first))
        active: list[Cursor] = []

        def open_next() -> None:
            active.append(waiting.popleft())
            active[-1].fill()
            if waiting:
                waiting[0].begin()

        while waiting or active:
            if not active:
                open_next()
            for cursor in active:
                cursor.fill()
            while waiting and waiting[0].part.first <= min(cursor.reached for cursor in active):
                open_next()
            limit = min(cursor.reached for cursor in active)
            yield _merge([cursor.take(limit) for cursor in active])
            active[:] = [cursor for cursor in active if len(cursor.held) or not cursor.exhausted]


def _slice_rows(parts: list[Part]) -> int:
    """Rows a slice, so that the slices that can be open at once fit into `ROWS_IN_HAND`."""
    starts = np.sort([part.first for part in parts])
    ends = np.sort([part.last for part in parts])
    open_at_once = np.arange(1, len(parts) + 1) - np.searchsorted(ends, starts, side="left")
    return int(np.clip(ROWS_IN_HAND // open_at_once.max(initial=1), MIN_SLICE, MAX_SLICE))


def _read(part: Part, offset: int, count: int) -> Clicks:
    session, item, time, row = read_columns(part.clicks, CLICK_COLUMNS, slice(offset, offset + count))
    roles: UInt8 = np.load(part.roles, mmap_mode="r")[offset : offset + count]
    return Clicks(session, item, time, row, roles)


def _merge(pieces: list[Clicks]) -> Clicks:
    """Ascending pieces into one, each row put at its place."""
    pieces = [piece for piece in pieces if len(piece)] or pieces[:1]
    if len(pieces) == 1:
        return pieces[0]
    merged = Clicks(*(np.concatenate(column) for column in zip(*(vars(piece).values() for piece in pieces), strict=True)))
    return merged[np.argsort(merged.row)]


Text = list[bytes]
"""Lines in pieces, as Polars hands them out: joining them would be one more copy."""


class _Pieces(io.BytesIO):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.text: Text = []

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        self.text.append(bytes(piece))
        return len(self.text[-1])


def encode(clicks: Clicks) -> Text:
    """`session TAB item TAB seconds` lines, the seconds as the shortest float that reads back equal.

    The milliseconds are divided by numpy: its division rounds correctly, so the float is the nearest one to the decimal
    with three places, and its shortest text is that decimal. (Polars divides by multiplying, which is off by one bit for
    some values and then prints 17 digits.)
    """
    pieces = _Pieces()
    frame = pl.DataFrame({SESSION: clicks.session, ITEM: clicks.item, TIME: clicks.time / MS})
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
        texts[name] = texts["train_full"] if same else (_encode_some(clicks, rows), len(rows))
    return len(clicks), texts


def _encode_some(clicks: Clicks, rows: Int64) -> Text:
    if not len(rows):
        return []
    return encode(clicks if len(rows) == len(clicks) else clicks[rows])
