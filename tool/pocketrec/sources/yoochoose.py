"""The RecSys Challenge 2015 click log: `SessionId,Timestamp,ItemId,Category`, no header, one click a line.

    1,2014-04-07T10:51:09.277Z,214536502,0

The category is not used, and a log without that column is read too. In a log that has it, a line without it is refused: it
may have been cut inside the item id, which would make it another item.

An id is a whole number from 0 to 2^63-1, read as Polars' reader of integers does: blanks, tabs, a sign or zeroes before it
do not matter, nor does a carriage return after a field. A quote is a character like any other.

A plain file in the original's form is scanned by Polars (`scan`); anything else is read block by block (`Lines`), by the
same rules except that the time may have another form.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.schema import CLICK_COLUMNS, ITEM, ROW, SESSION, TIME, Int64
from pocketrec.sources import timestamps
from pocketrec.sources.block_scan import frames, samples
from pocketrec.sources.lines import BOM, NONE_PLAIN, NOT_READ, Clicks, count_lines, head_lines, numbered
from pocketrec.sources.polars_engine import in_runs
from pocketrec.sources.streams import MAX_LINE
from pocketrec.sources.timestamps import Clock, parse_times

EXPECTED = "SessionId,Timestamp,ItemId,Category, such as 1,2014-04-07T10:51:09.277Z,214536502,0"
FIELDS = ("SessionId", "Timestamp", "ItemId", "Category")
CATEGORY = "category"

_SAMPLES, _SAMPLE_BYTES, _LINE_SAMPLE = 1024, 4096, 4096
_FIRST_BYTES = tuple(bytes([byte]) for byte in b"0123456789 \t+-")
_WHOLE = re.compile(rb"[ \t]*[+-]?[0-9]+")
_ID = re.compile(rb"[ \t]*[+-]?0*([0-9]{1,19})")
_ORIGINAL = re.compile(rb"[0-9]{1,18},\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z,[0-9]{1,18}(?:,[^,]+)?\r?\n?")
_PLAIN_TIME = (
    rb"(?:(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])[T ](?:[01]\d|2[0-3])(?::[0-5]\d){2}(?:\.\d{1,9})?"
    rb"(?:Z|[+-][01]\d(?::?[0-5]\d)?)?|[1-3]\d{9}(?:\d{3})?(?:\.\d{1,9})?)"
)
_PLAIN_LINE = rb"[0-9]{1,18}," + _PLAIN_TIME + rb",[0-9]{1,18}"
_PLAIN_LINES = {
    3: re.compile(rb"(?:" + _PLAIN_LINE + rb"\r?\n)*+"),
    4: re.compile(rb"(?:" + _PLAIN_LINE + rb",[!-+\--~]+\r?\n)*+"),
}
"""By number of fields: a run of lines that are clicks without doubt. Possessive (*+), so that it never backtracks."""
_HEADER_NAMES = ({b"sessionid", b"session"}, {b"timestamp", b"time"}, {b"itemid", b"item"})


def is_original(log: Path) -> bool:
    """Whether a plain file begins and ends as the original does, so that `scan` can read it."""
    with log.open("rb") as file:
        first = file.readline(4096).removeprefix(BOM)
        file.seek(max(0, log.stat().st_size - 2))
        ends = not file.read().rstrip(b"\r").endswith(b",")  # which Polars overlooks
    return bool(_ORIGINAL.fullmatch(first)) and ends and not _has_long_line(log)


def _has_long_line(log: Path) -> bool:
    """Whether a line may be longer than `MAX_LINE`, for which Polars takes nine times its length of memory.

    Such a line fills a whole sample, as one of a few kB may, which does no harm.
    """
    with log.open("rb", buffering=0) as file:
        size = log.stat().st_size
        pieces = (os.pread(file.fileno(), _LINE_SAMPLE, place) for place in range(0, size - _LINE_SAMPLE, MAX_LINE))
        return any(b"\n" not in piece for piece in pieces)


def scan(log: Path, timezone: str = "UTC") -> pl.LazyFrame:
    """The log as a lazy frame of session, item, time and row; whatever cannot be read is null.

    Polars raises a ComputeError while the frame is streamed, where a line has too many fields, an id is not an integer or
    the bytes are not UTF-8.
    """
    columns = _columns_of(log)
    frame = pl.scan_csv(log, has_header=False, schema=columns, quote_char=None, row_index_name=ROW, glob=False)
    return _scanned(frame, columns, timezone)


def scan_in_runs(log: Path, timezone: str, rows_a_run: int) -> Iterator[pl.LazyFrame]:
    """The same in several frames, one after the other, each of at least so many rows except the last."""
    columns = _columns_of(log)
    rows = numbered(frames(log, partial(_read_block, columns=columns)))
    for frame in in_runs(rows, rows_a_run):
        yield _scanned(frame, columns, timezone)


def _scanned(frame: pl.LazyFrame, columns: pl.Schema, timezone: str) -> pl.LazyFrame:
    return parse_times(_clicks(frame, columns, pl.col(ROW).cast(pl.Int64)), timezone).select(CLICK_COLUMNS)


def _read_block(text: bytes, columns: pl.Schema) -> pl.DataFrame:
    """Some whole lines as Polars reads them; it raises a PolarsError for most lines that are not clicks.

    Polars would drop a byte-order mark at the start of a block, unpack a block that begins like an archive, and overlook a
    comma at its very end; a click has none of these.
    """
    if text[:1] not in _FIRST_BYTES:
        raise pl.exceptions.ComputeError("a line that does not begin with a number")
    ended = text if text.endswith(b"\n") else text + b"\n"
    return pl.read_csv(ended, has_header=False, schema=columns, quote_char=None)


def _columns_of(log: Path) -> pl.Schema:
    with log.open("rb") as file:
        return _columns(3 if file.readline(4096).count(b",") == 2 else 4)


def _columns(fields: int) -> pl.Schema:
    columns = {SESSION: pl.Int64(), TIME: pl.String(), ITEM: pl.Int64(), CATEGORY: pl.String()}
    return pl.Schema(list(columns.items())[:fields])


def _clicks(frame: pl.LazyFrame, columns: pl.Schema, *others: pl.Expr) -> pl.LazyFrame:
    """Session, time as text, and item; null for a value that a click cannot have."""
    return frame.select(
        pl.when(pl.col(SESSION) >= 0).then(pl.col(SESSION)),
        pl.when((pl.col(ITEM) >= 0) & pl.col(list(columns)[-1]).is_not_null()).then(pl.col(ITEM)).alias(ITEM),
        TIME,
        *others,
    )


def sample(log: Path) -> tuple[Int64, float]:
    """Session ids from all over the log, ascending (perhaps none), and the mean bytes of a line. Reads at most 4 MB."""
    lines = samples(log, _SAMPLES, _SAMPLE_BYTES)[0].splitlines()
    ids = [number for line in lines if (number := _id(line.split(b",", 1)[0])) is not None]
    return np.sort(np.array(ids, dtype=np.int64)), sum(map(len, lines)) / max(1, len(lines)) + 1


def _id(text: bytes) -> int | None:
    """A whole number of 0 or more that fits 64 bits; None for anything else."""
    match = _ID.fullmatch(text)
    number = int(match[1]) if match else 0
    return None if match is None or number >= 1 << 63 or (number and b"-" in text) else number


class Lines:
    """The lines of a YooChoose log, in a zone, with 3 or 4 fields."""

    expected, blank_end, counts_rows = EXPECTED, False, False
    schema = pl.Schema({SESSION: pl.Int64(), ITEM: pl.Int64(), TIME: pl.Int64()})

    def __init__(self, fields: int, clock: Clock) -> None:
        self.fields, self.clock, self.remarks, self.seen = fields, clock, set[str](), dict[str, set[str]]()
        self.plain = NONE_PLAIN if clock.form or clock.unit != "auto" else _PLAIN_LINES[fields]
        self._columns = _columns(fields)

    @classmethod
    def of(cls, head: bytes, clock: Clock) -> tuple[Lines, bool]:
        """The form of a log by its first lines, and whether the first of them is a header."""
        lines = head_lines(head)
        commas = [line.count(b",") for line in lines]
        return cls(3 if commas.count(2) > commas.count(3) else 4, clock), is_header(lines[0])

    def parse(self, text: bytes) -> Clicks | None:
        """Clicks of some lines: session, item, time. None where a line is not a click."""
        try:
            clicks = _clicks(_read_block(text, self._columns).lazy(), self._columns).collect()
        except NOT_READ:
            return None
        clicks = clicks.with_columns(timestamps.times_of(clicks[TIME], self.clock).alias(TIME))
        whole = len(clicks) == count_lines(text) and not sum(clicks.null_count().row(0))
        return Clicks(clicks.select(SESSION, ITEM, TIME)) if whole else None

    def judge(self, lines: list[bytes]) -> list[str]:
        """Why each line is not a click."""
        fields = [[part.removesuffix(b"\r") for part in line.split(b",")] for line in lines]
        reasons = [_what_is_wrong(parts, self.fields) for parts in fields]
        fine = [row for row, reason in enumerate(reasons) if not reason]
        times = pl.Series([fields[row][1].decode() for row in fine], dtype=pl.String)
        for row in np.flatnonzero(timestamps.times_of(times, self.clock).is_null().to_numpy()):
            reasons[fine[row]] = self.clock.why_not(times[int(row)])
        return reasons


def begins_so(head: bytes) -> bool:
    """Whether the first line of a log is a header or a click of this form."""
    form, header = Lines.of(head, Clock(zulu=False))
    return header or form.parse(head.split(b"\n", 1)[0] + b"\n") is not None


def is_header(line: bytes) -> bool:
    """Whether a line names the columns of a YooChoose log in its order: SessionId, Timestamp, ItemId, however written."""
    names = [part.strip(b" \t\r\"'").lower().replace(b"_", b"").replace(b" ", b"") for part in line.split(b",")]
    return len(names) in (3, 4) and all(name in known for name, known in zip(names, _HEADER_NAMES, strict=False))


def _what_is_wrong(parts: list[bytes], fields: int) -> str:
    """Why the fields of a line are not a click, apart from the time, in a few words; "" if they may be one."""
    if parts == [b""]:
        return "a blank line"
    if any(b"\x00" in part for part in parts[:3]):
        return "a NUL byte"
    if len(parts) != fields:
        return f"{len(parts)} field{'s' * (len(parts) != 1)} instead of {fields}"
    for name, part in zip(FIELDS[::2], parts[::2], strict=False):
        if not _WHOLE.fullmatch(part) or (b"-" in part and part.strip(b" \t-0")):
            return f"{name} is not a whole number of 0 or more"
        if _id(part) is None:
            return f"{name} is larger than 2^63-1"
    if not parts[-1]:
        return f"{FIELDS[fields - 1]} is empty, as in a line that was cut"
    try:
        b",".join(parts).decode("utf-8")
    except UnicodeDecodeError:
        return "bytes that are not UTF-8"
    return ""
