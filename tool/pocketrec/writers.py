"""Writers: one life cycle (open, write, commit or abort), and formats that only encode.

A writer appends encoded blocks to a staged file. `commit` finishes it, flushes it and gives it its final name; leaving
the `with` block without a commit, for whatever reason, removes it. Nothing is ever published by accident.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from pocketrec import decimals
from pocketrec.bulk import BulkFile
from pocketrec.files import commit, content_hash, staged_name
from pocketrec.manifest import OutputFile
from pocketrec.schema import Int32


class Format(Protocol):
    """How blocks of rows become bytes."""

    name: str
    dtype: str
    """numpy's name for what a reader gets, for the manifest."""

    def header(self, rows: int) -> bytes:
        """What precedes the first block, given the number of rows in the whole file; its length never changes."""
        ...

    def encode(self, block: Any) -> bytes | memoryview:
        """One block of rows."""
        ...

    def shape(self, rows: int) -> tuple[int, ...]:
        """Shape of the file's content."""
        ...


class Npy:
    """`numpy.save` of an array of shape (rows, width), or (rows,) without a width, byte for byte.

    numpy pads the header so that the number of rows can grow in place; that is what makes writing in pieces possible.
    """

    name = "npy"

    def __init__(self, width: int | None, dtype: str = "int32") -> None:
        self.width, self.dtype = width, dtype
        self._stored = np.dtype(dtype).newbyteorder("<")

    def header(self, rows: int) -> bytes:
        """The npy header of version 1.0."""
        buffer = io.BytesIO()
        description = {"descr": self._stored.str, "fortran_order": False, "shape": self.shape(rows)}
        np.lib.format.write_array_header_1_0(buffer, description)
        return buffer.getvalue()

    def encode(self, block: npt.NDArray[Any]) -> bytes | memoryview:
        """The block's bytes, little endian, C order."""
        if not block.size:
            return b""
        return np.ascontiguousarray(block, dtype=self._stored).data.cast("B")

    def shape(self, rows: int) -> tuple[int, ...]:
        """(rows, width) or (rows,)."""
        return (rows,) if self.width is None else (rows, self.width)


class Txt:
    """Whole numbers as text: `%d`, comma separated, a newline at the end of each row."""

    name, dtype = "txt", "int32"

    def __init__(self, width: int) -> None:
        self.width = width

    def header(self, rows: int) -> bytes:  # noqa: ARG002
        """There is none."""
        return b""

    def encode(self, block: Int32) -> bytes | memoryview:
        """The block as text: from tables where its numbers are small, else by Polars' CSV writer."""
        if not block.size:
            return b""
        lowest, highest = int(block.min()), int(block.max())
        if lowest >= 0 and highest <= 9:
            return self._encode_digits(block)
        if decimals.have_words(lowest, highest):
            return decimals.encode(block).data
        return self._encode_any(block)

    def shape(self, rows: int) -> tuple[int, ...]:
        """(rows, width)."""
        return rows, self.width

    def _encode_any(self, block: Int32) -> memoryview:
        """One number a line, with the comma for a line end."""
        text = io.BytesIO()
        flat = pl.DataFrame({"": np.ascontiguousarray(block).reshape(-1)})
        flat.write_csv(text, include_header=False, line_terminator=",", quote_style="never", batch_size=1 << 16)
        encoded = np.frombuffer(text.getbuffer(), np.uint8)
        ends = np.flatnonzero(encoded == ord(","))
        encoded[ends[self.width - 1 :: self.width]] = ord("\n")
        return encoded.data

    def _encode_digits(self, block: Int32) -> memoryview:
        text = np.empty((len(block), 2 * self.width), np.uint8)
        text[:, 0::2] = block
        text[:, 0::2] += ord("0")
        text[:, 1::2] = ord(",")
        text[:, -1] = ord("\n")
        return text.data.cast("B")


FORMATS: dict[str, type[Npy] | type[Txt]] = {"txt": Txt, "npy": Npy}


class Writer:
    """One file in the making. Use it in a `with` block and call `commit` at its end."""

    def __init__(self, path: Path, form: Format | None = None) -> None:
        """Open the staged file.

        Args:
            path: the final name.
            form: how blocks are encoded; None if only `write_bytes` is used.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.form, self.rows = path, form, 0
        self._staged = staged_name(path)
        self._hash = xxhash.xxh3_128()
        self._header = form.header(0) if form else b""
        self._finished, self._digest = False, ""
        self._file = BulkFile(self._staged)
        try:
            self._file.append(self._header)
        except BaseException:  # no `with` block has begun yet that would do it
            self.abort()
            raise

    def write(self, block: npt.NDArray[Any]) -> None:
        """Append rows."""
        assert self.form is not None
        self.write_bytes(self.form.encode(block), len(block))

    def write_bytes(self, encoded: bytes | memoryview, rows: int) -> None:
        """Append rows that are encoded already."""
        self._file.append(encoded)
        self.rows += rows
        self._hash.update(encoded)

    def finish(self) -> None:
        """Flush the whole file to the disk, still under its staged name.

        Of several files that belong together each is finished before the first is committed: a disk that is full shows
        it here at the latest, and then none of the earlier files has been replaced.

        Raises:
            OSError: the disk is full or fails.
        """
        if not self._finished:
            self._file.finish(self.form.header(self.rows) if self.form else b"")
            # A header that names the number of rows was not known when the hash began.
            self._digest = content_hash(self._staged) if self._header else self._hash.hexdigest()
            self._finished = True

    def commit(self) -> OutputFile:
        """Finish the file, give it its final name; return what the manifest says about it."""
        self.finish()
        commit(self._staged, self.path)
        shape = self.form.shape(self.rows) if self.form else (self.rows,)
        return OutputFile(self._file.size, self._digest, shape, self.form.dtype if self.form else "")

    def abort(self) -> None:
        """Remove what was written. Does nothing after a commit."""
        self._file.close()
        self._staged.unlink(missing_ok=True)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
