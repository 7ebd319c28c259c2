"""Logs of named columns: csv, tsv and Parquet, ids of any kind, and that what comes out has the ids that came in."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import call
from line_oracle import by_hand, read_time
from log_support import TIMES, kept, mutations, rejects
from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.ingest import ingest
from pocketrec.ingestion.parts import Parts, read_frame
from pocketrec.sessions.batches import batches
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.split import split
from pocketrec.sources.delimited import Lines
from pocketrec.sources.options import ReadSettings, check_columns, parse_columns
from pocketrec.sources.parquet import is_parquet
from pocketrec.storage.item_index import read_items
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import read_records
from pocketrec.storage.verify_data import verify_data

COLUMNS = {"session": "user session", "item": "sku", "time": "when"}
HEADER = ["n", "when", "sku", "price", "user session"]
Row = tuple[object, object, object]  # session, item, time


def csv_of(rows: Sequence[Row], separator: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]
    writer.writerow(HEADER)
    for number, (session, item, time) in enumerate(rows):
        writer.writerow([number, time, item, "1.5", session])
    return text.getvalue().encode()


def shop(seed: int = 1, sessions: int = 400, clicks: int = 8) -> list[Row]:
    """Sessions with numbers for ids, in no order; item 0 .. 19."""
    chance, rows = random.Random(seed), []
    for session in range(sessions):
        begin = 1_396_321_200_000 + session * 1_800_000
        for step in range(chance.randint(1, clicks)):
            rows.append((session, chance.randrange(20), begin + 1000 * step + chance.randrange(1000)))
    chance.shuffle(rows)
    return [(session, item, ms) for session, item, ms in rows]


def name_of(number: int, what: str) -> str:
    """Text whose order is that of the numbers, with whatever may stand in it."""
    return f'{what} {number:05d}, "é" ;{"x" * (number % 5)}|🛒'


def words(rows: Sequence[Row]) -> list[Row]:
    return [(name_of(int(str(s)), "session"), name_of(int(str(i)), "item"), time) for s, i, time in rows]


@st.composite
def csv_lines(draw: st.DrawFn, separator: str) -> bytes:
    row = (
        draw(st.text(max_size=4)),
        draw(st.sampled_from(["7", "a,b", 'q"q', "", "é"])),
        draw(st.sampled_from(TIMES)).decode(),
    )
    line = csv_of([row], separator, draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))).split(b"\n", 1)[1][:-1]
    for place, removed, put in draw(
        st.lists(mutations | st.tuples(st.integers(0, 40), st.just(0), st.just(b'"')), max_size=2)
    ):
        line = line[:place] + put + line[place + removed :]
    return line.replace(b"\n", b"")


def of_block(form: Lines, text: bytes) -> list[tuple[str, str, int]] | None:
    """The clicks of some lines, ids as text."""
    found = form.parse(text)
    return found and found.frame.with_columns(pl.col("session", "item").cast(pl.String)).rows()  # type: ignore[return-value]


@settings(max_examples=120)
@given(data=st.data(), separator=st.sampled_from([",", "\t", ";", "|"]))
def test_one_judge(data: st.DataObject, separator: str) -> None:
    """The block parser, the judge of lines and the independent judge agree."""
    line = data.draw(csv_lines(separator))
    form = Lines(HEADER, separator, COLUMNS, ReadSettings())
    click = by_hand(line, separator)
    assert of_block(form, line + b"\n") == (None if click is None else [click])
    assert (form.judge([line]) == [""]) == (click is not None)


@settings(max_examples=40)
@given(data=st.data(), separator=st.sampled_from([",", "\t"]))
def test_a_block_is_its_lines(data: st.DataObject, separator: str) -> None:
    """No quote reaches into the next line, and no line makes up for another."""
    some = data.draw(st.lists(csv_lines(separator), min_size=1, max_size=5))
    form = Lines(HEADER, separator, COLUMNS, ReadSettings())
    clicks = [by_hand(line, separator) for line in some]
    assert of_block(form, b"\n".join(some) + b"\n") == (None if None in clicks else clicks)


def outputs(root: Path) -> tuple[dict[str, str], dict[str, np.ndarray], pl.DataFrame]:
    """Txt files, batches, and the item index of a dataset, made now."""
    split(root, SplitSettings(min_item_support=2))
    batches(root, BatchSettings(batch_size=16))
    where = Dataset(root)
    txt = {path.name: path.read_text() for path in where.rsc15.glob("*.txt")}
    return txt, {path.name: np.load(path) for path in where.final.glob("*.npy")}, read_items(where.items)


@pytest.mark.usefixtures("small_parts")
def test_what_is_made_of_words_is_what_is_made_of_numbers(tmp_path: Path) -> None:
    """But for the ids, which are those that came in. The order of words is that of their bytes, so nothing else changes."""
    rows = shop(sessions=150)
    made = []
    for name, some in (("numbers", rows), ("words", words(rows))):
        (tmp_path / name).write_bytes(csv_of(some))
        report = ingest(tmp_path / name, tmp_path / f"d_{name}", ReadSettings(columns=COLUMNS))
        assert (report.rows, report.lines, report.header) == (len(rows), len(rows), True)
        made.append(outputs(tmp_path / f"d_{name}"))
        assert verify_data(tmp_path / f"d_{name}").passed
    (txt, npy, items), (word_txt, word_npy, word_items) = made
    assert len(Parts(Dataset(tmp_path / "d_words")).folders) > 20
    assert npy.keys() == word_npy.keys()
    assert all((npy[name] == word_npy[name]).all() for name in npy)
    assert word_items["item_id"].to_list() == [name_of(item, "item") for item in items["item_id"]]
    assert items.drop("item_id").equals(word_items.drop("item_id"))
    for name, text in txt.items():
        head, *lines = text.splitlines()
        wanted = [head]
        for session, item, time in (line.split("\t") for line in lines):
            wanted.append(f"{name_of(int(session), 'session')}\t{name_of(int(item), 'item')}\t{time}")
        assert word_txt[name].splitlines() == wanted


@pytest.mark.usefixtures("small_parts")
def test_codes_are_ranks_in_the_order_of_bytes(tmp_path: Path) -> None:
    """Over all parts; and the ids stand beside them."""
    chance = random.Random(2)
    ids = ["", "a", "B", "é", "z", "10", "9", "ﬀ", "🛒", "Ω"]
    rows = [(chance.choice(ids) + chance.choice(ids[1:]), chance.choice(ids[1:]), 1396867869 + row) for row in range(300)]
    (tmp_path / "log").write_bytes(csv_of(rows))
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
    parts = Parts(Dataset(tmp_path / "d"))
    names = ["row", "session", "item", "session_id", "item_id"]
    found = sorted(row for part in parts.folders for row in read_frame(part, names).rows())
    sessions, items = (sorted({row[column] for row in rows}, key=lambda one: str(one).encode()) for column in (0, 1))
    assert found == [(n, sessions.index(s), items.index(i), s, i) for n, (s, i, _) in enumerate(rows)]
    for part in parts.folders:
        assert read_frame(part, ["row"])["row"].is_sorted()
    assert pl.read_parquet(Dataset(tmp_path / "d").item_ids)["item_id"].to_list() == items


def test_numbers_stay_what_they_are(tmp_path: Path) -> None:
    rows = [
        (2**63 - 1, 0, "2014-04-07T10:51:09.277Z"),
        (0, 5, "1396867869.5"),
        (12, 2**63 - 1, "2014-04-07 10:51:09+02:00"),
    ]
    (tmp_path / "log").write_bytes(csv_of(rows))
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
    assert kept(tmp_path / "d") == [(s, i, read_time(str(time))) for s, i, time in rows]
    assert Parts(Dataset(tmp_path / "d")).text_ids == []
    assert not Dataset(tmp_path / "d").item_ids.exists()


@pytest.mark.parametrize("odd", ["007", "+5", "-1", "9223372036854775808", "5.5", "x", "٣"])
def test_one_id_that_is_no_number_makes_its_column_text(tmp_path: Path, odd: str) -> None:
    rows = [(1, 10, 1396867869), (2, odd, 1396867870), (2, 9, 1396867871)]
    (tmp_path / "log").write_bytes(csv_of(rows))
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
    parts = Parts(Dataset(tmp_path / "d"))
    assert parts.text_ids == ["item_id"]
    order = sorted(["10", odd, "9"], key=str.encode)
    assert [click[:2] for click in kept(tmp_path / "d")] == [(s, order.index(str(i))) for s, i, _ in rows]
    (tmp_path / "log").write_bytes(csv_of([rows[0], rows[2]]))
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
    assert not Dataset(tmp_path / "d").item_ids.exists(), "that of the older log is gone"


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_any_separator_quoted_packed_marked_with_other_columns(
    tmp_path: Path, separator: str, quoting: int, pack: type[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketrec.sources.streams.BLOCK_BYTES", 500)
    rows = words(shop(sessions=40))
    data = b"\xef\xbb\xbf" + csv_of(rows, separator, quoting).replace(b"\n", b"\r\n")
    (tmp_path / "log").write_bytes(pack(data))
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
    parts = Parts(Dataset(tmp_path / "d"))
    found = sorted(
        row for part in parts.folders for row in read_frame(part, ["row", "session_id", "item_id", "time"]).rows()
    )
    assert [row[1:] for row in found] == rows


def test_bad_lines_of_a_csv(tmp_path: Path) -> None:
    good = csv_of(shop(sessions=5)).decode().splitlines()
    bad = {
        '9,1396867869,"sku,1.5,u': "3 fields instead of 5",
        '9,1396867869,s"k"u,1.5,u': "quotes inside a field",
        "9,1396867869,,1.5,u": "the item is empty",
        "9,1396867869,a,1.5": "4 fields instead of 5",
        "": "a blank line",
        "9,soon,a,1.5,u": "the time is not of the form",
        "9,1396867869,a\tb,1.5,u": "the item has a tab or a line end in it",
        "9,1,2,3,4,5": "6 fields instead of 5",
    }
    log = tmp_path / "log.csv"
    log.write_text("\n".join([*good, *bad]))
    with pytest.raises(LogError) as error:
        ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS))
    assert error.value.wrong.startswith(f"{log}, line {len(good) + 1}: ")
    assert error.value.expected == "5 fields, user session the session, sku the item, when the time"
    report = ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS, bad_rows="set-aside"))
    assert (report.rows, report.set_aside, report.lines) == (len(good) - 1, len(bad), len(good) - 1 + len(bad))
    for (number, reason, text), (index, (line, why)) in zip(rejects(tmp_path / "d"), enumerate(bad.items()), strict=True):
        assert (number, text) == (len(good) + 1 + index, line.encode())
        assert reason.startswith(why), line


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("session;item,when\n1;2,3\n")
    with pytest.raises(LogError) as error:
        ingest(log, tmp_path / "d", ReadSettings(columns={"session": "session", "item": "item", "time": "when"}))
    what = "has no column, or more than one, called 'session' and 'item'; it has 'session;item', 'when'."
    assert error.value.wrong == f"{log} {what}"
    assert "session=NAME,item=NAME,time=NAME" in error.value.expected
    assert list(tmp_path.iterdir()) == [log]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "session=a",
        "session=a,item=b,time=",
        "session=a,item=b,time=c,other=d",
        "a,b,c",
        "session=a,session=b,item=c,time=d",
    ],
)
def test_what_names_no_columns(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        parse_columns(text)
    if text:
        assert call("ingest", tmp_path, "--columns", text)[0] == 2


def test_columns_by_the_command_line_and_back(tmp_path: Path) -> None:
    """As it is written, into the record, and into the command that makes a part again."""
    assert check_columns(COLUMNS) == parse_columns("time=when,session=user session,item=sku") == COLUMNS
    log, root = tmp_path / "log.csv", tmp_path / "d"
    log.write_bytes(csv_of(words(shop())))
    written = "item=sku,session=user session,time=when"  # as the manifest sorts it
    options = ("--dataset", root, "--batch-size", 16, "--min-item-support", 2, "--columns", written)
    code, out, err = call("prep", log, *options)
    assert (code, out.startswith("Full train set\n")) == (0, True), err
    assert read_records(root / "parquet")["ingest"].settings == {"timezone": "UTC", "columns": COLUMNS}
    assert "  session and item ids are not all whole numbers" in err
    assert "up to date" in call("prep", log, *options)[2]
    Dataset(root).item_ids.unlink()
    inspected = call("inspect", "--dataset", root)[1]
    assert "item_ids.parquet is missing" in inspected
    assert f"columns={written}" in inspected
    assert "--columns 'session=user session,item=sku,time=when'" in call("verify-data", "--dataset", root)[1]


def parquet(path: Path, session: object, item: object, time: object) -> Path:
    pl.DataFrame({"user session": session, "other": [1.5] * len(time), "sku": item, "when": time}).write_parquet(path)  # type: ignore[arg-type]
    return path


MOMENTS = [datetime(2014, 4, 7, 10, 51, 9, 277_999), datetime(2020, 2, 29, 23, 59, 59)]
MS = [1396867869277, 1583020799000]
TIME_COLUMNS = {
    "text": (pl.Series(["2014-04-07T10:51:09.277Z", "1583020799"]), MS),
    "seconds": (pl.Series([1396867869, 1583020799], dtype=pl.UInt32), [1396867869000, MS[1]]),
    "milliseconds": (pl.Series(MS), MS),
    "float seconds": (pl.Series([1396867869.277, 1583020799.0]), MS),
    "datetimes": (pl.Series(MOMENTS, dtype=pl.Datetime("ns")), MS),
    "datetimes of a zone": (pl.Series(MOMENTS).dt.replace_time_zone("Asia/Shanghai"), [one - 28_800_000 for one in MS]),
    "days": (pl.Series(MOMENTS).dt.date(), [1396828800000, 1582934400000]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TIME_COLUMNS)
@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt16, pl.String, pl.Categorical])
def test_parquet_of_any_kind(tmp_path: Path, kind: str, dtype: type[pl.DataType]) -> None:
    time, ms = TIME_COLUMNS[kind]
    ids = pl.Series(["7", "12"]).cast(pl.Int64 if dtype in (pl.Int64, pl.UInt16) else pl.String).cast(dtype)
    log = parquet(tmp_path / "log.parquet", ids, ids.reverse(), time)
    report = ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS))
    assert kept(tmp_path / "d") == [(7, 12, ms[0]), (12, 7, ms[1])]
    assert (report.lines, report.rows, report.header) == (2, 2, False)
    assert ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS)).reused


def test_a_datetime_without_a_zone_is_the_wall_clock_of_the_log(tmp_path: Path) -> None:
    log = parquet(tmp_path / "log.parquet", [1, 2], [3, 4], MOMENTS)
    ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS, timezone="Asia/Shanghai"))
    wanted = [(one.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) for one in MOMENTS]
    assert [click[2] for click in kept(tmp_path / "d")] == [ms - 28_800_000 for ms in wanted]


def test_bad_rows_of_a_parquet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketrec.sources.parquet.ROWS_PER_READ", 3)
    session = ["a", "", "b", None, "c", "t\tab", "d", "e\nf"]
    time = [1, 2, None, 4, 5, 6, -7, 8]
    log = parquet(tmp_path / "log.parquet", session, list(range(8)), time)
    with pytest.raises(LogError, match=r"log\.parquet, line 2: the session is empty"):
        ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS, time_unit="s"))
    report = ingest(log, tmp_path / "d", ReadSettings(columns=COLUMNS, bad_rows="set-aside", time_unit="s"))
    assert (report.rows, report.set_aside, report.lines) == (2, 6, 8)
    assert [(number, text) for number, _, text in rejects(tmp_path / "d")] == [
        (2, b",1,2"), (3, b"b,2,"), (4, b",3,4"), (6, b"t\tab,5,6"), (7, b"d,6,-7"), (8, b"e\nf,7,8")]  # fmt: skip
    reasons = [reason[:11] for _, reason, _ in rejects(tmp_path / "d")]
    assert reasons == ["the session", "the time is", "the session", "the session", "the time is", "the session"]
    assert kept(tmp_path / "d") == [(0, 0, 1000), (1, 4, 5000)]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"PAR1" + bytes(4) + b"PAR1", True),
        (b"PAR1\x15\x04\x15", True),  # cut short
        (b"PAR1\n1,2,3\n", False),
        (b"PAR1,2014-04-07T10:51:09.277Z,5,0\n", False),
        (b"PAR1PAR1", False),
        (b"PAR1", False),
        (b"1,2014-04-07T10:51:09.277Z,5,PAR1", False),
        (b"", False),
    ],
)
def test_what_is_parquet(tmp_path: Path, content: bytes, found: bool) -> None:
    log = tmp_path / "log"
    log.write_bytes(content)
    assert is_parquet(log) is found


def test_parquet_that_is_no_log(tmp_path: Path) -> None:
    log = parquet(tmp_path / "log.parquet", [1.5], [1], [1])
    assert "--columns session=NAME" in call("ingest", log, "--dataset", tmp_path / "d")[2]
    long = parquet(tmp_path / "long", [1], [1], [timedelta(1)])
    cases = {
        "line 1: the session is a fraction, or too large": log,
        "is cut or damaged": tmp_path / "cut",
        "called 'sku'": tmp_path / "other",
    }
    cases["has the time column 'when' of Duration"] = long
    cases["is cut or damaged"].write_bytes(log.read_bytes()[:-20])
    pl.DataFrame({"user session": [1], "when": [1]}).write_parquet(cases["called 'sku'"])
    for said, path in cases.items():
        with pytest.raises(LogError) as error:
            ingest(path, tmp_path / "d", ReadSettings(columns=COLUMNS))
        assert said in error.value.wrong
        assert str(path) in error.value.wrong
    empty = parquet(
        tmp_path / "empty", pl.Series([], dtype=pl.Int64), pl.Series([], dtype=pl.Int64), pl.Series([], dtype=pl.Int64)
    )
    with pytest.raises(LogError, match="is empty"):
        ingest(empty, tmp_path / "d", ReadSettings(columns=COLUMNS))
    assert not (tmp_path / "d").exists()
