"""Timestamps against Python's datetime: every valid one, no invalid one, in any zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_oracle import read_time
from pocketrec.errors import SettingsError
from pocketrec.sources.options import ReadSettings, Unit
from pocketrec.sources.rows import times_of_any
from pocketrec.sources.timestamps import TEMPLATE, Clock, parse_times, reads, times_of

EPOCH = datetime(1970, 1, 1)
LAST = datetime(2262, 4, 11, 23, 47, 16)
ZONES = ("Asia/Shanghai", "America/New_York", "Europe/London", "Australia/Lord_Howe")
MILLISECOND = timedelta(milliseconds=1)

moments = st.integers(0, (LAST - EPOCH) // MILLISECOND).map(lambda ms: EPOCH + ms * MILLISECOND)
EDGES = [
    EPOCH,
    LAST,
    datetime(2000, 2, 29, 23, 59, 59, 999_000),
    datetime(2100, 2, 28, 23, 59, 59, 999_000),
    datetime(2100, 3, 1),
    datetime(1999, 12, 31, 23, 59, 59, 999_000),
    datetime(2016, 12, 31, 23, 59, 59, 1000),
]


def text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def parsed(texts: list[str], timezone: str = "UTC") -> list[int | None]:
    frame = pl.LazyFrame({"time": texts}, schema={"time": pl.String})
    column: list[int | None] = parse_times(frame, timezone).collect().to_series().to_list()
    return column


def by_datetime(text: str) -> int | None:
    """What Python makes of it where it has the form of the template, else None."""
    same = all(char.isascii() and char.isdigit() if byte == ord("0") else ord(char) == byte
               for char, byte in zip(text, TEMPLATE, strict=False))  # fmt: skip
    if len(text) != len(TEMPLATE) or not same:
        return None
    try:
        return (datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ") - EPOCH) // MILLISECOND
    except ValueError:
        return None


def wall_clock(moment: datetime, timezone: str) -> int:
    """`timestamp()` of a wall clock time, whole milliseconds, without the rounding of a float."""
    whole = int(moment.replace(microsecond=0, tzinfo=ZoneInfo(timezone), fold=0).timestamp())
    return whole * 1000 + moment.microsecond // 1000


@given(st.lists(moments | st.sampled_from(EDGES), min_size=1, max_size=200))
def test_valid_timestamps_are_datetimes(given_moments: list[datetime]) -> None:
    assert parsed([text(moment) for moment in given_moments]) == [
        (moment - EPOCH) // MILLISECOND for moment in given_moments
    ]


def test_every_day_of_two_centuries_and_every_minute_of_a_day() -> None:
    days = [EPOCH + timedelta(days=day, hours=day % 24, milliseconds=day % 1000) for day in range(365 * 200)]
    minutes = [datetime(2014, 4, 7) + timedelta(minutes=minute, seconds=minute % 60) for minute in range(1440)]
    for some in (days, minutes):
        assert parsed([text(moment) for moment in some]) == [(moment - EPOCH) // MILLISECOND for moment in some]


@settings(max_examples=40)
@given(moment=moments | st.sampled_from(EDGES))
def test_one_changed_character(moment: datetime) -> None:
    """Null where it makes the text invalid, the other moment where it does not."""
    good = text(moment)
    changed = [
        good[:at] + other + good[at + 1 :] for at in range(len(good)) for other in "0123456789 -+:.TZtz/;@`\x00\x7f,\x10A"
    ]
    changed = [one for one in changed if not one.startswith("0000")]  # datetime has no year 0
    assert parsed(changed) == [by_datetime(one) for one in changed]


@pytest.mark.parametrize("byte", [chr(number) for number in range(128)])
def test_no_other_byte_passes_for_a_character(byte: str) -> None:
    good = text(datetime(2011, 11, 11, 11, 11, 11, 111_000))
    changed = [good[:at] + byte + good[at + 1 :] for at in range(len(good))]
    assert parsed(changed) == [by_datetime(one) for one in changed]


def test_texts_of_other_lengths_and_alphabets() -> None:
    good = text(datetime(2014, 4, 7, 10, 51, 9, 277_000))
    bad = [good[:length] for length in range(len(good))]
    bad += [good + tail for tail in ("Z", " ", "0", "\n", "\x00")]
    bad += [head + good for head in (" ", "0", "-", "+")]
    bad += [good.replace("2014", "２０１４"), good.replace("Z", "Ž"), good.replace("07", "٠٧"), good[:22] + "é"]
    bad += ["2014-02-29" + good[10:], "1900-02-29" + good[10:], "2014-04-31" + good[10:], "2014-00-10" + good[10:]]
    bad += [good[:11] + clock for clock in ("24:00:00.000Z", "23:60:00.000Z", "23:59:60.000Z", "99:99:99.999Z")]
    assert [one for one, ms in zip(bad, parsed(bad), strict=True) if ms is not None] == []


def test_nulls_and_neighbours() -> None:
    """A bad text spoils no other row."""
    good = text(datetime(2014, 4, 7, 10, 51, 9, 277_000))
    frame = parse_times(pl.LazyFrame({"time": [good, None, "", "bad", good]}))
    ms = 1_396_867_869_277
    assert frame.collect().to_series().to_list() == [ms, None, None, None, ms]
    assert frame.collect_schema().dtypes() == [pl.Int64]


def changes(timezone: str) -> list[datetime]:
    """Wall clock times at which the zone's offset from UTC has just changed, 1970 to 2037, to the hour."""
    zone, found = ZoneInfo(timezone), []
    hour, end = datetime(1970, 1, 1, tzinfo=UTC), datetime(2037, 1, 1, tzinfo=UTC)
    before = hour.astimezone(zone).utcoffset()
    while hour < end:
        day = hour + timedelta(days=1)
        if (after := day.astimezone(zone).utcoffset()) != before:
            while hour.astimezone(zone).utcoffset() == before:
                hour += timedelta(minutes=30)
            found.append(hour.astimezone(zone).replace(tzinfo=None))
            before = after
        hour = day
    return found


