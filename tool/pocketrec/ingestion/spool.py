"""The careful way from a log to its clicks: they are kept on the disk in the order of the log, the spool.

An archive or standard input can be read only once, and the cuts between the parts must be known before the first row is
written to one. So the rows go to Parquet files of some hundred thousand rows first, then to the parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pocketrec.errors import LogError
from pocketrec.progress import Progress
from pocketrec.schema import ITEM, ROW, SESSION
from pocketrec.sources.delimited import is_whole
from pocketrec.sources.lines import REJECTS_HEADER, BadLine
from pocketrec.sources.logs import Log

SPOOL_ROWS, ROW_GROUP = 1 << 18, 1 << 14
SAMPLE = 1 << 17
"""Session ids that the cuts are made from."""

HOPELESS = 1_000_000
"""After so many lines without a click the log is taken for another kind of file, and rejects.csv does not grow further."""

STOPPED = "mend or remove the line, or go on without such lines: --bad-rows set-aside"
HEADER = "; if it is the header of a log of other columns, say which are which: --columns"


@dataclass(frozen=True)
class Spooled:
    """A log on the disk, in the order it had: files of session, item, time and row; `set_aside` lines are not clicks.

    `text` is which of session and item have ids that are not whole numbers.
    """

    files: list[Path]
    rows: int
    set_aside: int
    text: tuple[str, ...]


def spool(log: Log, folder: Path, rejects: Path, *, set_aside: bool, progress: Progress) -> Spooled:
    """Read a log once, to its end, into an empty folder.

    Lines that are not clicks go to the file `rejects`, which is removed if there were none; unless they are set aside, the
    first of them is a LogError, as is a log without a click or one that cannot be read.
    """
    written, first, bad, clicked = _Files(folder), None, 0, False
    with rejects.open("wb") as aside:
        aside.write(REJECTS_HEADER)
        with contextlib.closing(log.clicks(progress)) as found:
            for clicks in found:
                if clicks.first and not set_aside:
                    header = HEADER if clicks.first.number == 1 else ""
                    raise clicks.first.error(log.name, log.expected, STOPPED + header)
                first, bad = first or clicks.first, bad + clicks.set_aside
                aside.write(clicks.rejects)
                written.add(clicks.frame)
                clicked = clicked or len(clicks.frame) > 0
                if not clicked and bad >= HOPELESS:
                    raise _no_clicks(log, first, f"the first {bad:,}")
        written.finish()
    if not written.rows:
        raise _no_clicks(log, first, f"the {log.lines:,}")
    if not bad:
        rejects.unlink()
    return Spooled(written.paths, written.rows, bad, tuple(sorted(written.text, reverse=True)))


def _no_clicks(log: Log, first: BadLine | None, lines: str) -> LogError:
    expected = f"one click a line: {log.expected}"
    if first is None:
        return LogError(f"{log.name} is empty.", expected=expected, do="check the download or the path")
    return first.error(f"none of {lines} lines of {log.name} is a click", expected, "check that it is the click log")


class _Files:
    """Frames into Parquet files of `SPOOL_ROWS` rows or a few more, with numbered rows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths, self.rows = folder, list[Path](), 0
        self.text: list[str] = []
        """Columns that have had an id that is not a whole number."""
        self._held: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame) -> None:
        self._held.append(frame)
        for name in (SESSION, ITEM):
            if frame.schema[name] == pl.String and name not in self.text and not is_whole(frame[name]):
                self.text.append(name)
        if sum(map(len, self._held)) >= SPOOL_ROWS:
            self.finish()

    def finish(self) -> None:
        """Write what is held."""
        frame = pl.concat(self._held) if self._held else pl.DataFrame()
        self._held = []
        if len(frame):
            self.paths.append(self.folder / f"{len(self.paths):06d}.parquet")
            numbers = pl.int_range(self.rows, self.rows + len(frame), dtype=pl.Int64).alias(ROW)
            frame.with_columns(numbers).write_parquet(
                self.paths[-1], compression="lz4", statistics=False, row_group_size=ROW_GROUP
            )
            self.rows += len(frame)


def sample(spooled: Spooled) -> pl.Series:
    """Session ids from all over the spool, ascending; text or Int64."""
    step = max(1, spooled.rows // SAMPLE)
    ids = (frame_of([path], spooled).select(SESSION).collect().to_series() for path in spooled.files)
    return pl.concat([some.gather_every(step) for some in ids]).sort()


def runs(spooled: Spooled, rows_a_run: int) -> Iterator[pl.LazyFrame]:
    """The spool in one or several frames, one after the other, each of at least so many rows but the last."""
    files = max(1, -(-rows_a_run // SPOOL_ROWS))
    for first in range(0, len(spooled.files), files):
        yield frame_of(spooled.files[first : first + files], spooled)


def frame_of(files: list[Path], spooled: Spooled) -> pl.LazyFrame:
    """Some files of the spool; ids are text only where they are not whole numbers."""
    whole = [pl.col(name).cast(pl.Int64) for name in (SESSION, ITEM) if name not in spooled.text]
    return pl.scan_parquet(files, glob=False).with_columns(whole)
