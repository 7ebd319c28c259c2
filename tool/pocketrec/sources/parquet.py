"""A click log as a Parquet file: session, item and time among its columns, read some hundred thousand rows at a time.

Ids may be integers, text, or numbers with a fraction of zero. A time may be text or a number in any form that `times_of`
reads, a datetime (one without a zone is a wall clock in the time zone of the log), or a date. Nested columns are read by
their path (`nested`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import polars as pl

from pocketrec.errors import LogError
from pocketrec.parallel import ahead
from pocketrec.progress import Progress
from pocketrec.schema import RATING, SESSION, TIME
from pocketrec.sources.lines import NOT_READ, BadLine, Clicks, Sample, reject_row
from pocketrec.sources.nested import flat, leaves_of_schema, paths_of_schema
from pocketrec.sources.options import Columns, ReadSettings
from pocketrec.sources.rows import Rows

ROWS_PER_READ = 1 << 17
SLICES, ROWS_PER_SLICE, SESSIONS = 32, 1 << 12, 1 << 17
"""What is a sample: some slices, and since a slice of a log grouped by session has neighbours only, session ids."""
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


def parquet_columns(log: Path) -> list[str]:
    """The columns of a Parquet file, of nested ones their paths; none if it is damaged, which its reader says."""
    try:
        return list(paths_of_schema(pl.scan_parquet(log, glob=False).collect_schema()).keys)
    except (*NOT_READ, OSError):
        return []


class TableLog:
    """A Parquet file as a `logs.Log`; its rows are counted as lines, from 1."""

    header, member, digest = False, "", ""

    def __init__(self, log: Path, columns: Columns, reading: ReadSettings, prefix: str = "") -> None:
        self.log, self.reading, self.columns, self.prefix = log, reading, columns, prefix
        self.name, self.lines, self.bytes = str(log), 0, 0
        self.remarks, self.seen = tuple[str, ...](), dict[str, set[str]]()
        self.expected = ", ".join(f"{own} the {name}" for name, own in columns.items())

    def sample(self, share: float) -> Sample:
        """Some clicks from all over the file, `share` of a whole sample. Errors as of `clicks`."""
        with self._damage_named():
            table = _Table(self)
            step = max(ROWS_PER_SLICE, table.count // max(1, round(SLICES * share)))
            found = [table.read(place, ROWS_PER_SLICE) for place in range(0, table.count, step)]
            clicks, rows = sum(len(one.frame) for one in found), sum(one.rows for one in found)
            every = max(1, table.count // max(1, round(SESSIONS * share)))
            frames = [one.frame for one in found]
            return Sample(frames, round(clicks / rows * table.count), [table.sessions(every)]) if clicks else Sample([], 0)

    def clicks(self, progress: Progress) -> Generator[Clicks, None, None]:
        """The rows in their order.

        Raises:
            LogError: a column is missing or of a dtype that it cannot have, or the file is damaged.
        """
        with self._damage_named():
            table, self.lines = _Table(self), 0
            with progress.task("ingest", table.count, "rows") as advance:
                for clicks in ahead(lambda offset: table.read(offset, ROWS_PER_READ), range(0, table.count, ROWS_PER_READ)):
                    yield clicks
                    self.lines += clicks.rows
                    advance(min(ROWS_PER_READ, table.count))
            self.remarks, self.seen = tuple(sorted(table.rows.remarks)), table.rows.seen

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (*NOT_READ, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            why = str(error).split("\n", 1)[0]
            raise LogError(f"{self.name} is cut or damaged ({why}).", expected="Parquet", do="copy it again") from error


class TableRows:
    """How the rows of a table are read, whatever it comes from.

    Attributes:
        rows: the rules.
        tops: its columns that are needed, of nested ones the outermost.
    """

    def __init__(self, name: str, schema: pl.Schema, columns: Columns, reading: ReadSettings, prefix: str = "") -> None:
        """Of a table of that name (for messages) and schema; a LogError if it does not have the columns."""
        self._prefix, self._paths = prefix, paths_of_schema(schema)
        self.rows = Rows.of(name, columns, reading, list(self._paths.keys))
        _check(name, schema, self.rows)
        self._list = self._paths.the_list(name, self.rows.needed)
        self.tops = self._tops_of(self.rows.needed)

    def _tops_of(self, paths: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(self._paths.keys[own][0] for own in paths))

    def read(self, raw: pl.DataFrame, offset: int) -> Clicks:
        """The clicks of some rows with the columns `tops`; the first is row `offset`, from 0, of the table."""
        given = flat(raw, self._paths, self.rows.needed, self._list).with_columns(pl.col("") + (offset + 1))
        wanted, left_out = self.rows.wanted(given)
        found = self.rows.read(wanted)
        bad = self.rows.bad(found)
        lines = [
            _bad_line(self.rows, wanted.row(row, named=True), found.row(row, named=True))
            for row in bad.arg_true().to_list()
        ]
        rejects = b"".join(reject_row(line, self._prefix) for line in lines)
        kept = found.filter(~bad) if lines else found
        return Clicks(kept, left_out, len(lines), rejects, lines[0] if lines else None)

    def sessions(self, scan: pl.LazyFrame, every: int) -> pl.Series:
        """The session of every so many rows."""
        own = self.rows.own[SESSION]
        raw = scan.select(self._tops_of(own)).gather_every(every).collect(engine="streaming")
        return self.rows.ids(flat(raw, self._paths, own, self._paths.the_list("", own)), SESSION)


class _Table:
    """The rows of a Parquet file, from any place on.

    Attributes:
        rows: how they are read.
        count: how many the file has; of one whose rows have lists, these.
    """

    def __init__(self, log: TableLog) -> None:
        self._scan = pl.scan_parquet(log.log, glob=False)
        self._of = TableRows(log.name, self._scan.collect_schema(), log.columns, log.reading, log.prefix)
        self.rows, self.count = self._of.rows, int(self._scan.select(pl.len()).collect().item())

    def read(self, offset: int, length: int) -> Clicks:
        """The clicks of some rows."""
        return self._of.read(self._scan.slice(offset, length).select(self._of.tops).collect(), offset)

    def sessions(self, every: int) -> pl.Series:
        """The session of every so many rows, from all over the file."""
        return self._of.sessions(self._scan, every)


def _check(name: str, schema: pl.Schema, rows: Rows) -> None:
    """A LogError for a column of a dtype in which it says nothing."""
    dtypes = {".".join(keys): dtype for keys, dtype in leaves_of_schema(schema)}  # of a list: of what is in it
    for column, own in ((column, one) for column, some in rows.own.items() for one in some):
        dtype = dtypes[own]
        fit = dtype.is_numeric() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Binary)
        fit = dtype.is_numeric() if column == RATING else fit
        # The day is part of a key such as customer_id+t_dat, too.
        if not (fit or isinstance(dtype, pl.Date) or (column == TIME and isinstance(dtype, pl.Datetime))):
            wanted = {TIME: "integers, text, datetimes or float seconds", RATING: "numbers"}
            what = wanted.get(column, "integers or text")
            raise LogError(f"{name} has the {column} column {own!r} of {dtype}.", expected=what)


def _bad_line(rows: Rows, given: dict[str, object], click: dict[str, object]) -> BadLine:
    text = ",".join("" if given[own] is None else str(given[own]) for own in rows.needed)
    number = given[""]
    assert isinstance(number, int)
    return BadLine(number, text.encode("utf-8", "backslashreplace"), rows.why(given, click))
