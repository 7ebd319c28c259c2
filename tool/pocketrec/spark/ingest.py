"""A log that the cluster can read into parts of whole sessions, as `ingestion.ingest` makes them on one machine."""

from __future__ import annotations

import base64
import codecs
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import polars as pl
import pyarrow as pa

from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.ids import ID, ITEM_IDS, coded_rows, first_session, kept_ids, text_ids
from pocketrec.ingestion.ingest import on_files, on_ties, sessions_in
from pocketrec.ingestion.intake import check_kept, stopped_by
from pocketrec.ingestion.write_parts import LINE_BYTES
from pocketrec.schema import ITEM, KEPT, MS, ROW, SESSION, TIME
from pocketrec.sources.files import natural
from pocketrec.sources.lines import BadLine
from pocketrec.sources.nested import paths_of_schema
from pocketrec.sources.options import USAGE, UTF8, ReadSettings, check_columns
from pocketrec.sources.parquet import TableRows
from pocketrec.sources.recipes import Head, head_in, resolved_by
from pocketrec.sources.streams import BLOCK_BYTES
from pocketrec.spark import lines
from pocketrec.spark.lines import CLICKS, HEAD_LINES, File, Reading
from pocketrec.spark.session import explained, jvm, rows_a_batch
from pocketrec.spark.store import THREADS, Store, part_of
from pocketrec.spark.tables import Shipped, arrow_of, batch_of, bytes_of, noted, ship
from pocketrec.storage.manifest import OutputFile, Record, json_digest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROWS_A_PART = 1 << 20
"""A worker holds a part: some 30 MB of columns, and what is made of them."""
LINES_A_BATCH = 1 << 15
CODED = "part int, session long, item long, time long, row long"


@dataclass(frozen=True)
class LogFiles:
    """The files of a log on the cluster, in the natural order of their names: addresses, bytes, times of change."""

    names: tuple[str, ...]
    bytes: tuple[int, ...]
    changed: tuple[int, ...]

    def digest(self) -> str:
        """What tells a log from another: a cluster does not read it once more for a hash."""
        return json_digest([list(one) for one in zip(self.names, self.bytes, self.changed, strict=True)])


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
    tables = is_parquet(spark, files.names[0])
    _check_settings(reading, files)
    reading, said = resolved_by(lambda _: _head(spark, files, reading, tables), files.names[0], reading, "clicks")
    if reading.columns is not None:
        reading = replace(reading, columns=check_columns(reading.columns))
    elif tables:
        raise LogError(
            f"{files.names[0]} is a Parquet file.", expected="the names of its columns", do=f"add --columns {USAGE}"
        )
    settings, inputs = {**reading.recorded("clicks"), "parts": parts}, {"log": files.digest()}
    if not fresh and (found := store.current("ingest", settings, inputs)):
        return found, True
    of = Reading(reading, tuple(_described(spark, files, tables)))
    with rows_a_batch(spark, LINES_A_BATCH):
        rows = _table_rows(spark, files, of) if tables else _text_rows(spark, files, of)
        clicks = store.write("lines", rows, by_part=False)
    seen = _Seen.of(noted(store.table(clicks)), of, str(log[0]) if len(log) == 1 else f"{log[0]} and others", tables=tables)
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


def log_files(spark: SparkSession, log: Sequence[str]) -> LogFiles:
    """The files of a log: each a file, a folder, or a pattern. A LogError if one is not there, or none is."""
    found: dict[str, tuple[int, int]] = {}
    for one in log:
        with explained(f"{one} cannot be read"):
            path = jvm(spark).org.apache.hadoop.fs.Path(one)
            system = path.getFileSystem(spark._jsc.hadoopConfiguration())
            there = [path] if system.exists(path) else [status.getPath() for status in system.globStatus(path) or ()]
            inside: dict[str, tuple[int, int]] = {}
            for home in there:
                base = system.makeQualified(home)
                listing = system.listFiles(home, True)
                while listing.hasNext():
                    status = listing.next()
                    name = status.getPath().toString()
                    below = name.removeprefix(base.toString()).split("/")
                    if name != base.toString() and any(piece.startswith(("_", ".")) for piece in below):
                        continue  # Hadoop's own
                    inside[name] = status.getLen(), status.getModificationTime()
        if not inside:
            raise LogError(
                f"{one} is no file, no folder with files, and matches none.", expected="a click log", do="check it"
            )
        found |= inside
    names = sorted((name for name in found if found[name][0]), key=lambda name: natural(Path(unquote(name))))
    if not names:
        raise LogError(f"{log[0]} is empty.", expected="a click log", do="check the path")
    return LogFiles(tuple(names), *(tuple(found[name][place] for name in names) for place in (0, 1)))


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


