"""The one door to what Polars calls unstable, and the settings its engine needs on a small machine.

A CSV scan decodes one chunk a thread at a time; Polars' default chunk (tens of MB) is what makes a scan of the full log
peak at three times the memory it needs. Polars reads the setting when its first CSV scan starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("POLARS_CSV_CHUNK_SIZE", "1000000")

import polars as pl

BAD = -1
"""The part number that takes rows which could not be read."""


def sink_parts(
    frame: pl.LazyFrame, folder: Path, *, number: pl.Expr, name: Callable[[int], str], row_group_rows: int
) -> None:
    """Stream a lazy frame into one Parquet file a part, `folder/{name(part)}`, keeping the order of the rows.

    Memory: one open row group a part (`row_group_rows` rows) plus a few chunks of the source; it does not depend on
    the number of rows.

    Args:
        frame: the rows; it is never collected.
        folder: an existing folder.
        number: the part of a row, an integer expression evaluated chunk by chunk.
        name: the relative file name of a part.
        row_group_rows: rows a Parquet row group.
    """
    target = pl.PartitionBy(
        folder,
        key={"part": number.cast(pl.Int32)},
        include_key=False,
        approximate_bytes_per_file=None,
        file_path_provider=lambda part: name(part.partition_keys["part"][0]),
    )
    frame.sink_parquet(target, compression="lz4", row_group_size=row_group_rows, mkdir=True, engine="streaming")


def elementwise(
    column: pl.Expr, function: Callable[[pl.Series], pl.Series], dtype: pl.DataType | type[pl.DataType]
) -> pl.Expr:
    """Apply a vectorised function of one column chunk by chunk, inside the streaming engine."""
    return column.map_batches(function, return_dtype=dtype, is_elementwise=True)
