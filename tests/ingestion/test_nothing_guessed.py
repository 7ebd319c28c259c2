"""Logs that were once read as something else without a word: each is read as its people mean it, or refused."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import call
from log_support import kept, rejects
from pocketrec.durations import parse_duration
from pocketrec.errors import LogError
from pocketrec.ingestion.ingest import ingest
from pocketrec.sources.options import ReadSettings
from pocketrec.storage.layout import Dataset

COLUMNS = {"session": "s", "item": "i", "time": "t"}
T = 1_396_867_869
"""2014-04-07T10:51:09Z."""


def csv(tmp_path: Path, *lines: str, header: str = "s,i,t") -> Path:
    path = tmp_path / "log.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def ids(root: Path, column: str) -> list[str]:
    """The ids of a column as they came in, in the order of the log."""
    parts = sorted(Dataset(root).clicks.glob("*/*.parquet"))
    frame = pl.concat([pl.read_parquet(part, hive_partitioning=False) for part in parts]).sort("row")
    return list(map(str, frame[column]))


@pytest.mark.parametrize(
    ("line", "day"),
    [
        ("1,214536502,1396867869", "1976-10-19"),
        ("1,1193,5,978300760", "1970-01-01"),
        ("1,20141118,7", "1970-08-22"),
        ("1,20111230000005,7", "2607-04-20"),
        ("1,0829,7", "1970-01-01"),
        ("1,526309,7", "1970-01-07"),
    ],
)
def test_a_log_without_names_whose_second_column_is_no_time_is_refused(tmp_path: Path, line: str, day: str) -> None:
    (tmp_path / "log").write_text(f"{line}\n{line}\n")
    code, _, err = call("ingest", tmp_path / "log", "--dataset", tmp_path / "d")
    assert code == 1
    assert f"line 1: the time would be {day} if it were" in " ".join(err.split())
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("time", ["20141118", "0829", "3", "526309"])
def test_a_named_time_that_is_none_is_refused_until_it_is_said_what_it_is(tmp_path: Path, time: str) -> None:
    log = csv(tmp_path, f"1,7,{time}")
    with pytest.raises(LogError, match="the time would be"):
        ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS))
    ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS, time_unit="ms"))
    assert kept(tmp_path / "d") == [(1, 7, int(time))]


def test_a_form_of_time_is_said_on_the_command_line_and_recorded(tmp_path: Path) -> None:
    log = csv(tmp_path, "1,7,20141118", "1,8,20141119")
    command = (
        "ingest",
        log,
        "--dataset",
        tmp_path / "d",
        "--columns",
        "session=s,item=i,time=t",
        "--time-format",
        "%Y%m%d",
    )
    assert call(*command)[0] == 0
    assert [ms for _, _, ms in kept(tmp_path / "d")] == [1416268800000, 1416355200000]
    assert "up to date" in call(*command)[1]
    code, _, err = call(*command, "--time-unit", "s")
    assert (code, "time_format and time_unit are both given" in err) == (1, True)


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64, pl.Decimal(20, 3)])
def test_a_column_of_seconds_keeps_them(tmp_path: Path, dtype: Any) -> None:
    """float32 has 7 digits: the product with 1000 is made in float64."""
    given = [10_000_001, 10_000_002, 10_000_003]
    frame = pl.DataFrame({"s": [1, 1, 1], "i": [1, 2, 3], "t": pl.Series(given).cast(dtype)})
    frame.write_parquet(tmp_path / "log")
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS, time_unit="s"))
    assert [ms for _, _, ms in kept(tmp_path / "d")] == [1000 * second for second in given]


@pytest.mark.parametrize("marker", ["NULL", "NaN", "nan", "None", "NA", "\\N", "<NA>", "null", "N/A", "#N/A", "NaT"])
@pytest.mark.parametrize("place", ["session", "item"])
def test_what_says_that_there_is_no_id_is_not_one(tmp_path: Path, marker: str, place: str) -> None:
    line = f"{marker},7,{T}" if place == "session" else f"1,{marker},{T}"
    log = csv(tmp_path, f"1,7,{T}", line, f"1,x,{T + 1}")
    reading = ReadSettings(columns=COLUMNS, bad_rows="set-aside")
    report = ingest(log, tmp_path / "d", reading)
    assert (report.rows, report.set_aside, report.lines) == (2, 1, 3)
    assert rejects(tmp_path / "d") == [(3, f"the {place} is missing: {marker}", line.encode())]
    pl.read_csv(log, infer_schema=False).write_parquet(tmp_path / "parquet")
    assert ingest(tmp_path / "parquet", tmp_path / "d", reading).set_aside == 1


def test_times_that_tie_are_said(tmp_path: Path) -> None:
    days = [date(2014, 4, day) for day in (7, 7, 8, 9, 9)]
    pl.DataFrame({"s": [1, 1, 2, 3, 3], "i": range(5), "t": days}).write_parquet(tmp_path / "log")
    code, _, err = call("ingest", tmp_path / "log", "--dataset", tmp_path / "d", "--columns", "session=s,item=i,time=t")
    assert code == 0
    assert "2 of 2 sessions of two or more clicks have one time only" in " ".join(err.split())


def test_blanks_around_ids_are_none_of_theirs(tmp_path: Path) -> None:
    ingest(
        csv(tmp_path, f"1, 5,{T}", f"1,5,{T}", f"1,5 ,{T}", f" 1 ,\t5,{T}"), tmp_path / "d", ReadSettings(columns=COLUMNS)
    )
    assert [click[:2] for click in kept(tmp_path / "d")] == [(1, 5)] * 4


def test_an_offset_beats_the_time_zone(tmp_path: Path) -> None:
    log = csv(tmp_path, "1,5,2014-04-07T10:51:09Z", "1,6,2014-04-07T12:51:09")
    ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS, timezone="Europe/Berlin"))
    assert [ms for _, _, ms in kept(tmp_path / "d")] == [1000 * T] * 2


def test_whole_numbers_out_of_range_are_text_in_every_form(tmp_path: Path) -> None:
    given = [-1, 5, 2**63]
    log = csv(tmp_path, *(f"1,{item},{T}" for item in given))
    ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS))
    found = ids(tmp_path / "d", "item_id")
    pl.DataFrame({"s": [1] * 3, "i": pl.Series(given, dtype=pl.Int128), "t": [T] * 3}).write_parquet(tmp_path / "log")
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
    assert ids(tmp_path / "d", "item_id") == found == list(map(str, given))


@pytest.mark.parametrize("end", ["\n", "\n\n", "\r\n", "\n \n"])
def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path, end: str) -> None:
    log = csv(tmp_path, f"1,5,{T}", f"1,6,{T}")
    log.write_text(log.read_text() + end)
    if " " in end:
        with pytest.raises(LogError, match="line 4: a blank line"):
            ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS))
        return
    report = ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS))
    assert (report.rows, report.lines) == (2, 2)


def test_whole_numbers_that_became_floats_are_whole_again(tmp_path: Path) -> None:
    log = csv(tmp_path, f"12.0,7.00,{T}.0", f"12,7,{T}000.0")
    report = ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS))
    assert kept(tmp_path / "d") == [(12, 7, 1000 * T)] * 2
    assert any("12.0 were read as 12" in remark for remark in report.remarks)
    floats = {"s": [12.0, 12.0], "i": [Decimal("7.00"), Decimal("7.00")], "t": [float(T), float(T)]}
    pl.DataFrame(floats).write_parquet(tmp_path / "log")
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
    assert kept(tmp_path / "d") == [(12, 7, 1000 * T)] * 2


def test_ids_of_a_spreadsheet_are_remarked_upon(tmp_path: Path) -> None:
    log = csv(tmp_path, f"1,1.5159e+18,{T}", f"1,1.51E+18,{T}")
    code, _, err = call("ingest", log, "--dataset", tmp_path / "d", "--columns", "session=s,item=i,time=t")
    assert code == 0
    assert "have lost digits" in " ".join(err.split())


@pytest.mark.parametrize("text", ["0.1", ".1", "10%", "1.5", "0.5"])
def test_a_share_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)
    assert call("prep", "log", "--holdout", text)[0] == 2


def test_an_empty_set_is_said_and_not_measured(tmp_path: Path) -> None:
    """Nothing is left in the test, whose item the train set does not know."""
    rows = [
        (1, 1, 1541030400),
        (1, 2, 1541030401),
        (2, 1, 1541116900),
        (2, 2, 1541116901),
        (3, 8, 1541289600),
        (3, 9, 1541289601),
    ]
    log = csv(tmp_path, *(",".join(map(str, row)) for row in rows))
    columns = ("--columns", "session=s,item=i,time=t", "--min-item-support", 1, "--batch-size", 1)
    code, _, err = call("prep", log, "--dataset", tmp_path / "d", *columns)
    assert code == 0
    assert "no event: test set" in " ".join(err.split()), err
    code, out, err = call("evaluate", "--dataset", tmp_path / "d")
    assert (code, out) == (1, "")
    assert "has no event: there is nothing to measure" in " ".join(err.split())


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_columns_by_place(tmp_path: Path, separator: str) -> None:
    """As in Taobao's log of behaviour: user, item, category, behaviour, seconds."""
    lines = ["1,2268318,2520377,pv,1511544070", "1,2333346,2520771,pv,1511561733", "100,1603476,2951233,buy,1511579908"]
    (tmp_path / "log").write_text("\n".join(lines).replace(",", separator) + "\n")
    report = ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns={"session": "1", "item": "2", "time": "5"}))
    assert (report.lines, report.header) == (3, False)
    assert kept(tmp_path / "d") == [
        (1, 2268318, 1511544070000), (1, 2333346, 1511561733000), (100, 1603476, 1511579908000),
    ]  # fmt: skip