def _open(spark: SparkSession, name: str, size: int) -> bytes:
    """The first bytes of a file, unpacked."""
    java = jvm(spark)
    path, conf = java.org.apache.hadoop.fs.Path(name), spark._jsc.hadoopConfiguration()
    with explained(f"{name} cannot be read"):
        stream = path.getFileSystem(conf).open(path)
        try:
            codec = java.org.apache.hadoop.io.compress.CompressionCodecFactory(conf).getCodec(path)
            limited = java.org.apache.commons.io.input.BoundedInputStream(
                codec.createInputStream(stream) if codec else stream, size
            )
            return bytes(java.org.apache.commons.io.IOUtils.toByteArray(limited))
        finally:
            stream.close()


def is_parquet(spark: SparkSession, name: str) -> bool:
    """Whether a file begins as Parquet does."""
    return _open(spark, name, 4) == b"PAR1"


def _head(spark: SparkSession, files: LogFiles, reading: ReadSettings, tables: bool) -> Head:
    """The beginning of a log."""
    if tables:
        with explained(f"{files.names[0]} cannot be read"):
            empty = pl.DataFrame(_arrow_schema(spark, files.names[0]).empty_table())
        return Head("", {"": list(paths_of_schema(empty.schema).keys)})
    text = _open(spark, files.names[0], 1 << 17)
    text = text[: text.rfind(b"\n") + 1] or text
    return head_in(text if reading.encoding == UTF8 else text.decode(reading.encoding, "replace").encode(), reading)


def _arrow_schema(spark: SparkSession, name: str) -> pa.Schema:
    from pyspark.sql.pandas.types import to_arrow_schema

    found: pa.Schema = to_arrow_schema(spark.read.parquet(name).schema)
    return found


def _described(spark: SparkSession, files: LogFiles, tables: bool) -> Iterator[File]:
    """The files with their first lines, where a worker may have to read from the middle of one."""
    size = min(_bytes(spark, "spark.sql.files.maxPartitionBytes"), _bytes(spark, "spark.sql.files.openCostInBytes"))

    def head(name: str, length: int) -> bytes:
        if tables or length <= size:
            return b""
        text = _open(spark, name, BLOCK_BYTES)
        return b"\n".join(text.split(b"\n", HEAD_LINES)[:HEAD_LINES]) + b"\n"

    with ThreadPoolExecutor(THREADS) as pool:
        heads = pool.map(head, files.names, files.bytes)
        for name, first in zip(files.names, heads, strict=True):
            yield File(unquote(name), first)


def _bytes(spark: SparkSession, name: str) -> int:
    text = str(spark.conf.get(name))
    return int(jvm(spark).org.apache.spark.network.util.JavaUtils.byteStringAsBytes(text))


def _ranked(rows: DataFrame, files: LogFiles) -> DataFrame:
    """Rows with the column file replaced by the file's rank in the log; their order stays."""
    from pyspark.sql import functions as F  # noqa: N812

    ranks = rows.sparkSession.createDataFrame(
        [(plain(name), rank) for rank, name in enumerate(files.names)], "file string, rank int"
    )
    named = rows.withColumn(
        "file", F.regexp_replace(F.expr("url_decode(replace(file, '+', '%2B'))"), "^([a-z0-9]+):/+", "$1:/")
    )
    return named.join(F.broadcast(ranks), "file").drop("file")


def plain(name: str) -> str:
    """An address in the one form in which two sources of it are equal: without %20, and with one slash behind the colon."""
    scheme, colon, rest = unquote(name).partition(":/")
    return f"{scheme}{colon}{rest.lstrip('/')}" if colon else scheme


def _text_rows(spark: SparkSession, files: LogFiles, of: Reading) -> DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    with explained(f"{files.names[0]} cannot be read"):
        text = spark.read.option("lineSep", "\n").text(list(files.names))
        about = F.col("_metadata.file_path").alias("file"), F.col("_metadata.file_block_start").alias("start")
        rows = _ranked(text.select("value", *about), files)
    return rows.select("value", "rank", "start").mapInArrow(partial(lines.text_clicks, reading=of), CLICKS)


