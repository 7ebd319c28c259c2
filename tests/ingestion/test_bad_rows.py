"""Lines that are no clicks: found as the independent judge finds them, stopped at or set aside whole, and none is lost."""

from __future__ import annotations

import csv
import random
import re
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import EPOCH, shrink_limits
from line_oracle import read_line, read_log
from log_support import TIMES, kept, mutations, rejects, texts
from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.ingest import ingest
from pocketrec.sessions.split import split
from pocketrec.sources import lines as reading
from pocketrec.sources.lines import count_lines, original, read_lines
from pocketrec.sources.options import BadRows, ReadSettings
from pocketrec.sources.timestamps import Clock
from pocketrec.sources.yoochoose import Lines, is_header
from pocketrec.storage.inspect import inspect
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import read_records
from pocketrec.storage.verify_data import verify_data

GOOD = [b"%d,%s,%d,0" % (100 + row, TIMES[0], 214536500 + row) for row in range(7)]


@st.composite
def line_like(draw: st.DrawFn, fields: int = 4) -> bytes:
    """A click in one of the forms, with nothing or a little changed."""
    line = b"%d,%s,%d" % (draw(st.integers(0, 10**6)), draw(st.sampled_from(TIMES)), draw(st.integers(0, 2**63)))
    line += b",S" if fields == 4 else b""
    for place, removed, put in draw(st.lists(mutations, max_size=2)):
        line = line[:place] + put + line[place + removed :]
    return line.replace(b"\n", b"")


@settings(max_examples=120)
@given(line=line_like() | line_like(3), fields=st.sampled_from([3, 4]), zone=st.sampled_from(["UTC", "Europe/London"]))
def test_one_judge(line: bytes, fields: int, zone: str) -> None:
    """The block parser, the judge of lines and the independent judge agree on every line, and on what is in it."""
    form = Lines(fields, Clock(zone, zulu=False))
    click = read_line(line, fields, zone)
    found = form.parse(line + b"\n")
    assert (found.frame.row(0) if found is not None else None) == click
    assert (form.judge([line]) == [""]) == (click is not None)
    if not list(reading.skip_runs(line + b"\n", form.plain)):
        assert click is not None, "passed for plain"


SETTLED = {
    b"\t5": True, b" 5": True, b"+5": True, b"-0": True, b"0005": True, b"5\r": True, b"5 ": False, b'"5"': False,
    b"5\r\r": False, b"\r5": False, b"5\x00": False, b"-5": False, b"5.0": False, b"": False, b" ": False, b"+": False,
    b"0" * 5000 + b"5": True, b"1" * 5000: False, b"9223372036854775807": True, b"9223372036854775808": False,
}  # fmt: skip


@pytest.mark.parametrize("text", SETTLED)
@pytest.mark.parametrize("place", [0, 2])
def test_what_is_an_id(text: bytes, place: int) -> None:
    fields = [b"1", TIMES[0], b"2", b"0"]
    fields[place] = text
    line, form = b",".join(fields), Lines(4, Clock(zulu=False))
    assert (form.parse(line + b"\n") is not None) == SETTLED[text]
    assert (form.judge([line]) == [""]) == SETTLED[text]
    assert (read_line(line, 4) is not None) == SETTLED[text]


def check_law(data: bytes, folder: Path) -> None:
    """Kept + set aside = lines; the kept are the oracle's; those set aside are whole."""
    log, root = folder / "log.dat", folder / "d"
    log.write_bytes(data)
    clicks, bad, lines = read_log(data)
    if not clicks:
        with pytest.raises(LogError):
            ingest(log, root, ReadSettings(bad_rows="set-aside"))
        return
    report = ingest(log, root, ReadSettings(bad_rows="set-aside"))
    assert (report.rows, report.set_aside, report.lines) == (len(clicks), len(bad), lines)
    assert report.rows + report.set_aside == report.lines
    assert kept(root) == clicks
    assert Dataset(root).rejects.exists() == bool(bad)
    if bad:
        found = rejects(root)
        text = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        assert [(number, line) for number, _, line in found] == [(one, text[one - 1].removesuffix(b"\r")) for one in bad]
        assert all(reason for _, reason, _ in found)
        with pytest.raises(LogError, match=f"line {bad[0]}: "):
            ingest(log, root)
    else:
        assert ingest(log, folder / "e").rows == len(clicks)


def in_lines(before: bytes, lines: list[bytes], end: bytes, last: bool) -> bytes:
    return before + end.join(lines) + end * last


