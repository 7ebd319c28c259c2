"""A file of lines as blocks of whole lines, parsed in threads and handed to the engine in order.

Polars' own scan is the fastest way through a file, but it always begins at the first line. Blocks can go on where an
earlier run stopped: that bounds memory where a log is so large that it must be ingested in several runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from pocketrec.parallel import ahead
from pocketrec.sources import polars_engine

BLOCK_BYTES = 1 << 21
_LINE_BYTES = 1 << 12


def blocks(path: Path) -> Iterator[tuple[int, int]]:
    """Offset and length of consecutive blocks of about `BLOCK_BYTES`, each ending with a line."""
    with path.open("rb", buffering=0) as file:
        size, start = os.fstat(file.fileno()).st_size, 0
        while start < size:
            stop = min(start + BLOCK_BYTES, size)
            while stop < size:
                piece = os.pread(file.fileno(), _LINE_BYTES, stop)
                end_of_line = piece.find(b"\n") + 1
                stop += end_of_line or len(piece)
                if end_of_line:
                    break
            yield start, stop - start
            start = stop


def runs(
    path: Path, parse: Callable[[bytes], pl.DataFrame], schema: pl.Schema, row: str, rows_a_run: int
) -> Iterator[pl.LazyFrame]:
    """The file in runs of at least `rows_a_run` rows (but the last), as lazy frames with the columns of `schema` and `row`.

    Each frame can be collected once, and must be before the next one is drawn. `parse` makes of a block of whole lines a
    frame with the columns of `schema`, in threads; `row` is the name of an Int64 column that numbers the rows from 0.
    """
    with path.open("rb", buffering=0) as file:
        frames = ahead(lambda block: parse(os.pread(file.fileno(), block[1], block[0])), blocks(path))
        done, following = 0, next(frames, None)

        def run() -> Iterator[pl.DataFrame]:
            nonlocal done, following
            stop = done + rows_a_run
            while following is not None and done < stop:
                yield following.with_columns(pl.int_range(done, done + len(following), dtype=pl.Int64).alias(row))
                done += len(following)
                following = next(frames, None)

        while following is not None:
            yield polars_engine.from_frames(run, pl.Schema({**schema, row: pl.Int64()}))
