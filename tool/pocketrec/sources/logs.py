"""How a log is to be read, and which reader it gets.

YooChoose's own form has a fast way besides (`ingestion.write_parts`); every other log is a stream of blocks of lines
(`LineLog`) or a Parquet file (`parquet.TableLog`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

from pocketrec.parallel import ahead
from pocketrec.progress import Progress
from pocketrec.sources import delimited, movielens, yoochoose
from pocketrec.sources.lines import BOM, Clicks, Form, count_lines, read_lines
from pocketrec.sources.options import Kind, ReadSettings
from pocketrec.sources.parquet import TableLog, is_parquet
from pocketrec.sources.streams import CLICKS, STDIN, Wanted, open_log

Begin = Callable[[bytes], tuple[Form, bool]]
"""From the first lines of a log its form, and whether the first line is a header."""


class Log(Protocol):
    """A log that is read once. What it says of itself is known when all clicks have been drawn.

    Attributes:
        name: for messages.
        expected: what a line looks like.
        lines: of the log, without a header.
        header: whether the first line names the columns, and was skipped.
        member: of a zip, which was read; else "".
        bytes: of its text, unpacked.
        digest: XXH3-128 of them, if the log cannot be read again; else "".
    """

    name: str
    expected: str
    lines: int
    bytes: int

    @property
    def header(self) -> bool: ...

    @property
    def member(self) -> str: ...

    @property
    def digest(self) -> str: ...

    def clicks(self, progress: Progress) -> Generator[Clicks, None, None]:
        """The clicks in their order, and the lines that are none."""


class LineLog:
    """Lines of text: a file, packed or not, or `STDIN`."""

    def __init__(self, log: Path, begin: Begin, wanted: Wanted = CLICKS) -> None:
        self.log, self.begin, self.wanted = log, begin, wanted
        self.name, self.expected, self.lines, self.bytes = str(log), "", 0, 0
        self.header, self.member, self.digest = False, "", ""

    def clicks(self, progress: Progress) -> Generator[Clicks, None, None]:
        """The clicks, parsed in threads.

        Raises:
            LogError: the log cannot be read.
        """
        size = 0 if self.log == STDIN else self.log.stat().st_size
        with open_log(self.log, self.wanted) as stream, progress.task("ingest", size) as advance:
            self.name, self.member = stream.name, stream.member
            blocks = stream.blocks(advance)
            first = next(blocks, b"").removeprefix(BOM)
            form, self.header = self.begin(first)
            self.expected = form.expected
            if self.header:
                first = first[first.find(b"\n") + 1 or len(first) :]

            def numbered() -> Iterator[tuple[bytes, int]]:
                for block in chain([first] if first else [], blocks):
                    yield block, self.lines + self.header + 1
                    self.lines += count_lines(block)

            yield from ahead(lambda block: read_lines(form, *block), numbered())
            self.bytes = stream.done
            self.digest = stream.digest.hexdigest() if stream.digest else ""


def open_source(log: Path, reading: ReadSettings, kind: Kind) -> Log:
    """The reader that a log gets, for the careful way.

    Args:
        log: a file or `STDIN`.
        reading: how it is to be read.
        kind: what it holds.
    """
    name = "standard input" if log == STDIN else str(log)
    columns, timezone = reading.columns, reading.timezone
    if columns is not None and log != STDIN and is_parquet(log):
        return TableLog(log, columns, timezone)
    if kind != "clicks":
        begin = partial(movielens.begin, name=name, columns=columns, timezone=timezone, rated=kind == "rated")
        return LineLog(log, begin, movielens.RATINGS)
    if columns is None:
        return LineLog(log, partial(yoochoose.Lines.of, timezone=timezone))
    return LineLog(log, partial(delimited.Lines.of, name=name, columns=columns, timezone=timezone))
