"""The forms of a timestamp besides the original's, to milliseconds since the epoch; a column at a time.

- `2014-04-07T10:51:09Z`, the calendar form with T or a blank, without a fraction or with one of 1 to 9 digits, which are
  cut to milliseconds. With an offset (`+02:00`, `+0200`, `-05`) it is that moment; without one, or with Z, it is the wall
  clock of the log's zone, as in the original's form.
- `1396867869` or `1396867869.277`, seconds since the epoch, below 10^11 (the year 5138); `1396867869277`, 10^11 or more,
  milliseconds since the epoch, up to the year 9999. They are moments: the log's zone does not matter.

Whatever is in another form is brought into the original's and read by `parse_times`, so that there is one calendar.
"""

from __future__ import annotations

import polars as pl

from pocketrec.schema import MS, TIME
from pocketrec.sources.timestamps import from_wall_clock, parse_times

EXPECTED = "2014-04-07T10:51:09.277Z, with or without fraction and offset, or seconds or milliseconds since the epoch"
FIRST_MILLISECONDS = 10**11
"""A whole number from here on is milliseconds."""
LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""

_TAIL = r"^((?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)$"
_NUMBER = r"^([0-9]{1,15})(?:\.([0-9]{1,9}))?$"


def times_of(texts: pl.Series, timezone: str) -> pl.Series:
    """Timestamps in any form as Int64 milliseconds since the epoch; null where it is none.

    Args:
        texts: String.
        timezone: as for `parse_times`.
    """
    found = parse_times(pl.LazyFrame({TIME: texts}), timezone).collect().to_series()
    left = found.is_null().arg_true()
    if len(left):
        found = found.scatter(left, _other_forms(texts.gather(left), timezone))
    return found


def _other_forms(texts: pl.Series, timezone: str) -> pl.Series:
    text = pl.col("text")
    tail = text.str.slice(19).str.extract_groups(_TAIL)
    number = text.str.extract_groups(_NUMBER)
    canonical = pl.concat_str(
        text.str.slice(0, 10),
        pl.when(text.str.slice(10, 1).is_in(["T", " "])).then(pl.lit("T")),
        text.str.slice(11, 8),
        pl.when(pl.col("tail").struct[0].is_not_null()).then(pl.lit(".")),
        _milliseconds(pl.col("tail").struct[1]),
        pl.lit("Z"),
    )
    frame = pl.LazyFrame({"text": texts}).select(text, tail.alias("tail"), number.alias("number"))
    frame = frame.select(canonical.alias(TIME), pl.col("tail").struct[2].alias("offset"), _epoch().alias("epoch"))
    calendar = pl.when(_is_local()).then(from_wall_clock(pl.col(TIME), timezone)).otherwise(pl.col(TIME) - _offset_ms())
    return parse_times(frame).select(pl.coalesce("epoch", calendar)).collect().to_series()


def _milliseconds(fraction: pl.Expr) -> pl.Expr:
    """The first three digits of a fraction, as text."""
    return (fraction.fill_null("") + "000").str.slice(0, 3)


def _epoch() -> pl.Expr:
    whole, fraction = pl.col("number").struct[0].cast(pl.Int64), pl.col("number").struct[1]
    seconds = whole * MS + _milliseconds(fraction).cast(pl.Int64)
    milliseconds = pl.when(fraction.is_null() & (whole <= LAST_MS)).then(whole)
    return pl.when(whole < FIRST_MILLISECONDS).then(seconds).otherwise(milliseconds)


def _is_local() -> pl.Expr:
    return pl.col("offset").is_null() | (pl.col("offset") == "Z")


def _offset_ms() -> pl.Expr:
    """Null where the offset is a day or more, or has more than 59 minutes."""
    offset = pl.col("offset")
    hours = offset.str.slice(1, 2).cast(pl.Int64, strict=False)
    minutes = offset.str.slice(-2).cast(pl.Int64, strict=False)
    minutes = pl.when(offset.str.len_bytes() > 3).then(minutes).otherwise(0)
    sign = pl.when(offset.str.starts_with("-")).then(-1).otherwise(1)
    return pl.when((hours < 24) & (minutes < 60)).then(sign * (hours * 60 + minutes) * 60 * MS)
