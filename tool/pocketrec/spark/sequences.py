"""The sets as sessions in order, part by part: what mini-batches need, and what training needs of a log."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pocketrec.schema import Int32, Int64
from pocketrec.sessions.options import BatchSettings, TrainOn
from pocketrec.sessions.sequences import Sessions, rows_of_set, whole_sessions
from pocketrec.sessions.vocabulary import ITEMS_OF
from pocketrec.spark.session import rows_a_batch
from pocketrec.spark.split import Rules, codes_of, parts_in, roles_of, rules_of
from pocketrec.spark.store import Store, part_of
from pocketrec.spark.tables import PIECE, Shipped, batch_of, bytes_of, runs, ship
from pocketrec.storage.layout import SPLITS
from pocketrec.storage.manifest import Record

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SEQUENCES = "part int, of string, at long, first long, lengths binary, items binary, unknown long"
"""Sessions of a part and a set, in rows `at` 0, 1, ..; `first` clicks of the part and set are before this row.

`unknown`: clicks of the part and set that were left out, since the model does not know their items; all in the first row.
"""
STARTED = "of string, start long, place long, items binary, unknown long"
CLICKS_A_ROW = PIECE // 8
IN_A_PART = 32
"""Bits of a session's place for its number in its part."""
SESSIONS_A_BATCH = 1 << 14


@dataclass(frozen=True)
class Wanted:
    """How sequences are made: the rules of the roles, the set that is trained on, and the index of its items (shipped)."""

    rules: Rules
    train_on: TrainOn
    index: Shipped


def sequences(
    store: Store, clicks: Record, roles: Record, settings: BatchSettings, argv: Sequence[str], *, fresh: bool
) -> tuple[Record, bool]:
    """The record of the sequences, and whether they were there already. Its counts are those of each set."""
    inputs = {"clicks": clicks.content, "roles": roles.content}
    recorded = {"train_on": settings.train_on, "session_order": settings.session_order}
    if not fresh and (found := store.current("sequences", recorded, inputs)):
        return found, True
    wanted = Wanted(rules_of(store, roles), settings.train_on, ship(store.spark, items_of(store, roles, settings.train_on)))
    parts = parts_in(clicks)
    by_time = settings.session_order == "time"
    kernel, columns = (started, STARTED) if by_time else (read, SEQUENCES)
    rows = store.each(parts, partial(kernel, wanted=wanted), columns)
    if by_time:
        table = store.write("starts", rows, by_part=False)
        with rows_a_batch(store.spark, SESSIONS_A_BATCH):
            folder = store.write("sequences", _by_time(store.table(table), len(parts)), order=["of", "at"])
        store.remove(table)
    else:
        folder = store.write("sequences", rows, order=["of", "at"])
    files, sizes = store.described_by_workers(folder, sizes_in)
    counts = {
        what: {name: sum(one[what].get(name, 0) for one in sizes) for name in SPLITS}
        for what in ("unknown", "sessions", "clicks")
    }
    return store.finish("sequences", Record("sequences", recorded, inputs, files, counts, tuple(argv))), False


def items_of(store: Store, roles: Record, train_on: TrainOn) -> Int64:
    """The ids of the item index, in the order of their codes."""
    name = next(name for name in roles.files if name.endswith(f"/{ITEMS_OF[train_on]}"))
    return pl.read_parquet(io.BytesIO(store.content(name, roles)))["item_id"].to_numpy()


def found_in(content: pa.Buffer, wanted: Wanted) -> dict[str, Sessions]:
    """The sessions of a part by set."""
    rows, role = roles_of(content, wanted.rules)
    index = codes_of(wanted.index.path)
    chosen = {name: rows_of_set(name, role, wanted.train_on) for name in SPLITS}
    return {name: whole_sessions(rows.session[at], rows.time[at], index.of(rows.item[at])) for name, at in chosen.items()}