@pytest.mark.parametrize("timezone", ZONES)
def test_a_wall_clock_across_every_gap_and_overlap(timezone: str) -> None:
    some = [change + timedelta(minutes=10 * step, milliseconds=step % 7)
            for change in changes(timezone) for step in range(-24, 25)]  # fmt: skip
    some = [moment for moment in some if moment >= EPOCH + timedelta(days=1)]
    assert len(some) > 400
    folds = [moment.replace(tzinfo=ZoneInfo(timezone), fold=1).timestamp() for moment in some]
    wanted = [wall_clock(moment, timezone) for moment in some]
    assert any(int(fold) != ms // 1000 for fold, ms in zip(folds, wanted, strict=True))  # or nothing was tried
    got = parsed([text(moment) for moment in some], timezone)
    assert [row for row in zip(some, got, wanted, strict=True) if row[1] != row[2]] == []


@settings(max_examples=60)
@given(
    timezone=st.sampled_from(ZONES),
    some=st.lists(st.datetimes(datetime(1970, 1, 2), datetime(2036, 12, 31)), min_size=1, max_size=50),
)
def test_a_wall_clock_at_any_time(timezone: str, some: list[datetime]) -> None:
    some = [moment.replace(microsecond=moment.microsecond // 1000 * 1000, fold=0) for moment in some]
    assert parsed([text(moment) for moment in some], timezone) == [wall_clock(moment, timezone) for moment in some]


def test_a_bad_text_is_null_in_every_zone() -> None:
    for timezone in ZONES:
        assert parsed(["bad", "2014-02-30T00:00:00.000Z", "2014-04-07T24:00:00.000Z"], timezone) == [None] * 3


def test_a_day_that_a_zone_skipped() -> None:
    """Samoa had no 30 December 2011; its clock times count with the offset of the 29th."""
    moment = datetime(2011, 12, 30, 12, 0, tzinfo=ZoneInfo("Pacific/Apia"))
    assert parsed(["2011-12-30T12:00:00.000Z"], "Pacific/Apia") == [round(moment.timestamp() * 1000)]


@st.composite
def other_forms(draw: st.DrawFn) -> str:
    """A moment in one of the forms, sometimes with a character changed."""
    moment = draw(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)))
    digits = draw(st.text("0123456789", min_size=0, max_size=10))
    fraction = f".{digits}" if digits or draw(st.booleans()) else ""
    offset = draw(st.sampled_from(["", "Z", "+02:00", "-0330", "+14", "-23:59", "+24:00", "+00:60", "-00:00", "z"]))
    second = draw(st.integers(0, 5 * 10**9) | st.sampled_from([631_151_999, 631_152_000, 4_133_980_799, 4_133_980_800]))
    epoch = draw(st.integers(0, 10**19) | st.sampled_from([second * 10**digits for digits in (0, 3, 6, 9)]))
    year = f"{moment.year:04d}"
    calendar = f"{year}-{moment:%m-%d}{draw(st.sampled_from('TTT _'))}{moment:%H:%M:%S}{fraction}{offset}"
    text = draw(st.sampled_from([calendar, calendar, f"{epoch}{fraction}"]))
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from("0123456789 -+:.TZ\x00\né٣")) + text[place + draw(st.integers(0, 1)) :]
    return text


