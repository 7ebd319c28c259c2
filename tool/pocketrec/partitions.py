"""Ingest: a click log into session-range Parquet parts, streamed.

A part holds whole sessions of one range of session ids, so parts in order are sessions in order, and whatever must see
a session whole sees one part at a time. Inside a part the rows keep the order of the log. The ranges are cut at
quantiles of a sample, so that parts come out about equally large whatever the ids look like.

(The design calls this module `ingest`; the name belongs to the function, `pocketrec.ingest`.)
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from operator import and_
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl

from pocketrec import engine
from pocketrec.errors import LogError, SettingsError
from pocketrec.files import content_hash, staged_folder
from pocketrec.layout import Dataset
from pocketrec.lock import hold
from pocketrec.manifest import OutputFile, Record, drop_record, read_records, same_log, write_record
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import CLICK_COLUMNS, SESSION, TIME, Int64
from pocketrec.sources import yoochoose
from pocketrec.space import ingest_bytes, is_full, room

ROWS_A_PART = 1 << 19
MAX_PARTS = engine.MAX_FILES
OPEN_ROWS = 1 << 20
"""Rows in all open row groups together; more parts get smaller groups (powers of two), so memory stays as it is."""
MIN_ROW_GROUP, MAX_ROW_GROUP = 1 << 12, 1 << 14
ROW_GROUPS_A_RUN = 1 << 11
"""What the sink knows of each row group is not freed before its end, so a very large log is ingested in several runs."""

_READABLE = reduce(and_, (pl.col(name).is_not_null() for name in CLICK_COLUMNS))


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
    force: bool = False,
    progress: Progress = SILENT,
) -> IngestReport:
    """Stream a click log into DIR/parquet/clicks/part=NNNN/*.parquet.

    Args:
        clicks: a log in YooChoose's format; its rows may be in any order.
        dataset: the dataset folder; made if need be.
        timezone: zone of the log's wall clock, see `sources.timestamps.epoch_ms`.
        fresh: ingest again even where the same log was ingested with the same settings.
        force: begin even where the disk seems too small for it.
        progress: told about bytes read.

    Raises:
        BusyError: another process is at work in the dataset folder.
        SpaceError: the disk is too small. What was there before is as it was.
        FolderError: the dataset folder cannot be written.
        LogError: the log is missing, empty, or has a line that is not a click. Nothing is left behind then.
    """
    log, home = Path(clicks), Dataset(Path(dataset)).clicks
    _check(log, timezone)
    with hold(dataset, "ingest"):
        return _ingest(log, home, {"timezone": timezone}, fresh, force, progress)


def _ingest(log: Path, home: Path, settings: dict[str, str], fresh: bool, force: bool, progress: Progress) -> IngestReport:
    found = read_records(home.parent).get("ingest")
    if found and not fresh and found.is_current(home.parent, settings, found.inputs) and same_log(log, found):
        return _report(found, reused=True)
    with room(home, "ingest", ingest_bytes(log.stat().st_size), force=force):
        with staged_folder(home) as staged:
            _sink(log, staged, settings["timezone"], progress)
            record = _describe(log, staged, home, settings)
            drop_record(home.parent, "ingest")  # only now: a log that cannot be read leaves the earlier one usable
        write_record(home.parent, "ingest", record)
    return _report(record, reused=False)


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


def _cuts(sample: Int64, rows: float) -> Int64:
    """First session id of every part but the first, at quantiles of a sorted sample."""
    parts = min(MAX_PARTS, max(1, round(rows / ROWS_A_PART)))
    return np.unique(sample[np.arange(1, parts) * len(sample) // parts])


def _sink(log: Path, folder: Path, timezone: str, progress: Progress) -> None:
    size = log.stat().st_size
    sample, line_bytes = yoochoose.sample(log)
    rows = size / line_bytes
    cuts = _cuts(sample, rows).tolist()
    row_group_rows = int(np.clip(1 << (OPEN_ROWS // (len(cuts) + 1)).bit_length() - 1, MIN_ROW_GROUP, MAX_ROW_GROUP))
    rows_a_run = ROW_GROUPS_A_RUN * row_group_rows
    with progress.task("ingest", size) as advance:
        counted = engine.counted(SESSION, lambda rows: advance(round(rows * line_bytes)))
        session = pl.col(SESSION) if progress is SILENT else counted
        number = pl.when(_READABLE).then(engine.interval(session, cuts)).otherwise(engine.BAD)
        try:
            several = rows > rows_a_run
            scans = yoochoose.scan_in_runs(log, timezone, rows_a_run) if several else [yoochoose.scan(log, timezone)]
            for run, scan in enumerate(scans):
                engine.sink_parts(scan, folder, number=number, name=partial(_file_name, run), row_group_rows=row_group_rows)
        except (pl.exceptions.ComputeError, pl.exceptions.SchemaError, pl.exceptions.NoDataError) as error:
            if is_full(error):  # Polars says so in the words it has for a bad line
                raise
            raise yoochoose.explain(log) from error
    if (folder / _file_name(0, engine.BAD, 0)).parent.exists():
        raise yoochoose.explain(log)


def _file_name(run: int, part: int, file: int) -> str:
    """The rows of a part are in the order of its files' names."""
    return f"part={part:04d}/clicks-{run:03d}-{file:03d}.parquet"


def _describe(log: Path, staged: Path, home: Path, settings: dict[str, str]) -> Record:
    stat = log.stat()
    summary = pl.len().alias("rows"), pl.min(TIME).alias("first_ms"), pl.max(TIME).alias("last_ms")

    def describe(path: Path) -> tuple[OutputFile, dict[str, int]]:
        found = pl.scan_parquet(path, hive_partitioning=False, glob=False).select(summary).collect().row(0, named=True)
        return OutputFile.of(path, (found["rows"], len(CLICK_COLUMNS))), found

    paths = sorted(staged.rglob("*.parquet"))
    with ThreadPoolExecutor(1) as beside:
        log_hash = beside.submit(content_hash, log)
        described = [describe(path) for path in paths]
    files = {str(home.name / path.relative_to(staged)): file for path, (file, _) in zip(paths, described, strict=True)}
    counts = {
        "rows": sum(found["rows"] for _, found in described),
        "first_ms": min(found["first_ms"] for _, found in described),
        "last_ms": max(found["last_ms"] for _, found in described),
        "log": str(log),
        "log_bytes": stat.st_size,
        "log_mtime_ns": stat.st_mtime_ns,
    }
    return Record("ingest", settings, {"log": log_hash.result()}, files, counts)


def _report(record: Record, *, reused: bool) -> IngestReport:
    counts = record.counts
    size = sum(file.bytes for file in record.files.values())
    parts = len({Path(name).parent for name in record.files})
    return IngestReport(counts["rows"], parts, size, counts["first_ms"], counts["last_ms"], reused)
