"""A dataset on a cluster: its manifest, and tables of parts, written by Spark and its committer.

    URI/manifest.json                       what there is, with the hash of every file; replaced in one piece, last of all
    URI/unfinished.json                     what a run that has not come to its end has finished: the next one goes on there
    URI/clicks-1f0a.../part=00017/*.parquet one run's table; a part is one file

A run that is stopped leaves the dataset that was there, and folders that neither file names; the next run removes them. One
driver at a time may write to a dataset.
"""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from pocketrec.errors import DatasetError
from pocketrec.schema import Array
from pocketrec.spark.session import Kernel, exactly, explained, gateway, java, rows_a_batch
from pocketrec.spark.tables import arrow_of, batch_of, bytes_of, noted
from pocketrec.storage.manifest import (
    MANIFEST,
    Manifest,
    OutputFile,
    Record,
    described,
    json_values,
    manifest_in,
    manifest_text,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

OBJECT_STORES = ("s3", "s3a", "s3n", "gs", "abfs", "abfss", "wasb", "wasbs", "oss", "cosn", "swift")
"""Where a file that is written appears whole or not at all when it is closed, and a rename copies."""
_OURS = re.compile(r"(lines|raw|clicks|ends|roles|sequences|starts|batches_bs\d+|txt|rejects|index)-[0-9a-f]{12}")
"""The folders that runs make."""
THREADS = 8
"""Files that the driver opens or copies at a time."""
BIG_ROWS = {
    "parquet.block.size": str(32 << 20),
    "parquet.block.size.row.check.min": "1",
    "parquet.page.size.row.check.min": "1",
}
"""For tables with rows of a megabyte: Parquet's writer looks at what it holds after each row, not after a hundred."""
ROWS_COLLECTED = 1 << 16
KINDS = {"bigint": np.dtype("<i8"), "int": np.dtype("<i4"), "tinyint": np.dtype("i1")}
"""Of a column of whole numbers, as Spark names it."""
DESCRIBED = "note string"
PATH = "org.apache.hadoop.fs.Path"
UNFINISHED = "unfinished.json"
STAGE_OF = {"clicks": "ingest", "roles": "roles", "sequences": "sequences"}
"""The stage that makes an input of others."""


class Store:
    """A folder that the session's Hadoop can open. It need not exist yet; nobody else writes into it meanwhile."""

    def __init__(self, spark: SparkSession, uri: str) -> None:
        self.spark, self.root = spark, uri.rstrip("/")
        self._schemas: dict[str, StructType] = {}
        self._manifests: dict[str, Manifest] = {}

    def __str__(self) -> str:
        return self.root

    @cached_property
    def _system(self) -> Any:
        with explained(f"{self.root} cannot be opened"):
            return self._path().getFileSystem(self._conf)

    @property
    def _conf(self) -> Any:
        return self.spark._jsc.hadoopConfiguration()

    def _path(self, name: str = "") -> Any:
        return java(self.spark, PATH)(f"{self.root}/{name}" if name else self.root)

    def at(self, name: str) -> str:
        """The address of a file or folder in it."""
        return f"{self.root}/{name}"

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file; None if there is none."""
        with explained(f"{self.at(name)} cannot be read"):
            path = self._path(name)
            if not self._system.exists(path):
                return None
            stream = self._system.open(path)
            try:
                return bytes(java(self.spark, "org.apache.commons.io.IOUtils.toByteArray")(stream))
            finally:
                stream.close()

    def put(self, name: str, content: bytes) -> None:
        """Write a file, or replace it, in one piece."""
        if self._system.getUri().getScheme() in OBJECT_STORES:
            self._write(name, content)
            return
        self._write(written := f".{name}.{uuid.uuid4().hex[:12]}", content)
        with explained(f"{self.at(name)} cannot be written"):
            rename = java(self.spark, "org.apache.hadoop.fs.Options.Rename")
            over = gateway(self.spark).new_array(rename, 1)
            over[0] = rename.OVERWRITE
            before, after = (self._system.makeQualified(self._path(one)) for one in (written, name))
            context = java(self.spark, "org.apache.hadoop.fs.FileContext.getFileContext")(before.toUri(), self._conf)
            context.rename(before, after, over)

    def _write(self, name: str, content: bytes) -> None:
        with explained(f"{self.at(name)} cannot be written"):
            stream = self._system.create(self._path(name), True)
            try:
                for begin in range(0, len(content), 1 << 22):
                    stream.write(bytearray(content[begin : begin + (1 << 22)]))
            finally:
                stream.close()

    def put_described(self, name: str, content: bytes, shape: tuple[int, ...] = ()) -> dict[str, OutputFile]:
        """Write a file into a new folder, which no record names yet; and how one describes it."""
        self._write(name, content)
        return {name: described(content, shape)}

    def put_array(self, name: str, array: Array) -> dict[str, OutputFile]:
        """Write an array as npy."""
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        return self.put_described(name, file.getvalue(), array.shape)

    def array(self, name: str, record: Record) -> Array:
        """The array of an npy file that a record describes."""
        found: Array = np.load(io.BytesIO(self.content(name, record)), allow_pickle=False)
        return found

    def content(self, name: str, record: Record) -> bytes:
        """The bytes of a small file that a record describes; a DatasetError if it has changed."""
        content = self.read(name)
        if content is None or described(content).xxh3 != record.files[name].xxh3:
            raise DatasetError(
                f"{self.at(name)} is missing or has changed: its XXH3-128 is another.",
                expected="the file that the stage wrote",
                do="the same command again with --fresh",
            )
        return content

    def files(self, folder: str) -> dict[str, int]:
        """The files below a folder, by their name relative to the dataset, with their bytes; none of Hadoop's own."""
        found: dict[str, int] = {}
        with explained(f"{self.at(folder)} cannot be listed"):
            base = self._path()
            prefix = self._system.makeQualified(base).toUri().getPath().rstrip("/") + "/"
            if not self._system.exists(self._path(folder)):
                return {}
            listing = self._system.listFiles(self._path(folder), True)
            while listing.hasNext():
                status = listing.next()
                name = status.getPath().toUri().getPath().removeprefix(prefix)
                if not name.rsplit("/", 1)[-1].startswith(("_", ".")):
                    found[name] = status.getLen()
        return found

    def copy(self, name: str, home: Path) -> None:
        """Copy a file to this machine."""
        with explained(f"{self.at(name)} cannot be copied"):
            target = java(self.spark, PATH)(f"file://{home.absolute()}")
            self._system.copyToLocalFile(False, self._path(name), target, True)

    def manifest(self, name: str = MANIFEST) -> Manifest:
        """What there is; nothing where no run has come to its end. Or what one has finished that has not: `UNFINISHED`."""
        if name not in self._manifests:
            found = self.read(name)
            self._manifests[name] = Manifest() if found is None else manifest_in(found.decode(), self.at(name))
        return self._manifests[name]

    def _put_manifest(self, name: str, manifest: Manifest) -> None:
        self.put(name, manifest_text(manifest).encode())
        self._manifests[name] = manifest

    def current(self, key: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> Record | None:
        """The record, if a run with these settings and inputs would write what is there, and all of it is there."""
        for name in (UNFINISHED, MANIFEST):
            found = self.manifest(name).records.get(key)
            if found and dict(found.settings) == json_values(settings) and dict(found.inputs) == dict(inputs):
                there: dict[str, int] = {}
                for folder in {file.split("/", 1)[0] for file in found.files}:
                    there |= self.files(folder)
                if all(there.get(file) == about.bytes for file, about in found.files.items()):
                    return found
        return None

    def finish(self, key: str, record: Record) -> Record:
        """Note that a stage is finished: if the run is stopped behind it, the next one goes on there."""
        record = replace(record, settings=json_values(record.settings), counts=json_values(record.counts))
        self._put_manifest(UNFINISHED, Manifest({**self.manifest(UNFINISHED).records, key: record}))
        return record

    def publish(self, records: Mapping[str, Record]) -> None:
        """Make what a run has made, or found, the dataset. What was there besides stays if it is made of the same."""
        content = {name: records[stage].content for name, stage in STAGE_OF.items()}
        there = self.manifest()
        besides = {key: one for key, one in there.records.items() if dict(one.inputs).items() <= content.items()}
        manifest = Manifest({**besides, **records})
        if manifest != there:
            self._put_manifest(MANIFEST, manifest)
        self.remove(UNFINISHED)
        self._manifests[UNFINISHED] = Manifest()
        self.tidy()

    def tidy(self) -> None:
        """Remove the folders of runs that no manifest names."""
        names = self.manifest().names | self.manifest(UNFINISHED).names
        named = {name.split("/", 1)[0] for name in names}
        with explained(f"{self.root} cannot be listed"):
            if not self._system.exists(self._path()):
                return
            for status in self._system.listStatus(self._path()):
                name = status.getPath().getName()
                if _OURS.fullmatch(name) and name not in named:
                    self._system.delete(status.getPath(), True)

    def remove(self, folder: str) -> None:
        """Remove a folder or a file, if it is there."""
        with explained(f"{self.at(folder)} cannot be removed"):
            self._system.delete(self._path(folder), True)

    def new_folder(self, what: str) -> str:
        """The name of a folder that is not there yet, one of `_OURS`."""
        return f"{what}-{uuid.uuid4().hex[:12]}"

    def write(self, what: str, rows: DataFrame, *, by_part: bool = True, order: Sequence[str] = ()) -> str:
        """Write a table into a new folder, by Spark's committer; return its name. With `part` a folder for each value.

        The folders' names are in the order of the parts: Spark reads 00012 as a number, and would write part=12.
        """
        from pyspark.sql import functions as F  # noqa: N812

        folder = self.new_folder(what)
        self._schemas[folder] = rows.schema
        with explained(f"{self.at(folder)} could not be written"):
            if by_part:
                rows = rows.withColumn("part", F.lpad(F.col("part").cast("string"), 5, "0"))
                rows = rows.sortWithinPartitions("part", *order)
            writer = rows.write.options(**BIG_ROWS)
            (writer.partitionBy("part") if by_part else writer).parquet(self.at(folder))
        return folder

    def table(self, folder: str, files: Iterable[str] = ()) -> DataFrame:
        """A table that was just written, or some files of one that the manifest lists."""
        paths = [self.at(name) for name in files] or [self.at(folder)]
        reader = self.spark.read.option("basePath", self.at(folder))
        if folder in self._schemas:  # else Spark runs a job to find it
            reader = reader.schema(self._schemas[folder])
        with explained(f"{self.at(folder)} cannot be read"):
            return reader.parquet(*map(exactly, paths))

    def each(self, files: Iterable[str], kernel: Kernel, columns: str) -> DataFrame:
        """What a kernel makes of files of one part each, which it is handed one at a time (`session.rows_a_batch`)."""
        with explained(f"{self.root} cannot be read"):
            found = self.spark.read.format("binaryFile").load([exactly(self.at(name)) for name in files])
            return found.mapInArrow(kernel, columns)

    def collected(self, rows: DataFrame) -> dict[str, Array]:
        """Columns of whole numbers without nulls, all rows of them, on the driver."""
        with rows_a_batch(self.spark, ROWS_COLLECTED, a_file=True), explained("numbers could not be collected"):
            kinds = {name: KINDS[kind] for name, kind in rows.dtypes}
            batches = arrow_of(rows)
        return {
            name: np.concatenate([one.column(name).to_numpy() for one in batches] or [np.empty(0, kind)])
            for name, kind in kinds.items()
        }

    def described_by_workers(
        self, folder: str, about: Callable[[pa.Buffer], dict[str, Any]] | None = None
    ) -> tuple[dict[str, OutputFile], list[dict[str, Any]]]:
        """The files of a table with their hashes, which workers read; and what `about` says of each, in the same order."""
        there = sorted(self.files(folder))
        if not there:
            return {}, []
        found = noted(self.each(there, partial(describe, about=about), DESCRIBED))
        by_part = {(one["folder"], one["name"]): one for one in found}
        notes = [by_part[name.split("/")[-2], name.split("/")[-1]] for name in there]
        files = {
            name: OutputFile(one["bytes"], one["xxh3"], tuple(one["shape"])) for name, one in zip(there, notes, strict=True)
        }
        return files, notes

    def copies(self, names: Sequence[str], home: Path) -> Iterator[tuple[str, Path]]:
        """Copy files to a folder of this machine, several at a time, in order; the caller moves each away."""

        def copied(numbered: tuple[int, str]) -> tuple[str, Path]:
            number, name = numbered
            self.copy(name, path := home / f"{number:06d}.copied")
            return name, path

        with ThreadPoolExecutor(THREADS) as pool:
            for begin in range(0, len(names), THREADS):
                yield from pool.map(copied, enumerate(names[begin : begin + THREADS], begin))


def part_of(path: str) -> int:
    """The number of a part by the address of its file."""
    return int(path.split("/")[-2].removeprefix("part="))


def describe(
    batches: Iterable[pa.RecordBatch], about: Callable[[pa.Buffer], dict[str, Any]] | None
) -> Iterator[pa.RecordBatch]:
    """Kernel: of each file its size and hash, and what `about` says of it."""
    import pyarrow.parquet as pq

    for path, content in bytes_of(batches):
        shape = pq.ParquetFile(pa.BufferReader(content)).metadata
        folder, name = path.split("/")[-2:]
        note = {
            "folder": folder,
            "name": name,
            "bytes": content.size,
            "xxh3": xxhash.xxh3_128(content).hexdigest(),
            "shape": [shape.num_rows, shape.num_columns],
            **(about(content) if about else {}),
        }
        yield batch_of(DESCRIBED, note=note)
