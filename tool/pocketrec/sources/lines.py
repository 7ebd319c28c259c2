r"""Blocks of lines to clicks: all lines at once, and one by one only where a block has a line that is not a click.

A form (`yoochoose.Lines`) has two readers of one grammar: `parse` for a whole block, in native code, and `judge`, which
says in words why a line is not a click. `judge` says "" for exactly the lines that `parse` reads.

Lines that are set aside become rows of rejects.csv (line, reason, text) here, in the thread that found them. The text is
the line without its end (LF or CRLF). A backslash is doubled. `\xNN` stands for a byte that is not UTF-8, for those of what
a terminal or an editor would obey (control characters, marks of direction), and for those of `= + - @` where a spreadsheet
would take what follows for a formula: at the beginning, after a semicolon, which separates cells in some countries, and
after a quote. No byte is lost: `original` turns the text back into the line's bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

import numpy as np
import polars as pl

from pocketrec.errors import LogError
from pocketrec.schema import KEPT, ROW

BOM = b"\xef\xbb\xbf"
HEAD_LINES = 100
"""Lines, at most, by which the form of a log is known."""
REJECTS_HEADER = b"line,reason,text\r\n"
_LINES_PER_JUDGEMENT = 4096
_SPECIAL = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\udc80-\udcff]")
_FORMULA = re.compile('[=+@\uff1d\uff0b\uff0d\uff20-](?:(?<=^.)|(?<=[;"].))')
"""What begins a formula, also in the full-width forms, at the beginning of a cell."""
_ESCAPED = re.compile(rb"\\(\\|x[0-9a-f]{2})")
NONE_PLAIN = re.compile(b"")
"""`Form.plain` of a form in which no line is a click without doubt."""
NOT_READ = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises over a block with a line that it cannot read."""


def head_lines(text: bytes) -> list[bytes]:
    """The first lines of a text without their ends; the last one may be empty or cut."""
    return text.split(b"\n", HEAD_LINES)[:HEAD_LINES]


class Form(Protocol):
    """How the lines of a log are read."""

    expected: str
    """What a line looks like, for messages."""
    schema: pl.Schema
    """Of what `parse` returns: session, item, time. Ids may be text all the same."""

    remarks: set[str]
    """What a user should know of the lines that were parsed."""
    seen: dict[str, set[str]]
    """Some values in lines that `--where` leaves out, by column."""
    blank_end: bool
    """Whether blank lines at the end of a log are none of its lines."""
    counts_rows: bool
    """Whether a line may be of several rows, so that these are counted and not the lines."""
    plain: re.Pattern[bytes]
    """Matches a run of lines that are clicks without doubt, so that `judge` need not see them."""

    def parse(self, text: bytes) -> Clicks | None:
        """The clicks of some whole lines, row for row; None where one or more is not a click."""

    def judge(self, lines: list[bytes]) -> list[str]:
        """Why each line, without its LF, is not a click, in a few words; "" for a click."""


@dataclass(frozen=True)
class BadLine:
    """A line that is not a click: its number from 1, its bytes without the line end, and why."""

    number: int
    text: bytes
    reason: str

    def error(self, name: str, expected: str, do: str) -> LogError:
        """As an error for the log of that name."""
        shown = self.text[:120].decode("utf-8", "backslashreplace") + ("..." if len(self.text) > 120 else "")
        return LogError(f"{name}, line {self.number}: {self.reason}: {shown!r}", expected=expected, do=do)


@dataclass(frozen=True)
class Clicks:
    """What was read from a block of lines.

    Attributes:
        frame: the clicks, in the order of the lines.
        left_out: how many rows `--where` leaves out. They are in the frame where it has a column `KEPT`, which says so.
        set_aside: how many lines are not clicks.
        rejects: these lines, as rows of rejects.csv.
        first: the first of them.
    """

    frame: pl.DataFrame
    left_out: int = 0
    set_aside: int = 0
    rejects: bytes = b""
    first: BadLine | None = None

    @property
    def rows(self) -> int:
        """How many rows there were: clicks, and what was left out or set aside."""
        hidden = 0 if KEPT in self.frame.columns else self.left_out
        return len(self.frame) + hidden + self.set_aside