def test_places_that_are_not_there_and_a_header_where_none_should_be(tmp_path: Path) -> None:
    log = csv(tmp_path, f"1,5,{T}")
    for columns, words in (("session=1,item=2,time=4", "and no field 4"), ("session=1,item=2,time=3", "line 1: the time")):
        code, _, err = call("ingest", log, "--dataset", tmp_path / "d", "--columns", columns)
        assert code == 1
        assert words in " ".join(err.split())
    (tmp_path / "named").write_text(f"3,2,1\n{T},5,1\n")
    ingest(tmp_path / "named", tmp_path / "d", ReadSettings(columns={"session": "1", "item": "2", "time": "3"}))
    assert kept(tmp_path / "d") == [(1, 5, 1000 * T)], "names of a header come first"


@pytest.mark.parametrize("head", [b'{"session":0,"events":[{"aid":1,"ts":1659304800025}]}', b' [{"s": 1}'])
@pytest.mark.parametrize("columns", [None, COLUMNS])
def test_json_is_named(tmp_path: Path, head: bytes, columns: dict[str, str] | None) -> None:
    (tmp_path / "log").write_bytes(head + b"\n")
    words = (
        "log holds JSON, and its columns" if columns is None else "it has 'session'|does not begin with an object of JSON"
    )
    with pytest.raises(LogError, match=words):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=columns))


def test_events_that_are_no_views_and_visits_that_are_one_user(tmp_path: Path) -> None:
    """Rows 3 and 4: one session of five clicks, and two users' sessions as one, before."""
    (tmp_path / "log").write_text(
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,7,view,100,\n1433221342117,7,view,200,\n1433221352117,7,addtocart,200,\n"
        "1433826132117,7,view,300,\n1433826142117,7,view,400,\n"
    )
    columns = {"session": "visitorid", "item": "itemid", "time": "timestamp"}
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=columns, where=("event=view",), session_gap=3600.0))
    assert [row[:2] for row in kept(tmp_path / "d")] == [(1, 100), (1, 200), (2, 300), (2, 400)]
    (tmp_path / "log").write_text(
        "u,s,i,t\nA.1,1611111111,1,1611111111123\nA.1,1611111111,2,1611111112123\n"
        "B.2,1611111111,3,1611111111500\nB.2,1611111111,4,1611111113000\n"
    )
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns={"session": "u+s", "item": "i", "time": "t"}))
    assert [row[:2] for row in kept(tmp_path / "d")] == [(0, 1), (0, 2), (1, 3), (1, 4)]
