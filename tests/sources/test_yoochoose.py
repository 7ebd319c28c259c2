"""The reader of YooChoose's log: what it reads, what it refuses, and that it names the line and the cure."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from line_oracle import read_line
from pocketrec.errors import LogError
from pocketrec.ingestion.ingest import ingest
from pocketrec.sources.yoochoose import is_original, sample, scan

Row = tuple[int, int, int, int]  # session, item, ms, row

TIME = b"2014-04-07T10:51:09.277Z"
MS = 1396867869277
GOOD = [b"%d,%s,%d,0\n" % (100 + row, TIME, 214536500 + row) for row in range(7)]
ROWS: list[Row] = [(100 + row, 214536500 + row, MS, row) for row in range(7)]

BAD = {
    "blank": (b"", "a blank line"),
    "one field": (b"5", "1 field instead of 4"),
    "two fields": (b"5,2014-04-07T10:51:09.277Z", "2 fields instead of 4"),
    "cut in the time": (b"5,2014-04-0", "2 fields instead of 4"),
    "cut before the item": (b"5,2014-04-07T10:51:09.277Z,", "3 fields instead of 4"),
    "no category": (b"5,2014-04-07T10:51:09.277Z,7,", "Category is empty"),
    "five fields": (b"5,2014-04-07T10:51:09.277Z,7,0,1", "5 fields instead of 4"),
    "another separator": (b"5;2014-04-07T10:51:09.277Z;7;0", "1 field instead of 4"),
    "NUL": (b"5,2014-04-07T10:51:09.277Z,7\x00,0", "a NUL byte"),
    "not UTF-8": (b"5,2014-04-07T10:51:09.277Z,7,caf\xe9", "bytes that are not UTF-8"),
    "no session": (b",2014-04-07T10:51:09.277Z,7,0", "SessionId is not a whole number"),
    "a word for a session": (b"five,2014-04-07T10:51:09.277Z,7,0", "SessionId is not a whole number"),
    "negative session": (b"-5,2014-04-07T10:51:09.277Z,7,0", "SessionId is not a whole number of 0 or more"),
    "float session": (b"5.0,2014-04-07T10:51:09.277Z,7,0", "SessionId is not a whole number"),
    "quoted session": (b'"5",2014-04-07T10:51:09.277Z,7,0', "SessionId is not a whole number"),
    "session of 2^63": (b"9223372036854775808,2014-04-07T10:51:09.277Z,7,0", "SessionId is larger than 2^63-1"),
    "no item": (b"5,2014-04-07T10:51:09.277Z,,0", "ItemId is not a whole number"),
    "negative item": (b"5,2014-04-07T10:51:09.277Z,-7,0", "ItemId is not a whole number of 0 or more"),
    "float item": (b"5,2014-04-07T10:51:09.277Z,7.5,0", "ItemId is not a whole number"),
    "quoted item": (b'5,2014-04-07T10:51:09.277Z,"7",0', "ItemId is not a whole number"),
    "item of 2^63": (b"5,2014-04-07T10:51:09.277Z,9223372036854775808,0", "ItemId is larger than 2^63-1"),
    "no time": (b"5,,7,0", "the time is not of the form"),
    "quoted time": (b'5,"2014-04-07T10:51:09.277Z",7,0', "the time is not of the form"),
    "no seconds": (b"5,2014-04-07T10:51Z,7,0", "the time is not of the form"),
    "30 February": (b"5,2014-02-30T10:51:09.277Z,7,0", "the time is not of the form"),
    "24 o'clock": (b"5,2014-04-07T24:00:00.000Z,7,0", "the time is not of the form"),
}


def write(folder: Path, lines: list[bytes]) -> Path:
    path = folder / "clicks.dat"
    path.write_bytes(b"".join(lines))
    return path


def rows(log: Path) -> list[Row | tuple[None, ...]]:
    """What the scan reads, null where it cannot."""
    return scan(log).select("session", "item", "time", "row").collect(engine="streaming").rows()


def is_refused(log: Path) -> bool:
    """Whether ingest would not take the scan, or the scan stops at a line or marks one as unreadable."""
    try:
        return not is_original(log) or any(None in row for row in rows(log))
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError, pl.exceptions.NoDataError, OSError):
        return True  # OSError: Polars tries to unpack what begins like an archive


def explain(log: Path) -> LogError:
    """What ingest says."""
    with tempfile.TemporaryDirectory() as folder, pytest.raises(LogError) as error:
        ingest(log, folder)
    return error.value


def check_refusal(error: LogError, log: Path, number: int, line: bytes, reason: str) -> None:
    """The message: where, what was wrong, the line itself; what was expected; what to do."""
    assert error.wrong.startswith(f"{log}, line {number}: {reason}")
    assert error.wrong.endswith(repr(line.decode("utf-8", "backslashreplace")))
    assert error.expected == "SessionId,Timestamp,ItemId,Category, such as 1,2014-04-07T10:51:09.277Z,214536502,0"
    do = "mend or remove the line, or go on without such lines: --bad-rows set-aside"
    header = "; if it is the header of a log of other columns, say which are which: --columns"
    assert error.do == do + (header if number == 1 else "")
    assert str(error) == f"{error.wrong}\nExpected: {error.expected}\nTo go on: {error.do}"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("place", [0, 5])
@pytest.mark.parametrize("kind", BAD)
def test_each_kind_of_bad_line_is_refused_and_named(tmp_path: Path, kind: str, place: int, end: bytes) -> None:
    line, reason = BAD[kind]
    lines = [good.replace(b"\n", end) for good in GOOD]
    log = write(tmp_path, [*lines[:place], line + end, *lines[place + 1 :]])
    assert is_refused(log)
    check_refusal(explain(log), log, place + 1, line, reason)


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind != "blank"])
def test_a_bad_last_line_without_its_end(tmp_path: Path, kind: str) -> None:
    """As a broken download leaves it."""
    line, reason = BAD[kind]
    log = write(tmp_path, [*GOOD, line])
    assert is_refused(log)
    check_refusal(explain(log), log, 8, line, reason)


@pytest.mark.parametrize(
    "line",
    [GOOD[6][:end] for end in range(1, 39)],
)
def test_a_last_line_cut_anywhere_before_the_category(tmp_path: Path, line: bytes) -> None:
    """A cut item id would be another item."""
    log = write(tmp_path, [*GOOD[:6], line])
    assert is_refused(log)
    assert f"{log}, line 7: {line.count(b',') + 1} field" in explain(log).wrong


@pytest.mark.parametrize("place", [3, 6])
def test_a_line_without_the_category_among_others_with_it(tmp_path: Path, place: int) -> None:
    line = b"5,2014-04-07T10:51:09.277Z,7"
    log = write(tmp_path, [*GOOD[:place], line + b"\n", *GOOD[place + 1 :]])
    check_refusal(explain(log), log, place + 1, line, "3 fields instead of 4")
    assert is_refused(log)


@pytest.mark.parametrize("place", [1, 6])
def test_a_line_with_a_category_in_a_log_without(tmp_path: Path, place: int) -> None:
    lines = [line.replace(b",0\n", b"\n") for line in GOOD]
    log = write(tmp_path, [*lines[:place], GOOD[place], *lines[place + 1 :]])
    assert is_refused(log)
    assert f"{log}, line {place + 1}: 4 fields instead of 3" in explain(log).wrong


def test_a_first_line_without_the_category(tmp_path: Path) -> None:
    """Whichever of the first two lines is blamed, one of them must be."""
    log = write(tmp_path, [b"5,2014-04-07T10:51:09.277Z,7\n", *GOOD])
    assert is_refused(log)
    assert re.search(r"line [12]: [34] fields instead of [34]", explain(log).wrong)


def test_the_first_of_several_bad_lines_is_named(tmp_path: Path) -> None:
    log = write(tmp_path, [*GOOD, b"5;6\n", *GOOD, b"\n", *GOOD])
    check_refusal(explain(log), log, 8, b"5;6", "1 field instead of 4")


def test_a_long_line_is_not_shown_whole(tmp_path: Path) -> None:
    log = write(tmp_path, [*GOOD, b"x" * 100_000])
    error = explain(log)
    assert f"{log}, line 8: 1 field instead of 4" in error.wrong
    assert error.wrong.endswith("x...'")
    assert len(error.wrong) < len(str(log)) + 200


def test_blanks_at_the_end_are_named(tmp_path: Path) -> None:
    log = write(tmp_path, [*GOOD, b"\n"])
    assert is_refused(log)
    check_refusal(explain(log), log, 8, b"", "a blank line")


@pytest.mark.parametrize("content", [b"\n", b"\r\n", b"\n\n\n"])
def test_a_file_of_nothing_but_blanks(tmp_path: Path, content: bytes) -> None:
    log = write(tmp_path, [content])
    assert not len(sample(log)[0])
    check_refusal(explain(log), log, 1, b"", "a blank line")


@pytest.mark.parametrize(
    "content", [b"", b"\xef\xbb\xbf", b"SessionId,Timestamp,ItemId,Category\n", b"session_id,time,item"]
)
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    error = explain(write(tmp_path, [content]))
    assert error.wrong == f"{tmp_path / 'clicks.dat'} is empty."
    assert "SessionId,Timestamp,ItemId,Category" in error.expected
    assert error.do == "check the download or the path"


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("category", [b",0", b",S", b",1234567890", b"", ",caf\u00e9".encode(), b',"0"'])
@pytest.mark.parametrize("last", ["ended", "open"])
def test_forms_that_are_understood(tmp_path: Path, category: bytes, bom: bytes, ending: bytes, last: str) -> None:
    """With and without category, byte order mark, carriage returns, end of the last line."""
    text = bom + b"".join(GOOD).replace(b",0\n", category + ending)
    log = write(tmp_path, [text if last == "ended" else text.removesuffix(ending)])
    assert rows(log) == ROWS


def test_line_ends_may_be_mixed(tmp_path: Path) -> None:
    assert rows(write(tmp_path, [line if row % 2 else line[:-1] + b"\r\n" for row, line in enumerate(GOOD)])) == ROWS


def test_columns_and_their_dtypes(tmp_path: Path) -> None:
    frame = scan(write(tmp_path, GOOD)).collect()
    assert dict(frame.schema) == {name: pl.Int64() for name in ("session", "item", "time", "row")}


def test_the_smallest_and_the_largest_id(tmp_path: Path) -> None:
    ends = (0, 2**63 - 1)
    log = write(tmp_path, [b"%d,%s,%d,0\n" % (session, TIME, item) for session in ends for item in ends])
    assert rows(log) == [(session, item, MS, row) for row, (session, item) in enumerate((s, i) for s in ends for i in ends)]


def test_the_zone_of_the_log_moves_its_times(tmp_path: Path) -> None:
    log = write(tmp_path, GOOD)
    assert [row[0] for row in scan(log, "Asia/Shanghai").select("time").collect().rows()] == [MS - 8 * 3_600_000] * 7


@settings(max_examples=150)
@given(
    place=st.integers(0, 2 * len(GOOD[0]) - 1),
    removed=st.integers(0, 3),
    put=st.binary(max_size=3) | st.text(alphabet='0123456789,.-+ TZ:"\t\r', max_size=3).map(str.encode),
)
@example(place=0, removed=0, put=b"x\x01")  # the first bytes of a zlib stream, which Polars would unpack
@example(place=0, removed=0, put=b"\x1f\x8b")
@example(place=0, removed=3, put=b"x\x9c")
@example(place=0, removed=3, put=b"\x28\xb5\x2f")
def test_what_the_scan_reads_is_right(place: int, removed: int, put: bytes) -> None:
    """Some bytes in the first two of three lines replaced by others; test_bad_rows asks whether it refuses too much."""
    text = b"".join(GOOD[:3])
    text = text[:place] + put + text[place + removed :]
    lines = text.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        log = write(Path(folder), [text])
        if not is_refused(log):
            fields = 3 if lines[0].count(b",") == 2 else 4
            assert rows(log) == [
                (s, i, ms, row) for row, line in enumerate(lines) for s, i, ms in [read_line(line, fields) or (-1, -1, -1)]
            ]


LARGE = [b"%d,%s,%d,0\n" % (1000 + 7 * (row // 3), TIME, 214536500 + row % 999) for row in range(120_000)]
LATE = ((119_999, b"\n"), (119_999, b""), (110_003, b"\n"))
"""The last line, the last line without its end, and a line after 4 MB."""


@pytest.mark.parametrize(("kind", "late"), [(kind, LATE[number % 3]) for number, kind in enumerate(BAD)])
def test_a_late_bad_line_in_a_log_of_several_megabytes(tmp_path: Path, kind: str, late: tuple[int, bytes]) -> None:
    (line, reason), (place, end) = BAD[kind], late
    log = write(tmp_path, [*LARGE[:place], line + end, *LARGE[place + 1 :]])
    assert log.stat().st_size > 4 << 20
    with pytest.raises(LogError) as error:
        ingest(log, tmp_path / "dataset")
    check_refusal(error.value, log, place + 1, line, reason)


def test_a_late_bad_line_after_a_mark_and_carriage_returns_without_categories(tmp_path: Path) -> None:
    lines = [line.replace(b",0\n", b"\r\n") for line in LARGE[:60_000]]
    lines[59_000] = b"5,2014-02-30T10:51:09.277Z,7\r\n"
    log = write(tmp_path, [b"\xef\xbb\xbf", *lines])
    check_refusal(explain(log), log, 59_001, b"5,2014-02-30T10:51:09.277Z,7", "the time is not of the form")


def test_the_sample_of_a_small_log_is_all_of_it(tmp_path: Path) -> None:
    ids, line_bytes = sample(write(tmp_path, GOOD[::-1]))
    assert ids.tolist() == list(range(100, 107))
    assert ids.dtype == np.int64
    assert line_bytes == len(GOOD[0])


def test_the_sample_of_a_large_log_has_its_quantiles(tmp_path: Path) -> None:
    """Parts are cut there; a sample of one end would put nearly all rows into one part."""
    ids, line_bytes = sample(write(tmp_path, LARGE))
    everything = np.array([int(line.split(b",", 1)[0]) for line in LARGE])
    assert set(ids.tolist()) <= set(everything.tolist())
    assert (np.diff(ids) >= 0).all()
    share = np.searchsorted(everything, np.quantile(ids, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1])) / len(everything)
    assert np.abs(share - [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1]).max() < 0.02
    assert line_bytes == pytest.approx(np.mean([len(line) for line in LARGE]), rel=0.01)
