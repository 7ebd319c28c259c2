"""Rows between Spark and the arrays of a part: batches of Arrow in, batches of Arrow out.

A kernel is a function of a module that Spark runs in its Python workers (`mapInArrow`). What is small it says in a note,
JSON in the column `note` of a row of its own; the driver collects notes. What is large goes into other columns, and stays
on the cluster.
"""

from __future__ import annotations

import gc
import json
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pocketrec.schema import Array
from pocketrec.spark.session import explained

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_TYPES = {
    "long": pa.int64(),
    "int": pa.int32(),
    "byte": pa.int8(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
}
PIECE = 1 << 20
"""Bytes of a value in a row, at most: of larger ones a Parquet writer holds too many at a time."""


@cache
def schema_of(columns: str) -> pa.Schema:
    """The Arrow schema of columns as Spark writes them: "session long, note string"."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in (one.split() for one in columns.split(","))])


def batch_of(columns: str, note: Mapping[str, Any] | None = None, **values: Any) -> pa.RecordBatch:
    """Rows with some of the columns, arrays of one length or single values, and null in the others; a note is one row."""
    if note is not None:
        values["note"] = [json.dumps(note)]
    rows = max((len(value) for value in values.values() if isinstance(value, np.ndarray | list | pa.Array)), default=1)
    arrays = []
    for field in schema_of(columns):
        value = values.get(field.name)
        if value is None:
            arrays.append(pa.nulls(rows, field.type))
        elif isinstance(value, np.ndarray | list | pa.Array):
            arrays.append(value.cast(field.type) if isinstance(value, pa.Array) else pa.array(value, field.type))
        else:
            arrays.append(pa.array([value] * rows, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns))


@cache
def _leave_out_of_garbage() -> None:
    """Spark has a worker collect garbage after each task, which looks 50 ms through what is loaded if it may."""
    gc.freeze()


def bytes_of(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.Buffer]]:
    """Path and content of each file, in a worker."""
    _leave_out_of_garbage()
    for batch in batches:
        for path, content in zip(batch.column("path").to_pylist(), batch.column("content"), strict=True):
            yield path, content.as_buffer()


def noted(rows: DataFrame) -> list[dict[str, Any]]:
    """The notes of a table that has nothing else."""
    with explained("a stage was stopped on the cluster"):
        return [json.loads(row[0]) for row in rows.collect()]


def notes_in(rows: DataFrame) -> list[dict[str, Any]]:
    """The notes of a table."""
    return noted(rows.where("note is not null").select("note"))


def arrow_of(rows: DataFrame) -> list[pa.RecordBatch]:
    """All rows of a table, on the driver."""
    found: Any = rows  # public as toArrow from Spark 4 on
    batches: list[pa.RecordBatch] = found._collect_as_arrow()
    return batches


def rows_in_order(rows: DataFrame) -> Iterator[Any]:
    """The rows of a table that is in order, on the driver: it holds two partitions at a time.

    Spark 4.3 keeps all rows that a table's own `toLocalIterator` has brought, until its session ends.
    """
    found: Iterator[Any] = rows.rdd.toLocalIterator(prefetchPartitions=True)
    return found


@dataclass(frozen=True)
class Shipped:
    """A file that the driver has given to every executor, so that its workers share one copy.

    Attributes:
        name: of the file.
    """

    name: str

    @property
    def path(self) -> str:
        """Where it is, on the driver and on an executor."""
        from pyspark import SparkFiles

        return str(SparkFiles.get(self.name))

    def array(self) -> Array:
        """The array, mapped into memory."""
        return mapped(self.path)


@cache
def mapped(path: str) -> Array:
    """An array in a file, mapped into memory; opened once by each worker."""
    found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def ship(spark: SparkSession, content: Array | bytes) -> Shipped:
    """Give an array, or the bytes of a file, to every executor."""
    path = Path(_shipped_from().name) / f"pocketrec-{uuid.uuid4().hex}"
    with explained("a file could not be given to the executors"):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with path.open("wb") as file:
                np.save(file, content, allow_pickle=False)
        spark.sparkContext.addFile(str(path))
    return Shipped(path.name)


@cache
def _shipped_from() -> tempfile.TemporaryDirectory[str]:
    """Where the driver keeps what it ships, for executors that begin later, until the process ends."""
    return tempfile.TemporaryDirectory(prefix="pocketrec-shipped-")


def runs(*keys: Array) -> Iterator[tuple[int, int]]:
    """Where rows with the same keys that follow each other begin and end."""
    rows = len(keys[0])
    changed = np.zeros(max(0, rows - 1), bool)
    for key in keys:
        changed |= np.diff(key) != 0
    return pairwise([0, *(np.flatnonzero(changed) + 1).tolist(), rows] if rows else [])


def pieces(rows: Array, row_bytes: int = 0) -> Iterator[Array]:
    """An array in pieces of at most `PIECE` bytes, at least one."""
    length = max(1, PIECE // max(1, row_bytes or rows.itemsize))
    for begin in range(0, max(1, len(rows)), length):
        yield rows[begin : begin + length]
