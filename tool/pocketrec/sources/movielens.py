"""Ratings: MovieLens in each form it has had, and any csv with a user, an item and a time; with the rating if it is wanted.

| set | file | a line |
|---|---|---|
| ml-100k | u.data | user, item, rating, seconds since the epoch; tabs between them, no header |
| ml-1m, ml-10m | ratings.dat | the same with `::` between them |
| ml-20m, 25m, 32m, latest | ratings.csv | userId,movieId,rating,timestamp under a header, CRLF or LF |
| RecBole's | ml-100k.inter | user_id:token and so on under a header, tabs between them |

A user is read as a session, so ratings go through the ingest of click logs.
"""

from __future__ import annotations

import re

import polars as pl

from pocketrec.errors import LogError
from pocketrec.schema import ITEM, RATING, SESSION, TIME
from pocketrec.sources.delimited import Lines
from pocketrec.sources.options import Columns
from pocketrec.sources.streams import Wanted
from pocketrec.sources.timestamps import Clock

RATINGS = Wanted("ratings", re.compile(r"^(ratings\.(csv|dat)|u\.data|[^.].*\.inter)$", re.IGNORECASE))
"""Which member of a zip holds the ratings."""

USAGE = "user=NAME,item=NAME,time=NAME, such as user=userId,item=movieId,time=timestamp"
RATED_USAGE = "user=NAME,item=NAME,time=NAME,rating=NAME"
_FIELDS = ["user", "item", "rating", "time"]
_KNOWN = {
    SESSION: ("userid", "user", "uid", "reviewerid"),
    ITEM: ("movieid", "itemid", "item", "iid", "asin"),
    TIME: ("timestamp", "time", "ts", "unixreviewtime"),
    RATING: ("rating", "overall", "score", "stars"),
}
"""Names that columns of ratings go by, in small letters, without _ and what RecBole adds."""
_SEPARATOR = "::"


def columns_wanted(rated: bool) -> tuple[str, ...]:
    """What is read of a line; the user is the session."""
    return (SESSION, ITEM, TIME, RATING) if rated else (SESSION, ITEM, TIME)


def columns_among(names: list[str], rated: bool = False) -> dict[str, str] | None:
    """The names of a header that are user (as session), item, time, and rating if `rated`; None if one is not found."""
    plain = {_plain(name): name for name in reversed(names)}
    wanted = {column: _KNOWN[column] for column in columns_wanted(rated)}
    found = {column: next((plain[one] for one in known if one in plain), "") for column, known in wanted.items()}
    return found if all(found.values()) else None


def begin(head: bytes, name: str, columns: Columns | None, clock: Clock, rated: bool = False) -> tuple[Lines, bool]:
    """The form of ratings by their first lines, and whether the first is a header. `columns` is None to find them out.

    Raises:
        LogError: neither a known form nor a header with known names.
    """
    headless = {column: {SESSION: "user"}.get(column, column) for column in columns_wanted(rated)}
    first = head.split(b"\n", 1)[0].removesuffix(b"\r").decode("utf-8", "replace")
    if columns is None and first.count(_SEPARATOR) == 3:
        return ColonLines(headless, clock), False
    if columns is None and re.fullmatch(r"[^\t]+\t[^\t]+\t[-0-9.]+\t[0-9]+", first):
        return Lines(_FIELDS, "\t", headless, clock), False
    separator = next((mark for mark in "\t;|," if mark in first), ",")
    known = columns or columns_among([field.strip('"') for field in first.split(separator)], rated)
    if known is None:
        raise LogError(
            f"{name} begins with {first[:80]!r}, which is not a known form of ratings.",
            expected="u.data, ratings.dat, ratings.csv, or a csv with a header",
            do=f"name its columns: --columns {RATED_USAGE if rated else USAGE}",
        )
    return Lines.of(head, name, known, clock)


class ColonLines(Lines):
    """The lines of ratings.dat: four fields with `::` between them."""

    def __init__(self, columns: Columns, clock: Clock) -> None:
        super().__init__(_FIELDS, "\t", columns, clock)
        self.expected = "user::item::rating::time"

    def parse(self, text: bytes) -> pl.DataFrame | None:
        """Ratings of some lines; None where a line is not a rating."""
        return None if b"\t" in text else super().parse(text.replace(_SEPARATOR.encode(), b"\t"))

    def judge(self, lines: list[bytes]) -> list[str]:
        """Why each line is not a rating."""
        reasons = super().judge([line.replace(_SEPARATOR.encode(), b"\t") for line in lines])
        return ["a tab" if b"\t" in line else reason for line, reason in zip(lines, reasons, strict=True)]


def _plain(name: str) -> str:
    return name.split(":", 1)[0].replace("_", "").strip().lower()
