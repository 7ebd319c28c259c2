"""`pocketrec ingest`: a click log into Parquet parts of whole sessions, streamed.

A part holds whole sessions of one range of session ids, so parts in order are sessions in order, and whatever must see
a session whole sees one part at a time. Inside a part the rows keep the order of the log. The ranges are cut at
quantiles of a sample, so that parts come out about equally large whatever the ids look like.

How the parts are made is in `write_parts`; whether they must be made, and what is recorded of them, is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from pocketrec.errors import LogError
from pocketrec.ingestion.text_ids import ITEM_IDS
from pocketrec.ingestion.write_parts import REJECTS, Read, write_parts
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import CLICK_COLUMNS, ITEM, SESSION, TIME
from pocketrec.settings import options_for
from pocketrec.sources.movielens import columns_wanted
from pocketrec.sources.options import USAGE, Kind, ReadSettings, check_columns
from pocketrec.sources.parquet import is_parquet
from pocketrec.sources.streams import STDIN, check_log
from pocketrec.storage.files import commit, content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OUTSIDE, OutputFile, Record, fingerprint, read_records, same_log
from pocketrec.storage.stage import Draft, Stage


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
        set_aside: lines that are not clicks; they are in `rejects`.
        rejects: DIR/rejects.csv; None where no line was set aside.
        header: whether the log began with a line that names its columns.
        member: which file of a zip was read; "" for any other log.
        text_ids: which of session and item have ids that are not all whole numbers, so that there are codes for them.
        reused: it was there already, from the same log.
        remarks: what else a user should know of how it was read, a sentence each.
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
    remarks: tuple[str, ...] = ()


def ingest(
    clicks: Path | str,
    dataset: Path | str = "dataset",
    reading: ReadSettings = ReadSettings(),
    *,
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> IngestReport:
    """Stream a click log into DIR/parquet/clicks/part=NNNN/*.parquet.

    Args:
        clicks: a log in YooChoose's format, or with `reading.columns` any csv, tsv or Parquet file; its rows may be in any
            order. Text may be packed as gzip, zstd or zip, and "-" is standard input, which is ingested again each time.
        dataset: the dataset folder; made if need be.
        reading: how the log is read.
        fresh: ingest again even where the same log was ingested with the same settings.
        force: begin even where the disk seems too small for it.
        progress: told about bytes read.

    Raises:
        BusyError, SpaceError, FolderError: see "The errors of a stage" in `storage.stage`.
        LogError: the log is missing, empty, cut, or has a line that is not a click. Nothing is left behind then.
    """
    argv = ("ingest", log_argument(clicks), *options_for(reading), "--fresh")
    return ingest_kind("clicks", clicks, dataset, reading, argv, fresh=fresh, force=force, progress=progress)


def ingest_kind(
    kind: Kind,
    log: Path | str,
    dataset: Path | str,
    reading: ReadSettings,
    argv: Sequence[str],
    *,
    fresh: bool,
    force: bool,
    progress: Progress,
) -> IngestReport:
    """`ingest` for any kind of log: the preparations of ratings are commands of their own, into a side of a dataset folder.

    Args and errors as of `ingest`; `argv` is the command that makes the same files again.
    """
    log, where = Path(log), Dataset(Path(dataset))
    if reading.columns is not None:
        reading = replace(reading, columns=check_columns(reading.columns, names=columns_wanted(kind == "rated")))
    check_log(log)
    if reading.columns is None and log != STDIN and is_parquet(log):
        raise LogError(f"{log} is a Parquet file.", expected="the names of its columns", do=f"add --columns {USAGE}")
    with hold(dataset, "ingest"):
        found = read_records(where.clicks.parent).get("ingest")
        inputs = found.inputs if found and same_log(log, found) else {}
        stage = Stage(where.clicks.parent, "ingest", reading.recorded(kind), inputs, argv)
        if inputs and not fresh and (found := stage.current()):
            return _report(where, found, reused=True)
        _check_place(log, where)
        beside = (OUTSIDE, ITEM_IDS)
        with stage.replacing(into=where.clicks, names=beside) as draft:
            with _stays_as_it_is(log) as known:
                read = write_parts(log, where.clicks, draft.folder, reading, kind, force=force, progress=progress)
                _describe(draft, log, kind, read, known)
            stage.claim(*beside)  # only now: a log that cannot be read leaves the earlier one usable
            for path in (where.rejects, where.item_ids):
                if (draft.folder / path.name).exists():
                    commit(draft.folder / path.name, path)
                else:
                    path.unlink(missing_ok=True)
    return _report(where, draft.record, reused=False)


def _check_place(log: Path, where: Dataset) -> None:
    """Refuse a log that lies where ingest writes: it would be removed."""
    places = (where.clicks.parent, where.rejects)
    if log != STDIN and any(log.resolve().is_relative_to(place.resolve()) for place in places):
        raise LogError(
            f"{log} lies where ingest writes, and would be replaced.",
            expected=f"a log that is not below {where.clicks.parent} and not {where.rejects}",
            do="move it, or name another folder with --dataset",
        )


@contextlib.contextmanager
def _stays_as_it_is(log: Path) -> Iterator[dict[str, Any]]:
    """The fingerprint of a log that must not change in the `with` block: rows and fingerprint would be of two logs.

    If it has, that is the LogError, whatever else went wrong because of it.
    """
    before = {} if log == STDIN else fingerprint(log)
    try:
        yield before
        error = None
    except Exception as found:
        error = found
    if log != STDIN and (not log.is_file() or fingerprint(log) != before):
        raise LogError(
            f"{log} changed while it was read.",
            expected="a log that stays as it is; what was ingested before is as it was",
            do="wait until nobody writes to it, or copy it; then the same command again",
        ) from error
    if error:
        raise error


def log_argument(log: Path | str) -> str:
    """A log as a command names it from any folder: its whole path; "-" for standard input."""
    return str(log) if Path(log) == STDIN else str(Path(log).absolute())


def _describe(draft: Draft, log: Path, kind: Kind, read: Read, known: Mapping[str, Any]) -> None:
    """What was written into the staged folder, and from what."""
    staged, columns = draft.folder, len(CLICK_COLUMNS) + (kind == "rated") + len(read.text_ids)
    summary = pl.len().alias("rows"), pl.min(TIME).alias("first_ms"), pl.max(TIME).alias("last_ms")

    def describe(path: Path) -> tuple[OutputFile, dict[str, int]]:
        found = pl.scan_parquet(path, hive_partitioning=False, glob=False).select(summary).collect().row(0, named=True)
        return OutputFile.of(path, (found["rows"], columns)), found

    paths = sorted(staged.glob("*/*.parquet"))
    with ThreadPoolExecutor(1) as beside:
        log_hash = beside.submit(lambda: read.digest or content_hash(log))
        described = [describe(path) for path in paths]
    draft.inputs = {"log": log_hash.result()}
    draft.files = {str(path.relative_to(staged)): file for path, (file, _) in zip(paths, described, strict=True)}
    if read.set_aside:
        draft.beside[f"../{REJECTS}"] = OutputFile.of(staged / REJECTS, (read.set_aside, 3))
    if ITEM in read.text_ids:
        draft.beside[ITEM_IDS] = OutputFile.of(staged / ITEM_IDS)
    rows = sum(found["rows"] for _, found in described)
    draft.counts = {
        "rows": rows,
        "first_ms": min(found["first_ms"] for _, found in described),
        "last_ms": max(found["last_ms"] for _, found in described),
        "lines": rows if read.lines is None else read.lines,
        "set_aside": read.set_aside,
        "header": read.header,
        "member": read.member,
        "text_ids": list(read.text_ids),
        "remarks": [*read.remarks, *(_ties(staged) if kind == "clicks" and read.lines is not None else ())],
        "log": str(log),
        "log_bytes": read.text_bytes,  # of standard input; a file's are among what is known
        "log_mtime_ns": 0,
        **known,
        "text_bytes": read.text_bytes,
    }


