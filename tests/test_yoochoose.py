"""Logs that are not quite as they should be: the first bad line is named, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pocketrec.errors import LogError
from pocketrec.layout import Dataset
from pocketrec.partitions import Parts, ingest
from pocketrec.schema import CLICK_COLUMNS

GOOD = "1,2014-04-07T10:51:09.277Z,214536502,0"
MS = 1_396_867_869_277
TIME = "2014-04-07T10:51:09.277Z"
MANY = 80_000
ID_TOO_LARGE = 2**63

BAD = {
    "few fields": (b"1,2014-04-07T10:51:09.277Z", "2 fields instead of 4"),
    "three fields of four": (f"1,{TIME},7".encode(), "3 fields instead of 4"),
    "one field": (b"hello", "1 field instead of 4"),
    "many fields": (f"{GOOD},9".encode(), "5 fields instead of 4"),
    "blank": (b"", "a blank line"),
    "spaces": (b"   ", "1 field instead of 4"),
    "NUL": (f"1,{TIME},7,\x00".encode(), "a NUL byte"),
    "NUL in an id": (f"1\x00,{TIME},7,0".encode(), "a NUL byte"),
    "UTF-8": (f"1,{TIME},7,".encode() + b"\xff\xfe", "bytes that are not UTF-8"),
    "session 2^63": (f"{ID_TOO_LARGE},{TIME},7,0".encode(), r"SessionId is larger than 2\^63-1"),
    "item 2^63": (f"1,{TIME},{ID_TOO_LARGE},0".encode(), r"ItemId is larger than 2\^63-1"),
    "item of 30 digits": (f"1,{TIME},{'9' * 30},0".encode(), "ItemId is"),
    "negative session": (f"-1,{TIME},7,0".encode(), "SessionId is not a whole number of 0 or more"),
    "negative item": (f"1,{TIME},-7,0".encode(), "ItemId is not a whole number of 0 or more"),
    "float session": (f"1.0,{TIME},7,0".encode(), "SessionId is not a whole number"),
    "float item": (f"1,{TIME},7.5,0".encode(), "ItemId is not a whole number"),
    "quoted session": (f'"1",{TIME},7,0'.encode(), "SessionId is not a whole number"),
    "quoted item": (f'1,{TIME},"7",0'.encode(), "ItemId is not a whole number"),
    "empty session": (f",{TIME},7,0".encode(), "SessionId is not a whole number"),
    "empty item": (f"1,{TIME},,0".encode(), "ItemId is not a whole number"),
    "header": (b"SessionId,Timestamp,ItemId,Category", "SessionId is not a whole number"),
    "Feb 30": (b"1,2014-02-30T10:51:09.277Z,7,0", "Timestamp is not of the form"),
    "Feb 29": (b"1,2014-02-29T10:51:09.277Z,7,0", "Timestamp is not of the form"),
    "month 13": (b"1,2014-13-01T10:51:09.277Z,7,0", "Timestamp is not of the form"),
    "day 0": (b"1,2014-04-00T10:51:09.277Z,7,0", "Timestamp is not of the form"),
    "hour 24": (b"1,2014-04-07T24:00:00.000Z,7,0", "Timestamp is not of the form"),
    "second 60": (b"1,2014-04-07T10:51:60.000Z,7,0", "Timestamp is not of the form"),
    "no milliseconds": (b"1,2014-04-07T10:51:09Z,7,0", "Timestamp is not of the form"),
    "a space for the T": (b"1,2014-04-07 10:51:09.277Z,7,0", "Timestamp is not of the form"),
    "no time": (b"1,,7,0", "Timestamp is not of the form"),
}


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(tmp_path: Path, log: bytes, message: str) -> LogError:
    """Ingest it into a folder that is not there, then into one that holds a good log; neither notices."""
    path = tmp_path / "clicks.dat"
    path.write_bytes(log)
    with pytest.raises(LogError, match=message) as error:
        ingest(path, tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    return error.value


def rows(where: Path) -> list[tuple[int, ...]]:
    """(session, item, time, row) in the order of the log."""
    frames = [pl.read_parquet(path, hive_partitioning=False) for path in Parts(Dataset(where)).paths]
    return sorted(pl.concat(frames).select(CLICK_COLUMNS).rows(), key=lambda row: row[-1])


@pytest.mark.parametrize("kind", sorted(BAD))
@pytest.mark.parametrize("place", ["middle", "last", "last, no newline"])
def test_a_bad_line_is_named(tmp_path: Path, kind: str, place: str) -> None:
    line, why = BAD[kind]
    if kind == "blank" and place == "last, no newline":
        pytest.skip("that is no line")
    before = f"{GOOD}\n".encode() * 4
    after = {"middle": b"\n" + before, "last": b"\n", "last, no newline": b""}[place]
    error = refused(tmp_path, before + line + after, rf"clicks\.dat, line 5: {why}")
    assert "SessionId,Timestamp,ItemId,Category" in error.expected
    assert error.do == "mend or remove the line"


@pytest.mark.parametrize("kind", ["many fields", "one field", "header", "NUL", "UTF-8", "negative session", "Feb 30"])
def test_a_bad_first_line_is_named(tmp_path: Path, kind: str) -> None:
    line, why = BAD[kind]
    refused(tmp_path, line + f"\n{GOOD}\n{GOOD}\n".encode(), f"line 1: {why}")


@pytest.mark.parametrize("kind", sorted(BAD))
def test_a_bad_line_late_in_a_large_log_is_named(tmp_path: Path, kind: str) -> None:
    """3 MB: beyond the chunks of the scan and the blocks of the search for the line."""
    line, why = BAD[kind]
    lines = [f"{GOOD}\n".encode()] * MANY
    lines[MANY - 1234] = line + b"\n"
    lines[MANY - 34] = b"another\n"
    refused(tmp_path, b"".join(lines), f"line {MANY - 1233}: {why}")


def test_the_first_of_several_bad_lines_is_named_between_odd_but_good_ones(tmp_path: Path) -> None:
    good = f" +1,{TIME},7,Ä\n1,2016-02-29T00:00:00.000Z,7,\n{'0' * 19}1,{TIME},7,0\n"
    path = tmp_path / "good.dat"
    path.write_text(good, encoding="utf-8")
    try:
        ingest(path, tmp_path / "good")
        accepted = 3
    except LogError as error:  # whatever is accepted, the search agrees with the scan on it
        assert "line 1:" in str(error) or "line 3:" in str(error)
        return
    refused(tmp_path, (good + "x\ny\n").encode(), f"line {accepted + 1}: 1 field")


def test_a_last_line_cut_short(tmp_path: Path) -> None:
    log = f"{GOOD}\n{GOOD}\n{GOOD}".encode()
    for left in range(2 * len(GOOD) + 3, len(log) - 2):
        refused(tmp_path, log[:left], "line 3: ")


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "line 1: "),
        (b"Dear all,\nplease find attached\n", "line 1: 2 fields instead of 4"),
        (b"{}", "line 1: 1 field instead of 4"),
        (b"\n", "line 1: a blank line"),
        (b"\n\n\n", "line 1: a blank line"),
        (b"a,b,c\n", "line 1: SessionId is not a whole number"),
        (b"\xff\xfe1\x00,\x00", "line 1: a NUL byte"),
    ],
)
def test_what_is_no_log(tmp_path: Path, log: bytes, message: str) -> None:
    refused(tmp_path, log, message)


def test_a_long_line_is_shown_in_part(tmp_path: Path) -> None:
    error = refused(tmp_path, f"{GOOD}\n".encode() + b"x" * 100_000, "line 2: 1 field")
    assert "x" * 120 + "..." in error.wrong
    assert len(str(error)) < 1000


@pytest.mark.parametrize("kind", ["Feb 30", "many fields", "UTF-8", "session 2^63", "negative item"])
def test_a_bad_log_leaves_the_earlier_one_usable(tmp_path: Path, kind: str) -> None:
    good, bad, where = tmp_path / "good.dat", tmp_path / "bad.dat", tmp_path / "dataset"
    good.write_text(f"{GOOD}\n" * 3)
    bad.write_bytes(f"{GOOD}\n".encode() * 3 + BAD[kind][0] + b"\n")
    ingest(good, where)
    before = content(where)
    with pytest.raises(LogError, match="line 4"):
        ingest(bad, where)
    assert content(where) == before
    assert rows(where) == [(1, 214536502, MS, row) for row in range(3)]
    assert ingest(good, where).reused


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline_at_end", [True, False])
def test_dialects(tmp_path: Path, columns: int, end: str, mark: str, newline_at_end: bool) -> None:
    lines = [f"{number},{TIME},{number * 10}{',S'[: 2 * (columns - 3)]}" for number in range(1, 6)]
    text = mark + end.join(lines) + (end if newline_at_end else "")
    (tmp_path / "clicks.dat").write_bytes(text.encode())
    report = ingest(tmp_path / "clicks.dat", tmp_path / "d")
    assert (report.rows, report.first_ms, report.last_ms) == (5, MS, MS)
    assert rows(tmp_path / "d") == [(number, number * 10, MS, number - 1) for number in range(1, 6)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_bad_line_in_a_dialect(tmp_path: Path, end: str) -> None:
    three = f"1,{TIME},7"
    refused(tmp_path, f"{three}{end}{three}{end}{GOOD}{end}".encode(), "line 3: 4 fields instead of 3")
    refused(tmp_path, f"\ufeff{GOOD}{end}{GOOD}{end}x{end}".encode(), "line 3: 1 field instead of 4")
    refused(tmp_path, f"{GOOD}{end}{end}{GOOD}{end}".encode(), "line 2: a blank line")


def test_a_category_can_be_anything(tmp_path: Path) -> None:
    categories = ["", "0", "S", '"', "'", "Ä", "😀", " ", "12345678901234567890", "#", "\\N", "null", '""', "a b"]
    text = "".join(f"1,{TIME},7,{category}\n" for category in categories)
    (tmp_path / "clicks.dat").write_text(text, encoding="utf-8")
    ingest(tmp_path / "clicks.dat", tmp_path / "d")
    assert rows(tmp_path / "d") == [(1, 7, MS, row) for row in range(len(categories))]


def test_ids_up_to_the_largest(tmp_path: Path) -> None:
    ids = [0, 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 2, 2**63 - 1]
    (tmp_path / "clicks.dat").write_text("".join(f"{a},{TIME},{b},0\n" for a, b in zip(ids, ids[::-1], strict=True)))
    ingest(tmp_path / "clicks.dat", tmp_path / "d")
    assert rows(tmp_path / "d") == [(a, b, MS, row) for row, (a, b) in enumerate(zip(ids, ids[::-1], strict=True))]


def test_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"nowhere\.dat does not exist") as error:
        ingest(tmp_path / "nowhere.dat", tmp_path / "d")
    assert "pocketrec synth" in error.value.do
    with pytest.raises(LogError, match="is not a file"):
        ingest(tmp_path, tmp_path / "d")
    (tmp_path / "empty.dat").touch()
    with pytest.raises(LogError, match=r"empty\.dat is empty"):
        ingest(tmp_path / "empty.dat", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_name_with_wildcards_is_a_name(tmp_path: Path) -> None:
    log = tmp_path / "a[1]*?.dat"
    log.write_text(f"{GOOD}\n")
    (tmp_path / "a1.dat").write_text(f"{GOOD}\n" * 5)
    assert ingest(log, tmp_path / "d [*]").rows == 1
    assert len(rows(tmp_path / "d [*]")) == 1
