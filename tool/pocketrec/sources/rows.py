"""From a log's own columns to session, item and time: one set of rules for csv, JSON lines and Parquet.

A row is wanted if `--where` keeps it, and a click if its session, item and time (and rating) can be read. The columns come
as a frame, text or typed: all of csv is text, and so are JSON's values here; Parquet has dtypes of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import reduce
from operator import and_
from typing import Any

import polars as pl

from pocketrec.errors import LogError, SettingsError
from pocketrec.schema import ITEM, KEPT, MS, RATING, SESSION, TIME
from pocketrec.sources import timestamps
from pocketrec.sources.lines import Clicks, is_utf8
from pocketrec.sources.options import USAGE, Columns, ReadSettings, parse_where
from pocketrec.sources.timestamps import Clock, from_wall_clock

UNFIT = "[\t\n\r]"
"""What an id cannot have, since these separate the fields and lines of the txt files."""
BLANKS = " \t"
_FLOAT = r"^([0-9]+)\.0+$"
_MISSING = r"^(?i:null|nan|none|na|n/a|#n/a|nat|<na>|\\n)$"
"""What programs write where there is no value: pandas, R, SQL, spreadsheets."""
_SCIENTIFIC = r"^[0-9](?:\.[0-9]+)?[eE]\+?[0-9]+$"
_ODD = f"{UNFIT}|^$|^ | $|{_FLOAT}|{_SCIENTIFIC}|{_MISSING}"
"""What an id has that is not one as it stands, or of which there is something to say."""
FLOATS = "ids such as 12.0 were read as 12: a program had made numbers with a fraction of them"
SCIENTIFIC = "ids such as 1.5159e+18 have lost digits: a spreadsheet was there; ids that differed may be one id now"
_NAMES_SHOWN, VALUES_SHOWN = 20, 12


def parts_of(own: str, known: Collection[str]) -> tuple[str, ...]:
    """The columns that a name stands for: itself, or where no column is called so, the two or more between its + signs."""
    return (own,) if own in known or not all(own.split("+")) else tuple(own.split("+"))


def missing_columns(name: str, columns: Sequence[str], found: Sequence[str]) -> LogError:
    """The error for a log without some of the columns that it should have, once each."""
    gone = [own for own in dict.fromkeys(columns) if found.count(own) != 1]
    what = " and ".join(repr(own) for own in gone) or "them"
    has = ", ".join(repr(one) for one in found[:_NAMES_SHOWN])
    return LogError(f"{name} has no column, or more than one, called {what}; it has {has}.", expected=USAGE)


class Rows:
    """How the rows of a log are read.

    Attributes:
        own: the log's columns of session, item, time and rating: one, or several that are one key or time together.
        needed: all of its columns that are read, once each.
        remarks: what a user should know of the rows that were read.
        seen: some values of the columns of `--where` in rows that it leaves out, by column.
    """

    def __init__(self, columns: Columns, reading: ReadSettings, known: Collection[str]) -> None:
        """`known` are the names that the log's columns have.

        A SettingsError says so if a time of two columns has no unit.
        """
        self.clock = reading.clock(zulu=True)
        self.own = {name: parts_of(own, known) for name, own in columns.items()}
        self.where = [(column, _forms(values)) for column, values in map(parse_where, reading.where)]
        self.keeps_all = reading.gap_over == "all"
        wanted = [one for own in self.own.values() for one in own] + [column for column, _ in self.where]
        self.needed = list(dict.fromkeys(wanted))
        self.schema = pl.Schema({name: pl.Int64() for name in (SESSION, ITEM, TIME)})
        if RATING in columns:
            self.schema[RATING] = pl.Float32()
        if self.keeps_all:
            self.schema[KEPT] = pl.Boolean()
        self.expected = ", ".join(f"{own} the {name}" for name, own in columns.items())
        self.remarks = set[str]()
        self.seen: dict[str, set[str]] = {column: set() for column, _ in self.where}
        if len(self.own[TIME]) > 2 or (len(self.own[TIME]) == 2 and self.clock.unit == "auto"):
            raise SettingsError(
                f"the time is {columns[TIME]}, a date and the time since then in an unknown unit.",
                expected="time=DATE+TIME, two columns, and the unit of the second",
                do="--time-unit ms, or s, us, ns",
            )

    @classmethod
    def of(cls, name: str, columns: Columns, reading: ReadSettings, known: Sequence[str]) -> Rows:
        """The same for a log of that name. A LogError if it does not have the columns."""
        rows = cls(columns, reading, known)
        if any(own not in known for own in rows.needed):
            raise missing_columns(name, rows.needed, known)
        return rows

    def clicks(self, given: pl.DataFrame) -> Clicks | None:
        """The clicks of some rows; None where one is not a click."""
        wanted, left_out = self.wanted(given)
        clicks = self.read(wanted)
        return None if self.bad(clicks).any() else Clicks(clicks, left_out=left_out)

    def judged(self, given: pl.DataFrame, places: pl.Series) -> list[tuple[int, str]]:
        """The rows that are not clicks: where they are, and why. `places` are those of the rows."""
        wanted, _ = self.wanted(given.with_columns(places.alias("")))
        clicks = self.read(wanted)
        bad = self.bad(clicks).arg_true().to_list()
        return [(wanted[""][row], self.why(wanted.row(row, named=True), clicks.row(row, named=True))) for row in bad]

    def wanted(self, given: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """The rows that `--where` keeps, and how many it leaves out.

        With `--gap-over all` those that it leaves out are there, too, and the column `KEPT` says which.
        """
        if not self.where:
            return given, 0
        kept = reduce(and_, (_is_one_of(_as_text(given[column]), values) for column, values in self.where))
        left = len(kept) - int(kept.sum())
        if left and any(len(some) < VALUES_SHOWN for some in self.seen.values()):
            head = given.filter(~kept).head(1000)
            for column, some in self.seen.items():
                some.update(str(one) for one in head[column].unique().drop_nulls().head(VALUES_SHOWN))
        return (given.with_columns(kept.alias(KEPT)) if self.keeps_all else given.filter(kept)), left

    def read(self, given: pl.DataFrame) -> pl.DataFrame:
        """Session, item, time (rating, `KEPT`) of each row; null where a value cannot be read.

        Ids are Int64 where all of these rows have whole numbers from 0 to 2^63-1 in their usual form, else text.
        """
        columns = [
            self.ids(given, SESSION).alias(SESSION),
            self.ids(given, ITEM).alias(ITEM),
            self._times(given).alias(TIME),
        ]
        if RATING in self.own:
            numbers = given[self.own[RATING][0]].cast(pl.Float32, strict=False)
            columns.append(numbers.set(numbers.is_finite().not_(), None).alias(RATING))
        if KEPT in given.columns:
            columns.append(given[KEPT])
        return pl.DataFrame(columns)

    def bad(self, clicks: pl.DataFrame) -> pl.Series:
        """Which rows are not clicks. One that is left out, but counts for the gap, needs a session and a time only."""
        must = [pl.any_horizontal(pl.col(name).is_null() for name in self.own)]
        if KEPT in clicks.columns:
            must = [pl.when(KEPT).then(must[0]).otherwise(pl.any_horizontal(pl.col(SESSION, TIME).is_null()))]
        return clicks.select(must).to_series()

    def why(self, given: dict[str, Any], click: dict[str, Any]) -> str:
        """Why a row is not a click, in a few words: its own columns, and the same row as it was read."""
        name = next(name for name in self.own if click[name] is None and (click.get(KEPT, True) or name != ITEM))
        values = [given[own] for own in self.own[name]]
        if any(isinstance(value, bytes) and not is_utf8(value) for value in values):
            return f"bytes that are not UTF-8 in the {name}"
        texts = ["" if value is None else str(value) for value in values]
        shown = "+".join(texts)
        if name == RATING:
            return "the rating is missing or not a number"
        if name == TIME:
            if not any(text.strip(BLANKS) for text in texts):
                return "the time is missing"
            return self.clock.why_not(shown) if len(texts) == 1 else f"the time is not a date and a number: {shown}"
        for value, text in zip(values, texts, strict=True):
            plain = text.strip(BLANKS)
            if not plain:
                return f"the {name} is empty"
            if re.fullmatch(_MISSING[1:-1], plain):
                return f"the {name} is missing: {plain}"
            if isinstance(value, float):
                return f"the {name} is a fraction, or too large to be exact: {plain}"
        return f"the {name} has a tab or a line end in it"

    def ids(self, given: pl.DataFrame, name: str) -> pl.Series:
        """The session or the item of each row, as in `read`."""
        own = self.own[name]
        if len(own) == 1:
            return self._fit(given[own[0]])
        parts = [self._fit(given[one]).cast(pl.String) for one in own]
        frame = pl.DataFrame({str(place): part for place, part in enumerate(parts)})
        # A backslash before each + and each backslash of a part, so that two keys are never one text.
        escaped = [pl.col(one).str.replace_all("\\", "\\\\", literal=True).str.replace_all("+", "\\+", literal=True)
                   for one in frame.columns]  # fmt: skip
        return frame.select(pl.concat_str(escaped, separator="+")).to_series()

    def _fit(self, ids: pl.Series) -> pl.Series:
        """Ids as Int64 if all are whole numbers, else as text; null where one cannot be used or says that there is none."""
        dtype = ids.dtype
        if dtype.is_float():
            exact = 2.0 ** (24 if dtype == pl.Float32 else 53)
            whole = ids.is_finite() & (ids == ids.floor()) & (ids >= 0) & (ids < exact)
            return ids.set(whole.not_(), None).cast(pl.Int64)
        if dtype.is_integer():
            inside = dtype != pl.Int128 and (dtype.is_unsigned_integer() or (ids.min() or 0) >= 0)  # type: ignore[operator]
            if inside and (dtype not in (pl.UInt64,) or (ids.max() or 0) < 2**63):  # type: ignore[operator]
                return ids.cast(pl.Int64)
        text = _as_text(ids)
        numbers = whole_numbers(text)
        if numbers is not None:
            return numbers
        if not text.null_count() and not text.str.contains(_ODD).any():
            return text
        fitted = pl.DataFrame({"id": text}).select(fit_ids(pl.col("id"))).to_series()
        self.remarks |= remarks_on(text)
        numbers = whole_numbers(fitted)
        return fitted if numbers is None else numbers

    def _times(self, given: pl.DataFrame) -> pl.Series:
        own = self.own[TIME]
        if len(own) == 1:
            return times_of_any(given[own[0]], self.clock)
        days = times_of_any(given[own[0]], Clock(self.clock.timezone))
        since = _as_text(given[own[1]]).str.strip_chars(BLANKS).cast(pl.Float64, strict=False)
        since = since.set((since.is_finite() & (since >= 0) & (since < 2.0**53)).not_(), None)
        per_second = timestamps.PER_SECOND[self.clock.unit]
        return days + (since * MS / per_second).floor().cast(pl.Int64)


def whole_numbers(ids: pl.Series) -> pl.Series | None:
    """Text ids as Int64 if every one is a whole number from 0 to 2^63-1 in its usual form, so that no two are the same."""
    numbers = ids.cast(pl.Int64, strict=False)
    if numbers.null_count() > ids.null_count():
        return None
    least, most = numbers.min(), numbers.max()
    if least is None or most is None:
        return numbers
    if int(least) < 0:  # type: ignore[arg-type]
        return None
    # A sign or a leading zero makes a text longer than its number is: the sums are equal where there is none.
    digits = len(numbers) - numbers.null_count()
    digits += sum(int((numbers >= 10**power).sum()) for power in range(1, len(str(most))))
    return numbers if int(ids.str.len_bytes().sum()) == digits else None


def fit_ids(ids: pl.Expr) -> pl.Expr:
    """Text ids without blanks around them, 12 for 12.0; null where one cannot be used or says that there is none."""
    text = ids.str.strip_chars(BLANKS)
    fit = (text.str.len_bytes() > 0) & ~text.str.contains(UNFIT) & ~text.str.contains(_MISSING)
    return pl.when(fit).then(text.str.replace(_FLOAT, "$1"))


def remarks_on(ids: pl.Series) -> set[str]:
    """What a user should know of some text ids as they came in."""
    return {remark for remark, form in ((FLOATS, _FLOAT), (SCIENTIFIC, _SCIENTIFIC)) if ids.str.contains(form).any()}


def _is_one_of(texts: pl.Series, values: Sequence[str]) -> pl.Series:
    """Whether each text is one of some values, blanks around it left out; null is none of them."""
    found = texts.is_in(values).fill_null(False)
    others = texts.filter(~found).str.strip_chars(BLANKS).is_in(values)  # most logs have no blanks there
    return texts.str.strip_chars(BLANKS).is_in(values).fill_null(False) if others.any() else found


def _forms(values: Sequence[str]) -> list[str]:
    """The texts of some values: a program may have made 1.0 of 1."""
    return [*values, *(f"{value}.0" for value in values if value.isdecimal())]


def times_of_any(given: pl.Series, clock: Clock) -> pl.Series:
    """Times of any dtype as Int64 milliseconds since the epoch; null for what is none."""
    dtype = given.dtype
    if isinstance(dtype, pl.Datetime | pl.Date):
        ms = given.cast(pl.Datetime("us", getattr(dtype, "time_zone", None))).dt.epoch("ms")
        if getattr(dtype, "time_zone", None) is None and clock.timezone != "UTC":
            return pl.select(from_wall_clock(pl.lit(ms), clock.timezone)).to_series()
        return ms
    if dtype.is_float() or dtype.is_decimal():
        numbers = given.cast(pl.Float64)  # before any product: float32 has 7 digits
        numbers = numbers.set(numbers.is_finite().not_() | (numbers < 0) | (numbers >= 2.0**63), None)
        whole = numbers.floor().cast(pl.Int64)
        rest = ((numbers - numbers.floor()) * MS).round().cast(pl.Int64)
        return pl.select(timestamps.epochs(pl.lit(whole), clock.unit, pl.lit(rest))).to_series()
    if dtype.is_integer() and not clock.form and dtype not in (pl.UInt64, pl.Int128):
        return timestamps.times_of_numbers(given.cast(pl.Int64), clock)
    return timestamps.times_of(_as_text(given), clock)


def _as_text(values: pl.Series) -> pl.Series:
    """Values as text; null for bytes that are not UTF-8 (Impala and old Hive write text as bytes without saying more)."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:
        texts = (value.decode() if value is not None and is_utf8(value) else None for value in values)
        return pl.Series(values.name, texts, dtype=pl.String)