def _table_rows(spark: SparkSession, files: LogFiles, of: Reading) -> DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    columns = of.settings.columns
    assert columns is not None
    schema = pl.DataFrame(_arrow_schema(spark, files.names[0]).empty_table()).schema
    tops = TableRows(of.files[0].name, schema, columns, of.settings).tops
    with explained(f"{files.names[0]} cannot be read"):
        rows = spark.read.parquet(*files.names)
        about = F.col("_metadata.file_path").alias("file"), F.col("_metadata.row_index").alias("index")
        ranked = _ranked(rows.select(*(f"`{one}`" for one in tops), *about), files)
    return ranked.mapInArrow(partial(lines.table_clicks, reading=of, columns=dict(columns)), CLICKS)


@dataclass(frozen=True)
class _Seen:
    """What all splits of a log said, as messages and the record want it (`intake.LogSeen`)."""

    name: str
    expected: str
    lines: int
    rows: int
    kept: int
    left_out: int
    set_aside: int
    header: bool
    text: frozenset[str]
    remarks: tuple[str, ...]
    seen: dict[str, set[str]]
    first: BadLine | None
    first_name: str
    lines_before: dict[int, int]
    rows_before: dict[int, tuple[int, int]]
    blank_rejects: tuple[tuple[int, int, bytes], ...]

    @classmethod
    def of(cls, notes: list[dict[str, Any]], of: Reading, name: str, *, tables: bool) -> _Seen:
        """From the notes of the splits, in any order; in tables rows have their numbers in the file already."""
        notes = sorted(notes, key=lambda one: (one["rank"], one["start"]))
        last = {one["rank"]: one["start"] for one in notes}
        lines_of = {one["rank"]: int(one["header"]) for one in notes if one["start"] == 0}
        lines_before, rows_before, blank_rejects = dict[int, int](), dict[int, tuple[int, int]](), []
        first, first_rank, rows, kept, set_aside, counted = None, 0, 0, 0, 0, 0
        for one in notes:
            rank, start = one["rank"], one["start"]
            key = (rank << lines.IN_A_FILE) + start
            lines_before[key] = 0 if tables else lines_of.get(rank, 0)
            rows_before[key] = rows, kept
            # Blank lines at the end of a split are lines of the log only if the file goes on.
            blanks = 0 if start == last[rank] else one["blanks"]
            bad = lines.bad_line(one["first"] or (one["blank_first"] if blanks else None), lines_before[key])
            if bad and first is None:
                first, first_rank = bad, rank
            if blanks:
                blank_rejects.append((key, one["lines"], base64.b64decode(one["blank_rejects"])))
            rows, kept = rows + one["rows"], kept + one["kept"]
            set_aside, counted = set_aside + one["set_aside"] + blanks, counted + one["counted"] + blanks
            lines_of[rank] = lines_before[key] + one["lines"] + one["blanks"]
        columns = {column for one in notes for column in one["seen"]}
        return cls(
            name=name,
            expected=notes[0]["expected"] if notes else "",
            lines=counted,
            rows=rows,
            kept=kept,
            left_out=sum(one["left_out"] for one in notes),
            set_aside=set_aside,
            header=any(one["header"] for one in notes),
            text=frozenset(column for one in notes for column in one["text"]),
            remarks=tuple(dict.fromkeys(remark for one in notes for remark in one["remarks"])),
            seen={column: {value for one in notes for value in one["seen"].get(column, ())} for column in columns},
            first=first,
            first_name=of.files[first_rank].name,
            lines_before=lines_before,
            rows_before=rows_before,
            blank_rejects=tuple(blank_rejects),
        )

    def check(self, *, set_aside: bool) -> None:
        """Raise a LogError if a line is not a click and must be one, or if nothing is left."""
        if self.first and not set_aside:
            raise stopped_by(self.first, replace(self, name=self.first_name))
        check_kept(self, self.kept, self.rows, self.left_out, self.first)


def _make_parts(
    store: Store, clicks: DataFrame, seen: _Seen, gap_ms: int | None, number: int
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
    name = f"index-{os.urandom(6).hex()}/{ITEM_IDS}"
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


def _rejects(store: Store, clicks: DataFrame, seen: _Seen) -> dict[str, OutputFile]:
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
