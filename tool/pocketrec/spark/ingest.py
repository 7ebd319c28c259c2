"""A log that the cluster can read into parts of whole sessions, as `ingestion.ingest` makes them on one machine."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.ids import ID, ITEM_IDS, coded_rows, first_session, kept_ids, text_ids
from pocketrec.ingestion.ingest import on_files, on_ties, sessions_in
from pocketrec.ingestion.write_parts import LINE_BYTES
from pocketrec.schema import ITEM, KEPT, MS, ROW, SESSION, TIME
from pocketrec.sources.options import ReadSettings, check_columns
from pocketrec.sources.recipes import resolved_by
from pocketrec.spark import lines
from pocketrec.spark.lines import Reading
from pocketrec.spark.log_files import LogFiles, clicks_in, head_of, log_files, with_heads
from pocketrec.spark.seen import Seen
from pocketrec.spark.session import explained, rows_a_batch
from pocketrec.spark.store import Store, part_of
from pocketrec.spark.tables import Shipped, arrow_of, batch_of, bytes_of, noted, notes_in, ship
from pocketrec.storage.manifest import OutputFile, Record

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


ROWS_A_PART = 1 << 20
"""A worker holds a part: some 30 MB of columns, and what is made of them."""
LINES_A_BATCH = 1 << 15
CODED = "part int, session long, item long, time long, row long"


def ingest(
    store: Store, log: Sequence[str], reading: ReadSettings, parts: int | None, argv: Sequence[str], *, fresh: bool
) -> tuple[Record, bool]:
    """Make the parts of a log; the record of them, and whether they were there already.

    Raises:
        LogError: the log is missing, empty, or has a line that is not a click; what was there before is as it was.
        ClusterError: Spark says that something cannot be read or written.
    """
    spark = store.spark
    files = log_files(spark, log)
    _check_settings(reading, files)
    reading, said = resolved_by(lambda _: head_of(spark, files.names[0], reading), files.names[0], reading, "clicks")
    if reading.columns is not None:
        reading = replace(reading, columns=check_columns(reading.columns))
    settings, inputs = {**reading.recorded("clicks"), "parts": parts}, {"log": files.digest()}
    if not fresh and (found := store.current("ingest", settings, inputs)):
        return found, True
    of = Reading(reading, tuple(with_heads(spark, files)))
    with rows_a_batch(spark, LINES_A_BATCH):
        clicks = store.write("lines", clicks_in(spark, files, of), by_part=False)
    seen = Seen.of(notes_in(store.table(clicks)), of, str(log[0]) if len(log) == 1 else f"{log[0]} and others")
    seen.check(set_aside=reading.bad_rows == "set-aside")
    gap_ms = None if reading.session_gap is None else round(reading.session_gap * MS)
    number = parts or max(1, round(seen.rows / ROWS_A_PART))
    folder, ids = _make_parts(store, store.table(clicks), seen, gap_ms, number)
    described, about = store.described_by_workers(folder, part_facts)
    rejects = _rejects(store, store.table(clicks), seen) if seen.set_aside else {}
    store.remove(clicks)
    sessions, several, tied = (sum(one[name] for one in about) for name in ("sessions", "several", "tied"))
    counts = {
        "rows": sum(one["rows"] for one in about),
        "sessions": sessions,
        "first_ms": min(one["first_ms"] for one in about),
        "last_ms": max(one["last_ms"] for one in about),
        "lines": seen.lines,
        "set_aside": seen.set_aside,
        "left_out": seen.left_out,
        "header": seen.header,
        "member": "",
        "text_ids": list(text_ids(seen.text, gap_ms)),
        "remarks": [
            *([said] if said else []), *on_files([*map(Path, files.names)]), *seen.remarks, *on_ties(several, tied),
        ],
        "log": list(files.names) if len(files.names) > 1 else files.names[0],
        "log_bytes": sum(files.bytes),
        "log_mtime_ns": 0,
        "text_bytes": max(sum(files.bytes), LINE_BYTES * seen.kept),
    }  # fmt: skip
    record = Record("ingest", settings, inputs, {**described, **ids, **rejects}, counts, tuple(argv))
    return store.finish("ingest", record), False


def _check_settings(reading: ReadSettings, files: LogFiles) -> None:
    if reading.member:
        raise SettingsError(
            "member is given for a log on Spark.",
            expected="files of text, gzip or Parquet, which a cluster can read in pieces",
            do="unpack the archive",
        )
    if codecs.lookup(reading.encoding).name.startswith(("utf-16", "utf-32")):
        raise SettingsError(f"encoding is {reading.encoding!r}.", expected="one in which a line ends with the byte 0a")
    if len(files.names) >= (most := 1 << (63 - lines.IN_A_FILE)):
        raise SettingsError(f"the log has {len(files.names):,} files.", expected=f"fewer than {most:,}", do="join some")
    if odd := [name for name in files.names if name.endswith((".zip", ".tar", ".7z", ".xz", ".tgz"))]:
        raise LogError(
            f"{odd[0]} is packed in a way that Spark does not read.",
            expected="text, .gz, .bz2, .zst or Parquet",
            do="unpack it, or use --engine local",
        )


def _make_parts(
    store: Store, clicks: DataFrame, seen: Seen, gap_ms: int | None, number: int
) -> tuple[str, dict[str, OutputFile]]:
    """Write the parts; the folder of them, and the file of item ids where these are text."""
    from pyspark.sql import functions as F  # noqa: N812

    text = seen.text
    ids = [
        F.coalesce(F.col(f"{name}_text"), F.col(name).cast("string")).alias(name) if name in text else F.col(name)
        for name in (SESSION, ITEM)
    ]
    coded = bool(text) or gap_ms is not None
    before = [(key, *both) for key, both in seen.rows_before.items()]
    splits = F.broadcast(store.spark.createDataFrame(before, "split long, rows long, kept long"))
    numbers = (F.col("place") + F.col("rows")).alias("place"), (F.col(ROW) + F.col("kept")).alias(ROW)
    rows = clicks.where(F.col(TIME).isNotNull()).join(splits, "split").select(*ids, TIME, *numbers)
    ranged = rows if coded else rows.drop("place")
    ranged = ranged.repartitionByRange(number, SESSION)
    ranged = ranged.withColumn("part", F.spark_partition_id())
    folder = store.write("raw" if coded else "clicks", ranged, order=["place" if coded else ROW])
    if not coded:
        return folder, {}
    raw = folder
    there = sorted(store.files(raw))
    items, files = None, dict[str, OutputFile]()
    if ITEM in text:
        items, files = _item_ids(store, store.table(raw))
    coding = partial(_coded, text=sorted(text), gap_ms=gap_ms, items=items)
    found = noted(store.each(there, partial(count_sessions, coding=coding), "note string"))
    sessions = {one["part"]: one["sessions"] for one in found}
    first, firsts = first_session(gap_ms), dict[int, int]()
    for part in sorted(sessions):
        firsts[part], first = first, first + sessions[part]
    columns = ", ".join((CODED, *(f"{ID[name]} {_kind(name, text)}" for name in kept_ids(text, gap_ms))))
    written = store.each(there, partial(code_part, coding=coding, firsts=firsts, columns=columns), columns)
    folder = store.write("clicks", written, order=[ROW])
    store.remove(raw)
    return folder, files


def _kind(name: str, text: frozenset[str]) -> str:
    return "string" if name in text else "long"


def _item_ids(store: Store, raw: DataFrame) -> tuple[Shipped, dict[str, OutputFile]]:
    """All item ids in the order of their bytes: given to the executors, and written."""
    from pyspark.sql import functions as F  # noqa: N812

    there = raw.where(F.col(ROW).isNotNull()).select(ITEM).where(F.col(ITEM).isNotNull()).distinct()
    with rows_a_batch(store.spark, 1 << 16), explained("the item ids could not be collected"):
        batches = arrow_of(there)
    found = pl.concat([pl.Series(ID[ITEM], [], pl.String), *(pl.Series(ID[ITEM], one.column(0)) for one in batches)]).sort()
    file = io.BytesIO()
    found.to_frame().write_parquet(file)
    name = f"{store.new_folder('index')}/{ITEM_IDS}"
    return ship(store.spark, file.getvalue()), store.put_described(name, file.getvalue(), found.shape)


def _coded(content: pa.Buffer, text: list[str], gap_ms: int | None, items: Shipped | None) -> pl.DataFrame:
    """A part with whole numbers for ids, its sessions from 0 (`ingestion.ids.coded_rows`)."""
    frame = pl.read_parquet(io.BytesIO(content)).sort("place").with_columns(pl.col(ROW).is_not_null().alias(KEPT))
    enum = pl.Enum(pl.read_parquet(items.path).to_series()) if items else None
    return coded_rows(frame, text, gap_ms, enum)


def count_sessions(batches: Iterable[pa.RecordBatch], coding: partial[pl.DataFrame]) -> Iterator[pa.RecordBatch]:
    """Kernel: how many sessions a part has."""
    for path, content in bytes_of(batches):
        yield batch_of("note string", note={"part": part_of(path), "sessions": coding(content)[SESSION].n_unique()})


def code_part(
    batches: Iterable[pa.RecordBatch], coding: partial[pl.DataFrame], firsts: dict[int, int], columns: str
) -> Iterator[pa.RecordBatch]:
    """Kernel: a part with its codes; `firsts` has the number of the first session of each part."""
    for path, content in bytes_of(batches):
        frame = coding(content)
        part = part_of(path)
        if len(frame):
            frame = frame.with_columns(pl.col(SESSION) + firsts[part])
            names = [name.split()[0] for name in columns.split(", ")[1:]]
            yield batch_of(columns, part=part, **{name: frame[name].to_arrow() for name in names})


def part_facts(content: pa.Buffer) -> dict[str, Any]:
    """What is to be known of a part: rows, times, sessions, and of these such whose clicks have one time."""
    frame = pl.read_parquet(io.BytesIO(content), columns=[SESSION, TIME])
    sessions, several, tied = sessions_in(frame)
    time = frame[TIME].to_numpy()
    return {
        "rows": len(frame),
        "first_ms": int(np.min(time)),
        "last_ms": int(np.max(time)),
        "sessions": sessions,
        "several": several,
        "tied": tied,
    }


def _rejects(store: Store, clicks: DataFrame, seen: Seen) -> dict[str, OutputFile]:
    """The lines that were set aside, as rows of rejects.csv in parts that follow each other."""
    from pyspark.sql import functions as F  # noqa: N812

    aside = clicks.where(F.col("rejects").isNotNull()).select("split", "place", "rejects")
    if seen.blank_rejects:
        aside = aside.union(store.spark.createDataFrame(list(seen.blank_rejects), "split long, place long, rejects binary"))
    order = "split", "place"
    aside = aside.repartitionByRange(max(1, seen.set_aside >> 20), *order).withColumn("part", F.spark_partition_id())
    numbered = aside.mapInArrow(partial(lines.numbered_rejects, before=seen.lines_before), lines.REJECTS)
    folder = store.write("rejects", numbered, order=order)
    return store.described_by_workers(folder)[0]
