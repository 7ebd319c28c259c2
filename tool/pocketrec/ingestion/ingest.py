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

import numpy as np
import polars as pl

from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.ids import ITEM_IDS
from pocketrec.ingestion.write_parts import REJECTS, Read, write_parts
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import ITEM, SESSION, TIME
from pocketrec.settings import options_for
from pocketrec.sources.files import Logs, log_files, named_in_words, named_logs
from pocketrec.sources.movielens import check_parquet, columns_wanted
from pocketrec.sources.options import USAGE, Kind, ReadSettings, check_columns
from pocketrec.sources.parquet import is_parquet, parquet_columns
from pocketrec.sources.recipes import resolved
from pocketrec.sources.streams import STDIN
from pocketrec.storage.files import commit
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import (
    OUTSIDE,
    OutputFile,
    Record,
    changed_one,
    fingerprint,
    hash_of_log,
    read_records,
    same_log,
)
from pocketrec.storage.stage import Draft, Stage


@dataclass(frozen=True)
class IngestReport:
    """What is in DIR/parquet/clicks.

    Attributes:
        rows: clicks.
        sessions: of them; 0 where they were not counted, as in ratings and in a log in YooChoose's own form.
        parts: folders they are in.
        bytes: of the Parquet files.
        first_ms: the earliest time.
        last_ms: the latest time.
        lines: of the log, not counting a header: rows + left_out + set_aside, always. In JSON with lists of events it is
            these that are counted.
        left_out: rows that `where` leaves out.
        set_aside: lines that are not clicks; they are in `rejects`.
        rejects: DIR/rejects.csv; None where no line was set aside.
        header: whether the log began with a line that names its columns.
        member: which file of a zip was read; "" for any other log.
        text_ids: which of session and item have ids that are not all whole numbers, so that there are codes for them.
        reused: it was there already, from the same log.
        remarks: what else a user should know of how it was read, a sentence each.
    """

    rows: int
    sessions: int
    parts: int
    bytes: int
    first_ms: int
    last_ms: int
    lines: int
    left_out: int
    set_aside: int
    rejects: Path | None
    header: bool
    member: str
    text_ids: tuple[str, ...]
    reused: bool
    remarks: tuple[str, ...] = ()


