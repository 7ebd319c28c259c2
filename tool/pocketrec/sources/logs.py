"""Which reader a log gets (`choose_reader`), the reader of lines of text (`LineLog`), and that of several files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import polars as pl

from pocketrec.errors import LogError
from pocketrec.parallel import ahead
from pocketrec.progress import Progress
from pocketrec.sources import delimited, movielens, yoochoose
from pocketrec.sources.block_scan import samples
from pocketrec.sources.jsonlines import JsonLines, begins_json
from pocketrec.sources.lines import BOM, Clicks, Form, Sample, count_lines, read_lines
from pocketrec.sources.options import UTF8, Kind, ReadSettings
from pocketrec.sources.parquet import TableLog, is_parquet
from pocketrec.sources.streams import CLICKS, STDIN, Wanted, open_log, packing_of, reads_anywhere

SAMPLES, SAMPLE_BYTES, MOST_SAMPLED = 512, 8192, 64
"""Pieces of a log that are a sample, and the bytes of each; files that are sampled, of a log of more."""
Begin = Callable[[bytes], tuple[Form, bool]]
"""From the first lines of a log its form, and whether the first line is a header."""


class LineLog:
    """Lines of text: a file, packed or not, or `STDIN`. It is read once.

    Attributes, which are known when all clicks have been drawn:
        name: for messages.
        expected: what a line looks like, for messages.
        lines: how many the log has, without a header; of a form in which a line may be of several rows, these.
        header: whether the first line names the columns, and was skipped.
        member: which file of an archive was read; else "".
        bytes: of its text, unpacked.
        digest: XXH3-128 of its bytes, if the log cannot be read again; else "".
        remarks: what a user should know of how the lines were read.
        seen: some values in lines that `--where` leaves out, by column.
    """

    def __init__(
        self, log: Path, begin: Begin, wanted: Wanted = CLICKS, *, encoding: str = UTF8, member: str = "", prefix: str = ""
    ) -> None:
        """`prefix` is put before the reason of a line that is set aside."""
        self.log, self.begin, self.wanted = log, begin, wanted
        self.encoding, self.asked, self.prefix = encoding, member, prefix
        self.name, self.expected, self.lines, self.bytes = str(log), "", 0, 0
        self.header, self.member, self.digest, self.remarks = False, "", "", tuple[str, ...]()
        self.seen = dict[str, set[str]]()

    def sample(self, share: float) -> Sample | None:
        """Some clicks from all over the log, `share` of a whole sample; None of a log that cannot be read from any place.

        Raises:
            LogError: the log cannot be read.
        """
        if self.asked or not reads_anywhere(self.log, self.encoding):
            return None
        with open_log(self.log, self.wanted) as stream:
            form, header = self.begin(next(stream.blocks(lambda _: None), b"").removeprefix(BOM))
        text, whole = samples(self.log, max(1, round(SAMPLES * share)), SAMPLE_BYTES)
        text = text.removeprefix(BOM)
        if whole and header:
            text = text[text.find(b"\n") + 1 or len(text) :]
        found = read_lines(form, text, 1).frame if text else pl.DataFrame()
        if not len(found):
            return Sample([], 0)
        return Sample([found], round(len(found) / len(text) * self.log.stat().st_size))

    def clicks(self, progress: Progress) -> Generator[Clicks, None, None]:
        """The clicks in the order of the log, and the lines that are not clicks; parsed in threads.

        Raises:
            LogError: the log cannot be read.
        """
        self.lines = 0
        size = 0 if self.log == STDIN else self.log.stat().st_size
        opened = open_log(self.log, self.wanted, encoding=self.encoding, member=self.asked)
        with opened as stream, progress.task("ingest", size) as advance:
            self.name, self.member = stream.name, stream.member
            blocks = stream.blocks(advance)
            first = next(blocks, b"").removeprefix(BOM)
            form, self.header = self.begin(first)
            self.expected = form.expected
            if self.header:
                first = first[first.find(b"\n") + 1 or len(first) :]

            def numbered() -> Iterator[tuple[bytes, int]]:
                number = self.header + 1
                whole = chain([first] if first else [], blocks)
                for block in _without_blank_end(whole) if form.blank_end else whole:
                    yield block, number
                    lines = count_lines(block)
                    number += lines
                    self.lines += 0 if form.counts_rows else lines

            for clicks in ahead(lambda block: read_lines(form, *block, self.prefix), numbered()):
                self.lines += clicks.rows if form.counts_rows else 0
                yield clicks
            self.bytes, self.remarks, self.seen = stream.done, tuple(sorted(form.remarks)), form.seen
            self.digest = stream.digest.hexdigest() if stream.digest else ""


def _without_blank_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks, the last one without the blank lines at its end."""
    last = next(blocks, b"")
    for block in blocks:
        yield last
        last = block
    if end := len(last.rstrip(b"\r\n")):
        yield last[: last.find(b"\n", end) + 1 or len(last)]


