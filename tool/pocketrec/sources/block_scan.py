"""A file of lines as blocks of whole lines, parsed in threads.

Polars' own scan is the fastest way through a file, but it always begins at the first line. Blocks can go on where an
earlier run stopped: that bounds memory where a log is so large that it must be ingested in several runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from pocketrec.parallel import ahead

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


def frames(path: Path, parse: Callable[[bytes], pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """What `parse` makes of the blocks of a file, in their order."""
    with path.open("rb", buffering=0) as file:
        yield from ahead(lambda block: parse(os.pread(file.fileno(), block[1], block[0])), blocks(path))


def samples(path: Path, most: int, length: int) -> tuple[bytes, bool]:
    """Whole lines from up to `most` pieces of a file at even distances, each of about `length` bytes; all, if it is small.

    Many small pieces: in a log grouped by session a piece holds only neighbours, so a few large ones would tell less about
    the range of ids. Returns also whether the lines are all that there are.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= most * length:
            return file.read(), True
        found = bytearray()
        for offset in range(0, size - length, size // most):
            file.seek(offset)
            piece = file.read(length)
            found += piece[piece.find(b"\n") + 1 : piece.rfind(b"\n") + 1]  # what is before and behind may be cut
        return bytes(found), False
