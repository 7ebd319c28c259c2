# ruff: noqa: E501 (rows as they are)
"""JSON lines: the two readers agree with an independent one on every line, and a block is its lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from line_oracle import events_by_hand as by_hand
from pocketrec.errors import LogError
from pocketrec.ingestion.ingest import ingest
from pocketrec.sources.jsonlines import JsonLines
from pocketrec.sources.options import ReadSettings

HEAD = b'{"s":1,"a":{"b":[{"i":1,"t":1400000000,"k":"v","o":{"p":1}}]},"x":null}\n'
FLAT_HEAD = b'{"s":1,"i":2,"t":1400000000,"k":"v","d":{"e":1}}\n'
NESTED = {"session": "s", "item": "a.b.i", "time": "a.b.t"}
FLAT = {"session": "s", "item": "i", "time": "t"}
Row = tuple[str, str, int]

SCALARS = st.sampled_from(
    [1, 0, -1, 12, "12", "007", " 5", "", None, True, 1.0, 1.5, "NaN", "x", "é", "}, {", "[1]", "{}", 2**63, "a\tb", "🛒"]
)
TIMES = st.sampled_from([1400000000, "1400000000", 1400000000123, "2014-04-07T10:51:09Z", "soon", None, 5, 1400000000.5])
KINDS = st.sampled_from(["v", "w", None, 1, "}, {"])
EVENTS = st.fixed_dictionaries({"i": SCALARS, "t": TIMES}, optional={"k": KINDS, "o": st.just({"p": [{"q": 1}, {"q": 2}]})})
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, [], {}, 7, "x", [7], [None], [[]], "[{}]", [{"i": [1]}], [{"i": {"z": 1}, "t": 1400000000}]]
)
NESTED_OBJECTS = st.fixed_dictionaries(
    {"s": SCALARS, "a": st.fixed_dictionaries({"b": st.lists(EVENTS, max_size=4) | ODD}) | ODD}, optional={"x": SCALARS}
)
FLAT_OBJECTS = st.fixed_dictionaries({"s": SCALARS, "i": SCALARS, "t": TIMES}, optional={"k": KINDS, "d": ODD}) | ODD


@st.composite
def lines(draw: st.DrawFn, objects: st.SearchStrategy[Any]) -> bytes:
    text = json.dumps(
        draw(objects), ensure_ascii=draw(st.booleans()), separators=draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    )
    line = text.encode()
    for place, removed, put in draw(
        st.lists(
            st.tuples(
                st.integers(0, 60),
                st.integers(0, 3),
                st.sampled_from([b"", b"\xff", b'"', b"}", b"\x00", b"\r", b"[", b",", b" "]),
            ),
            max_size=1,
        )
    ):
        line = line[:place] + put + line[place + removed :]
    return line.replace(b"\n", b"")


def form_of(nested: bool, where: bool) -> JsonLines:
    path = "a.b.k" if nested else "k"
    columns = NESTED if nested else FLAT
    return JsonLines(
        HEAD if nested else FLAT_HEAD,
        "log",
        columns,
        ReadSettings(columns=columns, where=(f"{path}=v,1",) if where else ()),
    )


def parsed(form: JsonLines, text: bytes) -> list[Row] | None:
    found = form.parse(text)
    return found and found.frame.select(pl.col("session", "item").cast(pl.String), "time").rows()  # type: ignore[return-value]


@settings(max_examples=300)
@given(data=st.data(), nested=st.booleans(), where=st.booleans())
def test_one_judge(data: st.DataObject, nested: bool, where: bool) -> None:
    """The block parser, the judge of lines and the independent reader agree."""
    line = data.draw(lines(NESTED_OBJECTS if nested else FLAT_OBJECTS))
    form, expected = form_of(nested, where), by_hand(line, nested, where)
    assert parsed(form, line + b"\n") == expected
    assert (form.judge([line]) == [""]) == (expected is not None)


@settings(max_examples=100)
@given(data=st.data(), nested=st.booleans(), where=st.booleans())
def test_a_block_is_its_lines(data: st.DataObject, nested: bool, where: bool) -> None:
    some = data.draw(st.lists(lines(NESTED_OBJECTS if nested else FLAT_OBJECTS), min_size=1, max_size=6))
    form, expected = form_of(nested, where), [by_hand(line, nested, where) for line in some]
    assert [reason == "" for reason in form.judge(some)] == [one is not None for one in expected]
    whole = None if None in expected else [row for one in expected for row in one or []]
    assert parsed(form, b"\n".join(some) + b"\n") == whole


def test_what_is_said_of_lines(tmp_path: Path) -> None:
    said = {
        b"": "a blank line", b"7": "it is not an object of JSON", b'{"s":1': "it is not JSON", b'{"s":NaN}': "it is not JSON (NaN",
        b'{"s":1,"a":{"b":7}}': "a.b is not a list", b'{"s":1,"a":7}': "a is no object",
        b'{"s":1,"a":{"b":[{"i":[1],"t":1400000000}]}}': "a.b.i is a list or an object",
        b'{"s":1,"a":{"b":[{"i":1,"t":1400000000},{"i":null,"t":1400000000}]}}': "the item is empty",
        b'{"s":"\xff","a":{"b":[{"i":1,"t":1400000000}]}}': "bytes that are not UTF-8",
        b'{"s":1,"a":{"b":[{"i":1,"t":"x"}]}}': "the time is not of the form", b'{"s":1,"a":{"b":[]}}': "the item is empty",
    }  # fmt: skip
    reasons = form_of(True, False).judge(list(said))
    assert [reason.startswith(words) for reason, words in zip(reasons, said.values(), strict=True)] == [True] * len(said), (
        reasons
    )
    log = tmp_path / "log"
    log.write_bytes(HEAD + b"\n".join(said) + b"\n" + HEAD)
    report = ingest(log, tmp_path / "d", ReadSettings(columns=NESTED, bad_rows="set-aside"))
    assert (report.rows, report.set_aside, report.lines) == (2, len(said), 2 + len(said))


def test_columns_of_two_lists_or_none(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"s":1,"a":[{"i":1}],"b":[{"t":1400000000}]}\n')
    with pytest.raises(LogError, match="has the lists a and b"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns={"session": "s", "item": "a.i", "time": "b.t"}))
    with pytest.raises(LogError, match=r"called 'c'; it has 's', 'a\.i', 'b\.t'"):
        ingest(tmp_path / "log", tmp_path / "d", ReadSettings(columns={"session": "s", "item": "a.i", "time": "c"}))


def test_nested_parquet_is_read_by_the_same_paths(tmp_path: Path) -> None:
    rows = [{"s": 1, "e": [{"i": 5, "t": 1400000000}, {"i": 6, "t": 1400000001}]}, {"s": 2, "e": []}]
    pl.DataFrame(rows, schema={"s": pl.Int64, "e": pl.List(pl.Struct({"i": pl.Int64, "t": pl.Int64}))}).write_parquet(
        tmp_path / "p"
    )
    columns = {"session": "s", "item": "e.i", "time": "e.t"}
    report = ingest(tmp_path / "p", tmp_path / "d", ReadSettings(columns=columns, bad_rows="set-aside"))
    assert (report.rows, report.set_aside, report.lines) == (2, 1, 3)
