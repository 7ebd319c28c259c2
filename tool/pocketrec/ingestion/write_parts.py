"""From a log to parts: the fast way for one in YooChoose's own form, the careful way for any other (`logs.choose_reader`).

The fast way is one scan by Polars, straight into the parts. A log in which that meets a line it cannot read, and every
other kind of log, is read block by block: into the parts where it can be sampled before, else into a spool (`spool`) first.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import and_
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.ingestion.ids import code_parts, text_ids
from pocketrec.ingestion.intake import Intake
from pocketrec.ingestion.parts import equal_share
from pocketrec.ingestion.spool import Direct, OtherIdsError, spool
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import CLICK_COLUMNS, KEPT, MS, RATING, SESSION
from pocketrec.sources import polars_engine, yoochoose
from pocketrec.sources.lines import Sample
from pocketrec.sources.logs import Log, choose_reader
from pocketrec.sources.options import Kind, ReadSettings
from pocketrec.sources.parquet import is_parquet
from pocketrec.sources.streams import STDIN, packing_of
from pocketrec.storage.files import remove_written
from pocketrec.storage.space import OVERHEAD, is_full, room

ROWS_PER_PART = 1 << 19
CUT_SHARE, CODED_SHARE = 2, 4
"""Parts that are written again are held in memory whole, so they have a part of these rows: half if sessions are cut, a
fourth if ids are text."""
MAX_PARTS = polars_engine.MAX_FILES
OPEN_ROWS = 1 << 20
"""Rows in all open row groups together; more parts get smaller groups (powers of two), so that memory does not grow."""
MIN_ROW_GROUP, MAX_ROW_GROUP = 1 << 12, 1 << 14
ROW_GROUPS_PER_RUN = 1 << 11
"""What the sink keeps of each row group is not freed before its end, so a very large log is ingested in several runs."""

LINE_BYTES = 44
"""Bytes of a line of YooChoose's log, about."""
PARQUET_PER_LOG_BYTE = 0.45
"""Measured 0.33 for a log grouped by session; more where its rows are shuffled, since neighbours then differ."""

UNPACKED_PER_PACKED_BYTE = 5
"""Click logs in archives unpack to 4 to 6 times their size."""

REJECTS = "rejects.csv"

_READABLE = reduce(and_, (pl.col(name).is_not_null() for name in CLICK_COLUMNS))


@dataclass(frozen=True)
class Read:
    """How the log was read: as in `IngestReport`; the size of its text; and its hash, "" if it can be read again."""

    lines: int | None = None
    set_aside: int = 0
    left_out: int = 0
    header: bool = False
    member: str = ""
    text_bytes: int = 0
    digest: str = ""
    text_ids: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def write_parts(
    logs: Sequence[Path], home: Path, staged: Path, reading: ReadSettings, kind: Kind, *, force: bool, progress: Progress
) -> Read:
    """Make the parts of a log (files or `STDIN`), and beside them lines set aside (`REJECTS`) and item ids that are text.

    They are made in `staged`, an empty folder; `home` is where they belong, for messages. Errors as of `ingest`.
    """
    fast, source = choose_reader(logs, reading, kind)
    sizes = {log: 0 if log == STDIN else log.stat().st_size for log in logs}
    size, work = sum(sizes.values()), staged / "work"
    if fast:
        with room(home, "ingest", ingest_bytes(size), force=force):
            if _scan(logs[0], work, reading.timezone, progress):
                _move(work, staged)
                return Read(text_bytes=size)
    unpacked = {log: size * (UNPACKED_PER_PACKED_BYTE if packing_of(log) or is_parquet(log) else 1)
                for log, size in sizes.items() if size}  # fmt: skip
    needed = sum(map(ingest_bytes, unpacked.values()))
    make = partial(_make_parts, staged=staged, kind=kind, reading=reading, progress=progress)
    sample = source.sample(1)
    if sample and sample.frames:
        with room(home, "ingest", needed, force=force), contextlib.suppress(OtherIdsError):
            return make(source, sample)
    with room(home, "ingest", 2 * needed, force=force):  # besides the parts it keeps the same rows in the order of the log
        return make(source, None)


