"""The RecSys Challenge 2015 click log: `SessionId,Timestamp,ItemId,Category`, no header, one click a line.

    1,2014-04-07T10:51:09.277Z,214536502,0

The category is not used, and a log without that column is read too. In a log that has it, a line without it is refused: it
may have been cut inside the item id, which would make it another item.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.errors import LogError
from pocketrec.schema import CLICK_COLUMNS, ITEM, ROW, SESSION, TIME, Int64
from pocketrec.sources.blocks import runs
from pocketrec.sources.timestamps import parse_times

EXPECTED = "SessionId,Timestamp,ItemId,Category, such as 1,2014-04-07T10:51:09.277Z,214536502,0"
FIELDS = ("SessionId", "Timestamp", "ItemId", "Category")
CATEGORY = "category"

_SAMPLES, _SAMPLE_BYTES = 1024, 4096
_ID = re.compile(rb" *\+?[0-9]{1,20}")
_PLAIN_LINE = (
    rb"[0-9]{1,18},\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3])(?::[0-5]\d){2}\.\d{3}Z,[0-9]{1,18}"
)
_PLAIN_LINES = {
    3: re.compile(rb"(?:" + _PLAIN_LINE + rb"\r?\n)*+"),
    4: re.compile(rb"(?:" + _PLAIN_LINE + rb",[!-+\--~]+\r?\n)*+"),
}
"""By number of fields, a run of lines that are clicks beyond doubt; possessive, so that it never backs up."""
_TIMESTAMP = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{3})Z")


def scan(log: Path, timezone: str = "UTC") -> pl.LazyFrame:
    """The log as a lazy frame of session, item, time and row; whatever cannot be read is null.

    Raises:
        polars.exceptions.ComputeError: while it is streamed, where a line has too many fields, an id is not an integer
            or the bytes are not UTF-8. `explain` finds the line.
    """
    columns = _columns(log)
    frame = pl.scan_csv(log, has_header=False, schema=columns, quote_char=None, row_index_name=ROW, glob=False)
    return _clicks(frame, columns, timezone)


def scan_in_runs(log: Path, timezone: str, rows_a_run: int) -> Iterator[pl.LazyFrame]:
    """The same in several frames, one after the other, each of at least so many rows but the last."""
    columns = _columns(log)

    def parse(block: bytes) -> pl.DataFrame:
        return pl.read_csv(block, has_header=False, schema=columns, quote_char=None)

    for frame in runs(log, parse, columns, ROW, rows_a_run):
        yield _clicks(frame, columns, timezone)


def _columns(log: Path) -> pl.Schema:
    columns = {SESSION: pl.Int64(), TIME: pl.String(), ITEM: pl.Int64(), CATEGORY: pl.String()}
    if _first_line(log).count(b",") == 2:
        del columns[CATEGORY]
    return pl.Schema(columns)


def _clicks(frame: pl.LazyFrame, columns: pl.Schema, timezone: str) -> pl.LazyFrame:
    """The canonical columns."""
    rows = frame.select(
        pl.when(pl.col(SESSION) >= 0).then(pl.col(SESSION)),
        pl.when((pl.col(ITEM) >= 0) & pl.col(list(columns)[-1]).is_not_null()).then(pl.col(ITEM)).alias(ITEM),
        TIME,
        pl.col(ROW).cast(pl.Int64),
    )
    return parse_times(rows, timezone).select(CLICK_COLUMNS)


def sample(log: Path) -> tuple[Int64, float]:
    """Session ids from all over the log, ascending, and the mean bytes of a line.

    Small pieces at even distances: in a log grouped by session, a piece holds only neighbours, so many small pieces
    tell more about the range of ids than a few large ones. Reads at most 4 MB.

    Raises:
        LogError: no line of the sample starts with a session id.
    """
    size = log.stat().st_size
    with log.open("rb") as file:
        if size <= _SAMPLES * _SAMPLE_BYTES:
            lines = file.read().splitlines()
        else:
            lines = []
            for offset in range(0, size - _SAMPLE_BYTES, size // _SAMPLES):
                file.seek(offset)
                lines += file.read(_SAMPLE_BYTES).splitlines()[1:-1]  # the first and the last may be cut
    heads = [line.split(b",", 1)[0] for line in lines]
    ids = [int(head) for head in heads if _ID.fullmatch(head)]
    sessions = np.array([number for number in ids if number < 1 << 63], dtype=np.int64)
    if not len(sessions):
        raise explain(log)
    return np.sort(sessions), sum(map(len, lines)) / len(lines) + 1


def explain(log: Path) -> LogError:
    """The error for the first line that is not a click, found by reading the log again."""
    if log.stat().st_size == 0:
        return LogError(f"{log} is empty.", expected=f"one click a line: {EXPECTED}", do="check the download or the path")
    fields = 3 if _first_line(log).count(b",") == 2 else 4
    for number, line in _doubtful_lines(log, fields):
        if why := _what_is_wrong(line, fields):
            shown = line[:120].decode("utf-8", "backslashreplace") + ("..." if len(line) > 120 else "")
            return LogError(f"{log}, line {number}: {why}: {shown!r}", expected=EXPECTED, do="mend or remove the line")
    return LogError(f"{log} cannot be read as a click log.", expected=f"one click a line: {EXPECTED}")


def _first_line(log: Path) -> bytes:
    with log.open("rb") as file:
        return file.readline(4096)


def _doubtful_lines(log: Path, fields: int) -> Iterator[tuple[int, bytes]]:
    """Line number (from 1) and text of every line that is not plainly a click; runs of plain ones are passed in one go."""
    number = 1
    with log.open("rb") as file:
        while block := file.read(1 << 20) + file.readline():
            position = 0
            while position < len(block):
                run = _PLAIN_LINES[fields].match(block, position)
                number += block.count(b"\n", position, run.end()) if run else 0
                position = run.end() if run else position
                if position < len(block):
                    end = block.find(b"\n", position) + 1 or len(block)
                    line = block[position:end].rstrip(b"\r\n")
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                    number, position = number + 1, end


def _what_is_wrong(line: bytes, fields: int) -> str:
    """Why a line is not a click, in a few words; empty where it is one."""
    parts = line.split(b",")
    if not line:
        return "a blank line"
    if any(b"\x00" in part for part in parts[:3]):
        return "a NUL byte"
    if len(parts) != fields:
        return f"{len(parts)} field{'s' * (len(parts) != 1)} instead of {fields}"
    for name, part in zip(FIELDS[::2], parts[::2], strict=False):
        if not _ID.fullmatch(part):
            return f"{name} is not a whole number of 0 or more"
        if int(part) >= 1 << 63:
            return f"{name} is larger than 2^63-1"
    if not parts[-1]:
        return f"{FIELDS[fields - 1]} is empty, as in a line that was cut"
    if not _is_timestamp(parts[1]):
        return "Timestamp is not of the form 2014-04-07T10:51:09.277Z"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes that are not UTF-8"
    return ""


def _is_timestamp(text: bytes) -> bool:
    match = _TIMESTAMP.fullmatch(text)
    if not match:
        return False
    year, month, day, hour, minute, second, _ = map(int, match.groups())
    if not (1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
        return False
    first = np.datetime64(f"{year:04d}-{month:02d}")
    return 1 <= day <= int(((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(int))
