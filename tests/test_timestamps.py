"""Timestamps against Python's own datetime: every form of wrong byte, every day there is, and every turn of the clock."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.sources.timestamps import epoch_ms

EPOCH = datetime(1970, 1, 1)
MS = timedelta(milliseconds=1)
FORM = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{3})Z")
ZONES = ("Asia/Shanghai", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Pacific/Apia")
LONGEST_GAP = timedelta(hours=3)
"""The clock skips no more than this anywhere, but for the days lost at the date line."""


def parsed(texts: Iterable[str | None], zone: str = "UTC") -> list[int | None]:
    """What pocketrec makes of them, in the engine that ingest uses."""
    frame = pl.LazyFrame({"text": pl.Series(list(texts), dtype=pl.String)})
    return frame.select(epoch_ms(pl.col("text"), zone)).collect(engine="streaming").to_series().to_list()


def written(moment: datetime) -> str:
    """By hand, since %Y does not pad the year everywhere."""
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def by_hand(text: str) -> int | None:
    """What Python makes of it; the constructor of datetime knows the calendar."""
    match = FORM.fullmatch(text)
    if not match:
        return None
    *fields, milli = map(int, match.groups())
    try:
        return (datetime(*fields) - EPOCH) // MS + milli  # type: ignore[arg-type]
    except ValueError:
        return None


def check(texts: Iterable[str]) -> None:
    texts = [text for text in texts if not text.startswith("0000-")]  # ISO 8601 has a year 0, Python has none
    found = dict(zip(texts, parsed(texts), strict=True))
    assert {text: ms for text, ms in found.items() if ms != by_hand(text)} == {}


moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))
recent = st.datetimes(datetime(1970, 1, 1), datetime(2262, 12, 31))


@given(st.lists(moments | recent, min_size=1, max_size=40))
def test_every_moment_of_the_years_1_to_9999(drawn: list[datetime]) -> None:
    assert parsed(map(written, drawn)) == [(moment - EPOCH) // MS for moment in drawn]


def test_the_ends_of_the_range() -> None:
    texts = ["0001-01-01T00:00:00.000Z", "1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"]
    assert parsed(texts) == [-62135596800000, -1, 0, 253402300799999]


@settings(max_examples=15)
@given(recent)
def test_any_byte_changed_at_any_place(moment: datetime) -> None:
    """All 24 x 128 texts one ASCII byte away. Some are other valid times; the rest must be null."""
    text = written(moment)
    check(text[:place] + chr(byte) + text[place + 1 :] for place in range(24) for byte in range(128))


@settings(max_examples=10)
@given(recent)
def test_other_digits_and_letters_of_the_right_number_of_bytes(moment: datetime) -> None:
    """Two to four bytes replaced by one character of as many bytes: the length in bytes still is 24."""
    text = written(moment)
    others = {"\u0663": 2, "\u00e9": 2, "\uff10": 3, "\u2028": 3, "\U0001d7d8": 4}
    texts = [text[:p] + other + text[p + size :] for other, size in others.items() for p in range(25 - size)]
    assert parsed(texts) == [None] * len(texts)


@settings(max_examples=20)
@given(recent, st.characters(max_codepoint=0x2FF, exclude_categories=["Cs"]))
def test_too_long_and_too_short(moment: datetime, extra: str) -> None:
    text = written(moment)
    longer = [text[:place] + extra + text[place:] for place in range(25)]
    shorter = [text[:place] + text[place + 1 :] for place in range(24)] + [text[:end] for end in range(24)]
    assert parsed(longer + shorter) == [None] * len(longer + shorter)


def test_null_stays_null_beside_others() -> None:
    assert parsed([None, "", "1970-01-01T00:00:00.001Z", None]) == [None, None, 1, None]


def test_29_february_of_every_year() -> None:
    texts = [f"{year:04d}-02-29T12:00:00.000Z" for year in range(1, 10000)]
    assert [ms is not None for ms in parsed(texts)] == [calendar.isleap(year) for year in range(1, 10000)]


@pytest.mark.parametrize("year", [1900, 2000, 2014, 2016])
def test_every_two_digits_as_month_and_day(year: int) -> None:
    check(f"{year}-{month:02d}-{day:02d}T00:00:00.000Z" for month in range(100) for day in range(100))


@pytest.mark.parametrize("form", ["{:02d}:00:00", "00:{:02d}:00", "00:00:{:02d}", "23:{:02d}:59", "24:00:{:02d}"])
def test_every_two_digits_as_hour_minute_and_second(form: str) -> None:
    """24:00:00 and the leap second 23:59:60 are not times that Python or the log knows."""
    check(f"2014-04-07T{form.format(number)}.000Z" for number in range(100))


def test_every_millisecond() -> None:
    check(f"2014-04-07T23:59:59.{milli:03d}Z" for milli in range(1000))


def local(moment: datetime, zone: ZoneInfo) -> int:
    """Epoch of a wall clock time, fold=0."""
    return (moment.replace(tzinfo=zone) - EPOCH.replace(tzinfo=UTC)) // MS


def offset(seconds: int, zone: ZoneInfo) -> timedelta:
    found = datetime.fromtimestamp(seconds, zone).utcoffset()
    assert found is not None
    return found


def turns(zone: ZoneInfo, first: int = 1970, last: int = 2038) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    """Each change of the clock: the UTC moment, the offset before and the offset after, found by halving days."""
    day = 86400
    start, stop = ((datetime(year, 1, 1) - EPOCH) // timedelta(seconds=1) for year in (first, last))
    for low in range(start, stop, day):
        high = low + day
        if offset(low, zone) == offset(high, zone):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle, zone) == offset(low, zone) else (low, middle)
        yield EPOCH + timedelta(seconds=high), offset(low, zone), offset(high, zone)


def around(turn: tuple[datetime, timedelta, timedelta]) -> Iterator[datetime]:
    """Wall clock times on both sides of both edges of the gap or the overlap, and inside it."""
    moment, before, after = turn
    edges = (moment + before, moment + after)
    for edge in edges:
        for minutes in (0, 1, 15, 29, 30, 31, 59, 60, 61, 90, 120, 179, 180, 181, 240, 1439, 1440):
            for delta in (timedelta(minutes=minutes), timedelta(minutes=minutes) - MS, -timedelta(minutes=minutes)):
                yield edge + delta
    yield edges[0] + (after - before) / 2


def check_walls(walls: Iterable[datetime], zone: str) -> None:
    walls = sorted(set(walls))
    found = dict(zip(walls, parsed(map(written, walls), zone), strict=True))
    assert {written(wall): ms for wall, ms in found.items() if ms != local(wall, ZoneInfo(zone))} == {}


@pytest.mark.parametrize("zone", ZONES)
def test_around_every_turn_of_the_clock(zone: str) -> None:
    """PEP 495 with fold=0: a time that occurs twice is the first, a skipped one keeps the offset before the gap."""
    found = [turn for turn in turns(ZoneInfo(zone)) if turn[2] - turn[1] <= LONGEST_GAP]
    assert len(found) >= 12, "no turns to test"
    walls = [wall for turn in found for wall in around(turn)]
    lost = {turn[0].date() for turn in turns(ZoneInfo(zone)) if turn[2] - turn[1] > LONGEST_GAP}
    check_walls((wall for wall in walls if wall.date() not in lost), zone)


@pytest.mark.xfail(strict=True, reason="times later than 3 h into a longer gap become null, and the log is refused")
@pytest.mark.parametrize("zone", ["Pacific/Apia", "Pacific/Kwajalein"])
def test_a_day_the_calendar_skipped(zone: str) -> None:
    """Samoa had no 30 December 2011, the Marshall Islands no 21 August 1993; Python gives their times all the same."""
    long = [turn for turn in turns(ZoneInfo(zone)) if turn[2] - turn[1] > LONGEST_GAP]
    assert len(long) == 1
    check_walls((wall for turn in long for wall in around(turn)), zone)


@given(zone=st.sampled_from(ZONES), walls=st.lists(st.datetimes(datetime(1970, 1, 2), datetime(2099, 12, 31)), min_size=1))
def test_any_wall_clock_time(zone: str, walls: list[datetime]) -> None:
    """Up to 2099: the zone tables of Polars end there, Python's rules go on."""
    whole = (wall.replace(microsecond=wall.microsecond // 1000 * 1000) for wall in walls)
    check_walls((wall for wall in whole if (zone, wall.date()) != ("Pacific/Apia", datetime(2011, 12, 30).date())), zone)


@pytest.mark.parametrize("zone", ZONES)
def test_a_zone_does_not_make_wrong_texts_right(zone: str) -> None:
    assert parsed(["2014-02-30T00:00:00.000Z", "2014-01-01T24:00:00.000Z", "2014-01-01 00:00:00.000Z"], zone) == [None] * 3