def sizes_in(content: pa.Buffer) -> dict[str, dict[str, int]]:
    """Of each set the sessions and clicks in a file of `SEQUENCES`, and the clicks that were left out."""
    size = (pl.col(name).bin.size().sum() // 4 for name in ("lengths", "items"))
    frame = pl.read_parquet(io.BytesIO(content), columns=["of", "lengths", "items", "unknown"])
    sets = frame.group_by("of").agg(*size, pl.col("unknown").sum())
    return {
        what: dict(zip(sets["of"], sets[column], strict=True))
        for what, column in (("unknown", "unknown"), ("sessions", "lengths"), ("clicks", "items"))
    }


def read(batches: Iterable[pa.RecordBatch], wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """Kernel: the sessions of a part, by their ids."""
    for path, content in bytes_of(batches):
        found, part = found_in(content, wanted), part_of(path)
        for name, sessions in found.items():
            yield from _written(part, name, sessions.items, sessions.lengths, unknown=sessions.unknown)


def _written(
    part: int, name: str, items: Int32, lengths: Int64, at: int = 0, before: int = 0, *, unknown: int
) -> Iterator[pa.RecordBatch]:
    """Sessions in rows of some hundred thousand clicks; one row at least, so that each part is there.

    The first row is row `at` of its part and set, which has `before` clicks by then.
    """
    ends = np.cumsum(lengths)
    cuts = np.searchsorted(ends, np.arange(CLICKS_A_ROW, int(ends[-1]) if len(ends) else 0, CLICKS_A_ROW))
    edges = np.unique([0, *(cuts + 1), len(lengths)]) if len(lengths) else np.array([0, 0])
    for row, (begin, end) in enumerate(pairwise(edges)):
        first, last = (int(ends[edge - 1]) if edge else 0 for edge in (begin, end))
        some = lengths[begin:end].astype("<i4").tobytes()
        own = items[first:last].astype("<i4").tobytes()
        yield batch_of(
            SEQUENCES, part=part, of=name, at=at + row, first=before + first, lengths=some, items=own,
            unknown=0 if row else unknown,
        )  # fmt: skip


def started(batches: Iterable[pa.RecordBatch], wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """Kernel: each session of a part as a row: when it begins, its place by id, and its items.

    Each set has a row without items, too, for what was left out.
    """
    for path, content in bytes_of(batches):
        found, part = found_in(content, wanted), part_of(path)
        for name, one in found.items():
            sessions = len(one.lengths)
            ends = pa.array(np.concatenate([[0], np.cumsum(one.lengths * 4)]), pa.int32())
            items = pa.BinaryArray.from_buffers(
                pa.binary(), sessions, [None, ends.buffers()[1], pa.py_buffer(one.items.astype("<i4"))]
            )
            place = (part << IN_A_PART) + np.arange(sessions)
            yield batch_of(STARTED, of=name, start=0, place=part << IN_A_PART, items=b"", unknown=one.unknown)
            yield batch_of(STARTED, of=[name] * sessions, start=one.starts, place=place, items=items, unknown=0)


def _by_time(rows: DataFrame, parts: int) -> DataFrame:
    """Sessions by set, the time of their first click, and their ids, in parts that follow each other."""
    from pyspark.sql import functions as F  # noqa: N812

    order = "of", "start", "place"
    ranged = rows.repartitionByRange(parts, *order).withColumn("part", F.spark_partition_id())
    return ranged.sortWithinPartitions(*order).mapInArrow(packed, SEQUENCES)


def packed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Kernel: rows of a session each, in order, into rows of many."""
    at, before = 0, dict[str, int]()
    for batch in batches:
        of, part = pc.dictionary_encode(batch.column("of")), batch.column("part")[0].as_py()
        for begin, end in runs(of.indices.to_numpy()):
            name, some = of[begin].as_py(), batch.column("items").slice(begin, end - begin)
            lengths = pc.binary_length(some).to_numpy().astype(np.int64) // 4
            lengths = lengths[lengths > 0]
            unknown = pc.sum(batch.column("unknown").slice(begin, end - begin)).as_py()
            items = np.frombuffer(pc.binary_join(pa.ListArray.from_arrays([0, len(some)], some), b"")[0].as_buffer(), "<i4")
            yield from _written(part, name, items, lengths, at, before.get(name, 0), unknown=unknown)
            at, before[name] = at + 1 + len(lengths), before.get(name, 0) + len(items)
