"""A click log as a Parquet file: session, item and time among its columns, read some hundred thousand rows at a time.

Ids may be integers or text. A time may be text or a whole number in any form that `times_of` reads, a datetime (one without
a zone is a wall clock in the time zone of the log), or seconds since the epoch as floats, rounded to milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import polars as pl

from pocketrec.errors import LogError
from pocketrec.parallel import ahead
from pocketrec.progress import Progress
from pocketrec.schema import ITEM, MS, RATING, SESSION, TIME
from pocketrec.sources import timestamps
from pocketrec.sources.delimited import fit_ids, fit_ratings, missing_columns
from pocketrec.sources.lines import NOT_READ, BadLine, Clicks, reject_row
from pocketrec.sources.options import Columns
from pocketrec.sources.timestamps import Clock, from_wall_clock

ROWS_PER_READ = 1 << 17
MAGIC = b"PAR1"
SMALLEST = 12
"""Bytes of the least Parquet file: the magic, the length of the metadata, the magic again."""


def is_parquet(log: Path) -> bool:
    """Whether a file has the magic bytes of Parquet at both ends, or begins as one that was cut short.

    After the magic comes a page or the metadata, whose first byte in Thrift's compact form is 0x15; text has no such byte.
    """
    with log.open("rb") as file:
        head = file.read(5)
        if not head.startswith(MAGIC) or head[4:] == b"\x15":
            return head.startswith(MAGIC)
        size = file.seek(0, os.SEEK_END)
        file.seek(-len(MAGIC), os.SEEK_END)
        return size >= SMALLEST and file.read() == MAGIC


class TableLog:
    """A Parquet file as a `logs.Log`; its rows are counted as lines, from 1."""

    header, member, digest, remarks = False, "", "", ()

    def __init__(self, log: Path, columns: Columns, clock: Clock) -> None:
        self.log, self.clock, self.columns = log, clock, columns
        self.name, self.lines, self.bytes, self._text = str(log), 0, 0, list[str]()
        self.expected = ", ".join(f"{own} the {name}" for name, own in columns.items())

    def clicks(self, progress: Progress) -> Generator[Clicks, None, None]:
        """The rows in their order.

        Raises:
            LogError: a column is missing or of a dtype that it cannot have, or the file is damaged.
        """
        try:
            schema = pl.scan_parquet(self.log, glob=False).collect_schema()
            if any(own not in schema for own in self.columns.values()):
                raise missing_columns(self.name, self.columns, list(schema))
            self._check(schema)
            self.lines = pl.scan_parquet(self.log, glob=False).select(pl.len()).collect().item()
            self._text = self._odd_numbers(schema)
            with progress.task("ingest", self.lines, "rows") as advance:
                for clicks in ahead(self._read, range(0, self.lines, ROWS_PER_READ)):
                    yield clicks
                    advance(len(clicks.frame) + clicks.set_aside)
        except (*NOT_READ, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            why = str(error).split("\n", 1)[0]
            raise LogError(f"{self.name} is cut or damaged ({why}).", expected="Parquet", do="copy it again") from error

    def _check(self, schema: pl.Schema | dict[str, pl.DataType]) -> None:
        for name, own in self.columns.items():
            dtype = schema[own]
            fit = dtype.is_numeric() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
            fit = dtype.is_numeric() if name == RATING else fit
            if not (fit or (name == TIME and dtype in (pl.Datetime, pl.Date))):
                wanted = {TIME: "integers, text, datetimes or float seconds", RATING: "numbers"}
                what = wanted.get(name, "integers or text")
                raise LogError(f"{self.name} has the {name} column {own!r} of {dtype}.", expected=what)

    def _odd_numbers(self, schema: pl.Schema) -> list[str]:
        """Which of session and item have integers below 0 or above 2^63-1: their ids are text, as in a csv."""
        integers = {name: self.columns[name] for name in (SESSION, ITEM) if schema[self.columns[name]].is_integer()}
        limits = [
            (pl.col(own).is_between(0, 2**63 - 1).all()).alias(name)  # nulls are bad rows, and no reason
            for name, own in integers.items()
        ]
        found = pl.scan_parquet(self.log, glob=False).select(limits).collect(engine="streaming")
        return [name for name in integers if not found[name].item()]

    def _read(self, offset: int) -> Clicks:
        raw = pl.scan_parquet(self.log, glob=False).slice(offset, ROWS_PER_READ)
        given = raw.select(**{name: pl.col(own) for name, own in self.columns.items()}).collect()
        times = _times(given[TIME], self.clock)
        rows = given.select(_ids(given, name, text=name in self._text) for name in (SESSION, ITEM)).with_columns(
            times.alias(TIME)
        )
        if RATING in given.columns:
            rows = rows.with_columns(fit_ratings(given[RATING]).alias(RATING))
        whole = rows.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
        bad = whole.not_().arg_true().to_list()
        lines = [
            _bad_line(given.row(row, named=True), rows.row(row, named=True), offset + row + 1, self.clock) for row in bad
        ]
        rejects = b"".join(map(reject_row, lines))
        return Clicks(rows.filter(whole) if bad else rows, len(bad), rejects, lines[0] if lines else None)


def _ids(given: pl.DataFrame, name: str, *, text: bool) -> pl.Expr:
    """The ids of a column; as text if `text`, or if they are not numbers."""
    ids, dtype = pl.col(name), given.schema[name]
    if dtype.is_float():  # exact up to there
        whole = ids.is_finite() & (ids == ids.floor()) & (ids >= 0) & (ids < 2.0 ** (24 if dtype == pl.Float32 else 53))
        return pl.when(whole).then(ids).cast(pl.Int64)
    return fit_ids(ids.cast(pl.String)) if text or not dtype.is_integer() else ids.cast(pl.Int64)


def _times(given: pl.Series, clock: Clock) -> pl.Series:
    dtype = given.dtype
    if isinstance(dtype, pl.Datetime | pl.Date):
        ms = given.cast(pl.Datetime("us", getattr(dtype, "time_zone", None))).dt.epoch("ms")
        if getattr(dtype, "time_zone", None) is None and clock.timezone != "UTC":
            return pl.select(from_wall_clock(pl.lit(ms), clock.timezone)).to_series()
        return ms
    if dtype.is_float() or dtype.is_decimal():
        numbers = given.cast(pl.Float64)  # before any product: float32 has 7 digits
        numbers = numbers.set(numbers.is_finite().not_() | (numbers < 0) | (numbers >= 2.0**63), None)
        whole = numbers.floor().cast(pl.Int64)
        rest = ((numbers - numbers.floor()) * MS).round().cast(pl.Int64)
        return pl.select(timestamps.epochs(pl.lit(whole), clock.unit, pl.lit(rest))).to_series()
    return timestamps.times_of(given.cast(pl.String), clock)


def _bad_line(given: dict[str, object], read: dict[str, object], number: int, clock: Clock) -> BadLine:
    name = next(name for name, value in read.items() if value is None)
    what = {
        TIME: "the time is missing" if given[TIME] is None else clock.why_not(str(given[TIME])),
        RATING: "the rating is missing or not a number",
    }.get(name, f"the {name} is missing, empty, a fraction, or has a tab or a line end in it")
    text = ",".join("" if value is None else str(value) for value in given.values())
    return BadLine(number, text.encode("utf-8", "backslashreplace"), what)
