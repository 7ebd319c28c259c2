"""The careful way from a log to its clicks: they are kept on the disk in the order of the log, the spool.

An archive or standard input can be read only once, and the cuts between the parts must be known before the first row is
written to one. So the rows go to Parquet files of some hundred thousand rows first, then to the parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pocketrec.errors import LogError
from pocketrec.progress import Progress
from pocketrec.schema import ITEM, KEPT, ROW, SESSION
from pocketrec.sources.lines import REJECTS_HEADER, BadLine
from pocketrec.sources.logs import Log
from pocketrec.sources.rows import VALUES_SHOWN

SPOOL_ROWS, ROW_GROUP = 1 << 18, 1 << 14
SAMPLE = 1 << 17
"""Session ids that the cuts are made from."""

HOPELESS = 1_000_000
"""After so many lines without a click the log is taken for another kind of file, and rejects.csv does not grow further."""

STOPPED = "mend or remove the line, or go on without such lines: --bad-rows set-aside"
HEADER = "; if it is the header of a log of other columns, say which are which: --columns"


@dataclass(frozen=True)
class Spooled:
    """A log on the disk, in the order it had: files of session, item, time and row (null for a row that is left out).

    Attributes:
        files: of Parquet.
        rows: in them.
        set_aside: lines that are not clicks.
        left_out: rows that `--where` leaves out; they are in the files only where there is a column `KEPT`.
        text: which of session and item have ids that are not whole numbers.
    """

    files: list[Path]
    rows: int
    set_aside: int
    left_out: int
    text: tuple[str, ...]


def spool(log: Log, folder: Path, rejects: Path, *, set_aside: bool, progress: Progress) -> Spooled:
    """Read a log once, to its end, into an empty folder.

    Lines that are not clicks go to the file `rejects`, which is removed if there were none; unless they are set aside, the
    first of them is a LogError, as is a log without a click or one that cannot be read.
    """
    written, first, bad, left, clicked = _Files(folder), None, 0, 0, False
    with rejects.open("wb") as aside:
        aside.write(REJECTS_HEADER)
        with contextlib.closing(log.clicks(progress)) as found:
            for clicks in found:
                if clicks.first and not set_aside:
                    header = HEADER if clicks.first.number == 1 else ""
                    raise clicks.first.error(log.name, log.expected, STOPPED + header)
                first, bad, left = first or clicks.first, bad + clicks.set_aside, left + clicks.left_out
                aside.write(clicks.rejects)
                written.add(clicks.frame)
                clicked = clicked or len(clicks.frame) + left > 0
                if not clicked and bad >= HOPELESS:
                    raise _no_clicks(log, first, f"the first {bad:,}")
        written.close()
    if left and not written.kept:
        seen = "; ".join(f"{column} has {', '.join(sorted(values)[:VALUES_SHOWN])}" for column, values in log.seen.items())
        raise LogError(
            f"--where leaves none of the {left:,} rows of {log.name}.",
            expected=f"values that there are: {seen}" if seen else "a condition that some rows fulfil",
        )
    if not written.rows:
        raise _no_clicks(log, first, f"the {log.lines:,}")
    if not bad:
        rejects.unlink()
    return Spooled(written.paths, written.rows, bad, left, tuple(sorted(written.text, reverse=True)))


def _no_clicks(log: Log, first: BadLine | None, lines: str) -> LogError:
    expected = f"one click a line: {log.expected}"
    if first is None:
        return LogError(f"{log.name} is empty.", expected=expected, do="check the download or the path")
    return first.error(f"none of {lines} lines of {log.name} is a click", expected, "check that it is the click log")


class _Files:
    """Frames into Parquet files of `SPOOL_ROWS` rows or a few more, with numbered rows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths, self.rows, self.kept = folder, list[Path](), 0, 0
        self.text = set[str]()
        """Columns that have had an id that is not a whole number."""
        self._held: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame) -> None:
        self._held.append(frame)
        # A column of nulls, of rows that are left out, says nothing of its ids.
        text = (name for name in (SESSION, ITEM) if frame.schema[name] == pl.String)
        self.text.update(name for name in text if frame[name].null_count() < len(frame))
        if sum(map(len, self._held)) >= SPOOL_ROWS:
            self.finish()

    def finish(self) -> None:
        """Write what is held."""
        frame = pl.concat([_as_text(frame, self.text) for frame in self._held]) if self._held else pl.DataFrame()
        self._held = []
        if len(frame):
            self.paths.append(self.folder / f"{len(self.paths):06d}.parquet")
            if KEPT in frame.columns:
                number: pl.Expr = pl.when(KEPT).then(pl.col(KEPT).cum_sum().cast(pl.Int64) - 1 + self.kept)
                self.kept += int(frame[KEPT].sum())
            else:
                number = pl.int_range(self.kept, self.kept + len(frame), dtype=pl.Int64)
                self.kept += len(frame)
            _write(frame.with_columns(number.alias(ROW)), self.paths[-1])
            self.rows += len(frame)

    def close(self) -> None:
        """Write what is held; ids that were written as whole numbers before the first that is none are text then, too."""
        self.finish()
        for path in self.paths:
            schema = pl.scan_parquet(path, glob=False).collect_schema()
            if any(schema[name] != pl.String for name in self.text):
                frame = pl.read_parquet(path, glob=False)
                _write(_as_text(frame, self.text), path)


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="lz4", statistics=False, row_group_size=ROW_GROUP)


def _as_text(frame: pl.DataFrame, text: Collection[str]) -> pl.DataFrame:
    """The frame with ids as text in these columns, and as whole numbers in the others."""
    return frame.with_columns(pl.col(name).cast(pl.String if name in text else pl.Int64) for name in (SESSION, ITEM))


def sample(spooled: Spooled) -> pl.Series:
    """Session ids from all over the spool, ascending; text or Int64."""
    step = max(1, spooled.rows // SAMPLE)
    ids = (pl.read_parquet(path, columns=[SESSION], glob=False).to_series() for path in spooled.files)
    return pl.concat([some.gather_every(step) for some in ids]).sort()


def runs(spooled: Spooled, rows_a_run: int) -> Iterator[pl.LazyFrame]:
    """The spool in one or several frames, one after the other, each of at least so many rows but the last."""
    files = max(1, -(-rows_a_run // SPOOL_ROWS))
    for first in range(0, len(spooled.files), files):
        yield pl.scan_parquet(spooled.files[first : first + files], glob=False)