def _make_parts(
    source: Log, sample: Sample | None, *, staged: Path, kind: Kind, reading: ReadSettings, progress: Progress
) -> Read:
    """The careful way: every line is judged. Without a sample the rows are kept on the disk, and then go to the parts.

    Raises:
        OtherIdsError: the log has other ids than its sample.
    """
    work = staged / "work"
    intake = Intake(source, staged / REJECTS, set_aside=reading.bad_rows == "set-aside")
    shutil.rmtree(work, ignore_errors=True)
    (work / "spool").mkdir(parents=True)
    frames = intake.frames(progress)
    clicks = Direct(frames, sample) if sample else spool(frames, work / "spool", progress)
    gap_ms = None if reading.session_gap is None else round(reading.session_gap * MS)
    share = CODED_SHARE if clicks.text else 1 if gap_ms is None else CUT_SHARE
    cuts = _cuts(clicks.sessions().sort(), clicks.rows * share)
    # Half of what the fast way has, since readers of lines hold more.
    row_group_rows = equal_share(OPEN_ROWS // 2, len(cuts) + 1, MIN_ROW_GROUP, MAX_ROW_GROUP)
    # What is written again may have small row groups: text takes more memory than numbers, and so do many parts.
    open_rows, groups = row_group_rows // share, ROW_GROUPS_PER_RUN // 2
    columns = [*CLICK_COLUMNS, *([RATING] if kind == "rated" else []), *([KEPT] if reading.gap_over == "all" else [])]
    number, parts = polars_engine.interval(pl.col(SESSION), cuts), work / "parts"
    parts.mkdir()
    for run, frame in enumerate(clicks.runs(groups * open_rows)):
        name = partial(_file_name, run)
        try:
            polars_engine.sink_parts(frame.select(columns), parts, number=number, name=name, row_group_rows=open_rows)
        except BaseException:
            remove_written(parts)
            raise
    hidden = 0 if reading.gap_over == "all" else intake.left_out
    if intake.rows + hidden + intake.set_aside != source.lines:
        raise AssertionError(f"{source.lines} rows were read, and {vars(intake)} came of them; this is a bug in pocketrec")
    if share > 1:
        with progress.task("coding", intake.rows, "rows") as advance:
            name_of_all = Path(_file_name(0, 0, 0)).name
            code_parts(sorted(parts.iterdir()), staged, name_of_all, clicks.text, gap_ms, advance)
    else:
        _move(parts, staged)
    shutil.rmtree(work)
    # A line of the txt files is about as long as one of the original, however short the log says it.
    text_bytes = max(source.bytes, LINE_BYTES * intake.rows)
    known = source.header, source.member, text_bytes, source.digest
    text = text_ids(clicks.text, gap_ms)
    return Read(source.lines, intake.set_aside, intake.left_out, *known, text, source.remarks)


def _move(folder: Path, home: Path) -> None:
    """Move what is in a folder, and remove it."""
    for path in folder.iterdir():
        path.rename(home / path.name)
    folder.rmdir()


def _cuts(sample: pl.Series, rows: float) -> pl.Series:
    """First session id of every part but the first, at quantiles of a sorted sample."""
    parts = min(MAX_PARTS, max(1, round(rows / ROWS_PER_PART)))
    return sample.gather(np.arange(1, parts) * len(sample) // parts).unique().sort()


def _scan(log: Path, folder: Path, timezone: str, progress: Progress) -> bool:
    """The fast way: scan the log as it is into a new folder. False, and none, if a line is not in the original's form."""
    size = log.stat().st_size
    ids, line_bytes = yoochoose.sample(log)
    if not len(ids):
        return False
    rows = size / line_bytes
    cuts = _cuts(pl.Series(ids), rows)
    row_group_rows = equal_share(OPEN_ROWS, len(cuts) + 1, MIN_ROW_GROUP, MAX_ROW_GROUP)
    rows_a_run = ROW_GROUPS_PER_RUN * row_group_rows
    folder.mkdir()
    with progress.task("ingest", size) as advance:
        counted = polars_engine.counted(SESSION, lambda rows: advance(round(rows * line_bytes)))
        session = pl.col(SESSION) if progress is SILENT else counted
        number = pl.when(_READABLE).then(polars_engine.interval(session, cuts)).otherwise(polars_engine.BAD)
        try:
            several = rows > rows_a_run
            scans = yoochoose.scan_in_runs(log, timezone, rows_a_run) if several else [yoochoose.scan(log, timezone)]
            for run, scan in enumerate(scans):
                name = partial(_file_name, run)
                polars_engine.sink_parts(scan, folder, number=number, name=name, row_group_rows=row_group_rows)
        except (pl.exceptions.ComputeError, pl.exceptions.SchemaError, pl.exceptions.NoDataError) as error:
            if is_full(error):  # Polars says so in the words it has for a bad line
                raise
            remove_written(folder)
            return False
    if bad := (folder / _file_name(0, polars_engine.BAD, 0)).parent.exists():
        shutil.rmtree(folder)
    return not bad


def _file_name(run: int, part: int, file: int) -> str:
    """The rows of a part are in the order of its files' names."""
    return f"part={part:04d}/clicks-{run:03d}-{file:03d}.parquet"


def ingest_bytes(log_bytes: int) -> int:
    """Bytes that the Parquet parts of a log of so many bytes take, about."""
    return OVERHEAD + math.ceil(PARQUET_PER_LOG_BYTE * log_bytes)
