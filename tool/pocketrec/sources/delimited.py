"""Any click log of named columns: csv, tsv and the like, with a header, whatever it has besides session, item and time.

Without a header columns are named by their places, from 1. The separator is the one by which the first line has all the
names asked for, or else most fields. A field may be quoted as in RFC 4180, but not have a line feed inside its quotes.
Every line must have as many fields as the first. A byte that is not UTF-8 in a column that is not read does no harm.
"""

from __future__ import annotations

import csv
import re

import numpy as np
import polars as pl

from pocketrec.errors import LogError
from pocketrec.sources.lines import BOM, NONE_PLAIN, NOT_READ, Clicks, count, count_lines, is_utf8
from pocketrec.sources.options import SEPARATORS, Columns, ReadSettings
from pocketrec.sources.rows import Rows, missing_columns

_ODD_STARTS = (BOM, b"x\x01")
"""What Polars would drop, or unpack, at the start of a block: a byte-order mark, zlib. (Other archives are not UTF-8.)"""
MOST_COLUMNS = 4096
"""Polars takes 8 kB for each column of a block."""
FOUND = (",", "\t", ";", "|", "\x01", "::")
"""Separators that are found without being named."""
COLONS, ANY_BLANKS = "::", SEPARATORS["blanks"]
_ONE = "\x1f"
"""The byte that stands for a separator of several."""
_BLANKS = re.compile(rb"(?m)^[ \t]+|[ \t]+$|([ \t]+)")
_UNUSED = range(0xF0000, 0xFFFFE)
"""Code points that no text should have; a block of lines cannot have them all."""


class Lines:
    """The lines of a log of named columns."""

    plain, blank_end, counts_rows = NONE_PLAIN, True, False

    def __init__(self, header: list[str], separator: str, columns: Columns, reading: ReadSettings) -> None:
        self.fields, self.separator = len(header), separator
        self.quoted = reading.quote == "double"
        self.rows = Rows(columns, reading, header)
        self.remarks, self.schema, self.seen = self.rows.remarks, self.rows.schema, self.rows.seen
        self.places = {own: header.index(own) for own in self.rows.needed}
        self.expected = f"{self.fields} fields, {self.rows.expected}"
        self._columns = pl.Schema({str(place): pl.String() for place in range(self.fields)})
        self._sign = _ONE if separator in (COLONS, ANY_BLANKS) else separator
        apart = re.escape(self._sign)
        field = rf'(?:[^"{apart}\n]*+|"(?:[^"\n]|"")*+")' if self.quoted else rf"[^{apart}\n]*+"
        line = rf"{field}(?:{apart}{field}){{{self.fields - 1}}}"
        self._line, self._lines = re.compile(line.encode()), re.compile(rf"(?:{line}\n)*+(?:{line})?".encode())

    @classmethod
    def of(cls, head: bytes, name: str, columns: Columns, reading: ReadSettings) -> tuple[Lines, bool]:
        """The form of a log by its first line, and whether that is a header. A LogError if it does not have the columns."""
        headers = headers_of(head, reading)
        for separator, header in headers.items():
            if len(header) > MOST_COLUMNS:
                raise LogError(
                    f"{name} has a header of {len(header):,} columns.",
                    expected=f"at most {MOST_COLUMNS:,}, three of which are needed",
                    do="write a file of the columns of session, item and time, and give that",
                )
            if all(header.count(own) == 1 for own in Rows(columns, reading, header).needed):
                return cls(header, separator, columns, reading), True
        separator, fields = max(headers.items(), key=lambda one: len(one[1]))
        needed = Rows(columns, reading, fields).needed
        if all(re.fullmatch("[1-9][0-9]{0,3}", own) for own in needed):
            if last := [own for own in needed if int(own) > len(fields)]:
                raise LogError(
                    f"{name} has {len(fields)} fields in its first line, and no field {last[0]}.",
                    expected="places from 1 on, such as session=1,item=2,time=5",
                    do=f"see what there is: pocketrec peek {name}",
                )
            return cls([str(place + 1) for place in range(len(fields))], separator, columns, reading), False
        raise missing_columns(name, needed, fields)

    def parse(self, text: bytes) -> Clicks | None:
        """Clicks of some lines; None where a line is not a click."""
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").removesuffix(b"\r")
        if b"\r" in text or b"\x00" in text or _begins_oddly(text):
            return None
        if (plain := self._one_sign(text)) is None:
            return None
        text, bad_bytes = (plain, "") if is_utf8(plain) else as_utf8(plain)
        lines = count_lines(text)
        if self.quoted and b'"' in text and not quotes_are_simple(text, self._sign):
            if not self._lines.fullmatch(text):
                return None
        elif count(text, self._sign.encode()) != lines * (self.fields - 1):
            return None
        try:  # it stops at a line with too many fields, so none has too few
            text = text if text.endswith(b"\n") else text + b"\n"  # Polars overlooks a separator at the very end
            quote = '"' if self.quoted else None
            frame = pl.read_csv(text, has_header=False, schema=self._columns, separator=self._sign, quote_char=quote)
        except NOT_READ:
            return None
        if len(frame) != lines:
            return None
        given = frame.select(pl.col(str(place)).alias(own) for own, place in self.places.items())
        if bad_bytes and given.select(pl.any_horizontal(pl.all().str.contains(bad_bytes, literal=True)).any()).item():
            return None
        return self.rows.clicks(given)

    def judge(self, lines: list[bytes]) -> list[str]:
        """Why each line is not a click."""
        reasons, fine = [], list[list[str]]()
        for line in lines:
            reason, fields = self._fields_of(line.removesuffix(b"\r"))
            reasons.append(reason)
            if not reason:
                fine.append([fields[place] for place in self.places.values()])
        given = pl.DataFrame(fine, schema=dict.fromkeys(self.places, pl.String()), orient="row")
        places = pl.Series([row for row, reason in enumerate(reasons) if not reason], dtype=pl.Int64)
        for row, reason in self.rows.judged(given, places):
            reasons[row] = reason
        return reasons

    def _one_sign(self, text: bytes) -> bytes | None:
        """Lines with one byte for each separator; None if they have that byte already."""
        if self._sign == self.separator:
            return text
        if _ONE.encode() in text:
            return None
        if self.separator == COLONS:
            return text.replace(COLONS.encode(), _ONE.encode())
        return _BLANKS.sub(lambda found: _ONE.encode() if found[1] else b"", text)

    def _fields_of(self, line: bytes) -> tuple[str, list[str]]:
        """Why a line has not the fields that a click needs, or ""; and its fields."""
        if not line:
            return "a blank line", []
        if b"\x00" in line:
            return "a NUL byte", []
        if b"\r" in line:
            return "a carriage return inside the line", []
        if line.startswith(_ODD_STARTS):
            return "a byte-order mark, or bytes as an archive has, at its beginning", []
        plain = self._one_sign(line)
        if plain is None:
            return "a byte 1f, the unit separator", []
        fields = fields_of(plain.decode("utf-8", "surrogateescape"), self._sign, quoted=self.quoted)
        if not self._line.fullmatch(plain):
            if b'"' in plain and len(fields) == self.fields:
                return "quotes inside a field", []
            return f"{len(fields)} field{'s' * (len(fields) != 1)} instead of {self.fields}", []
        odd = [own for own, place in self.places.items() if not is_utf8(fields[place].encode("utf-8", "surrogateescape"))]
        return f"bytes that are not UTF-8 in {odd[0]}" if odd else "", fields


