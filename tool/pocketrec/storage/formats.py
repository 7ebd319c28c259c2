"""How blocks of rows become bytes: npy and txt."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from pocketrec.schema import Int32, UInt8


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
        if have_words(lowest, highest):
            return encode_words(block).data
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


Words = npt.NDArray[np.uint64]


LARGEST = (1 << 20) - 1
"""The largest number that has a word; a table has 9 bytes a number."""


_SMALLEST = -1
"""An idle lane's target; the last row of a table, which is where numpy finds the index -1."""


def have_words(lowest: int, highest: int) -> bool:
    """Whether `encode` can write all numbers from one to another."""
    return lowest >= _SMALLEST and highest <= LARGEST


def encode_words(rows: Int32) -> UInt8:
    """Numbers as text, comma separated, a newline behind each row.

    Args:
        rows: int32 of shape (rows, width), neither of them 0, for which `have_words`.

    Returns:
        uint8, as many as the text has bytes.
    """
    flat = rows.reshape(-1)
    words, lengths = _table(int(flat.max()).bit_length())
    begins = np.zeros(len(flat) + 1, np.int64)
    np.cumsum(lengths[flat], out=begins[1:])
    text = np.empty(int(begins[-1]) + 7, np.uint8)
    at_each_byte: Words = np.ndarray(len(text) - 7, np.uint64, text, strides=(1,))
    at_each_byte[begins[:-1]] = words[flat]  # in this order: numpy assigns one after the other
    text[begins[rows.shape[1] :: rows.shape[1]] - 1] = ord("\n")
    return text[:-7]


@lru_cache
def _table(bits: int) -> tuple[Words, UInt8]:
    """For every number of so many bits, and -1: its text as a word, and the length of that."""
    numbers = np.append(np.arange(1 << max(bits, 1)), _SMALLEST)
    texts = np.strings.add(numbers.astype("S7"), b",").astype("S8")
    return texts.view(np.uint64), np.strings.str_len(texts).astype(np.uint8)
