"""Nothing that came from a file reaches a terminal as an order to it, whatever ids, names and settings hold."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pocketrec
from conftest import Click, call
from log_support import zipped
from pocketrec.cli.model_reports import ladder
from pocketrec.cli.reports import as_json
from pocketrec.errors import visible
from pocketrec.lite.judge.ladder import Rung
from pocketrec.sources.lines import BadLine, original, reject_row

ORDERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
EVIL = "\x1b]0;owned\x07\x1b[31m[red]\x9b2J\u202egnp.exe\x7f\x85\u2028"
anything = st.text(st.characters(codec=None) | st.sampled_from(EVIL + "=+-@;\"'\\[]"))


def harmless(*texts: str) -> bool:
    return not any(ORDERS.search(text) for text in texts)


@given(anything)
@example(EVIL)
@example("\udcff and \ud800")
def test_what_is_shown_has_no_control_characters_and_loses_no_others(text: str) -> None:
    shown = visible(text)
    assert harmless(shown)
    shown.encode()
    plain = "".join(one for one in text if unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    assert visible(plain) == plain


@given(anything, anything)
@example(EVIL, "[/]")
def test_cells_of_a_table_are_text_and_not_markup(name: str, detail: str) -> None:
    table = "\n".join(ladder([Rung(name, "passed", detail, 0.1), Rung("x", "failed", "[red]kept[/red]", 0.1)]))
    assert harmless(table)
    assert "[red]kept[/red]" in table


@given(st.binary() | anything.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'=HYPERLINK("x")')
@example(b"\t=1")
@example(b"1;=1;-2;a-b")
@example(b'"=1"')
@example("\uff1d1".encode())
@example(EVIL.encode())
@example(b'";')
def test_cells_of_rejects_are_text_to_a_spreadsheet_and_give_the_line_back(line: bytes) -> None:
    row = reject_row(BadLine(7, line, "a blank line")).decode()
    assert harmless(row.removesuffix("\r\n"))
    ((_, _, cell),) = csv.reader(io.StringIO(row, newline=""))
    assert original(cell) == line
    for separator in ",;":
        for cells in csv.reader(io.StringIO(row, newline=""), delimiter=separator):
            # A comma separates cells of rejects.csv; where a country has the semicolon, it is split there.
            # A quote that it takes for the beginning of a cell has the end of the row in it.
            assert not any(one.removeprefix("\r\n").startswith(tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")) for one in cells)


def test_ordinary_lines_in_rejects_are_as_they_were() -> None:
    assert reject_row(BadLine(5, b"12,2014-04-07T10:51:09,-1,0", "x")) == b'5,x,"12,2014-04-07T10:51:09,-1,0"\r\n'


def evil_log(path: Path) -> Path:
    """A log of text ids, in which an item's id has an escape sequence in it."""
    names = ["plain", EVIL.replace("\x85", "").replace("\u2028", ""), "[red]"]
    rows = [
        f"s{session},{1_396_321_200 + session * 86_400 + k},{names[(session + k) % 3]}\n"
        for session in range(9)
        for k in range(4)
    ]
    path.write_text("s,t,i\n" + "".join(rows), encoding="utf-8")
    return path


def test_commands_print_ids_members_and_settings_visibly(tmp_path: Path) -> None:
    log = evil_log(tmp_path / "log.csv")
    columns = ("--columns", "session=s,item=i,time=t", "--dataset", tmp_path / "d")
    said = [call("prep", log, *columns, "--batch-size", 2, "--min-item-support", 1)]
    assert said[0][0] == 0
    manifest = next((tmp_path / "d").rglob("manifest.json"))
    manifest.write_text(manifest.read_text().replace(json.dumps(str(log))[1:-1], json.dumps(EVIL)[1:-1]))
    said += [call("inspect", "--dataset", tmp_path / "d"), call("inspect", "--dataset", tmp_path / "d", "--json")]
    archive = tmp_path / "two.zip"
    archive.write_bytes(zipped((f"clicks{EVIL}", b""), (f"clicks2{EVIL}", b"")))
    said.append(call("prep", archive, "--dataset", tmp_path / "e"))
    archive.write_bytes(zipped((f"clicks{EVIL}", "".join(Click(k, 10**12, 5).line() for k in range(9)).encode())))
    said.append(call("ingest", archive, "--dataset", tmp_path / "f"))
    log.write_text(f"s,t,i\n{EVIL},x,y\n", encoding="utf-8")
    said.append(call("ingest", log, *columns))
    said.append(call("prep", log, f"extra{EVIL}"))
    said.append(call("inspect", log, f"extra{EVIL}"))
    said.append(call(f"--no{EVIL}"))
    said.append(call("prep", log, "--batch-size", EVIL))
    assert [code for code, _, _ in said] == [0, 0, 0, 1, 0, 1, 1, 2, 2, 2]
    assert all(harmless(out, err) for _, out, err in said)


@pytest.mark.parametrize("value", [EVIL, "\x7f\x9b"])
def test_json_is_json_of_visible_ascii(tmp_path: Path, value: str) -> None:
    from pocketrec.storage.inspect import InspectReport

    said = as_json(InspectReport(tmp_path / value, (), ()))
    assert said.isascii()
    assert harmless(said)
    assert json.loads(said)["dataset"] == str(tmp_path / value)


def test_there_is_one_way_to_the_terminal() -> None:
    """`say`; the judge's worker talks to a pipe, `quiet` writes nothing, and Bars draw names of our own."""
    printing = re.compile(r"typer\.echo\(|(?<!\.)\bprint\(|std(?:out|err)\.write|Console\(\)\.print")
    found = {path.name for path in Path(pocketrec.__file__).parent.rglob("*.py") if printing.search(path.read_text())}
    assert found == {"terminal.py", "worker.py"}
