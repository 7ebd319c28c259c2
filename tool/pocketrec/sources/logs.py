"""Which reader a log gets (`choose_reader`), and the reader of lines of text (`LineLog`)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from pocketrec.errors import LogError
from pocketrec.parallel import ahead
from pocketrec.progress import Progress
from pocketrec.sources import delimited, movielens, yoochoose
from pocketrec.sources.lines import BOM, Clicks, Form, count_lines, read_lines
from pocketrec.sources.options import Kind, ReadSettings
from pocketrec.sources.parquet import TableLog, is_parquet
from pocketrec.sources.streams import CLICKS, STDIN, Wanted, open_log, packing_of

Begin = Callable[[bytes], tuple[Form, bool]]
"""From the first lines of a log its form, and whether the first line is a header."""


class LineLog:
    """Lines of text: a file, packed or not, or `STDIN`. It is read once.

    Attributes, which are known when all clicks have been drawn:
        name: for messages.
        expected: what a line looks like, for messages.
        lines: how many the log has, without a header.
        header: whether the first line names the columns, and was skipped.
        member: which file of a zip was read; else "".
        bytes: of its text, unpacked.
        digest: XXH3-128 of its bytes, if the log cannot be read again; else "".
        remarks: what a user should know of how the lines were read.
    """

    def __init__(self, log: Path, begin: Begin, wanted: Wanted = CLICKS) -> None:
        self.log, self.begin, self.wanted = log, begin, wanted
        self.name, self.expected, self.lines, self.bytes = str(log), "", 0, 0
        self.header, self.member, self.digest, self.remarks = False, "", "", tuple[str, ...]()

    def clicks(self, progress: Progress) -> Generator[Clicks, None, None]:
        """The clicks in the order of the log, and the lines that are not clicks; parsed in threads.

        Raises:
            LogError: the log cannot be read.
        """
        size = 0 if self.log == STDIN else self.log.stat().st_size
        with open_log(self.log, self.wanted) as stream, progress.task("ingest", size) as advance:
            self.name, self.member = stream.name, stream.member
            blocks = stream.blocks(advance)
            first = next(blocks, b"").removeprefix(BOM)
            if first.lstrip().startswith((b'{"', b'[{"')):
                raise LogError(
                    f"{self.name} holds JSON, which is not read.",
                    expected="lines of fields, or Parquet",
                    do="write its sessions, items and times as a csv, and name the columns: --columns",
                )
            form, self.header = self.begin(first)
            self.expected = form.expected
            if self.header:
                first = first[first.find(b"\n") + 1 or len(first) :]

            def numbered() -> Iterator[tuple[bytes, int]]:
                whole = chain([first] if first else [], blocks)
                for block in _without_blank_end(whole) if form.blank_end else whole:
                    yield block, self.lines + self.header + 1
                    self.lines += count_lines(block)

            yield from ahead(lambda block: read_lines(form, *block), numbered())
            self.bytes, self.remarks = stream.done, tuple(sorted(form.remarks))
            self.digest = stream.digest.hexdigest() if stream.digest else ""


def _without_blank_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks, the last one without the blank lines at its end."""
    last = next(blocks, b"")
    for block in blocks:
        yield last
        last = block
    if end := len(last.rstrip(b"\r\n")):
        yield last[: last.find(b"\n", end) + 1 or len(last)]


Log = LineLog | TableLog
"""A log that is read once, block by block."""


def choose_reader(log: Path, reading: ReadSettings, kind: Kind) -> tuple[bool, Log]:
    """How a log (a file or `STDIN`) is read.

    Returns:
        Whether the fast way is tried first: YooChoose's own form in a plain file, which `yoochoose.scan` reads. And the
        reader for the careful way, which takes any log of that kind, also one that the fast way stumbled over.
    """
    name = "standard input" if log == STDIN else str(log)
    columns, clock = reading.columns, reading.clock(zulu=True)
    if columns is not None and log != STDIN and is_parquet(log):
        return False, TableLog(log, columns, clock)
    if kind != "clicks":
        begin = partial(movielens.begin, name=name, columns=columns, clock=clock, rated=kind == "rated")
        return False, LineLog(log, begin, movielens.RATINGS)
    if columns is not None:
        return False, LineLog(log, partial(delimited.Lines.of, name=name, columns=columns, clock=clock))
    fast = log != STDIN and not reading.time_format and not packing_of(log) and yoochoose.is_original(log)
    return fast, LineLog(log, partial(yoochoose.Lines.of, clock=reading.clock(zulu=False)))
