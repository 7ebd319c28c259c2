"""What a user can choose about a log: how it is read, and how a synthetic one is made."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pocketrec.durations import exact_duration, parse_duration
from pocketrec.errors import SettingsError
from pocketrec.schema import ITEM, SESSION, TIME
from pocketrec.settings import Settings, default_of, rules_of, setting

if TYPE_CHECKING:
    from pocketrec.sources.timestamps import Clock

NAMES = (SESSION, ITEM, TIME)
USAGE = "session=NAME,item=NAME,time=NAME, such as session=SessionId,item=ItemId,time=Timestamp"

Columns = Mapping[str, str]
"""The log's own names of `session`, `item` and `time`, and of `rating` where that is wanted.

A name with a + in it, which no column has, stands for two: one key of both, or a date and the time since then.
"""
Kind = Literal["clicks", "ratings", "rated"]
"""What a log holds; rated: ratings with their values, a column more. The user of a rating is its session (`movielens`)."""
Unit = Literal["auto", "s", "ms", "us", "ns"]
"""Of a time that is a number, since 1970; auto: the one by which it lies in the years 1990 to 2100."""
BadRows = Literal["stop", "set-aside"]
"""What happens at a line that is not a click."""
Quote = Literal["double", "none"]
"""Whether a field may stand in double quotes, or a quote is a character like any other."""
GapOver = Literal["kept", "all"]
"""Between which rows a gap is measured: those that `where` keeps, or all."""
Order = Literal["grouped", "interleaved", "shuffled"]
SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|", "blanks": " ", "^A": "\x01"}
"""Separators by the names that can be said on a command line; blanks: one or more blanks or tabs."""
UTF8 = "utf-8"
BY_HAND = "none"
"""The value of `like` with which no recipe is used."""
RECIPES = (
    "retailrocket, rees46, diginetica, otto, coveo, taobao, tianchi, lastfm-1k, gowalla, foursquare, globo, trivago, "
    "h-and-m, amazon, ga4, yoochoose"
)
"""The names of the recipes, for help; they are in recipes.toml."""


def parse_columns(text: str) -> dict[str, str]:
    """`session=A,item=B,time=C` as a mapping; a SettingsError if the text is not of that form."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    columns = {name.strip(): own for name, _, own in pairs}
    return check_columns(columns if len(columns) == len(pairs) else {}, text)


def columns_text(columns: Columns) -> str:
    """A mapping as `session=A,item=B,time=C`."""
    return ",".join(f"{name}={own}" for name, own in columns.items())


def check_columns(columns: Columns, shown: str = "", names: tuple[str, ...] = NAMES) -> dict[str, str]:
    """The columns in the order of `names`; a SettingsError if one is missing, or there are others."""
    if set(columns) != set(names) or not all(columns.values()):
        raise SettingsError(f"{shown or dict(columns)!r} does not name the columns of a log.", expected=USAGE)
    return {name: columns[name] for name in names}


def parse_separator(text: str) -> str:
    """A separator from its name or itself; a ValueError for what cannot be one."""
    found = SEPARATORS.get(text, "" if text == "auto" else text.replace("\\t", "\t"))
    fits = found in ("", "::") or (len(found) == 1 and found.isascii() and not found.isalnum() and found not in '"\n\r.\\')
    if not fits:
        raise ValueError(f"{text!r} is not a separator; it is one of {', '.join(SEPARATORS)}, ::, or one sign")
    return found


def separator_text(separator: str) -> str:
    """The name of a separator."""
    return next((name for name, one in SEPARATORS.items() if one == separator), separator)


def parse_where(text: str) -> tuple[str, tuple[str, ...]]:
    """`event=view,detail` as the column and its values; a SettingsError if the text is not of that form."""
    column, equals, values = text.partition("=")
    if not column or not equals:
        raise SettingsError(f"where is {text!r}.", expected="COLUMN=VALUE or COLUMN=VALUE,VALUE, such as event=view")
    return column, tuple(value.strip(" \t") for value in values.split(","))


