# ruff: noqa: E501 (rows as they are)
"""Separators, quotes, encodings, members of archives, and what `peek` says of a log before it is read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

import pocketrec
from conftest import call
from log_support import rejects, tarred, zipped
from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.ingest import ingest
from pocketrec.ingestion.parts import Parts, read_frame
from pocketrec.sources.files import natural
from pocketrec.sources.options import ReadSettings
from pocketrec.storage.layout import Dataset

COLUMNS = {"session": "s", "item": "i", "time": "t"}
PLACES = {"session": "1", "item": "2", "time": "3"}
T = 1_400_000_000


def ids(root: Path) -> list[tuple[str, str]]:
    """Session and item as they came in."""
    parts = Parts(Dataset(root))
    names = {"session": "session", "item": "item"} | {name.removesuffix("_id"): name for name in parts.text_ids}
    frame = pl.concat([read_frame(part, [*names.values(), "row"]) for part in parts.folders]).sort("row")
    return [(str(s), str(i)) for s, i in zip(frame[names["session"]], frame[names["item"]], strict=True)]


@pytest.mark.parametrize(
    ("separator", "sign"),
    [("auto", ","), ("auto", "\t"), ("auto", ";"), ("auto", "|"), ("auto", "\x01"), ("auto", "::"), ("^A", "\x01"), ("::", "::"),
     ("blanks", " "), ("blanks", "  \t "), ("tab", "\t"), ("~", "~"), ("comma", ",")],
)  # fmt: skip
@pytest.mark.parametrize("header", [True, False])
def test_separators(tmp_path: Path, separator: str, sign: str, header: bool) -> None:
    rows = [["u", "5", str(T), "x"], ["v", "6", str(T + 1), "y"]]
    lines = [sign.join(row) for row in ([["s", "i", "t", "z"]] if header else []) + rows]
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    columns = "session=s,item=i,time=t" if header else "session=1,item=2,time=3"
    code, _, err = call(
        "ingest", tmp_path / "log", "--columns", columns, "--separator", separator, "--dataset", tmp_path / "d"
    )
    assert code == 0, err
    assert ids(tmp_path / "d") == [("u", "5"), ("v", "6")]
    bad = tmp_path / "bad"
    bad.write_text("\n".join([*lines, sign.join(rows[0][:3]), "", f"u\x1f{sign.join(rows[0][1:])}"]) + f"\n{lines[-1]}\n")
    report = ingest(bad, tmp_path / "e", ReadSettings(columns=COLUMNS if header else PLACES, separator="" if separator == "auto" else
                    {"blanks": " ", "tab": "\t", "comma": ",", "^A": "\x01"}.get(separator, separator), bad_rows="set-aside"))  # fmt: skip
    reasons = [reason for _, reason, _ in rejects(tmp_path / "e")]
    assert reasons[:2] == ["3 fields instead of 4", "a blank line"]
    assert (report.rows, report.set_aside) == (3, 3)


@pytest.mark.parametrize("wrong", ["a", "ab", '"', ".", "\\", "7"])
def test_what_is_no_separator(tmp_path: Path, wrong: str) -> None:
    code, _, err = call("ingest", tmp_path, "--columns", "session=s,item=i,time=t", "--separator", wrong)
    assert (code, "is not a separator" in err.replace("\n", " ")) == (2, True)


def test_quotes_that_are_letters(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f's\ti\tt\nu\t"Weird Al" Yankovic\t{T}\nu\t"x\t{T}\nu\ty"\t{T}\n')
    with pytest.raises(LogError, match="quotes inside a field"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
    ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS, quote="none"))
    assert ids(tmp_path / "d") == [("u", '"Weird Al" Yankovic'), ("u", '"x'), ("u", 'y"')]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "gb18030", "utf-8-sig"])
@pytest.mark.parametrize("packed", [True, False])
def test_encodings(tmp_path: Path, encoding: str, packed: bool) -> None:
    name = "品" if encoding in ("utf-16", "gb18030") else "café"
    data = f"s,i,t\nu,{name},{T}\n".encode(encoding)
    (tmp_path / "log").write_bytes(gzip.compress(data) if packed else data)
    found = ("utf-16", "utf-8-sig")  # by their first bytes
    ingest(
        tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS, encoding="utf-8" if encoding in found else encoding)
    )
    assert ids(tmp_path / "d") == [("u", name)]


def test_a_wrong_encoding_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(f"s,i,t\nu,café,{T}\n".encode("latin-1"))
    with pytest.raises(LogError, match="bytes that are not UTF-8 in i"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
    (tmp_path / "odd").write_bytes(f"s,i,t\nu,café,{T}\n".encode("utf-16")[:-1])
    with pytest.raises(LogError, match="is not utf-16"):
        ingest(tmp_path / "odd", tmp_path / "d", ReadSettings(columns=COLUMNS))
    with pytest.raises(SettingsError, match="encoding is 'latin-99'"):
        ReadSettings(encoding="latin-99")


@pytest.mark.parametrize("other", [b"", "\U000f0000".encode()])
def test_a_bad_byte_in_a_column_that_is_not_used_loses_no_row(tmp_path: Path, other: bytes) -> None:
    """Nor does it where the sign that stands for it is in the log already."""
    lines = [
        b"u,5,%d,\xff\xfe caf\xe9" % T,
        b"u,6,%d,%s" % (T, other),
        b"u\xe9,7,%d," % T,
        b"u" + other + b",8,%d,\xe9" % T,
    ]
    (tmp_path / "log").write_bytes(b"s,i,t,name\n" + b"\n".join(lines) + b"\n")
    report = ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS, bad_rows="set-aside"))
    assert [item for _, item in ids(tmp_path / "d")] == ["5", "6", "8"]
    assert [(line, reason) for line, reason, _ in rejects(tmp_path / "d")] == [(4, "bytes that are not UTF-8 in s")]
    assert report.lines == 4


def test_a_member_by_name(tmp_path: Path) -> None:
    data = f"s,i,t\nu,5,{T}\n".encode()
    members = (("x/a.csv", data), ("x/b.csv", b"s,i,t\n"), ("c/a.csv.txt", b""))
    for name, archive in (
        ("log.zip", zipped(*members)),
        ("log.tar", tarred(*members)),
        ("log.tgz", gzip.compress(tarred(*members))),
    ):
        (tmp_path / name).write_bytes(archive)
        with pytest.raises(LogError, match=r"holds x/a\.csv, x/b\.csv, c/a\.csv\.txt") as error:
            ingest(tmp_path / name, tmp_path / "d", ReadSettings(columns=COLUMNS))
        assert error.value.do == "say which: --member NAME"
        for member in ("x/a.csv", "a.csv"):
            report = ingest(tmp_path / name, tmp_path / "d", ReadSettings(columns=COLUMNS, member=member), fresh=True)
            assert (report.rows, report.member) == (1, "x/a.csv")
        with pytest.raises(LogError, match=r"has no file z\.csv"):
            ingest(tmp_path / name, tmp_path / "d", ReadSettings(columns=COLUMNS, member="z.csv"))
        with pytest.raises(LogError, match=r"x/b\.csv"):
            ingest(tmp_path / name, tmp_path / "d", ReadSettings(columns=COLUMNS, member="b.csv"))
    (tmp_path / "plain").write_bytes(data)
    with pytest.raises(LogError, match="is not an archive of files"):
        ingest(tmp_path / "plain", tmp_path / "d", ReadSettings(columns=COLUMNS, member="a"))


def test_names_are_in_natural_order() -> None:
    names = ["part-10", "part-9", "part-009", "part-1/b2", "part-1/b10", "a", "part-1"]
    assert sorted(map(Path, names), key=natural) == list(
        map(Path, ["a", "part-1", "part-1/b2", "part-1/b10", "part-009", "part-9", "part-10"])
    )


def test_times_of_a_day_an_hour_or_a_minute(tmp_path: Path) -> None:
    times = {"2014-12-06": 1417824000, "2014-12-06 02": 1417831200, "2014-12-06 02:03": 1417831380, "2014-12-06T02:03Z": 1417831380,
             "2014-12-06 02:03:04 UTC": 1417831384, "2014-12-06 02:03:04 GMT": 1417831384, "2014-12-06 02:03:04.5 UTC": 1417831384.5}  # fmt: skip
    for lines in [list(times), *([time] for time in times)]:
        (tmp_path / "log").write_text("s,i,t\n" + "".join(f"1,2,{time}\n" for time in lines))
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS))
        (part,) = Parts(Dataset(tmp_path / "d")).folders
        assert read_frame(part, ["time"])["time"].to_list() == [int(1000 * times[time]) for time in lines]


def test_a_date_and_the_time_since_then(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "s,i,d,ms\n1,2,2016-05-09,526309\n1,3,2016-05-09,1500.5\n1,4,2016-05-09,-1\n1,5,2016-05-09,\n1,6,soon,7\n"
    )
    columns = {"session": "s", "item": "i", "time": "d+ms"}
    report = ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=columns, time_unit="ms", bad_rows="set-aside"))
    (part,) = Parts(Dataset(tmp_path / "d")).folders
    assert read_frame(part, ["time"])["time"].to_list() == [1462752526309, 1462752001500]
    assert (report.set_aside, [reason for _, reason, _ in rejects(tmp_path / "d")][2]) == (
        3,
        "the time is not a date and a number: soon+7",
    )


def test_peek_finds_the_columns_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "my log.csv"
    log.write_text(
        "price,customer,seen,product_code\n"
        + "".join(f"{n}.5,c{n % 7},2020-01-01 00:00:{n % 60:02},p{n % 13}\n" for n in range(200))
    )
    found = pocketrec.peek(log)
    assert {column.taken_for: column.name for column in found.columns if column.taken_for} == {
        "session": "customer", "item": "product_code", "time": "seen"}  # fmt: skip
    assert (found.sampled, found.kept, found.bad, found.header) == (200, 200, 0, True)
    assert found.command == f"pocketrec prep '{log}' --columns session=customer,item=product_code,time=seen"
    assert found.rows[0] == ("0.5", "c0", "2020-01-01 00:00:00", "p0")
    code, out, _ = call("peek", log)
    assert (
        code,
        "To read it: pocketrec prep" in out,
        "times from 2020-01-01 00:00 to 2020-01-01 00:00 UTC; 60 values in 200 rows" in out,
    ) == (0, True, True)
    document = json.loads(call("peek", log, "--json")[1])
    assert document["first_ms"] == 1577836800000


def test_peek_shows_values_that_the_first_of_a_list_does_not_have(tmp_path: Path) -> None:
    """And those under a name with a dot in it."""
    (tmp_path / "log").write_text('{"a.b":1,"s":[{"x":null,"t":1659304800},{"x":5,"t":1659304801}],"u":"q"}\n')
    assert pocketrec.peek(tmp_path / "log").rows == (("1", "5", "1659304800", "q"),)


def test_peek_says_what_it_cannot_find_and_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a,b,c\n1.5,x,y\n2.5,z,w\n")
    found = pocketrec.peek(tmp_path / "log")
    assert (found.command, found.sampled) == ("", 0)
    assert "say which columns are which" in call("peek", tmp_path / "log")[1]
    (tmp_path / "bad").write_text("user,item,time\n1,2,1400000000\n,2,1400000000\n3,4,1400000000,9\n")
    found = pocketrec.peek(tmp_path / "bad")
    assert (found.kept, found.bad, found.why_bad) == (1, 2, "line 3: the session is empty")
    for name, data in {"empty": b"", "cut.gz": gzip.compress(b"x" * 9999)[:-20], "7z": b"7z\xbc\xaf\x27\x1c"}.items():
        (tmp_path / name).write_bytes(data)
        code, _, err = call("peek", tmp_path / name)
        assert (code, err.startswith("Error: "), "Traceback" in err) == (1, True, False), err
    assert call("peek", "-")[0] == 1


@pytest.mark.parametrize("form", ["json", "parquet", "zip", "folder", "latin-1", "yoochoose"])
def test_peek_and_its_command(tmp_path: Path, form: str) -> None:
    """What it says to type reads the log."""
    rows = [{"user_id": n % 3, "item": 5 + n % 4, "ts": T + n} for n in range(40)]
    log, root = tmp_path / "log", tmp_path / "d"
    text = "user_id,item,ts\n" + "".join(f"{row['user_id']},{row['item']},{row['ts']}\n" for row in rows)
    more = []
    if form == "json":
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "parquet":
        pl.DataFrame(rows).write_parquet(log)
    elif form == "zip":
        log.write_bytes(zipped(("x.csv", text.encode())))
    elif form == "folder":
        log.mkdir()
        (log / "part-2").write_text(text)
        (log / "part-10").write_text(text)
        rows = rows * 2
    elif form == "latin-1":
        log.write_bytes(("name," + text.replace("\n", "\né,", 40)).encode("latin-1"))
        more = ["--encoding", "latin-1"]
    else:
        log.write_text("".join(f"{row['user_id']},2014-04-07T10:51:09.277Z,{row['item']},0\n" for row in rows))
    code, out, err = call("peek", log, *more)
    assert code == 0, err
    words = out.split("To read it: pocketrec prep ")[1].split()
    assert words[0] == str(log)
    code, out, err = call("ingest", *words, "--dataset", root)
    assert code == 0, err
    assert f"{len(rows)} clicks" in out


def test_parquet_of_bytes_and_odd_types(tmp_path: Path) -> None:
    """Text as bytes, dictionaries, decimals, unsigned and small integers."""
    frame = pl.DataFrame(
        {
            "s": pl.Series([b"u", b"u", b"\xff"], dtype=pl.Binary),
            "i": pl.Series(["5", "6", "7"]).cast(pl.Categorical),
            "t": pl.Series([T, T + 1, T]).cast(pl.Decimal(12, 2)),
            "k": pl.Series([1, 1, 1], dtype=pl.Int8),
            "u": pl.Series([T, T, T], dtype=pl.UInt32),
        }
    )
    frame.write_parquet(tmp_path / "log")
    report = ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns=COLUMNS, where=("k=1",), bad_rows="set-aside"))
    assert ids(tmp_path / "d") == [("u", "5"), ("u", "6")]
    assert [reason for _, reason, _ in rejects(tmp_path / "d")] == ["bytes that are not UTF-8 in the session"]
    assert (report.first_ms, report.last_ms) == (1000 * T, 1000 * T + 1000)
    ingest(tmp_path / "log", tmp_path / "e", ReadSettings(columns={"session": "k", "item": "i", "time": "u"}))
    assert ids(tmp_path / "e") == [("1", "5"), ("1", "6"), ("1", "7")]
