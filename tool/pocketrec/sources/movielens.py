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
from pathlib import Path

from pocketrec.errors import LogError
from pocketrec.schema import ITEM, RATING, SESSION, TIME
from pocketrec.sources.delimited import COLONS, Lines, headers_of
from pocketrec.sources.options import ReadSettings
from pocketrec.sources.streams import Wanted

RATINGS = Wanted("ratings", re.compile(r"^(ratings\.(csv|dat)|u\.data|[^.].*\.inter)$", re.IGNORECASE))
"""Which member of a zip holds the ratings."""

USAGE = "user=NAME,item=NAME,time=NAME, such as user=userId,item=movieId,time=timestamp"
RATED_USAGE = "user=NAME,item=NAME,time=NAME,rating=NAME"
_FIELDS = ["user", "item", "rating", "time"]
_KNOWN = {
    SESSION: ("userid", "user", "uid", "reviewerid"),
    ITEM: ("movieid", "itemid", "item", "iid", "parentasin", "asin"),
    TIME: ("timestamp", "time", "ts", "unixreviewtime"),
    RATING: ("rating", "overall", "score", "stars"),
}
"""Names that columns of ratings go by, in small letters, without _ and what RecBole adds."""


def columns_wanted(rated: bool) -> tuple[str, ...]:
    """What is read of a line; the user is the session."""
    return (SESSION, ITEM, TIME, RATING) if rated else (SESSION, ITEM, TIME)


def columns_among(names: list[str], rated: bool = False) -> dict[str, str] | None:
    """The names of a header that are user (as session), item, time, and rating if `rated`; None if one is not found."""
    plain = {_plain(name): name for name in reversed(names)}
    wanted = {column: _KNOWN[column] for column in columns_wanted(rated)}
    found = {column: next((plain[one] for one in known if one in plain), "") for column, known in wanted.items()}
    return found if all(found.values()) else None


def check_parquet(ratings: Path, names: list[str], *, rated: bool) -> dict[str, str]:
    """The columns of a Parquet file, which has no first line to find them by. A LogError if their names are not known."""
    if (found := columns_among(names, rated)) is None:
        wanted, usage = (
            ("a user, an item, a time and a rating", RATED_USAGE) if rated else ("a user, an item and a time", USAGE)
        )
        raise LogError(f"{ratings} has the columns {', '.join(names)}.", expected=wanted, do=f"--columns {usage}")
    return found


def begin(head: bytes, name: str, reading: ReadSettings, *, rated: bool = False) -> tuple[Lines, bool]:
    """The form of ratings by their first lines, and whether the first is a header.

    Raises:
        LogError: neither a known form nor a header with known names.
    """
    if reading.columns is not None:
        return Lines.of(head, name, reading.columns, reading)
    headless = {column: {SESSION: "user"}.get(column, column) for column in columns_wanted(rated)}
    first = head.split(b"\n", 1)[0].removesuffix(b"\r").decode("utf-8", "replace")
    if first.count(COLONS) == 3:
        return Lines(_FIELDS, COLONS, headless, reading), False
    if re.fullmatch(r"[^\t]+\t[^\t]+\t[-0-9.]+\t[0-9]+", first):
        return Lines(_FIELDS, "\t", headless, reading), False
    for fields in headers_of(head, reading).values():
        if known := columns_among(fields, rated):
            return Lines.of(head, name, known, reading)
    raise LogError(
        f"{name} begins with {first[:80]!r}, which is not a known form of ratings.",
        expected="u.data, ratings.dat, ratings.csv, or a csv with a header",
        do=f"name its columns: --columns {RATED_USAGE if rated else USAGE}",
    )


def _plain(name: str) -> str:
    return name.split(":", 1)[0].replace("_", "").strip().lower()
