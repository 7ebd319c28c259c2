"""Kernel of the ingest: lines of text, or rows of Parquet, into clicks, by the readers that one machine has.

A worker gets lines in the order of their file, from one split (a stretch of a file) after the other. It does not know
what is before its split. So it counts from the beginning of the split, and what it counted goes to the driver as a note;
when all notes are there, the numbers of clicks and of lines that were set aside are set right.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pocketrec.errors import ClusterError
from pocketrec.ingestion.intake import text_in
from pocketrec.schema import ITEM, KEPT, SESSION, TIME, Array
from pocketrec.sources.lines import BOM, BadLine, Clicks, Form, count_lines, kept_rows, read_lines
from pocketrec.sources.logs import form_of
from pocketrec.sources.options import UTF8, ReadSettings
from pocketrec.sources.parquet import TableRows
from pocketrec.sources.streams import not_encoded
from pocketrec.spark.tables import batch_of, runs

CLICKS = (
    "session long, session_text string, item long, item_text string, time long, split long, place long, row long, "
    "rejects binary, note string"
)
"""`place` numbers the rows of a split, `row` the clicks among them: those that `--where` leaves out have none."""
IN_A_FILE = 40
"""Bits of a split's key for its first byte, or row; the rank of the file has those above."""
_NUMBER = re.compile(rb"(?:(?<=\r\n)|\A)([0-9]+)")


@dataclass(frozen=True)
class File:
    """A file of the log: its name for messages, whether it is Parquet, and first lines of text that is read in splits."""

    name: str
    table: bool
    head: bytes = b""


@dataclass(frozen=True)
class Reading:
    """How a log is read, for all workers.

    Attributes:
        settings: of the ingest.
        files: of the log, in order.
    """

    settings: ReadSettings
    files: tuple[File, ...]

    def prefix(self, rank: int) -> str:
        """What is put before the reason of a line that is set aside."""
        return f"{self.files[rank].name.rsplit('/', 1)[-1]}: " if len(self.files) > 1 else ""


@dataclass
class Split:
    """What has been read of one split of a file.

    Attributes:
        rank: of the file.
        start: the first byte of the split.
        header: whether it began with a line that names the columns.
        lines: so far, without a header.
        counted: of the log, as it counts them: lines, or rows of lists.
        rows: of clicks, also those that `--where` leaves out and a gap is measured to.
        first: the first line that is not a click, numbered from the beginning of the split.
        blanks: blank lines at its end, which are none of the log's lines if the file ends there too.
    """

    rank: int
    start: int
    form: Form
    header: bool = False
    lines: int = 0
    counted: int = 0
    rows: int = 0
    kept: int = 0
    left_out: int = 0
    set_aside: int = 0
    text: set[str] = field(default_factory=set)
    first: BadLine | None = None
    blanks: bytes = b""
    blank_rejects: bytes = b""
    blank_first: BadLine | None = None

    @property
    def key(self) -> int:
        """By which splits are in the order of the log."""
        return (self.rank << IN_A_FILE) + self.start

    def take(self, clicks: Clicks) -> None:
        """Count what was read."""
        self.rows += len(clicks.frame)
        self.kept += kept_rows(clicks.frame)
        self.left_out += clicks.left_out
        self.set_aside += clicks.set_aside
        self.first = self.first or clicks.first
        self.text |= text_in([clicks.frame])

    def note(self) -> dict[str, Any]:
        """All of it, for the driver."""
        names = "rank", "start", "header", "lines", "counted", "rows", "kept", "left_out", "set_aside"
        return {
            **{name: getattr(self, name) for name in names},
            "text": sorted(self.text),
            "first": _plain(self.first),
            "blanks": len(self.blanks.split(b"\n")) - 1 if self.blanks else 0,
            "blank_rejects": base64.b64encode(self.blank_rejects).decode(),
            "blank_first": _plain(self.blank_first),
            "expected": self.form.expected,
            "remarks": sorted(self.form.remarks),
            "seen": {column: sorted(values) for column, values in self.form.seen.items()},
        }


def _plain(bad: BadLine | None) -> list[Any] | None:
    return None if bad is None else [bad.number, base64.b64encode(bad.text).decode(), bad.reason]


def bad_line(plain: list[Any] | None, before: int) -> BadLine | None:
    """A line of a note, with its number in the file; `before` lines come before it."""
    return None if plain is None else BadLine(plain[0] + before, base64.b64decode(plain[1]), plain[2])


def text_clicks(batches: Iterable[pa.RecordBatch], reading: Reading) -> Iterator[pa.RecordBatch]:
    """Kernel: columns value, rank and start into `CLICKS`. It stops its split at a bad line, unless these are set aside."""
    split: Split | None = None
    for rank, start, text in _runs(batches):
        if split is None or (split.rank, split.start) != (rank, start):
            if split:
                yield from _end(split, reading)
            split, text = _begun(rank, start, _utf8(text, reading, rank), reading)
        else:
            text = _utf8(text, reading, rank)
        yield from _lines(split, text, reading)
    if split:
        yield from _end(split, reading)


def _utf8(text: bytes, reading: Reading, rank: int) -> bytes:
    encoding = reading.settings.encoding
    if encoding == UTF8:
        return text
    try:
        return text.decode(encoding).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise not_encoded(reading.files[rank].name, encoding, error) from error


def _runs(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, int, bytes]]:
    """Lines that follow each other in a split: its file's rank, its first byte, the lines with their ends."""
    for batch in batches:
        rank, start = _ranks(batch), batch.column("start").to_numpy()
        for begin, end in runs(rank, start):
            values = batch.column("value").slice(begin, end - begin).cast(pa.binary())
            whole = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
            yield int(rank[begin]), int(start[begin]), pc.binary_join(whole, b"\n")[0].as_py() + b"\n"


