"""What a user can choose about a log: how it is read, and how a synthetic one is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pocketrec.errors import SettingsError
from pocketrec.schema import ITEM, SESSION, TIME
from pocketrec.settings import Settings, setting

if TYPE_CHECKING:
    from pocketrec.sources.timestamps import Clock

NAMES = (SESSION, ITEM, TIME)
USAGE = "session=NAME,item=NAME,time=NAME, such as session=SessionId,item=ItemId,time=Timestamp"

Columns = Mapping[str, str]
"""The log's own names of `session`, `item` and `time`, and of `rating` where that is wanted."""
Kind = Literal["clicks", "ratings", "rated"]
"""What a log holds; rated: ratings with their values, a column more. The user of a rating is its session (`movielens`)."""
Unit = Literal["auto", "s", "ms", "us", "ns"]
"""Of a time that is a number, since 1970; auto: the one by which it lies in the years 1990 to 2100."""
BadRows = Literal["stop", "set-aside"]
"""What happens at a line that is not a click."""
Order = Literal["grouped", "interleaved", "shuffled"]


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
        "For a csv, tsv or Parquet file of another form: its own names of the session, the item and the time column; or "
        "their places, from 1, in a csv or tsv without a header: session=1,item=2,time=5.",
        metavar="session=A,item=B,time=C",
        parse=parse_columns,
        text=columns_text,
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
        return {
            "timezone": self.timezone,
            **({} if kind == "clicks" else {"kind": kind}),
            **({} if self.columns is None else {"columns": dict(self.columns)}),
            **({} if self.bad_rows == "stop" else {"bad_rows": self.bad_rows}),
            **({} if self.time_unit == "auto" else {"time_unit": self.time_unit}),
            **({} if not self.time_format else {"time_format": self.time_format}),
        }


@dataclass(frozen=True)
class SynthSettings(Settings):
    """What a synthetic log is like."""

    clicks: int = setting(1_000_000, "Rows of the log.", least=1)
    seed: int = setting(0, "The same seed and number of rows give the same log.", least=0)
    order: Order = setting(
        "grouped", "Order of the rows: grouped by session, as in the real log; interleaved by time; or shuffled at random."
    )
