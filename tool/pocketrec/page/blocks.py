"""What a page is made of, ready to be written by the template: parts, sections, and the blocks in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pocketrec.page.charts import Picture

NUMBER = re.compile(r"[-\d][\d,.]*( \([^)]*\))?(\s\S{1,4})?|less than .*|")


@dataclass(frozen=True)
class Block:
    """Something in a section; `kind` says which part of the template draws it."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Facts(Block):
    """Some numbers, each with what it is."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table(Block):
    """Rows of text under a title; columns of numbers are set to the right, `ids` are columns of what came from a log."""

    kind: ClassVar[str] = "table"
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    ids: tuple[int, ...] = ()
    wide: bool = False

    @property
    def right(self) -> tuple[bool, ...]:
        """Which columns are numbers: none of the ids, and not the first."""
        return tuple(
            0 < at not in self.ids and all(NUMBER.fullmatch(row[at]) for row in self.rows) for at in range(len(self.head))
        )


@dataclass(frozen=True)
class Chart(Block):
    """A picture with a title, a note, and the table behind it."""

    kind: ClassVar[str] = "chart"
    title: str
    picture: Picture
    table: Table
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Bar:
    """A row of bars: shares from 0 to 1 of the longest, `low` and `high` of a spread, and the text of the value."""

    label: str
    share: float
    text: str
    tone: int = 1
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Bars(Block):
    """Bars, which are a table themselves."""

    kind: ClassVar[str] = "bars"
    title: str
    head: tuple[str, str]
    bars: Sequence[Bar]
    note: str = ""


@dataclass(frozen=True)
class Week(Block):
    """Clicks of each hour of the week: seven rows of 24 shares of the largest, and the table behind."""

    kind: ClassVar[str] = "week"
    title: str
    rows: Sequence[tuple[str, Sequence[float]]]
    table: Table
    note: str = ""


@dataclass(frozen=True)
class Step:
    """A step of the flow: what is left after it, as a share of the first; what it took, and why."""

    label: str
    count: str
    share: float
    took: str = ""
    why: str = ""


@dataclass(frozen=True)
class Flow(Block):
    """Steps, each with less than the one before."""

    kind: ClassVar[str] = "flow"
    title: str
    steps: Sequence[Step]
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """A plain answer: clean, note or leak; what was looked for, and what was found."""

    verdict: str
    title: str
    text: str


@dataclass(frozen=True)
class Verdicts(Block):
    """Some of them."""

    kind: ClassVar[str] = "verdicts"
    title: str
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class Session:
    """A session of the test: after each click what was recommended, what came, and its rank."""

    title: str
    steps: Sequence[tuple[str, Sequence[tuple[str, bool]], str, str]]


@dataclass(frozen=True)
class Sessions(Block):
    """Some of them."""

    kind: ClassVar[str] = "sessions"
    title: str
    sessions: Sequence[Session]
    note: str = ""


@dataclass(frozen=True)
class Notice(Block):
    """What is missing or old, and the command that makes it."""

    kind: ClassVar[str] = "notice"
    title: str
    text: str
    command: str = ""


@dataclass(frozen=True)
class Commands(Block):
    """Lines to copy."""

    kind: ClassVar[str] = "commands"
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Section:
    """A section of the page; `id` is unique in it."""

    id: str
    title: str
    lead: str
    blocks: Sequence[Block]

    @property
    def finding(self) -> str:
        """What its most telling block says."""
        for kind in ("notice", "verdicts", "flow", "bars", "chart", "commands"):
            if found := [str(vars(one)["title"]) for one in self.blocks if one.kind == kind]:
                return found[0]
        return ""


@dataclass(frozen=True)
class Part:
    """A part of the page: the click log, NCF or the DNN."""

    id: str
    title: str
    summary: str
    sections: Sequence[Section]


@dataclass(frozen=True)
class View:
    """The page."""

    title: str
    dataset: str
    made: str
    version: str
    parts: Sequence[Part] = field(default_factory=tuple)
