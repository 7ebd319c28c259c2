"""Any click log of named columns: csv, tsv and the like, with a header, whatever it has besides session, item and time.

Without a header columns are named by their places, from 1. The separator is the one by which the header has all the names
asked for, or the first line most fields: comma, tab, semicolon or bar. A field may be quoted as in RFC 4180, but not have a
line feed inside its quotes. Every line must have as many fields as the header. Ids are text here; whether those of a column
are whole numbers is known when all were seen (`is_whole`). A time may have any form that `times_of` reads.
"""

from __future__ import annotations

import csv
import re

import polars as pl

from pocketrec.errors import LogError
from pocketrec.schema import ITEM, RATING, SESSION, TIME
from pocketrec.sources import timestamps
from pocketrec.sources.lines import BOM, NONE_PLAIN, NOT_READ, count_lines
from pocketrec.sources.options import USAGE, Columns
from pocketrec.sources.timestamps import Clock

UNFIT = "[\t\n\r]"
"""What an id cannot have, since these separate the fields and lines of the txt files."""
_ODD_STARTS = (BOM, b"x\x01")
"""What Polars would drop, or unpack, at the start of a block: a byte-order mark, zlib. (Other archives are not UTF-8.)"""
MOST_COLUMNS = 4096
"""Polars takes 8 kB for each column of a block."""
_SEPARATORS = (",", "\t", ";", "|")
_WHOLE = "^(?:0|[1-9][0-9]{0,18})$"
_BLANKS = " \t"
_FLOAT = r"^([0-9]+)\.0+$"
MISSING = r"^(?i:null|nan|none|na|n/a|#n/a|nat|<na>|\\n)$"
"""What programs write where there is no value: pandas, R, SQL, spreadsheets."""
_SCIENTIFIC = r"^[0-9](?:\.[0-9]+)?[eE]\+?[0-9]+$"
FLOATS = "ids such as 12.0 were read as 12: a program had made numbers with a fraction of them"
SCIENTIFIC = "ids such as 1.5159e+18 have lost digits: a spreadsheet was there; ids that differed may be one id now"


def missing_columns(name: str, columns: Columns, found: list[str]) -> LogError:
    """The error for a log without some of the columns."""
    gone = [own for own in dict.fromkeys(columns.values()) if found.count(own) != 1]
    what = " and ".join(repr(own) for own in gone) or "them"
    has = ", ".join(repr(one) for one in found[:20])
    return LogError(f"{name} has no column, or more than one, called {what}; it has {has}.", expected=USAGE)


def is_whole(ids: pl.Series) -> bool:
    """Whether every id is a whole number from 0 to 2^63-1 in its usual form, so that no two ids are the same number."""
    return bool(ids.str.contains(_WHOLE).all()) and not ids.cast(pl.Int64, strict=False).null_count()


def fit_ratings(ratings: pl.Series) -> pl.Series:
    """Ratings as float32; null where one is not a finite number."""
    numbers = ratings.cast(pl.Float32, strict=False)
    return numbers.set(numbers.is_finite().not_(), None)


def fit_ids(ids: pl.Expr) -> pl.Expr:
    """Text ids without blanks around them, 12 for 12.0; null where one cannot be used or says that there is none."""
    text = ids.str.strip_chars(_BLANKS)
    fit = (text.str.len_bytes() > 0) & ~text.str.contains(UNFIT) & ~text.str.contains(MISSING)
    return pl.when(fit).then(text.str.replace(_FLOAT, "$1"))


def remarks_on(ids: pl.DataFrame) -> set[str]:
    """What a user should know of some text ids as they came in."""
    forms = {FLOATS: _FLOAT, SCIENTIFIC: _SCIENTIFIC}
    return {remark for remark, form in forms.items() if any(one.str.contains(form).any() for one in ids)}


