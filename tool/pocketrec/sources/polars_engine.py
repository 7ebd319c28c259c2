"""All that Polars calls unstable is used here alone; and the settings its engine needs on a small machine.

A CSV scan decodes one chunk a thread at a time; with Polars' default chunk (tens of MB) a scan of the full log takes three
times the memory it needs. A sink into more files than `POLARS_MAX_OPEN_SINKS` closes some and begins others under a new
number. Polars reads both settings when it first needs them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("POLARS_CSV_CHUNK_SIZE", "500000")
os.environ.setdefault("POLARS_MAX_OPEN_SINKS", "512")

import polars as pl
from polars.io.plugins import register_io_source

MAX_FILES = int(os.environ["POLARS_MAX_OPEN_SINKS"])
"""Files that `sink_parts` keeps open at once."""

BAD = -1
"""The part number that takes rows which could not be read."""


def sink_parts(
    frame: pl.LazyFrame, folder: Path, *, number: pl.Expr, name: Callable[[int, int], str], row_group_rows: int
) -> None:
    """Stream a lazy frame into Parquet files, one a part, `folder/{name(part, file)}`, keeping the order of the rows.

    Memory, besides a few chunks of the source: 35 bytes a row of one row group for each part, and 15 kB for each row group
    written (as measured with the four columns of a click). Neither is freed before the last row.

    Args:
        frame: the rows; it is never collected.
        folder: an existing folder.
        number: the part of a row, an elementwise integer expression.
        name: the relative name of a part's file; the second number is 0 unless there are more than `MAX_FILES` parts.
        row_group_rows: rows of a Parquet row group.
    """
    target = pl.PartitionBy(
        folder,
        key={"part": number.cast(pl.Int32)},
        include_key=False,
        approximate_bytes_per_file=None,
        file_path_provider=lambda file: name(file.partition_keys["part"][0], file.index_in_partition),
    )
    frame.sink_parquet(target, compression="lz4", row_group_size=row_group_rows, mkdir=True, engine="streaming")


def interval(value: pl.Expr, cuts: pl.Series) -> pl.Expr:
    """How many of the ascending cuts are at most the value: whole numbers, or text in the order of its bytes."""
    if cuts.dtype != pl.String:
        return value.bin_intervals(cuts.to_list(), labels=False) if len(cuts) else value.clip(0, 0)
    return value.map_batches(
        lambda chunk: cuts.search_sorted(chunk, side="right").cast(pl.Int32), return_dtype=pl.Int32, is_elementwise=True
    )


def from_frames(frames: Callable[[], Iterator[pl.DataFrame]], schema: pl.Schema) -> pl.LazyFrame:
    """A lazy frame whose rows come from a generator, drawn while the engine works on earlier ones."""

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for frame in frames():
            taken = frame if left is None else frame.head(left)
            taken = taken if predicate is None else taken.filter(predicate)
            yield taken if columns is None else taken.select(columns)
            if left is not None:
                left -= len(frame)
                if left <= 0:
                    return

    return register_io_source(source, schema=schema)


def in_runs(frames: Iterator[pl.DataFrame], rows_a_run: int) -> Iterator[pl.LazyFrame]:
    """Frames of the same columns as lazy ones, one after the other, each of at least `rows_a_run` rows but the last.

    Each can be collected once, and must be before the next one is drawn. It bounds memory: see `sink_parts`.
    """
    following = next(frames, None)

    def run() -> Iterator[pl.DataFrame]:
        nonlocal following
        rows = 0
        while following is not None and rows < rows_a_run:
            yield following
            rows += len(following)
            following = next(frames, None)

    while following is not None:
        yield from_frames(run, following.schema)


def counted(column: str, advance: Callable[[int], None], dtype: pl.DataType | type[pl.DataType] = pl.Int64) -> pl.Expr:
    """The column as it is, calling `advance` with the length of every chunk that passes."""

    def look(chunk: pl.Series) -> pl.Series:
        advance(len(chunk))
        return chunk

    return pl.col(column).map_batches(look, return_dtype=dtype, is_elementwise=True)
