"""`2014-04-07T10:51:09.277Z` to milliseconds since the epoch, for tens of millions of rows, inside the Polars engine.

A general parser spends 150 ns a row and more on a text that always has the same 24 bytes. Here the text is read as three
64-bit words; all digits of a word are checked and paired at once (SIMD within a register), and the month is looked up in
a table: about 50 ns a row.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pocketrec import engine
from pocketrec.schema import Bool, Int64, UInt64

TEMPLATE = b"0000-00-00T00:00:00.000Z"
"""Digits stand where the text must have digits; every other byte must match."""
_HIGHEST = b"9999-19-39T29:59:59.999Z"
"""The largest digit at each place; what that lets through (month 19, 29 o'clock) is refused afterwards."""

DAY_MS = 86_400_000
_ROWS_A_STEP = 1 << 13
"""So that a step's temporary arrays stay in the cache, and small enough for malloc to hand them out again."""
_NOT_A_TIME = pl.Series([bytes(len(TEMPLATE))])


def epoch_ms(text: pl.Expr, timezone: str = "UTC") -> pl.Expr:
    """Milliseconds since the epoch (Int64), null where the text is not a valid timestamp of the years 1 to 9999.

    Args:
        text: a String column in the form of `TEMPLATE`.
        timezone: IANA name of the zone the wall clock was in. The format's final `Z` says UTC; the original GRU4Rec
            preparation ignored it and took the local zone of the machine, which this reproduces. Summer time is not
            known to Polars after 2099.
    """
    wall = engine.elementwise(text, _parse, pl.Int64)
    return wall if timezone == "UTC" else _from_wall_clock(wall, timezone)


def _parse(text: pl.Series) -> pl.Series:
    """Milliseconds of a chunk of texts."""
    words = _words(text.cast(pl.Binary))
    ms, valid = np.empty(len(words), np.int64), np.empty(len(words), bool)
    for start in range(0, len(words), _ROWS_A_STEP):
        some = slice(start, start + _ROWS_A_STEP)
        ms[some], valid[some] = _milliseconds(words[some])
    column = pl.Series(ms)
    return column if valid.all() else pl.select(pl.when(pl.Series(valid)).then(column)).to_series()


def _words(text: pl.Series) -> UInt64:
    """Shape (rows, 3): the bytes of each text; zeros where it has not the length of the template."""
    whole = pl.Array(pl.UInt64, 3)
    words = text.bin.reinterpret(dtype=whole, endianness="little")
    if words.null_count():
        words = text.zip_with(words.is_not_null(), _NOT_A_TIME).bin.reinterpret(dtype=whole, endianness="little")
    return words.to_numpy().reshape(-1, 3)


def _milliseconds(words: UInt64) -> tuple[Int64, Bool]:
    """The times, and which of them are valid."""
    (year_month, day_hour_minute, second_ms), wrong = _digits(words)
    pairs = _pairs(year_month)
    month = (_byte(pairs, 0) * 100 + _byte(pairs, 2)) * _MONTHS_A_YEAR + _byte(pairs, 5)
    month[wrong] = 0
    pairs = _pairs(day_hour_minute)
    day, hour, minute = _byte(pairs, 0), _byte(pairs, 3), _byte(pairs, 6)
    second, milli = _byte(_pairs(second_ms), 1), _byte(_pairs(second_ms), 4) * 10 + _byte(second_ms, 6)
    valid = (day > 0) & (day <= _DAYS[month]) & (hour < 24)
    ms = (((_FIRST_DAY[month] + day - 1) * 24 + hour) * 60 + minute) * 60 + second
    return ms * 1000 + milli, valid


def _digits(words: UInt64) -> tuple[list[UInt64], Bool]:
    """For each of the three words, the value of each digit in its own byte; and the rows that do not fit the template."""
    digits, wrong = [], np.zeros(len(words), np.uint64)
    for word, (pattern, carry, forbidden) in zip(words.T, _CHECKS, strict=True):
        values = word ^ pattern
        wrong |= (values | (values + carry)) & forbidden
        digits.append(values)
    return digits, wrong != 0


def _checks(offset: int) -> UInt64:
    """For 8 bytes of the template: its zeros, what takes a digit that is too large to 16, and the bits that must be 0."""
    zeros, highest = TEMPLATE[offset : offset + 8], _HIGHEST[offset : offset + 8]
    carry = bytes(0x0F + zero - high if zero == ord("0") else 0 for zero, high in zip(zeros, highest, strict=True))
    forbidden = bytes(0xF0 if zero == ord("0") else 0xFF for zero in zeros)
    return np.frombuffer(zeros + carry + forbidden, "<u8")


def _pairs(digits: UInt64) -> UInt64:
    """In each byte: that digit times ten plus the next one. At most 99, so nothing carries."""
    return digits * 10 + (digits >> 8)


def _byte(word: UInt64, position: int) -> Int64:
    return ((word >> (8 * position)) & 0xFF).view(np.int64)


def _months() -> tuple[Int64, Int64]:
    """For year * _MONTHS_A_YEAR + month: days from the epoch to its first, and how many it has (0: no such month)."""
    months = np.arange("0001-01", "10000-01", dtype="datetime64[M]").reshape(-1, 12)
    starts = months.astype("datetime64[D]").astype(np.int64)
    first, days = np.zeros((2, 10_000, _MONTHS_A_YEAR), np.int64)
    first[1:, 1:13] = starts
    days[1:, 1:13] = (months + 1).astype("datetime64[D]").astype(np.int64) - starts
    return first.reshape(-1), days.reshape(-1)


_CHECKS = [_checks(offset) for offset in (0, 8, 16)]
_MONTHS_A_YEAR = 20
"""Places in the table; two digits whose first is 0 or 1."""
_FIRST_DAY, _DAYS = _months()


def _from_wall_clock(wall: pl.Expr, timezone: str) -> pl.Expr:
    """Epoch of a wall clock time as Python's `datetime.timestamp()` counts it.

    A time that happens twice is its first occurrence; one that the clock skipped is counted with the offset in force
    before the gap (PEP 495, fold=0), which the time 25 hours earlier still has: zones have skipped up to a whole day.
    """

    def localised(ms: pl.Expr) -> pl.Expr:
        moment = pl.from_epoch(ms, time_unit="ms").dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
        return moment.dt.epoch("ms")

    before = DAY_MS + 3_600_000
    return pl.coalesce(localised(wall), localised(wall - before) + before)