def ingest(
    clicks: Logs,
    dataset: Path | str = "dataset",
    reading: ReadSettings = ReadSettings(),
    *,
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> IngestReport:
    """Stream a click log into DIR/parquet/clicks/part=NNNN/*.parquet.

    Args:
        clicks: a log in YooChoose's format, or with `reading.columns` any csv, tsv, JSON lines or Parquet; its rows may be
            in any order. It may be several files, a folder or a pattern (`log_files`); text may be packed as gzip, zstd,
            bzip2, xz, zip or tar; "-" is standard input, which is ingested again each time.
        dataset: the dataset folder; made if need be.
        reading: how the log is read.
        fresh: ingest again even where the same log was ingested with the same settings.
        force: begin even where the disk seems too small for it.
        progress: told about bytes read.

    Raises:
        BusyError, SpaceError, FolderError: see "The errors of a stage" in `storage.stage`.
        LogError: the log is missing, empty, cut, or has a line that is not a click. Nothing is left behind then.
    """
    argv = ("ingest", *log_arguments(clicks), *options_for(reading), "--fresh")
    return ingest_kind("clicks", clicks, dataset, reading, argv, fresh=fresh, force=force, progress=progress)


def ingest_kind(
    kind: Kind,
    log: Logs,
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
    where, logs = Dataset(Path(dataset)), log_files(log)
    _check_folders(log, where)
    reading, said = resolved(logs, reading, kind)
    if reading.columns is not None:
        reading = replace(reading, columns=check_columns(reading.columns, names=columns_wanted(kind == "rated")))
    elif kind == "clicks":
        _check_own_form(logs, reading)
    elif logs[0] != STDIN and is_parquet(logs[0]):
        columns = check_parquet(logs[0], parquet_columns(logs[0]), rated=kind == "rated")
        reading = replace(reading, columns=columns)
    with hold(dataset, "ingest"):
        found = read_records(where.clicks.parent).get("ingest")
        inputs = found.inputs if found and same_log(logs, found) else {}
        stage = Stage(where.clicks.parent, "ingest", reading.recorded(kind), inputs, argv)
        if inputs and not fresh and (found := stage.current()):
            return report_of(where, found, reused=True)
        _check_place(logs, where)
        beside = (OUTSIDE, ITEM_IDS)
        with stage.replacing(into=where.clicks, names=beside) as draft:
            with _stays_as_it_is(logs) as known:
                read = write_parts(logs, where.clicks, draft.folder, reading, kind, force=force, progress=progress)
                _describe(draft, logs, kind, read, known)
                draft.counts["remarks"][:0] = [said] if said else []
            stage.claim(*beside)  # only now: a log that cannot be read leaves the earlier one usable
            for path in (where.rejects, where.item_ids):
                if (draft.folder / path.name).exists():
                    commit(draft.folder / path.name, path)
                else:
                    path.unlink(missing_ok=True)
    return report_of(where, draft.record, reused=False)


def _check_own_form(logs: list[Path], reading: ReadSettings) -> None:
    """Refuse what cannot be read without the names of its columns, and options that need them."""
    log = logs[0]
    if log != STDIN and is_parquet(log):
        raise LogError(f"{log} is a Parquet file.", expected="the names of its columns", do=f"add --columns {USAGE}")
    given = [name for name in ("where", "session_gap", "separator") if getattr(reading, name)]
    if given or reading.quote == "none":
        raise SettingsError(
            f"{' and '.join(given) or 'quote'} is given, and columns are not.",
            expected="the log's own names of its columns beside it",
            do=f"add --columns {USAGE}",
        )


def _check_folders(log: Logs, where: Dataset) -> None:
    """Refuse a folder of logs that the dataset lies in: what pocketrec wrote would be read as logs."""
    for folder in named_logs(log):
        if folder.is_dir() and where.root.resolve().is_relative_to(folder.resolve()):
            raise LogError(
                f"{folder} holds the dataset folder {where.root}, whose files are no logs.",
                expected="a folder of logs alone",
                do="name the files, or a dataset folder elsewhere: --dataset",
            )


def _check_place(logs: list[Path], where: Dataset) -> None:
    """Refuse a log that lies where ingest writes: it would be removed."""
    places = [place.resolve() for place in (where.clicks.parent, where.rejects)]
    for log in logs:
        if log != STDIN and any(log.resolve().is_relative_to(place) for place in places):
            raise LogError(
                f"{log} lies where ingest writes, and would be replaced.",
                expected=f"a log that is not below {where.clicks.parent} and not {where.rejects}",
                do="move it, or name another folder with --dataset",
            )


@contextlib.contextmanager
def _stays_as_it_is(logs: list[Path]) -> Iterator[dict[str, Any]]:
    """The fingerprint of a log that must not change in the `with` block: rows and fingerprint would be of two logs.

    If it has, that is the LogError, whatever else went wrong because of it.
    """
    from_stdin = logs == [STDIN]
    before = {} if from_stdin else fingerprint(logs)
    try:
        yield before
        error = None
    except Exception as found:
        error = found
    if not from_stdin and (not all(log.is_file() for log in logs) or fingerprint(logs) != before):
        raise LogError(
            f"{changed_one(logs)} changed while it was read.",
            expected="a log that stays as it is; what was ingested before is as it was",
            do="wait until nobody writes to it, or copy it; then the same command again",
        ) from error
    if error:
        raise error


def log_arguments(logs: Logs) -> list[str]:
    """A log as a command names it from any folder: whole paths; "-" for standard input."""
    return [str(log if log == STDIN else log.absolute()) for log in named_logs(logs)]


def _describe(draft: Draft, logs: list[Path], kind: Kind, read: Read, known: Mapping[str, Any]) -> None:
    """What was written into the staged folder, and from what."""
    staged = draft.folder
    summary = pl.len().alias("rows"), pl.min(TIME).alias("first_ms"), pl.max(TIME).alias("last_ms")

    def describe(path: Path) -> tuple[OutputFile, dict[str, int]]:
        scan = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        found = scan.select(summary).collect().row(0, named=True)
        return OutputFile.of(path, (found["rows"], len(scan.collect_schema()))), found

    paths = sorted(staged.glob("*/*.parquet"))
    with ThreadPoolExecutor(1) as beside:
        log_hash = beside.submit(lambda: read.digest or hash_of_log(logs))
        described = [describe(path) for path in paths]
    draft.inputs = {"log": log_hash.result()}
    draft.files = {str(path.relative_to(staged)): file for path, (file, _) in zip(paths, described, strict=True)}
    if read.set_aside:
        draft.beside[f"../{REJECTS}"] = OutputFile.of(staged / REJECTS, (read.set_aside, 3))
    if ITEM in read.text_ids:
        draft.beside[ITEM_IDS] = OutputFile.of(staged / ITEM_IDS)
    rows = sum(found["rows"] for _, found in described)
    sessions, several, tied = _sessions(staged) if kind == "clicks" and read.lines is not None else (0, 0, 0)
    draft.counts = {
        "rows": rows,
        "sessions": sessions,
        "first_ms": min(found["first_ms"] for _, found in described),
        "last_ms": max(found["last_ms"] for _, found in described),
        "lines": rows if read.lines is None else read.lines,
        "set_aside": read.set_aside,
        "left_out": read.left_out,
        "header": read.header,
        "member": read.member,
        "text_ids": list(read.text_ids),
        "remarks": [*on_files(logs), *read.remarks, *on_ties(several, tied)],
        "log": str(logs[0]) if len(logs) == 1 else [str(log) for log in logs],
        "log_bytes": read.text_bytes,  # of standard input; a file's are among what is known
        "log_mtime_ns": 0,
        **known,
        "text_bytes": read.text_bytes,
    }


def on_files(logs: list[Path]) -> Iterator[str]:
    """The remark on a log of several files."""
    if len(logs) > 1:
        yield f"{len(logs):,} files are one log, read in this order: {named_in_words(logs)}"


def on_ties(several: int, tied: int) -> Iterator[str]:
    """The remark on sessions of which all clicks have the same time: `tied` of `several` with two or more clicks."""
    if tied:
        yield f"{tied:,} of {several:,} sessions of two or more clicks have one time only; the order of the lines is theirs"


def _sessions(staged: Path) -> tuple[int, int, int]:
    """What `sessions_in` says, of all parts together."""
    parts = [_sessions_of(sorted(part.iterdir())) for part in staged.glob("part=*")]
    sessions, several, tied = np.sum(parts, axis=0).tolist()
    return sessions, several, tied


def _sessions_of(files: list[Path]) -> tuple[int, int, int]:
    return sessions_in(pl.read_parquet(files, columns=[SESSION, TIME], hive_partitioning=False, glob=False))


def sessions_in(clicks: pl.DataFrame) -> tuple[int, int, int]:
    """Sessions of a part; of these such with two or more clicks; of these such whose clicks all have the same time."""
    clicks = clicks if clicks[SESSION].is_sorted() else clicks.sort(SESSION)
    session, time = clicks[SESSION].to_numpy(), clicks[TIME].to_numpy()
    first = np.append(0, np.flatnonzero(session[1:] != session[:-1]) + 1)
    span = np.maximum.reduceat(time, first) - np.minimum.reduceat(time, first)
    several = np.diff(first, append=len(session)) > 1
    return len(first), int(several.sum()), int((several & (span == 0)).sum())


def report_of(where: Dataset, record: Record, *, reused: bool) -> IngestReport:
    """The report of an ingest that a record is of."""
    counts = record.counts
    parts = [name for name in record.files if name.startswith(f"{where.clicks.name}/")]
    return IngestReport(
        rows=counts["rows"],
        sessions=counts.get("sessions", 0),
        parts=len({Path(name).parent for name in parts}),
        bytes=sum(record.files[name].bytes for name in parts),
        first_ms=counts["first_ms"],
        last_ms=counts["last_ms"],
        lines=counts["lines"],
        left_out=counts.get("left_out", 0),
        set_aside=counts["set_aside"],
        rejects=where.rejects if counts["set_aside"] else None,
        header=counts["header"],
        member=counts["member"],
        text_ids=tuple(counts["text_ids"]),
        reused=reused,
        remarks=tuple(counts.get("remarks", ())),
    )