def _ties(staged: Path) -> Iterator[str]:
    """A remark on sessions whose clicks all have the same time, if there are any."""
    tied = several = 0
    for part in staged.glob("part=*"):
        clicks = pl.scan_parquet(sorted(part.iterdir()), hive_partitioning=False, glob=False)
        spans = clicks.group_by(SESSION).agg(pl.len().alias("clicks"), (pl.max(TIME) - pl.min(TIME)).alias("span"))
        longer = spans.filter(pl.col("clicks") > 1).select(pl.len(), (pl.col("span") == 0).sum().alias("tied"))
        found = longer.collect(engine="streaming").row(0)
        several, tied = several + found[0], tied + found[1]
    if tied:
        yield f"{tied:,} of {several:,} sessions of two or more clicks have one time only; the order of the lines is theirs"


def _report(where: Dataset, record: Record, *, reused: bool) -> IngestReport:
    counts = record.counts
    parts = [name for name in record.files if name.startswith(f"{where.clicks.name}/")]
    return IngestReport(
        rows=counts["rows"],
        parts=len({Path(name).parent for name in parts}),
        bytes=sum(record.files[name].bytes for name in parts),
        first_ms=counts["first_ms"],
        last_ms=counts["last_ms"],
        lines=counts["lines"],
        set_aside=counts["set_aside"],
        rejects=where.rejects if counts["set_aside"] else None,
        header=counts["header"],
        member=counts["member"],
        text_ids=tuple(counts["text_ids"]),
        reused=reused,
        remarks=tuple(counts.get("remarks", ())),
    )