@settings(max_examples=120)
@given(some=st.lists(other_forms(), min_size=1, max_size=20), zone=st.sampled_from(["UTC", *ZONES]))
def test_every_form_against_datetime(some: list[str], zone: str) -> None:
    some = [text for text in some if zone == "UTC" or "1970" < text[:4] < "2037"]  # Polars knows no summer time later
    for zulu in (False, True):
        found = times_of(pl.Series(some, dtype=pl.String), Clock(zone, zulu=zulu)).to_list()
        assert found == [read_time(text, zone, zulu) for text in some]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1396867869", 1396867869000),
        ("1396867869277", 1396867869277),
        ("1396867869277999", 1396867869277),
        ("1396867869277999999", 1396867869277),
        ("1396867869.2779", 1396867869277),
        ("1433221332117.0", 1433221332117),
        ("2014-04-07T10:51:09.2779+02:00", 1396860669277),
        ("2014-04-07 10:51:09", 1396867869000 - 8 * 3_600_000),
        ("2014-04-07T10:51:09.277Z", 1396867869277 - 8 * 3_600_000),
        ("99999999999", None),
        ("-1", None),
    ],
)
def test_what_the_zone_of_the_log_moves(text: str, ms: int | None) -> None:
    """What has an offset, or counts from the epoch, is a moment already."""
    assert times_of(pl.Series([text, None]), Clock("Asia/Shanghai", zulu=False)).to_list() == [ms, None]


def test_an_offset_in_the_text_beats_the_option() -> None:
    """But for the Z of YooChoose's own form (above)."""
    texts = pl.Series(["2014-04-07T10:51:09Z", "2014-04-07T10:51:09.277Z", "2014-04-07T10:51:09", "2014-04-07T12:51:09+02"])
    found = times_of(texts, Clock("Europe/Berlin")).to_list()
    assert found == [1396867869000, 1396867869277, 1396867869000 - 2 * 3_600_000, 1396867869000]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("214536502", "1976-10-19"), ("5", "1970-01-01"), ("0829", "1970-01-01"), ("20141118", "1970-08-22"),
        ("20111230000005", "2607-04-20"), ("631151999", "1989-12-31"), ("4133980800", "2101-01-01"),
        ("9999999999999999999", ""), ("999999999999999999", "2001-09-09"), ("526309", "1970-01-07"),
    ],
)  # fmt: skip
def test_a_number_outside_of_1990_to_2100_is_shown_as_the_time_it_would_be(text: str, day: str) -> None:
    found = times_of(pl.Series([text]), Clock()).to_list()
    if day.startswith("2001"):
        assert found == [999999999999]
        return
    assert found == [None]
    why = Clock().why_not(text)
    assert f"the time would be {day} if it were" in why if day else "is not of the form" in why


