"""A log read once, to its end: its clicks on the way to the parts, and beside them what is not a click."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import polars as pl

from pocketrec.errors import LogError
from pocketrec.progress import Progress
from pocketrec.schema import ITEM, SESSION
from pocketrec.sources.lines import REJECTS_HEADER, BadLine, kept_rows, numbered
from pocketrec.sources.logs import Log
from pocketrec.sources.rows import VALUES_SHOWN

HOPELESS = 1_000_000
"""After so many lines without a click the log is taken for another kind of file, and rejects.csv does not grow further."""

STOPPED = "mend or remove the line, or go on without such lines: --bad-rows set-aside"
HEADER = "; if it is the header of a log of other columns, say which are which: --columns"


class LogSeen(Protocol):
    """What messages say of a log, as `LineLog` has it: its name, what a line looks like, its lines, values left out."""

    @property
    def name(self) -> str: ...
    @property
    def expected(self) -> str: ...
    @property
    def lines(self) -> int: ...
    @property
    def seen(self) -> Mapping[str, set[str]]: ...


class Intake:
    """Draws the clicks of a log, once.

    Attributes, which are known when all frames have been drawn:
        rows: in the frames.
        set_aside: lines that are not clicks.
        left_out: rows that `--where` leaves out; they are in the frames only where these have a column `KEPT`.
    """

    def __init__(self, log: Log, rejects: Path, *, set_aside: bool) -> None:
        """Lines that are not clicks go to the file `rejects` if they are set aside; else the first of them is an error."""
        self.log, self.rejects, self._stops = log, rejects, not set_aside
        self.rows = self.set_aside = self.left_out = 0

    def frames(self, progress: Progress) -> Iterator[pl.DataFrame]:
        """The clicks in the order of the log: session, item, time, row (null for a row that is left out), and what else.

        Raises:
            LogError: a line is not a click and must be one, there is no click at all, or the log cannot be read.
        """
        return numbered(frame for frame in self._frames(progress) if len(frame))

    def _frames(self, progress: Progress) -> Iterator[pl.DataFrame]:
        log, first, kept = self.log, None, 0
        with self.rejects.open("wb") as aside, contextlib.closing(log.clicks(progress)) as found:
            aside.write(REJECTS_HEADER)
            for clicks in found:
                if clicks.first and self._stops:
                    raise stopped_by(clicks.first, log)
                aside.write(clicks.rejects)
                yield clicks.frame
                first, self.set_aside = first or clicks.first, self.set_aside + clicks.set_aside
                self.left_out, self.rows = self.left_out + clicks.left_out, self.rows + len(clicks.frame)
                kept += kept_rows(clicks.frame)
                if not self.rows + self.left_out and self.set_aside >= HOPELESS:
                    raise _no_clicks(log, first, f"the first {self.set_aside:,}")
        check_kept(log, kept, self.rows, self.left_out, first)
        if not self.set_aside:
            self.rejects.unlink()


def stopped_by(bad: BadLine, log: LogSeen) -> LogError:
    """The error for a line that is not a click, where none is set aside."""
    header = HEADER if bad.number == 1 else ""
    return bad.error(log.name, log.expected, STOPPED + header)


def check_kept(log: LogSeen, kept: int, rows: int, left_out: int, first: BadLine | None) -> None:
    """Raise a LogError if nothing is left of a log that has been read to its end.

    `kept` clicks are left of `rows` that could be read, `--where` has left out so many, `first` is the first line that
    is not a click.
    """
    if left_out and not kept:
        seen = [f"{column} has {', '.join(sorted(values)[:VALUES_SHOWN])}" for column, values in log.seen.items()]
        raise LogError(
            f"--where leaves none of the {left_out:,} rows of {log.name}.",
            expected=f"values that there are: {'; '.join(seen)}" if seen else "a condition that some rows fulfil",
        )
    if not rows:
        raise _no_clicks(log, first, f"the {log.lines:,}")


def _no_clicks(log: LogSeen, first: BadLine | None, lines: str) -> LogError:
    expected = f"one click a line: {log.expected}"
    if first is None:
        return LogError(f"{log.name} is empty.", expected=expected, do="check the download or the path")
    return first.error(f"none of {lines} lines of {log.name} is a click", expected, "check that it is the click log")


def text_in(frames: Iterable[pl.DataFrame]) -> set[str]:
    """Which of session and item have an id that is not a whole number."""
    found = set[str]()
    for frame in frames:  # a column of nulls, of rows that are left out, says nothing of its ids
        text = (name for name in (SESSION, ITEM) if frame.schema[name] == pl.String)
        found.update(name for name in text if frame[name].null_count() < len(frame))
    return found


def with_ids(frame: pl.DataFrame, text: Collection[str]) -> pl.DataFrame:
    """The frame with ids as text in these of its columns session and item, and as whole numbers in the others."""
    return frame.with_columns(pl.col(name).cast(pl.String if name in text else pl.Int64) for name in (SESSION, ITEM))