class Lines:
    """The lines of a log of named columns."""

    plain, blank_end = NONE_PLAIN, True

    def __init__(self, header: list[str], separator: str, columns: Columns, clock: Clock) -> None:
        self.fields, self.separator, self.clock = len(header), separator, clock
        self.remarks = set[str]()
        self.schema = pl.Schema({SESSION: pl.String(), ITEM: pl.String(), TIME: pl.Int64()})
        if RATING in columns:
            self.schema[RATING] = pl.Float32()
        self.places = {name: header.index(columns[name]) for name in self.schema}
        self.expected = f"{self.fields} fields, {', '.join(f'{columns[name]} the {name}' for name in self.schema)}"
        self._columns = pl.Schema({str(place): pl.String() for place in range(self.fields)})
        apart = re.escape(separator)
        field = rf'(?:[^"{apart}\n]*+|"(?:[^"\n]|"")*+")'
        line = rf"{field}(?:{apart}{field}){{{self.fields - 1}}}"
        self._line, self._lines = re.compile(line.encode()), re.compile(rf"(?:{line}\n)*+(?:{line})?".encode())

    @classmethod
    def of(cls, head: bytes, name: str, columns: Columns, clock: Clock) -> tuple[Lines, bool]:
        """The form of a log by its first line, and whether that is a header. A LogError if it does not have the columns."""
        line = head.split(b"\n", 1)[0].removesuffix(b"\r").decode("utf-8", "replace")
        headers = {separator: _fields(line, separator) for separator in _SEPARATORS}
        for separator, header in headers.items():
            if len(header) > MOST_COLUMNS:
                raise LogError(
                    f"{name} has a header of {len(header):,} columns.",
                    expected=f"at most {MOST_COLUMNS:,}, three of which are needed",
                    do="write a file of the columns of session, item and time, and give that",
                )
            if all(header.count(own) == 1 for own in columns.values()):
                return cls(header, separator, columns, clock), True
        separator, fields = max(headers.items(), key=lambda one: len(one[1]))
        if all(re.fullmatch("[1-9][0-9]{0,3}", own) and int(own) <= len(fields) for own in columns.values()):
            return cls([str(place + 1) for place in range(len(fields))], separator, columns, clock), False
        raise missing_columns(name, columns, fields)

    def parse(self, text: bytes) -> pl.DataFrame | None:
        """Clicks of some lines: session and item as text, time. None where a line is not a click."""
        text = text.replace(b"\r\n", b"\n").removesuffix(b"\r")
        odd = (b"\r", b"\x00", *(b"\n" + start for start in _ODD_STARTS))
        if any(one in text for one in odd) or text.startswith(_ODD_STARTS) or not _is_utf8(text):
            return None
        if b'"' in text:
            if not self._lines.fullmatch(text):
                return None
        elif text.count(self.separator.encode()) != count_lines(text) * (self.fields - 1):
            return None
        try:  # it stops at a line with too many fields, so none has too few
            text = text if text.endswith(b"\n") else text + b"\n"  # Polars overlooks a separator at the very end
            frame = pl.read_csv(text, has_header=False, schema=self._columns, separator=self.separator, quote_char='"')
        except NOT_READ:
            return None
        given = frame.select(pl.col(str(place)).alias(name) for name, place in self.places.items())
        read = [self._read(name, given[name]).alias(name) for name in self.schema if name not in (SESSION, ITEM)]
        clicks = given.with_columns(fit_ids(pl.col(SESSION, ITEM)), *read)
        if b".0" in text or b"e+" in text.lower():
            self.remarks |= remarks_on(given.select(SESSION, ITEM))
        whole = len(clicks) == count_lines(text) and not sum(clicks.null_count().row(0))
        return clicks if whole else None

    def _read(self, name: str, texts: pl.Series) -> pl.Series:
        """Ratings or times; null where a text is not one."""
        return fit_ratings(texts) if name == RATING else timestamps.times_of(texts, self.clock)

    def judge(self, lines: list[bytes]) -> list[str]:
        """Why each line is not a click."""
        whole = [line.removesuffix(b"\r") for line in lines]
        reasons = [self._what_is_wrong(line) for line in whole]
        fields = {row: _fields(whole[row].decode(), self.separator) for row, reason in enumerate(reasons) if not reason}
        for name in (name for name in (RATING, TIME) if name in self.places):
            texts = pl.Series([found[self.places[name]] for found in fields.values()], dtype=pl.String)
            unread = self._read(name, texts).is_null()
            for row, text in [(row, text) for row, text, bad in zip(fields, texts, unread, strict=True) if bad]:
                reasons[row] = self.clock.why_not(text) if name == TIME else "the rating is not a number"
                del fields[row]
        return reasons

    def _what_is_wrong(self, line: bytes) -> str:
        """Why a line is not a click, apart from its time and rating; "" if it may be one."""
        if not line:
            return "a blank line"
        if b"\x00" in line:
            return "a NUL byte"
        if b"\r" in line:
            return "a carriage return inside the line"
        if line.startswith(_ODD_STARTS):
            return "a byte-order mark, or bytes as an archive has, at its beginning"
        if not _is_utf8(line):
            return "bytes that are not UTF-8"
        if not self._line.fullmatch(line):
            found = len(_fields(line.decode(), self.separator))
            if b'"' in line and found == self.fields:
                return "quotes inside a field"
            return f"{found} field{'s' * (found != 1)} instead of {self.fields}"
        fields = _fields(line.decode(), self.separator)
        for name in (SESSION, ITEM):
            own = fields[self.places[name]].strip(_BLANKS)
            if not own:
                return f"the {name} is empty"
            if re.fullmatch(MISSING[1:-1], own):
                return f"the {name} is missing: {own}"
            if "\t" in own:
                return f"the {name} has a tab in it"
        return ""


def _is_utf8(text: bytes) -> bool:
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False


def _fields(line: str, separator: str) -> list[str]:
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # a field of more than 128 kB
        return line.split(separator)