odd_logs = st.builds(
    in_lines,
    st.sampled_from([b"", b"\xef\xbb\xbf", b"SessionId,Timestamp,ItemId,Category\n", b"\n"]),
    st.lists(line_like() | line_like() | st.sampled_from(GOOD) | st.binary(max_size=12), min_size=1, max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
)
FIRST_LINES = (
    b"PAR1", b"PAR1,2,3,4", b"PAR", b"\x1f", b"PK", b"PK\x03", b"\x28\xb5\x2f", b"BZh9", b"Rar!", b"7z", b"x\x9c", b"x\x01",
)  # fmt: skip
"""Near to what packed files begin with; the first two were found by Hypothesis, and Polars tries to unpack the last two."""


@settings(max_examples=25)
@given(log=texts(odd_logs))
@example(log=b"\n".join([b"PAR", *GOOD]))
@example(log=b"\n".join([b"PK", *GOOD]))
@example(log=b"\n".join([b"\x1f", *GOOD]))
def test_no_line_is_lost(log: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_law(log, Path(folder))


@pytest.mark.parametrize("first", FIRST_LINES)
def test_a_first_line_that_is_only_like_an_archive_is_a_bad_line(tmp_path: Path, first: bytes) -> None:
    check_law(b"\n".join([first, *GOOD]), tmp_path)


PACKED = {
    b"\x1f\x8b": "is cut or damaged", b"\x28\xb5\x2f\xfd": "is cut or damaged", b"\x50\x2a\x4d\x18": "is cut or damaged",
    b"PK\x03\x04": "is cut or damaged", b"PK\x05\x06": "is cut or damaged", b"\xfd7zXZ\x00": "is cut or damaged",
    b"BZh91AY&SY": "is cut or damaged", b"7z\xbc\xaf\x27\x1c": "is packed (7z)", b"Rar!\x1a\x07": "is packed (rar)",
    b"PAR1\x15": "is a Parquet file",
}  # fmt: skip
"""First bytes, and what is said of a log that begins with them and goes on as text: found by Hypothesis."""


@pytest.mark.parametrize("first", PACKED)
@pytest.mark.parametrize("bad_rows", ["stop", "set-aside"])
def test_a_first_line_that_begins_as_an_archive_is_taken_for_one(tmp_path: Path, first: bytes, bad_rows: BadRows) -> None:
    log = tmp_path / "log.dat"
    log.write_bytes(b"\n".join([first, *GOOD]))
    with pytest.raises(LogError, match=re.escape(PACKED[first])):
        ingest(log, tmp_path / "d", ReadSettings(bad_rows=bad_rows))
    assert list(tmp_path.iterdir()) == [log]


@pytest.mark.parametrize("runs", ["one run", "several runs"])
def test_no_line_is_lost_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: str) -> None:
    """Small blocks, small spool files, small parts: boundaries fall everywhere, also before a mark and in blank lines."""
    shrink_limits(monkeypatch, runs)
    monkeypatch.setattr("pocketrec.sources.streams.BLOCK_BYTES", 60)
    monkeypatch.setattr("pocketrec.ingestion.spool.SPOOL_ROWS", 5)
    monkeypatch.setattr("pocketrec.sources.lines._LINES_PER_JUDGEMENT", 2)
    chance = random.Random(7)
    odd = [b"", b"x", b"\xef\xbb\xbf" + GOOD[0], b"\xff" * 50, b"\r", b"5,\\,7", b'a"b,c', GOOD[1] + b",", b"\x00" * 9]
    for trial in range(15):
        some = [chance.choice(odd) if chance.random() < 0.3 else chance.choice(GOOD) for _ in range(40)]
        folder = tmp_path / f"{trial}"
        folder.mkdir()
        check_law(b"\n".join(some), folder)


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"x\x9c", b"x\x01", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf"])
def test_what_begins_like_an_archive_inside_a_log_is_a_bad_line(tmp_path: Path, start: bytes) -> None:
    """Found by the fuzzer: Polars unpacks bytes that begin so."""
    check_law(b"SessionId,Timestamp,ItemId,Category\n" + start + GOOD[0] + b"\n" + GOOD[1], tmp_path)


@pytest.mark.parametrize("end", [b",", b",\r", b",\n"])
def test_a_comma_at_the_very_end_is_a_field(tmp_path: Path, end: bytes) -> None:
    """Found by the fuzzer: Polars overlooks it where the log ends."""
    check_law(b"\n".join(GOOD) + end, tmp_path)


@given(text=st.binary(max_size=60))
def test_a_line_that_was_set_aside_is_whole(text: bytes) -> None:
    line = text.replace(b"\n", b"")
    row = reading.reject_row(reading.BadLine(7, line, 'why, "so"'))
    assert [[number, reason, original(got)] for number, reason, got in csv.reader([row.decode()])] == [
        ["7", 'why, "so"', line]
    ]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.dat"
    path.write_bytes(b"\n".join([*GOOD, b"", b"5;6", *GOOD]))
    return path


def test_what_is_said_of_lines_set_aside(log: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    report = ingest(log, root, ReadSettings(bad_rows="set-aside"))
    assert (report.rows, report.set_aside, report.lines, report.header) == (14, 2, 16, False)
    assert report.rejects == root / "rejects.csv"
    assert rejects(root) == [(8, "a blank line", b""), (9, "1 field instead of 4", b"5;6")]
    assert inspect(root).stages[0].counts["set_aside"] == 2
    assert ingest(log, root, ReadSettings(bad_rows="set-aside")) == type(report)(**{**vars(report), "reused": True})


def test_rejects_are_described_and_checked(log: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    ingest(log, root, ReadSettings(bad_rows="set-aside"))
    assert verify_data(root).passed
    path = Dataset(root).rejects
    path.write_bytes(path.read_bytes().replace(b"blank", b"blenk"))
    damaged = [file.path.resolve() for stage in verify_data(root).stages for file in stage.damaged]
    assert damaged == [path.resolve()]
    path.unlink()
    assert inspect(root).stages[0].state == "damaged"
    assert not ingest(log, root, ReadSettings(bad_rows="set-aside")).reused
    assert verify_data(root).passed


def test_another_way_with_bad_rows_ingests_again_and_removes_old_rejects(log: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    ingest(log, root, ReadSettings(bad_rows="set-aside"))
    with pytest.raises(LogError, match="line 8: a blank line"):
        ingest(log, root)
    assert Dataset(root).rejects.exists(), "an error leaves the earlier one as it was"
    log.write_bytes(b"\n".join(GOOD))
    assert not ingest(log, root, ReadSettings(bad_rows="set-aside")).reused
    assert not Dataset(root).rejects.exists()
    assert not ingest(log, root).reused
    assert read_records(root / "parquet")["ingest"].settings == {"timezone": "UTC"}


def test_no_click_at_all(tmp_path: Path) -> None:
    log = tmp_path / "log.dat"
    log.write_bytes(b"a\nb\n")
    with pytest.raises(LogError) as error:
        ingest(log, tmp_path / "d", ReadSettings(bad_rows="set-aside"))
    assert error.value.wrong == f"none of the 2 lines of {log} is a click, line 1: 1 field instead of 4: 'a'"
    assert sorted(tmp_path.iterdir()) == [log]


def test_an_unknown_way(log: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'skip'"):
        ingest(log, tmp_path / "d", ReadSettings(bad_rows="skip"))  # type: ignore[arg-type]


def test_a_file_without_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketrec.sources.streams.BLOCK_BYTES", 100)
    monkeypatch.setattr("pocketrec.sources.streams.MAX_LINE", 1000)
    log = tmp_path / "log.dat"
    log.write_bytes(GOOD[0] + b"\n" + b"x" * 5000 + b"\n")
    with pytest.raises(LogError, match="a line of more than 1,000 bytes"):
        ingest(log, tmp_path / "d", ReadSettings(bad_rows="set-aside"))


HEADERS = [
    b"SessionId,Timestamp,ItemId,Category", b"session_id,timestamp,item_id", b'"SessionId","Timestamp","ItemId","Category"',
    b"SESSION,TIME,ITEM,CATEGORY\r", b"Session ID, Timestamp, Item ID",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_header_is_no_line(tmp_path: Path, header: bytes, bom: bytes) -> None:
    assert is_header(header)
    end = b",0" if header.count(b",") == 3 else b""
    log = tmp_path / "log.dat"
    log.write_bytes(bom + header + b"\n" + b"\n".join(line.removesuffix(b",0") + end for line in GOOD))
    report = ingest(log, tmp_path / "d")
    assert (report.header, report.lines, report.rows) == (True, 7, 7)


@pytest.mark.parametrize("line", [b"Timestamp,SessionId,ItemId,Category", b"SessionId,Timestamp", b"x,y,z", GOOD[0]])
def test_what_is_no_header(line: bytes) -> None:
    assert not is_header(line)


def test_a_click_stays_the_number_of_its_row_for_the_txt_files(tmp_path: Path) -> None:
    """What is made of a log with lines set aside is what is made of the log without them."""
    chance, clean = random.Random(3), []
    for session in range(300):
        for step in range(chance.randint(2, 4)):
            ms = 1_396_321_200_000 + session * 3_600_000 + step * 1000
            moment = EPOCH.timestamp() + ms / 1000
            clean.append(b"%d,%.3f,%d,0" % (chance.randint(1, 90), moment, chance.randint(1, 9)))
    mixed = [line for one in clean for line in ([b"bad"] if chance.random() < 0.2 else []) + [one]]
    texts = []
    for name, some in (("clean", clean), ("mixed", mixed)):
        (tmp_path / name).write_bytes(b"\n".join(some))
        ingest(tmp_path / name, tmp_path / f"d_{name}", ReadSettings(bad_rows="set-aside"))
        split(tmp_path / f"d_{name}")
        texts.append({path.name: path.read_bytes() for path in (tmp_path / f"d_{name}/rsc15").glob("*.txt")})
    assert texts[0] == texts[1]
    assert len(texts[0]) == 4


def test_lines_are_counted() -> None:
    assert [count_lines(text) for text in (b"", b"a", b"a\n", b"a\nb", b"\n\n")] == [0, 1, 1, 2, 2]
    some = read_lines(Lines(4, Clock(zulu=False)), b"\n".join([GOOD[0], b"x", GOOD[1]]), 10)
    assert some.first is not None
    assert (len(some.frame), some.set_aside, some.first.number) == (2, 1, 11)
    assert some.frame.schema == pl.Schema({"session": pl.Int64(), "item": pl.Int64(), "time": pl.Int64()})
