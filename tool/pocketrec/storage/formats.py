"""How blocks of rows become bytes: npy and txt."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import polars as pl

from pocketrec.schema import Array, Int32, UInt8, UInt64

LARGEST = (1 << 20) - 1
"""The largest number that is written from a table, which has 9 bytes a number."""
_SMALLEST = -1
"""An idle lane's target; the last row of a table, which is where numpy finds the index -1."""


class Npy:
    """`numpy.save` of an array of shape (rows, width), or (rows,) without a width, byte for byte.

    numpy pads the header so that the number of rows can grow in place; that is what makes writing in pieces possible.
    """

    name = "npy"

    def __init__(self, width: int | None, dtype: str = "int32") -> None:
        self.width, self.dtype = width, dtype
        self._stored = np.dtype(dtype).newbyteorder("<")

    def header(self, rows: int) -> bytes:
        """What comes before the rows of a file: the npy header of version 1.0. Its length does not depend on `rows`."""
        buffer = io.BytesIO()
        description = {"descr": self._stored.str, "fortran_order": False, "shape": self.shape(rows)}
        np.lib.format.write_array_header_1_0(buffer, description)
        return buffer.getvalue()

    def encode(self, block: Array) -> bytes | memoryview:
        """The bytes of some rows, little endian, C order."""
        if not block.size:
            return b""
        return np.ascontiguousarray(block, dtype=self._stored).data.cast("B")

    def shape(self, rows: int) -> tuple[int, ...]:
        """Shape of what a file of so many rows holds: (rows, width) or (rows,)."""
        return (rows,) if self.width is None else (rows, self.width)


class Txt:
    """Whole numbers as text: `%d`, comma separated, a newline at the end of each row. Its methods are those of `Npy`."""

    name, dtype = "txt", "int32"

    def __init__(self, width: int) -> None:
        self.width = width

    def header(self, rows: int) -> bytes:  # noqa: ARG002
        """Empty: a txt file has no header."""
        return b""

    def encode(self, block: Int32) -> bytes | memoryview:
        """The block as text: from tables where its numbers are small, else by Polars' CSV writer."""
        if not block.size:
            return b""
        lowest, highest = int(block.min()), int(block.max())
        if lowest >= 0 and highest <= 9:
            return self._encode_digits(block)
        if lowest >= _SMALLEST and highest <= LARGEST:
            return _encode_words(block, highest).data
        return self._encode_any(block)

    def shape(self, rows: int) -> tuple[int, ...]:
        """(rows, width)."""
        return rows, self.width

    def _encode_any(self, block: Int32) -> memoryview:
        """By Polars: one number a line, with a comma for the line end; then every width-th comma becomes a newline."""
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


def _encode_words(rows: Int32, highest: int) -> UInt8:
    """Numbers from `_SMALLEST` to `highest`, int32 (rows, width), as text: uint8, as many as the text has bytes.

    The text of each number is looked up as a word of 8 bytes; each word is written over the unused end of the one before.
    """
    flat = rows.reshape(-1)
    words, lengths = _table(highest.bit_length())
    begins = np.zeros(len(flat) + 1, np.int64)
    np.cumsum(lengths[flat], out=begins[1:])
    text = np.empty(int(begins[-1]) + 7, np.uint8)
    at_each_byte: UInt64 = np.ndarray(len(text) - 7, np.uint64, text, strides=(1,))
    at_each_byte[begins[:-1]] = words[flat]  # in this order: numpy assigns one after the other
    text[begins[rows.shape[1] :: rows.shape[1]] - 1] = ord("\n")
    return text[:-7]


@lru_cache
def _table(bits: int) -> tuple[UInt64, UInt8]:
    """For every number of so many bits, and -1: its text and a comma as a word, and the length of that."""
    numbers = np.append(np.arange(1 << max(bits, 1)), _SMALLEST)
    texts = np.strings.add(numbers.astype("S7"), b",").astype("S8")
    return texts.view(np.uint64), np.strings.str_len(texts).astype(np.uint8)
