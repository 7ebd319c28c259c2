"""Ingest: a click log into session-range Parquet parts, streamed.

A part holds whole sessions of one range of session ids, so parts in order are sessions in order, and whatever must see
a session whole sees one part at a time. Inside a part the rows keep the order of the log. The ranges are cut at
quantiles of a sample, so that parts come out about equally large whatever the ids look like.

(The design calls this module `ingest`; the name belongs to the function, `pocketrec.ingest`.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl

from pocketrec import engine
from pocketrec.errors import DatasetError, LogError, SettingsError
from pocketrec.files import content_hash, staged_folder
from pocketrec.layout import Dataset
from pocketrec.manifest import OutputFile, Record, drop_record, read_records, write_record
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import CLICK_COLUMNS, SESSION, TIME, Int64
from pocketrec.sources import yoochoose

ROWS_A_PART = 1 << 19
MAX_PARTS = 512
OPEN_ROWS = 1 << 20
"""Rows in all open row groups together; more parts get smaller groups, so memory stays as it is."""


@dataclass(frozen=True)
class IngestReport:
    """What is in DIR/parquet/clicks. `reused` tells that it was there already, from the same log."""

    rows: int
    parts: int
    bytes: int
    first_ms: int
    last_ms: int
    reused: bool


def ingest(
    clicks: Path | str,
    dataset: Path | str = "dataset",
    *,
    timezone: str = "UTC",
    fresh: bool = False,
    progress: Progress = SILENT,
) -> IngestReport:
    """Stream a click log into DIR/parquet/clicks/part=NNNN/*.parquet.

    Args:
        clicks: a log in YooChoose's format; its rows may be in any order.
        dataset: the dataset folder; made if need be.
        timezone: zone of the log's wall clock, see `sources.timestamps.epoch_ms`.
        fresh: ingest again even where the same log was ingested with the same settings.
        progress: told about bytes read.

    Raises:
        LogError: the log is missing, empty, or has a line that is not a click. Nothing is left behind then.
    """
    log, home = Path(clicks), Dataset(Path(dataset)).clicks
    _check(log, timezone)
    settings = {"timezone": timezone}
    found = read_records(home.parent).get("ingest")
    if found and not fresh and found.is_current(home.parent, settings, {"log": _fingerprint(log, found)}):
        return _report(found, reused=True)
    with staged_folder(home) as staged:
        _sink(log, staged, timezone, progress)
        record = _describe(log, staged, home, settings)
        drop_record(home.parent, "ingest")  # only now: a log that cannot be read leaves the earlier one usable
    write_record(home.parent, "ingest", record)
    return _report(record, reused=False)


class Parts:
    """The parts of an ingested log, in ascending order of session ids."""

    def __init__(self, dataset: Dataset) -> None:
        """Find the parts through the ingest record.

        Raises:
            DatasetError: nothing was ingested, or a part is missing.
        """
        folder = dataset.clicks.parent
        record = read_records(folder).get("ingest")
        if record is None or record.missing(folder):
            gone = f"{record.missing(folder)[0]} is missing or cut" if record else f"{dataset.clicks} has no ingested log"
            raise DatasetError(f"{gone}.", do=f"pocketrec ingest CLICKS --dataset {dataset.root}")
        self.record = record
        self.paths = [folder / name for name in sorted(record.files)]

    @property
    def names(self) -> list[str]:
        """part=NNNN, for files beside the parts that say more about the same rows."""
        return [path.parent.name for path in self.paths]


def read_columns(path: Path, columns: Iterable[str]) -> list[Int64]:
    """Whole columns of one part as int64 arrays of equal length, in log order."""
    frame = pl.read_parquet(path, columns=list(columns), hive_partitioning=False, glob=False)
    return [frame[name].to_numpy() for name in columns]


def _check(log: Path, timezone: str) -> None:
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(
            f"{timezone!r} is not a time zone.", expected="an IANA name such as UTC or Asia/Shanghai"
        ) from error
    if not log.exists():
        raise LogError(f"{log} does not exist.", expected="a click log", do="check the path; `pocketrec synth` makes one")
    if not log.is_file():
        raise LogError(f"{log} is not a file.", expected="a click log")
    if log.stat().st_size == 0:
        raise yoochoose.explain(log)


def _fingerprint(log: Path, found: Record) -> str:
    """The log's content hash; taken from the record where size and time of change are still the same."""
    stat = log.stat()
    unchanged = (stat.st_size, stat.st_mtime_ns) == (found.counts["log_bytes"], found.counts["log_mtime_ns"])
    return found.inputs["log"] if unchanged else content_hash(log)


def _cuts(sample: Int64, rows: float) -> Int64:
    """First session id of every part but the first, at quantiles of a sorted sample."""
    parts = min(MAX_PARTS, max(1, round(rows / ROWS_A_PART)))
    return np.unique(sample[np.arange(1, parts) * len(sample) // parts])


def _sink(log: Path, folder: Path, timezone: str, progress: Progress) -> None:
    size = log.stat().st_size
    sample, line_bytes = yoochoose.sample(log)
    cuts = _cuts(sample, size / line_bytes)
    readable = reduce(and_, (pl.col(name).is_not_null() for name in CLICK_COLUMNS))
    with progress.task("ingest", size) as advance:

        def part(session: pl.Series) -> pl.Series:
            advance(round(len(session) * line_bytes))
            return pl.Series(np.searchsorted(cuts, session.to_numpy(), side="right").astype(np.int32))

        number = engine.elementwise(pl.col(SESSION).fill_null(0), part, pl.Int32)
        try:
            engine.sink_parts(
                yoochoose.scan(log, timezone),
                folder,
                number=pl.when(readable).then(number).otherwise(engine.BAD),
                name=lambda part: f"part={part:04d}/clicks.parquet",
                row_group_rows=max(1 << 10, OPEN_ROWS // (len(cuts) + 1)),
            )
        except (pl.exceptions.ComputeError, pl.exceptions.SchemaError, pl.exceptions.NoDataError) as error:
            raise yoochoose.explain(log) from error
    if (folder / f"part={engine.BAD:04d}").exists():
        raise yoochoose.explain(log)


def _describe(log: Path, staged: Path, home: Path, settings: dict[str, str]) -> Record:
    stat = log.stat()
    paths = sorted(staged.rglob("*.parquet"))
    times = pl.scan_parquet(paths, hive_partitioning=False, glob=False).select(
        pl.len().alias("rows"), pl.min(TIME).alias("first"), pl.max(TIME).alias("last")
    )
    rows, first, last = times.collect(engine="streaming").row(0)
    lengths = [pl.scan_parquet(path, glob=False).select(pl.len()).collect().item() for path in paths]
    files = {
        str(home.name / path.relative_to(staged)): OutputFile.of(path, (length, len(CLICK_COLUMNS)))
        for path, length in zip(paths, lengths, strict=True)
    }
    counts = {"rows": rows, "first_ms": first, "last_ms": last}
    counts |= {"log": str(log), "log_bytes": stat.st_size, "log_mtime_ns": stat.st_mtime_ns}
    return Record("ingest", settings, {"log": content_hash(log)}, files, counts)


def _report(record: Record, *, reused: bool) -> IngestReport:
    counts = record.counts
    size = sum(file.bytes for file in record.files.values())
    return IngestReport(counts["rows"], len(record.files), size, counts["first_ms"], counts["last_ms"], reused)