@pytest.mark.parametrize(
    ("unit", "text", "ms"),
    [
        ("s", "0", 0), ("s", "1.5", 1500), ("ms", "526309", 526309), ("us", "1611111111123456", 1611111111123),
        ("ns", "1999", 0), ("ms", "1396867869", 1396867869), ("s", "253402300800", None), ("s", "9223372036854775", None),
        ("ms", "253402300799999", 253402300799999), ("ms", "253402300800000", None),
        ("ns", "8999999999999999999", 8999999999999),
    ],
)  # fmt: skip
def test_a_unit_that_is_said_is_the_unit(unit: Unit, text: str, ms: int | None) -> None:
    assert times_of(pl.Series([text]), Clock(unit=unit)).to_list() == [ms]


@pytest.mark.parametrize(
    ("form", "text", "ms"),
    [
        ("%Y-%m-%d %H:%M:%S UTC", "2019-10-01 00:00:00 UTC", 1569888000000),
        ("%Y%m%d", "20141118", 1416268800000),
        ("%Y%m%d%H%M%S", "20111230000005", 1325203205000),
        ("%d/%m/%Y", "18/11/2014", 1416268800000),
        ("%m/%d/%Y %I:%M:%S %p", "11/11/2019 9:05:58 AM", 1573463158000),
        ("%a %b %d %H:%M:%S %z %Y", "Tue Apr 03 18:00:09 +0000 2012", 1333476009000),
        ("%Y-%m-%d", "1396867869", None),
    ],
)
def test_a_form_that_is_said_is_the_form(form: str, text: str, ms: int | None) -> None:
    assert reads(form)
    assert times_of(pl.Series([text, None, "x"]), Clock(form=form)).to_list() == [ms, None, None]


@pytest.mark.parametrize("form", ["%m%d", "%H:%M", "%Q", "no form", "%", "%Y"])
def test_a_form_without_a_day_is_none(form: str) -> None:
    assert not reads(form)
    with pytest.raises(SettingsError, match="time_format"):
        ReadSettings(time_format=form)


LOOKS = [
    "2014-08-23", "2014-08-23 10", "2014-08-23 10:51", "2014-08-23 10:51:09", "2014-08-23T10:51:09Z",
    "2014-08-23T10:51:09.277Z", "2014-08-23 10:51:09 UTC", "2014-08-23T10:51:09.27", "2014-08-23T10:51:09+02",
    "1408791069", "1408791069277", "1408791069.5", "01408791069", "2014-13-23", "2014-08-23X10:51:09", "+408791069",
    "-408791069", "", "soon", "1408791069277000000", "0408791069277000000", "9100000000000000000", "8100000000000000000",
    "0000000000000000001408791069",
]  # fmt: skip


@given(
    some=st.lists(st.sampled_from(LOOKS), min_size=1, max_size=6),
    zulu=st.booleans(),
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    unit=st.sampled_from(["auto", "ms", "ns"]),
)
def test_a_time_is_read_alike_in_any_company(some: list[str], zulu: bool, zone: str, unit: Unit) -> None:
    """Times that all look alike are read in a faster way. Found by the fuzzer: a day alone, in YooChoose's form."""
    clock = Clock(zone, unit, zulu=zulu)
    alone = [times_of(pl.Series([text]), clock).to_list()[0] for text in some]
    assert times_of(pl.Series(some), clock).to_list() == alone
    numbers = [text for text in some if text.isdigit() and str(int(text)) == text and int(text) < 2**63]
    assert times_of_any(pl.Series(map(int, numbers), dtype=pl.Int64), clock).to_list() == [
        alone[some.index(text)] for text in numbers
    ]
    if zone == "UTC" and unit == "auto":
        assert alone == [read_time(text, zulu=zulu) for text in some]
