"""JSON lines: an object a line, either an event or a session with a list of its events (`events.aid`).

Polars reads what is needed of a block of lines, every value as text; where a line of it is none, Python's json says why. A
line is set aside whole, with all of its events, if one of them is not a click.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from pocketrec.errors import LogError
from pocketrec.sources.delimited import as_utf8
from pocketrec.sources.lines import NONE_PLAIN, NOT_READ, Clicks, count_lines, head_lines, is_utf8
from pocketrec.sources.nested import Keys, flat, paths_of_values, schema_of, values_of
from pocketrec.sources.options import Columns, ReadSettings
from pocketrec.sources.rows import Rows

_NOT_JSON = "it cannot be read as JSON"


class _Whole(str):
    """A whole number as it is written."""


class _Fraction(str):
    """Any other number as it is written."""


_TYPES: dict[type, pl.DataType] = {_Whole: pl.Int64(), str: pl.String()}


def begins_json(head: bytes) -> bool:
    """Whether a log begins as JSON does."""
    return head.lstrip(b" \t\r\n").startswith((b'{"', b'[{"', b"{ ", b"{}", b"[ {"))


def objects(head: bytes) -> Iterator[dict[str, Any]]:
    """The objects in the first lines of a log."""
    for line in head_lines(head):
        value, _ = _loaded(line)
        if isinstance(value, dict):
            yield value


def _loaded(line: bytes) -> tuple[Any, str]:
    """What a line holds, and why nothing can be said of it."""
    try:
        value = json.loads(
            line.decode("utf-8", "replace"),
            object_pairs_hook=_first,
            parse_constant=_no_number,
            parse_int=_Whole,
            parse_float=_Fraction,
        )
        return value, ""
    except RecursionError:  # Polars allows a little more than Python
        return {}, ""
    except ValueError as error:
        return None, f"it is not JSON ({str(error).split(': line', 1)[0]})"


def _read(text: bytes, schema: pl.Schema) -> pl.DataFrame | None:
    try:
        return pl.read_ndjson(io.BytesIO(text), schema=schema)
    except NOT_READ:
        return None


def _first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a name that is there twice the first counts, as it does for Polars."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number in JSON")


class JsonLines:
    """The lines of a log in JSON."""

    plain, blank_end = NONE_PLAIN, True

    def __init__(self, head: bytes, name: str, columns: Columns, reading: ReadSettings) -> None:
        """The form by the first lines. A LogError if they do not have the columns."""
        begins = list(objects(head))
        self.paths = paths_of_values(begins)
        known = list(self.paths.keys)
        if not known:
            raise LogError(
                f"{name} does not begin with an object of JSON on a line of its own.",
                expected='JSON lines, such as {"session":1,"events":[{"aid":7,"ts":1659304800025}]}',
                do="if all is one list, write its elements on lines: jq -c '.[]'",
            )
        self.rows = Rows.of(name, columns, reading, known)
        self.remarks, self.schema, self.seen = self.rows.remarks, self.rows.schema, self.rows.seen
        self.list: Keys = self.paths.the_list(name, self.rows.needed)
        self.counts_rows = bool(self.list)
        self.expected = f"an object of JSON, {self.rows.expected}"
        self._texts = schema_of(self.paths, self.rows.needed, lambda _: pl.String())
        typed = self._typed(begins)
        self._arrow = _arrow_schema(typed) if self.list and typed else None
        self._plain = None if self.list else typed

    def _typed(self, begins: list[dict[str, Any]]) -> pl.Schema | None:
        """`_texts` with whole numbers where the first values are some; None where one is neither that nor text."""
        kinds: dict[Keys, type] = {}
        for keys, value in (found for one in begins for found in values_of(one)):
            if value is not None:
                kinds.setdefault(keys, type(value))
        try:
            return schema_of(self.paths, self.rows.needed, lambda keys: _TYPES[kinds[keys]])
        except KeyError:
            return None

    def parse(self, text: bytes) -> Clicks | None:
        """Clicks of some lines; None where a line is not of clicks."""
        given = self._given(text)
        return None if given is None else self.rows.clicks(given)

    def _given(self, text: bytes) -> pl.DataFrame | None:
        """The values needed of some lines, row for row; None if a line has none, or has other things in their place."""
        if not text.lstrip().startswith(b"{") or b"\x00" in text:
            return None
        text, bad_bytes = (text, "") if is_utf8(text) else as_utf8(text)
        given = self._by_arrow(text)
        if given is None:
            frame = _read(text, self._plain) if self._plain else None
            frame = _read(text, self._texts) if frame is None else frame
            if frame is None or len(frame) != count_lines(text):
                return None
            given = flat(frame, self.paths, self.rows.needed, self.list)
        texts = [pl.col(name) for name in self.rows.needed if given.schema[name] == pl.String]
        odd = [text.str.starts_with("[") | text.str.starts_with("{") for text in texts]  # a list or an object, as text
        if bad_bytes:
            odd += [text.str.contains(bad_bytes, literal=True) for text in texts]
        return None if odd and given.select(pl.any_horizontal(one.any() for one in odd)).item() else given

    def _by_arrow(self, text: bytes) -> pl.DataFrame | None:
        """`flat` in a fourth of the time, where each value has the type that the first of its path has; else None."""
        if self._arrow is None:
            return None
        import pyarrow as pa
        from pyarrow import json

        try:
            table = json.read_json(
                pa.BufferReader(text),
                read_options=json.ReadOptions(use_threads=False, block_size=len(text) + 1),
                parse_options=json.ParseOptions(explicit_schema=self._arrow, unexpected_field_behavior="ignore"),
            )
        except pa.ArrowException:
            return None
        if table.num_rows != count_lines(text):
            return None

        def inside(column: Any, keys: Keys) -> Any:
            for key in keys:
                column = column.flatten()[column.type.get_field_index(key)]
            return column

        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        lists = inside(columns[self.list[0]], self.list[1:])
        values, lengths = lists.flatten(), np.diff(lists.offsets.to_numpy())
        rows = np.maximum(lengths, 1)  # an empty list is a row whose values are missing, and so is none at all
        there = np.repeat(lengths > 0, rows)
        if len(values) != there.sum():
            return None
        if not there.all():
            values = values.take(pa.array(np.cumsum(there) - 1, mask=~there))
        line = np.repeat(np.arange(table.num_rows), rows)
        given = {"": pl.Series(line)}
        for path in self.rows.needed:
            keys = self.paths.keys[path]
            of_list = keys[: len(self.list)] == self.list
            found = inside(values, keys[len(self.list) :]) if of_list else inside(columns[keys[0]], keys[1:])
            series = pl.Series(pl.from_arrow(found))
            given[path] = series if of_list else series.gather(line)
        return pl.DataFrame(given)

    def judge(self, lines: list[bytes]) -> list[str]:
        """Why each line is not of clicks."""
        reasons = [self._what_is_wrong(line) for line in lines]
        fine = [row for row, reason in enumerate(reasons) if not reason]
        for place in self._unread([lines[row] for row in fine]):
            line = lines[fine[place]]
            reasons[fine[place]] = _NOT_JSON if is_utf8(line) else "bytes that are not UTF-8"
        fine = [row for row in fine if not reasons[row]]
        given = self._given(b"".join(lines[row] + b"\n" for row in fine)) if fine else None
        if given is not None:
            places = pl.Series(fine, dtype=pl.Int64).gather(given[""])
            for row, reason in reversed(self.rows.judged(given, places)):  # the first of a line is the one that is said
                reasons[row] = reason
        return reasons

    def _unread(self, lines: list[bytes], first: int = 0) -> Iterator[int]:
        """The places of lines that Polars cannot read, found by halves."""
        if not lines or self._given(b"\n".join(lines) + b"\n") is not None:
            return
        if len(lines) == 1:
            yield first
            return
        half = len(lines) // 2
        yield from self._unread(lines[:half], first)
        yield from self._unread(lines[half:], first + half)

    def _what_is_wrong(self, line: bytes) -> str:
        """Why a line is not of clicks by its form; "" if it may be."""
        if not line.strip():
            return "a blank line"
        if b"\x00" in line:
            return "a NUL byte"
        value, reason = _loaded(line)
        if reason:
            return reason
        if not isinstance(value, dict):
            return "it is not an object of JSON"
        return next(filter(None, (self._misfit(value, self.paths.keys[path], 0) for path in self.rows.needed)), "")

    def _misfit(self, value: Any, keys: Keys, depth: int) -> str:
        """What is wrong with the value that some keys lead to, from the one at a depth of them on."""
        name = ".".join(keys[:depth])
        if value is None:
            return ""
        if keys[:depth] in self.paths.lists and depth:
            if not isinstance(value, list):
                return f"{name} is not a list"
            inner = (self._inner_misfit(one, keys, depth) for one in value)
            return next(filter(None, inner), "")
        return self._inner_misfit(value, keys, depth)

    def _inner_misfit(self, value: Any, keys: Keys, depth: int) -> str:
        name = ".".join(keys[:depth])
        if value is None:
            return ""
        if depth < len(keys):
            return (
                self._misfit(value.get(keys[depth]), keys, depth + 1) if isinstance(value, dict) else f"{name} is no object"
            )
        if isinstance(value, list | dict) or (isinstance(value, str) and value.startswith(("[", "{"))):
            return f"{name} is a list or an object, or begins as one"
        return ""


def _arrow_schema(schema: pl.Schema) -> Any:
    """A schema for pyarrow."""
    import pyarrow as pa

    def arrow(dtype: Any) -> Any:
        if isinstance(dtype, pl.List):
            return pa.list_(arrow(dtype.inner))
        if isinstance(dtype, pl.Struct):
            return pa.struct([(field.name, arrow(field.dtype)) for field in dtype.fields])
        return pa.int64() if dtype == pl.Int64 else pa.string()

    return pa.schema([(name, arrow(dtype)) for name, dtype in schema.items()])
