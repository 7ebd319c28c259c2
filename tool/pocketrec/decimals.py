"""Many small whole numbers as text, each with a comma behind it: looked up, not computed.

Item codes are a few ten thousand numbers that come again millions of times. Their texts are kept as 64-bit words, and a
word is written where each number's text begins: all eight bytes of it, and what is too much the next one overwrites. That
is three times as fast as a writer of integers, which divides.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pocketrec.schema import Int32, UInt8

Words = npt.NDArray[np.uint64]

LARGEST = (1 << 20) - 1
"""The largest number that has a word; a table has 9 bytes a number."""
_SMALLEST = -1
"""An idle lane's target; the last row of a table, which is where numpy finds the index -1."""


def have_words(lowest: int, highest: int) -> bool:
    """Whether `encode` can write all numbers from one to another."""
    return lowest >= _SMALLEST and highest <= LARGEST


def encode(rows: Int32) -> UInt8:
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
