"""`2014-04-07T10:51:09.277Z` to milliseconds since the epoch, for tens of millions of rows, inside the Polars engine.

A general parser spends about 200 ns a row on a text that always has the same 24 bytes. Here the text is read as three
64-bit words and all digits of a word are checked and combined at once (SIMD within a register); only the date, of which
a log has a few hundred different ones, goes through Polars' own parser, which remembers the values it has seen.
"""

from __future__ import annotations

import polars as pl

TEMPLATE = b"0000-00-00T00:00:00.000Z"
"""Digits stand where the text must have digits; every other byte must match."""

DAY_MS = 86_400_000


def epoch_ms(text: pl.Expr, timezone: str = "UTC") -> pl.Expr:
    """Milliseconds since the epoch (Int64), null where the text is not a valid timestamp.

    Args:
        text: a String column in the form of `TEMPLATE`.
        timezone: IANA name of the zone the wall clock was in. The format's final `Z` says UTC; the original GRU4Rec
            preparation ignored it and took the local zone of the machine, which this reproduces.
    """
    raw = text.cast(pl.Binary)
    words = [_digits(raw.bin.slice(offset, 8), TEMPLATE[offset : offset + 8]) for offset in (0, 8, 16)]
    (date_ok, _), (hour_ok, hm), (second_ok, s_ms) = [(ok, _pairs(digits)) for ok, digits in words]
    hour, minute, second = _byte(hm, 3), _byte(hm, 6), _byte(s_ms, 1)
    milli = _byte(s_ms, 4) * 10 + _byte(words[2][1], 6)
    day = text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
    valid = date_ok & hour_ok & second_ok & (hour < 24) & (minute < 60) & (second < 60)
    clock = ((hour * 60 + minute) * 60 + second) * 1000 + milli
    wall = pl.when(valid & (text.str.len_bytes() == len(TEMPLATE))).then(day * DAY_MS + clock)
    return wall if timezone == "UTC" else _from_wall_clock(wall, timezone)


def _digits(word: pl.Expr, template: bytes) -> tuple[pl.Expr, pl.Expr]:
    """Whether 8 bytes match the template, and the value 0-9 of each digit in its own byte of a UInt64."""
    pattern, carry, forbidden = 0, 0, 0
    for position, byte in enumerate(template):
        is_digit = byte == ord("0")
        pattern |= byte << 8 * position
        carry |= (0x06 if is_digit else 0x00) << 8 * position  # 10-15 + 6 reaches the high half of the byte
        forbidden |= (0xF0 if is_digit else 0xFF) << 8 * position
    digits = word.bin.reinterpret(dtype=pl.UInt64, endianness="little") ^ _u64(pattern)
    return ((digits | (digits + _u64(carry))) & _u64(forbidden)) == 0, digits


def _pairs(digits: pl.Expr) -> pl.Expr:
    """In each byte: that digit times ten plus the next one. At most 99, so nothing carries."""
    return digits * _u64(10) + digits // _u64(256)


def _byte(word: pl.Expr, position: int) -> pl.Expr:
    return ((word // _u64(1 << 8 * position)) & _u64(0xFF)).cast(pl.Int64)


def _u64(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)


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