@dataclass(frozen=True)
class ReadSettings(Settings):
    """How a log is read."""

    timezone: str = setting(
        "UTC",
        "Time zone of the log's clock, an IANA name such as Asia/Shanghai. Change it if the times of the log are local "
        "times; times with an offset, and seconds since 1970, are not affected.",
    )
    bad_rows: BadRows = setting(
        "stop", "What to do at a line that is not a click: stop, or set it aside in DIR/rejects.csv and go on."
    )
    columns: Columns | None = setting(
        None,
        "For any other csv, tsv, JSON lines or Parquet: its own names of the session, the item and the time column; their "
        "places, from 1, in a csv or tsv without a header: session=1,item=2,time=5; paths in JSON: item=events.aid. "
        "session=A+B is one key of two columns; time=DATE+TIME a date and the time since then, of the --time-unit.",
        metavar="session=A,item=B,time=C",
        parse=parse_columns,
        text=columns_text,
    )

    like: str = setting(
        "",
        f"Read the log as one of these is read: {RECIPES}; as a recipe of your own, FILE.toml; or with none, by the "
        "options alone. Without it a log is read by the recipe that its first line fits, which is said.",
        metavar="NAME",
    )
    time_unit: Unit = setting(
        "auto",
        "Unit of times that are numbers since 1970: s, ms, us, ns; auto: the one by which a time lies in the years 1990 to "
        "2100. Say it for a log of other years, or with times that begin at 0.",
    )
    time_format: str = setting(
        "",
        "Form of times that are text, as in Python's strptime, such as '%d/%m/%Y %H:%M:%S'; without it, ISO 8601 as in "
        "2014-04-07T10:51:09.277Z, or a number.",
        metavar="FORM",
    )
    where: tuple[str, ...] = setting(
        (),
        "Read only rows with this value, or one of these values, in a column; given more than once, all must hold. Rows "
        "that are left out are counted.",
        metavar="COLUMN=VALUE[,VALUE]",
        each=True,
    )
    session_gap: float | None = setting(
        None,
        "The column session names a user, or sessions that are too long: begin a new session where more time than this "
        "passes between two of its rows. Sessions are numbered from 1.",
        above=0,
        metavar="30m",
        parse=parse_duration,
        text=exact_duration,
    )
    gap_over: GapOver = setting(
        "kept", "Whether rows that --where leaves out count for the gap: kept, they do not; all, they do."
    )
    separator: str = setting(
        "",
        "What separates fields: auto (found by the first line), tab, comma, semicolon, bar, blanks, ^A, ::, or one sign.",
        metavar="SIGN",
        parse=parse_separator,
        text=separator_text,
    )
    quote: Quote = setting(
        "double", "Whether a field may stand in double quotes, as in csv; none: a quote is a letter like any other."
    )
    encoding: str = setting(
        UTF8,
        "Encoding of the text, as Python names it: latin-1, cp1252, gb18030. UTF-16 is found by its first bytes.",
        metavar="NAME",
    )
    member: str = setting("", "Which file of an archive to read, if it has several.", metavar="NAME")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time_format and self.time_unit != "auto":
            raise SettingsError(
                "time_format and time_unit are both given.",
                expected="a form for times that are text, or a unit for times that are numbers",
                do="leave one of them out",
            )
        if self.time_format and not self._reads_days():
            raise SettingsError(
                f"time_format is {self.time_format!r}, by which no time of a day of a year can be read.",
                expected="a form with year, month and day, such as '%d/%m/%Y %H:%M:%S' or '%Y%m%d'",
                do="see Python's strptime for the letters",
            )
        for one in self.where:
            parse_where(one)
        if self.gap_over == "all" and (self.session_gap is None or not self.where):
            raise SettingsError(
                "gap_over is all.",
                expected="a session_gap, and a where that leaves rows out",
                do="leave it out, or say these",
            )
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            raise SettingsError(
                f"encoding is {self.encoding!r}.", expected="a name that Python knows, such as latin-1"
            ) from error
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            expected = "an IANA name such as UTC or Asia/Shanghai"
            raise SettingsError(f"{self.timezone!r} is not a time zone.", expected=expected) from error

    def _reads_days(self) -> bool:
        from pocketrec.sources.timestamps import reads  # Polars: options are stated without it

        return reads(self.time_format)

    def clock(self, *, zulu: bool) -> Clock:
        """How times are meant; for `zulu` see `Clock`."""
        from pocketrec.sources.timestamps import Clock

        return Clock(self.timezone, self.time_unit, self.time_format, zulu)

    def recorded(self, kind: Kind) -> dict[str, Any]:
        """The settings as the record of an ingest has them: the time zone, and what differs from the default."""
        found: dict[str, Any] = {"timezone": self.timezone, **({} if kind == "clicks" else {"kind": kind})}
        for name in rules_of(ReadSettings):
            value = getattr(self, name)
            if value != default_of(ReadSettings, name) and name != "like":  # what it stands for is in the others
                found[name] = dict(value) if name == "columns" else list(value) if isinstance(value, tuple) else value
        return found


@dataclass(frozen=True)
class SynthSettings(Settings):
    """What a synthetic log is like."""

    clicks: int = setting(1_000_000, "Rows of the log.", least=1)
    users: int = setting(
        0,
        "Users who come back, with lasting tastes: the log is then a csv with the header user,session,time,item, and one "
        "click in nine is on an item of an earlier session of its user. With 0, each session is somebody else's.",
        least=0,
    )
    seed: int = setting(0, "The same seed and number of rows give the same log.", least=0)
    order: Order = setting(
        "grouped", "Order of the rows: grouped by session, as in the real log; interleaved by time; or shuffled at random."
    )
