"""The files of a log on the cluster: which they are, how the first one begins, and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import polars as pl

from pocketrec.errors import LogError
from pocketrec.sources.files import natural
from pocketrec.sources.lines import head_lines
from pocketrec.sources.nested import paths_of_schema
from pocketrec.sources.options import USAGE, UTF8, ReadSettings
from pocketrec.sources.parquet import TableRows
from pocketrec.sources.recipes import Head, head_in
from pocketrec.sources.streams import BLOCK_BYTES
from pocketrec.spark import lines
from pocketrec.spark.lines import CLICKS, File, Reading
from pocketrec.spark.session import exactly, explained, java
from pocketrec.spark.store import THREADS
from pocketrec.storage.manifest import json_digest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


PARQUET = b"PAR1"
"""How such a file begins."""


@dataclass(frozen=True)
class LogFiles:
    """The files of a log on the cluster, in the natural order of their names: addresses, bytes, times of change."""

    names: tuple[str, ...]
    bytes: tuple[int, ...]
    changed: tuple[int, ...]

    def digest(self) -> str:
        """What tells a log from another: a cluster does not read it once more for a hash."""
        return json_digest([list(one) for one in zip(self.names, self.bytes, self.changed, strict=True)])


def log_files(spark: SparkSession, log: Sequence[str]) -> LogFiles:
    """The files of a log: each a file, a folder, or a pattern. A LogError if one is not there, or none is."""
    found: dict[str, tuple[int, int]] = {}
    for one in log:
        with explained(f"{one} cannot be read"):
            path = java(spark, "org.apache.hadoop.fs.Path")(one)
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
    names = sorted((name for name in found if found[name][0]), key=lambda name: natural(Path(name)))
    if not names:
        raise LogError(f"{log[0]} is empty.", expected="a click log", do="check the path")
    return LogFiles(tuple(names), *(tuple(found[name][place] for name in names) for place in (0, 1)))


def beginning_of(spark: SparkSession, name: str, size: int) -> bytes:
    """The first bytes of a file, unpacked."""
    path, conf = java(spark, "org.apache.hadoop.fs.Path")(name), spark._jsc.hadoopConfiguration()
    with explained(f"{name} cannot be read"):
        stream = path.getFileSystem(conf).open(path)
        try:
            codec = java(spark, "org.apache.hadoop.io.compress.CompressionCodecFactory")(conf).getCodec(path)
            limited = java(spark, "org.apache.commons.io.input.BoundedInputStream")(
                codec.createInputStream(stream) if codec else stream, size
            )
            return bytes(java(spark, "org.apache.commons.io.IOUtils.toByteArray")(limited))
        finally:
            stream.close()


def head_of(spark: SparkSession, name: str, reading: ReadSettings) -> Head:
    """How a file of the log begins, for the recipes."""
    text = beginning_of(spark, name, 1 << 17)
    if text.startswith(PARQUET):
        return Head("", {"": list(paths_of_schema(_schema_of(spark, name)).keys)})
    text = text[: text.rfind(b"\n") + 1] or text
    return head_in(text if reading.encoding == UTF8 else text.decode(reading.encoding, "replace").encode(), reading)


def _schema_of(spark: SparkSession, name: str) -> pl.Schema:
    from pyspark.sql.pandas.types import to_arrow_schema

    with explained(f"{name} cannot be read"):
        return pl.DataFrame(to_arrow_schema(spark.read.parquet(exactly(name)).schema).empty_table()).schema


def with_heads(spark: SparkSession, files: LogFiles) -> Iterator[File]:
    """The files, those of text with their first lines where a worker may have to read from the middle of one."""
    size = min(_bytes(spark, "spark.sql.files.maxPartitionBytes"), _bytes(spark, "spark.sql.files.openCostInBytes"))

    def looked_into(name: str, length: int) -> File:
        table = beginning_of(spark, name, len(PARQUET)) == PARQUET
        if table or length <= size:
            return File(name, table)
        return File(name, table, b"\n".join(head_lines(beginning_of(spark, name, BLOCK_BYTES))) + b"\n")

    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(looked_into, files.names, files.bytes)


def _bytes(spark: SparkSession, name: str) -> int:
    text = str(spark.conf.get(name))
    return int(java(spark, "org.apache.spark.network.util.JavaUtils.byteStringAsBytes")(text))


def _ranked(rows: DataFrame, files: LogFiles) -> DataFrame:
    """Rows with the column file replaced by the file's rank in the log; their order stays.

    Spark has its own way of writing an address, and two of the slashes in it. It is read once a file: to do so for each
    row takes five times as long as to read the rows.
    """
    from pyspark.sql import functions as F  # noqa: N812

    ranks = {plain(name): rank for rank, name in enumerate(files.names)}
    named = {form: ranks[plain(unquote(address))] for address in rows.inputFiles() for form in (address, plain(address))}
    by_file = F.broadcast(rows.sparkSession.createDataFrame([*named.items()], "file string, rank int"))
    return rows.join(by_file, "file", "left").drop("file")


def plain(name: str) -> str:
    """An address in the one form in which two sources of it are equal: with one slash behind the colon."""
    scheme, colon, rest = name.partition(":/")
    return f"{scheme}{colon}{rest.lstrip('/')}" if colon else scheme


def clicks_in(spark: SparkSession, files: LogFiles, of: Reading) -> DataFrame:
    """The clicks of all files as `CLICKS`, with notes of their splits."""
    found = None
    for table, rows in ((False, _text_rows), (True, _table_rows)):
        if names := [name for name, file in zip(files.names, of.files, strict=True) if file.table == table]:
            kind = rows(spark, files, names, of)
            found = kind if found is None else found.union(kind)
    assert found is not None
    return found


def _text_rows(spark: SparkSession, files: LogFiles, names: list[str], of: Reading) -> DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    with explained(f"{names[0]} cannot be read"):
        text = spark.read.option("lineSep", "\n").text(list(map(exactly, names)))
        about = F.col("_metadata.file_path").alias("file"), F.col("_metadata.file_block_start").alias("start")
        rows = _ranked(text.select("value", *about), files)
    return rows.select("value", "rank", "start").mapInArrow(partial(lines.text_clicks, reading=of), CLICKS)


def _table_rows(spark: SparkSession, files: LogFiles, names: list[str], of: Reading) -> DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    columns = of.settings.columns
    if columns is None:
        raise LogError(f"{names[0]} is a Parquet file.", expected="the names of its columns", do=f"add --columns {USAGE}")
    tops = TableRows(names[0], _schema_of(spark, names[0]), columns, of.settings).tops
    with explained(f"{names[0]} cannot be read"):
        rows = spark.read.parquet(*map(exactly, names))
        about = F.col("_metadata.file_path").alias("file"), F.col("_metadata.row_index").alias("index")
        ranked = _ranked(rows.select(*(f"`{one}`" for one in tops), *about), files)
    return ranked.mapInArrow(partial(lines.table_clicks, reading=of, columns=dict(columns)), CLICKS)