@dataclass(frozen=True)
class Sample:
    """Some clicks from all over a log.

    Attributes:
        frames: of clicks, none if there are none.
        rows: about how many the whole log has in such frames.
        sessions: session ids from more places, also of rows that are not clicks.
    """

    frames: list[pl.DataFrame]
    rows: int
    sessions: list[pl.Series] = field(default_factory=list)


def count_lines(text: bytes) -> int:
    """Lines of a text; the last one may lack its end."""
    return count(text, b"\n") + (not text.endswith(b"\n") and len(text) > 0)


def count(text: bytes, byte: bytes) -> int:
    """How often a text has a byte; in a fifth of the time of `bytes.count` where that is often."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord(byte)))


def numbered(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Frames with one more column, `ROW`: numbers from 0, in order; null for rows that are not `KEPT`."""
    rows = 0
    for frame in frames:
        number: pl.Expr = pl.int_range(rows, rows + len(frame), dtype=pl.Int64)
        if KEPT in frame.columns:
            number = pl.when(KEPT).then(pl.col(KEPT).cum_sum().cast(pl.Int64) - 1 + rows)
        yield frame.with_columns(number.alias(ROW))
        rows += kept_rows(frame)


def kept_rows(frame: pl.DataFrame) -> int:
    """How many rows of a frame `--where` has not left out."""
    return int(frame[KEPT].sum()) if KEPT in frame.columns else len(frame)


def is_utf8(text: bytes) -> bool:
    """Whether bytes are text in UTF-8."""
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False


def read_lines(form: Form, text: bytes, number: int, prefix: str = "") -> Clicks:
    """The clicks of a block of one or more whole lines, and the other lines; `number` is that of its first line.

    `prefix` comes before the reason of a line that is set aside: which file it is in, where there are several.
    """
    clicks = form.parse(text)
    if clicks is not None:
        return clicks
    kept: list[bytes] = []
    rejects, first, count, done = bytearray(), None, 0, 0
    for start, end, reason in _bad(form, text):
        number += text.count(b"\n", done, start)
        kept.append(text[done:start])
        bad = BadLine(number, text[start:end].removesuffix(b"\n").removesuffix(b"\r"), reason)
        rejects += reject_row(bad, prefix)
        first, count, number, done = first or bad, count + 1, number + 1, end
    kept.append(text[done:])
    rest = b"".join(kept)
    clicks = form.parse(rest) if rest else Clicks(pl.DataFrame(schema=form.schema))
    if clicks is None:  # the two readers disagree, which the tests look for
        raise LogError(f"a line before line {number + count_lines(text[done:])} cannot be read.", expected=form.expected)
    return replace(clicks, set_aside=count, rejects=bytes(rejects), first=first)


def _bad(form: Form, text: bytes) -> Iterator[tuple[int, int, str]]:
    """Begin, end and reason of each line that is not a click."""
    places = skip_runs(text, form.plain)
    while some := list(islice(places, _LINES_PER_JUDGEMENT)):
        reasons = form.judge([text[start:end].removesuffix(b"\n") for start, end in some])
        for (start, end), reason in zip(some, reasons, strict=True):
            if reason:
                yield start, end, reason


def skip_runs(text: bytes, plain: re.Pattern[bytes]) -> Iterator[tuple[int, int]]:
    """Begin and end of each line that is not in a run matched by `plain`, a pattern of any number of whole lines."""
    position = 0
    while position < len(text):
        run = plain.match(text, position)
        position = run.end() if run else position
        if position < len(text):
            end = text.find(b"\n", position) + 1 or len(text)
            yield position, end
            position = end


def reject_row(bad: BadLine, prefix: str = "") -> bytes:
    """A row of rejects.csv."""
    text = bad.text.decode("utf-8", "surrogateescape")
    text = _FORMULA.sub(_escaped, _SPECIAL.sub(_escaped, text))
    return f"{bad.number},{_quoted(prefix + bad.reason)},{_quoted(text)}\r\n".encode()


def _escaped(found: re.Match[str]) -> str:
    return "\\\\" if found[0] == "\\" else "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8", "surrogateescape"))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if '"' in text or "," in text else text


def original(text: str) -> bytes:
    """The bytes of a line from its `text` in rejects.csv."""
    return _ESCAPED.sub(lambda found: b"\\" if found[1] == b"\\" else bytes([int(found[1][1:], 16)]), text.encode())