def _ranks(batch: pa.RecordBatch) -> Array:
    """Of the files that the rows are of."""
    found = batch.column("rank")
    if found.null_count:
        raise ClusterError("a row has the name of a file that Spark did not list.", do="report it as a fault of pocketrec")
    return np.asarray(found.to_numpy())


def _begun(rank: int, start: int, text: bytes, reading: Reading) -> tuple[Split, bytes]:
    """A split, and what is left of its first lines without a byte-order mark and a header."""
    text = text.removeprefix(BOM) if start == 0 else text
    head = _utf8(reading.files[rank].head, reading, rank).removeprefix(BOM) or text
    form, header = form_of(head, reading.files[rank].name, reading.settings, "clicks")
    split = Split(rank, start, form, header and start == 0)
    return split, text[text.find(b"\n") + 1 :] if split.header else text


def _lines(split: Split, text: bytes, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Some lines of a split; blank ones at their end are kept for what comes behind them."""
    if split.first and reading.settings.bad_rows == "stop":
        split.lines += count_lines(text)  # all that is still wanted of the split
        return
    text, split.blanks = split.blanks + text, b""
    if split.form.blank_end:
        end = len(text.rstrip(b"\r\n"))
        cut = text.find(b"\n", end) + 1 if end else 0
        text, split.blanks = text[:cut], text[cut:]
    if text:
        clicks = read_lines(split.form, text, split.lines + 1, reading.prefix(split.rank))
        yield from _written(split, clicks, split.lines)
        split.lines += count_lines(text)
        split.counted += clicks.rows if split.form.counts_rows else count_lines(text)


def _end(split: Split, reading: Reading) -> Iterator[pa.RecordBatch]:
    if split.blanks:  # judged apart: whether the file ends here is not known yet
        found = read_lines(split.form, split.blanks, split.lines + 1, reading.prefix(split.rank))
        split.blank_rejects, split.blank_first = found.rejects, found.first
    yield batch_of(CLICKS, note=split.note())


def _written(split: Split, clicks: Clicks, lines: int) -> Iterator[pa.RecordBatch]:
    """What was read, `lines` lines (or rows) after the beginning of the split."""
    if clicks.rejects:
        yield batch_of(CLICKS, rejects=clicks.rejects, split=split.key, place=lines)
    if len(frame := clicks.frame):
        ids: dict[str, pa.Array] = {}
        for name in (SESSION, ITEM):
            text = frame[name].dtype == pl.String
            ids[f"{name}_text" if text else name] = frame[name].cast(pl.String if text else pl.Int64).to_arrow()
        place, rows = np.arange(split.rows, split.rows + len(frame)), np.arange(split.kept, split.kept + len(frame))
        row = pa.array(rows)
        if KEPT in frame.columns:
            kept = frame[KEPT].to_numpy()
            row = pa.array(split.kept + np.cumsum(kept) - 1, mask=~kept)
        yield batch_of(CLICKS, **ids, time=frame[TIME].to_arrow(), split=split.key, place=place, row=row)
    split.take(clicks)


class _TableForm:
    """Rows of a table in place of a `Form`: what notes say of it."""

    def __init__(self, rows: TableRows, expected: str) -> None:
        self.of, self.expected, self.remarks, self.seen = rows, expected, rows.rows.remarks, rows.rows.seen


def table_clicks(
    batches: Iterable[pa.RecordBatch], reading: Reading, columns: Mapping[str, str]
) -> Iterator[pa.RecordBatch]:
    """Kernel: rows of Parquet with rank and index (their number in the file, from 0) into `CLICKS`."""
    split, ends = None, 0
    for batch in batches:
        rank, index = _ranks(batch), batch.column("index").to_numpy()
        raw = batch.drop_columns(["rank", "index"])
        for begin, end in runs(rank, index - np.arange(len(index))):
            of, first = int(rank[begin]), int(index[begin])
            frame = pl.from_arrow(raw.slice(begin, end - begin))
            assert isinstance(frame, pl.DataFrame)
            if split is None or split.rank != of or first != ends:
                if split:
                    yield batch_of(CLICKS, note=split.note())
                rows = TableRows(reading.files[of].name, frame.schema, columns, reading.settings, reading.prefix(of))
                form: Any = _TableForm(rows, ", ".join(f"{own} the {name}" for name, own in columns.items()))
                split = Split(of, first, form)
            ends = first + end - begin
            if split.first and reading.settings.bad_rows == "stop":
                continue
            clicks = split.form.of.read(frame, first)  # type: ignore[attr-defined]
            yield from _written(split, clicks, first - split.start)
            split.lines += clicks.rows
            split.counted += clicks.rows
    if split:
        yield batch_of(CLICKS, note=split.note())


REJECTS = "part int, split long, place long, rejects binary"


def renumber(rejects: bytes, before: int) -> bytes:
    """Rows of rejects.csv, which number the lines of a split, with numbers in the file; `before` lines come first."""
    return _NUMBER.sub(lambda found: str(int(found[1]) + before).encode(), rejects) if before else rejects


def numbered_rejects(batches: Iterable[pa.RecordBatch], before: Mapping[int, int]) -> Iterator[pa.RecordBatch]:
    """Kernel: rows of rejects.csv as `renumber` has them; `before` has the lines before each split, by key."""
    for batch in batches:
        for one in batch.to_pylist():
            yield batch_of(REJECTS, **{**one, "rejects": renumber(one["rejects"], before[one["split"]])})
