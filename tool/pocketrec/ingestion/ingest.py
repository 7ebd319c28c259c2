"""Ingest: a click log into session-range Parquet parts, streamed.

A part holds whole sessions of one range of session ids, so parts in order are sessions in order, and whatever must see
a session whole sees one part at a time. Inside a part the rows keep the order of the log. The ranges are cut at
quantiles of a sample, so that parts come out about equally large whatever the ids look like.

How they are made, `filling` knows; here is what it is made from, whether it must be, and what is said of it.

(The design calls this module `ingest`; the name belongs to the function, `pocketrec.ingest`.)
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.write_parts import ITEM_IDS, REJECTS, Read, fill
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import CLICK_COLUMNS, ITEM, TIME
from pocketrec.sources.delimited import USAGE, Columns, check_columns
from pocketrec.sources.logs import Settings, is_rated
from pocketrec.sources.movielens import columns_wanted
from pocketrec.sources.parquet import is_parquet
from pocketrec.sources.streams import STDIN, check_log
from pocketrec.storage.files import commit, content_hash, staged_folder
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, Record, drop_record, read_records, same_log, write_record
from pocketrec.storage.space import room

Kind = Literal["clicks", "ratings", "rated"]
"""What the log holds; rated: ratings with their values, a column more."""
BadRows = Literal["stop", "set-aside"]
"""What happens at a line that is no click."""


@dataclass(frozen=True)
class IngestReport:
    """What is in DIR/parquet/clicks.

    Attributes:
        rows: clicks.
        parts: folders they are in.
        bytes: of the Parquet files.
        first_ms: the earliest time.
        last_ms: the latest time.
        lines: of the log, not counting a header: rows + set_aside, always.
        set_aside: lines that are no clicks; they are in `rejects`.
        rejects: DIR/rejects.csv; None where no line was set aside.
        header: whether the log began with a line that names its columns.
        member: which file of a zip was read; "" for any other log.
        text_ids: which of session and item have ids that are not all whole numbers, so that there are codes for them.
        reused: it was there already, from the same log.
    """

    rows: int
    parts: int
    bytes: int
    first_ms: int
    last_ms: int
    lines: int
    set_aside: int
    rejects: Path | None
    header: bool
    member: str
    text_ids: tuple[str, ...]
    reused: bool


def ingest(
    clicks: Path | str,
    dataset: Path | str = "dataset",
    *,
    timezone: str = "UTC",
    bad_rows: BadRows = "stop",
    columns: Columns | None = None,
    kind: Kind = "clicks",
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> IngestReport:
    """Stream a click log into DIR/parquet/clicks/part=NNNN/*.parquet.

    Args:
        clicks: a log in YooChoose's format, or with `columns` any csv, tsv or Parquet file; its rows may be in any order.
            Text may be packed as gzip, zstd or zip, and "-" is standard input, which is ingested again each time.
        dataset: the dataset folder; made if need be.
        timezone: zone of the log's wall clock, see `sources.timestamps.parse_times`.
        bad_rows: stop at the first line that is no click, or set such lines aside in DIR/rejects.csv (line, reason, text;
            see `sources.lines`).
        columns: the log's own names for session, item and time, if it has a header with such.
        kind: what the log holds; with ratings a user is a session, see `sources.movielens`.
        fresh: ingest again even where the same log was ingested with the same settings.
        force: begin even where the disk seems too small for it.
        progress: told about bytes read.

    Raises:
        BusyError: another process is at work in the dataset folder.
        SpaceError: the disk is too small. What was there before is as it was.
        FolderError: the dataset folder cannot be written.
        LogError: the log is missing, empty, cut, or has a line that is not a click. Nothing is left behind then.
    """
    log, where = Path(clicks), Dataset(Path(dataset))
    settings: Settings = {"timezone": timezone}
    settings |= {} if kind == "clicks" else {"kind": kind}
    settings |= {} if columns is None else {"columns": check_columns(columns, names=columns_wanted(is_rated(settings)))}
    _check(log, timezone, bad_rows, columns)
    settings |= {} if bad_rows == "stop" else {"bad_rows": bad_rows}
    with hold(dataset, "ingest"):
        return _ingest(log, where, settings, fresh, force, progress)


def _ingest(log: Path, where: Dataset, settings: Settings, fresh: bool, force: bool, progress: Progress) -> IngestReport:
    home = where.clicks
    found = read_records(home.parent).get("ingest")
    if found and not fresh and found.is_current(home.parent, settings, found.inputs) and same_log(log, found):
        return _report(where, found, reused=True)
    with room(home, "ingest"):
        with staged_folder(home) as staged:
            read = fill(log, home, staged, settings, force, progress)
            record = _describe(log, staged, where, settings, read)
            drop_record(home.parent, "ingest")  # only now: a log that cannot be read leaves the earlier one usable
            for path in (where.rejects, where.item_ids):
                if (staged / path.name).exists():
                    commit(staged / path.name, path)
                else:
                    path.unlink(missing_ok=True)
        write_record(home.parent, "ingest", record)
    return _report(where, record, reused=False)


def _check(log: Path, timezone: str, bad_rows: str, columns: Columns | None) -> None:
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(
            f"{timezone!r} is not a time zone.", expected="an IANA name such as UTC or Asia/Shanghai"
        ) from error
    if bad_rows not in get_args(BadRows):
        raise SettingsError(f"bad rows cannot be treated as {bad_rows!r}.", expected=" or ".join(get_args(BadRows)))
    check_log(log)
    if columns is None and log != STDIN and is_parquet(log):
        raise LogError(f"{log} is a Parquet file.", expected="the names of its columns", do=f"add --columns {USAGE}")


def _describe(log: Path, staged: Path, where: Dataset, settings: Settings, read: Read) -> Record:
    columns = len(CLICK_COLUMNS) + is_rated(settings) + len(read.text_ids)
    summary = pl.len().alias("rows"), pl.min(TIME).alias("first_ms"), pl.max(TIME).alias("last_ms")

    def describe(path: Path) -> tuple[OutputFile, dict[str, int]]:
        found = pl.scan_parquet(path, hive_partitioning=False, glob=False).select(summary).collect().row(0, named=True)
        return OutputFile.of(path, (found["rows"], columns)), found

    stat = None if log == STDIN else log.stat()
    paths = sorted(staged.glob("*/*.parquet"))
    with ThreadPoolExecutor(1) as beside:
        log_hash = beside.submit(lambda: read.digest or content_hash(log))
        described = [describe(path) for path in paths]
    files = {
        str(where.clicks.name / path.relative_to(staged)): file for path, (file, _) in zip(paths, described, strict=True)
    }
    if read.set_aside:
        files[f"../{REJECTS}"] = OutputFile.of(staged / REJECTS, (read.set_aside, 3))
    if ITEM in read.text_ids:
        files[ITEM_IDS] = OutputFile.of(staged / ITEM_IDS)
    rows = sum(found["rows"] for _, found in described)
    counts = {
        "rows": rows,
        "first_ms": min(found["first_ms"] for _, found in described),
        "last_ms": max(found["last_ms"] for _, found in described),
        "lines": rows if read.lines is None else read.lines,
        "set_aside": read.set_aside,
        "header": read.header,
        "member": read.member,
        "text_ids": list(read.text_ids),
        "log": str(log),
        "log_bytes": stat.st_size if stat else read.text_bytes,
        "log_mtime_ns": stat.st_mtime_ns if stat else 0,
        "text_bytes": read.text_bytes,
    }
    return Record("ingest", settings, {"log": log_hash.result()}, files, counts)


def _report(where: Dataset, record: Record, *, reused: bool) -> IngestReport:
    counts = record.counts
    parts = [name for name in record.files if name.startswith(f"{where.clicks.name}/")]
    aside = counts.get("set_aside", 0)
    return IngestReport(
        rows=counts["rows"],
        parts=len({Path(name).parent for name in parts}),
        bytes=sum(record.files[name].bytes for name in parts),
        first_ms=counts["first_ms"],
        last_ms=counts["last_ms"],
        lines=counts.get("lines", counts["rows"]),
        set_aside=aside,
        rejects=where.rejects if aside else None,
        header=counts.get("header", False),
        member=counts.get("member", ""),
        text_ids=tuple(counts.get("text_ids", ())),
        reused=reused,
    )