def quotes_are_simple(text: bytes, sign: str) -> bool:
    """Whether every quote is around a whole field, which has neither separators, quotes nor line ends in it."""
    data, quote, end = np.frombuffer(text, np.uint8), ord('"'), ord("\n")
    quotes = np.flatnonzero(data == quote)
    opens, closes = quotes[0::2], quotes[1::2]
    if len(quotes) % 2:
        return False
    edges = np.isin(np.arange(256), [ord(sign), end])  # what is before and behind a field
    before, behind = data[np.maximum(opens - 1, 0)], data[np.minimum(closes + 1, len(data) - 1)]
    if not ((edges[before] | (opens == 0)).all() and (edges[behind] | (closes == len(data) - 1)).all()):
        return False
    filled = closes - opens > 1
    if not filled.any():
        return True
    inside = np.flatnonzero((data == ord(sign)) | (data == end))
    return bool((np.searchsorted(inside, opens[filled]) == np.searchsorted(inside, closes[filled])).all())


def _begins_oddly(text: bytes) -> bool:
    """Whether a line begins in a way that Polars would not read as it stands; most texts have none of these bytes."""
    found = [start for start in _ODD_STARTS if start[-1:] in text]
    return any(text.startswith(start) or b"\n" + start in text for start in found)


def headers_of(head: bytes, reading: ReadSettings) -> dict[str, list[str]]:
    """The fields of the first line by each separator that may be meant."""
    line = head.split(b"\n", 1)[0].removesuffix(b"\r").decode("utf-8", "replace")
    quoted = reading.quote == "double"
    if reading.separator == ANY_BLANKS:
        return {ANY_BLANKS: line.split()}
    return {one: fields_of(line, one, quoted=quoted) for one in ([reading.separator] if reading.separator else FOUND)}


def fields_of(line: str, separator: str, *, quoted: bool = True) -> list[str]:
    """The fields of a line, without their quotes."""
    if '"' not in line or not quoted or len(separator) > 1:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # a field of more than 128 kB
        return line.split(separator)


def as_utf8(text: bytes) -> tuple[bytes, str]:
    """A text with a sign that it does not have in the place of bytes that are not UTF-8; and that sign."""
    mark = next(chr(code) for code in _UNUSED if chr(code).encode() not in text)
    return text.decode("utf-8", "surrogateescape").translate(dict.fromkeys(range(56448, 56576), mark)).encode(), mark
