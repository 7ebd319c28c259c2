"""Clicks on their way from a log to the parts: as they are read (`Direct`), or kept on the disk in between (`Spooled`).

The cuts between the parts must be known before the first row is written to one. A sample of the log tells them where it is
a file that can be read from any place. An archive or standard input can be read only once: its rows go to Parquet files of
some hundred thousand rows first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pocketrec.ingestion.intake import text_in, with_ids
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import SESSION
from pocketrec.sources.lines import Sample
from pocketrec.sources.polars_engine import counted, in_runs

SPOOL_ROWS, ROW_GROUP = 1 << 18, 1 << 14
SAMPLE = 1 << 17
"""Session ids that the cuts are made from."""


class OtherIdsError(Exception):
    """A log whose sample had whole numbers for ids has others, too."""


class Direct:
    """Frames of clicks (`Intake.frames`) that have not been read yet, by what a sample of the log says.

    Attributes:
        rows: about how many there will be.
        text: which of session and item have ids that are not whole numbers.
    """

    def __init__(self, frames: Iterator[pl.DataFrame], sample: Sample) -> None:
        self.rows, self.text = sample.rows, frozenset(text_in(sample.frames))
        self._frames, self._sample = frames, sample

    def sessions(self) -> pl.Series:
        """Session ids from all over the log; text or Int64."""
        dtype = pl.String() if SESSION in self.text else pl.Int64()
        found = [*(frame[SESSION] for frame in self._sample.frames), *self._sample.sessions]
        return pl.concat([ids.alias(SESSION).cast(dtype, strict=False).drop_nulls() for ids in found])

    def runs(self, rows_a_run: int) -> Iterator[pl.LazyFrame]:
        """The log in one or several frames, one after the other, each of at least so many rows but the last.

        Raises:
            OtherIdsError: while one is collected, if the log has ids that are not whole numbers where `text` says so.
        """
        return in_runs((self._as_expected(frame) for frame in self._frames), rows_a_run)

    def _as_expected(self, frame: pl.DataFrame) -> pl.DataFrame:
        if text_in([frame]) - self.text:
            raise OtherIdsError
        return with_ids(frame, self.text)


@dataclass(frozen=True)
class Spooled:
    """A log on the disk.

    Attributes:
        files: of Parquet.
        rows: in them.
        text: which of session and item have ids that are not whole numbers.
        progress: told of rows that are read again.
    """

    files: list[Path]
    rows: int
    text: frozenset[str]
    progress: Progress

    def sessions(self) -> pl.Series:
        """Session ids from all over the log; text or Int64."""
        step = max(1, self.rows // SAMPLE)
        ids = (pl.read_parquet(path, columns=[SESSION], glob=False).to_series() for path in self.files)
        return pl.concat([some.gather_every(step) for some in ids])

    def runs(self, rows_a_run: int) -> Iterator[pl.LazyFrame]:
        """The log in one or several frames, one after the other, each of at least so many rows but the last."""
        files = max(1, -(-rows_a_run // SPOOL_ROWS))
        with self.progress.task("parts", self.rows, "rows") as advance:
            for first in range(0, len(self.files), files):
                rows = pl.scan_parquet(self.files[first : first + files], glob=False)
                dtype = pl.String() if SESSION in self.text else pl.Int64()
                yield rows if self.progress is SILENT else rows.with_columns(counted(SESSION, advance, dtype))


def spool(frames: Iterator[pl.DataFrame], folder: Path, progress: Progress) -> Spooled:
    """Write frames of clicks (`Intake.frames`) into an empty folder."""
    paths, text, held, rows = list[Path](), set[str](), list[pl.DataFrame](), 0

    def finish() -> None:
        paths.append(folder / f"{len(paths):06d}.parquet")
        _write(pl.concat([with_ids(frame, text) for frame in held]), paths[-1])
        held.clear()

    for frame in frames:
        held.append(frame)
        text |= text_in([frame])
        rows += len(frame)
        if sum(map(len, held)) >= SPOOL_ROWS:
            finish()
    if held:
        finish()
    for path in paths:  # ids that were written as whole numbers before the first that is none are text, too
        schema = pl.scan_parquet(path, glob=False).collect_schema()
        if any(schema[name] != pl.String for name in text):
            _write(with_ids(pl.read_parquet(path, glob=False), text), path)
    return Spooled(paths, rows, frozenset(text), progress)


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="lz4", statistics=False, row_group_size=ROW_GROUP)