class SeveralLogs:
    """Files that are one log, read one after the other; the attributes are those of `LineLog`, of all of them together.

    While they are read, `name` and `expected` are those of the file at hand.
    """

    digest, member = "", ""

    def __init__(self, logs: Sequence[LineLog | TableLog]) -> None:
        self.logs, self.at = logs, logs[0]

    @property
    def name(self) -> str:
        """For messages."""
        return self.at.name

    @property
    def expected(self) -> str:
        """For messages."""
        return self.at.expected

    @property
    def lines(self) -> int:
        """Of all files."""
        return sum(log.lines for log in self.logs)

    @property
    def header(self) -> bool:
        """Whether a file has one."""
        return any(log.header for log in self.logs)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(log.bytes for log in self.logs)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Of all files."""
        return tuple(dict.fromkeys(remark for log in self.logs for remark in log.remarks))

    @property
    def seen(self) -> dict[str, set[str]]:
        """Of all files."""
        columns = {column for log in self.logs for column in log.seen}
        return {column: {value for log in self.logs for value in log.seen.get(column, ())} for column in columns}

    def sample(self, share: float) -> Sample | None:
        """Of all files, or of some of many; None where one of them cannot be read so."""
        some = self.logs[:: -(-len(self.logs) // MOST_SAMPLED)]
        sizes = [log.log.stat().st_size for log in some]
        found = []
        for log, size in zip(some, sizes, strict=True):
            if (one := log.sample(share * size / max(1, sum(sizes)))) is None:
                return None
            found.append(one)
        rows = sum(one.rows for one in found) * len(self.logs) // len(some)
        return Sample(
            [frame for one in found for frame in one.frames], rows, [ids for one in found for ids in one.sessions]
        )

    def clicks(self, progress: Progress) -> Generator[Clicks, None, None]:
        """The clicks of all files."""
        for self.at in self.logs:  # noqa: B020 (the file at hand)
            yield from self.at.clicks(progress)


Log = LineLog | TableLog | SeveralLogs
"""A log that is read once, block by block."""


def choose_reader(logs: Sequence[Path], reading: ReadSettings, kind: Kind) -> tuple[bool, Log]:
    """How a log (one or several files, or `STDIN`) is read.

    Returns:
        Whether the fast way is tried first: YooChoose's own form in a plain file, which `yoochoose.scan` reads. And the
        reader for the careful way, which takes any log of that kind, also one that the fast way stumbled over.
    """
    if len(logs) > 1:
        some = [log for log in logs if log.stat().st_size] or logs[:1]  # clusters write parts without a line, nor a header
        return False, SeveralLogs([_reader(log, reading, kind, f"{log.name}: ") for log in some])
    (log,) = logs
    plain = log != STDIN and kind == "clicks" and reading.columns is None and not packing_of(log)
    plain = plain and not reading.time_format and reading.encoding == UTF8 and not reading.member
    return plain and yoochoose.is_original(log), _reader(log, reading, kind, "")


def _reader(log: Path, reading: ReadSettings, kind: Kind, prefix: str) -> LineLog | TableLog:
    name = "standard input" if log == STDIN else str(log)
    if reading.columns is not None and log != STDIN and is_parquet(log):
        return TableLog(log, reading.columns, reading, prefix)
    begin = partial(form_of, name=name, reading=reading, kind=kind)
    wanted = CLICKS if kind == "clicks" else movielens.RATINGS
    return LineLog(log, begin, wanted, encoding=reading.encoding, member=reading.member, prefix=prefix)


def form_of(head: bytes, name: str, reading: ReadSettings, kind: Kind) -> tuple[Form, bool]:
    """The form of a log by its first lines, and whether the first is a header."""
    if not head and reading.columns is not None:
        raise LogError(f"{name} is empty.", expected="a click log", do="check the download or the path")
    if begins_json(head):
        if reading.columns is None:
            raise LogError(
                f"{name} holds JSON, and its columns are not named.",
                expected="the paths of session, item and time in it",
                do="--columns session=session,item=events.aid,time=events.ts, as they are called there; "
                f"or see what there is: pocketrec peek {name}",
            )
        return JsonLines(head, name, reading.columns, reading), False
    if kind != "clicks":
        return movielens.begin(head, name, reading, rated=kind == "rated")
    if reading.columns is not None:
        return delimited.Lines.of(head, name, reading.columns, reading)
    return yoochoose.Lines.of(head, reading.clock(zulu=False))
