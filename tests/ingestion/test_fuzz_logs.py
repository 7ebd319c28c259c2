"""Logs with bytes changed at random: never anything but a PocketrecError, never a lost line, never another click.

Each log is read by one of the ways there are: set aside or stop, as the original's or by its columns, plain or packed, in
this or that zone. One in five is ingested, from the file to the manifest; of the others, line by line as they are read,
goes to the spool and rejects.csv, which is where a line could be lost. POCKETREC_FUZZ sets how many logs (two hundred
without it), POCKETREC_FUZZ_SEED which. A long run, with its figures:

    POCKETREC_FUZZ=100000 pytest tests/ingestion/test_fuzz_logs.py -s
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from line_oracle import by_hand, events_by_hand, read_log
from log_support import PACKERS, TIMES, is_packed, kept
from pocketrec.errors import LogError
from pocketrec.ingestion.ingest import ingest
from pocketrec.ingestion.intake import Intake
from pocketrec.ingestion.spool import spool
from pocketrec.progress import SILENT
from pocketrec.sources.lines import original
from pocketrec.sources.logs import LineLog, form_of
from pocketrec.sources.options import BadRows, Columns, ReadSettings
from pocketrec.storage.files import STAGED_SUFFIX
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import MANIFEST

LOGS = int(os.environ.get("POCKETREC_FUZZ", "200"))
SEED = int(os.environ.get("POCKETREC_FUZZ_SEED", "1"))
COLUMNS = {"session": "SessionId", "item": "ItemId", "time": "Timestamp"}
ZONES = ("UTC", "UTC", "Asia/Shanghai")  # without summer time, which Polars does not know after 2099
SEPARATORS = (",", "\t", ";", "|")
PIECES = (
    b"\x00", b"\r", b"\n", b"\r\n", b",", b",,", b'"', b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\t", b" ", b"-", b"+", b"\\",
    b"0", b"9" * 25, b"\n\n\n", b"SessionId,Timestamp,ItemId,Category\n", b"2014-02-30T10:51:09.277Z", b"Z", b"+02",
    b"PK\x03\x04", b"\x1f\x8b", b"PAR1", b"\x80" * 9,
)  # fmt: skip

REPLACED = [(b"\n", b"\r"), (b"\n", b"\r\n"), (b",", b";"), (b"Z", b""), (b",", b",,"), (b"T", b" ")]


def real_looking(chance: random.Random) -> bytes:
    """A few sessions, mostly in the original's form."""
    forms = TIMES if chance.random() < 0.3 else TIMES[:1]
    fields = b",0" if chance.random() < 0.85 else b""
    lines = []
    for _ in range(chance.randint(1, 6)):
        session, day = chance.randint(1, 10 ** chance.randint(1, 8)), chance.randint(1, 28)
        for step in range(chance.randint(1, 4)):
            when = chance.choice(forms)
            if when == TIMES[0]:
                when = b"2014-%02d-%02dT%02d:%02d:09.277Z" % (chance.randint(4, 9), day, chance.randint(0, 23), step)
            lines.append(b"%d,%s,%d" % (session, when, 214_000_000 + chance.randrange(900)) + fields)
    if chance.random() < 0.1:
        lines.insert(0, b"SessionId,Timestamp,ItemId" + (b",Category" if fields else b""))
    end = b"\r\n" if chance.random() < 0.1 else b"\n"
    return b"\xef\xbb\xbf" * (chance.random() < 0.05) + end.join(lines) + end * (chance.random() < 0.9)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """One change: bits, a cut, bytes put in or taken out, lines swapped or doubled, bytes of a line's end changed."""
    at, kind = chance.randrange(len(data) + 1), chance.randrange(8)
    if kind == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at + chance.randint(1, 30) :]
    if kind == 3:
        lines = data.splitlines(keepends=True)
        chance.shuffle(lines)
        return b"".join(lines)
    if kind == 4:
        return data[:at] + data[max(0, at - 40) : at] + data[at:]
    if kind == 5:
        return data.replace(*chance.choice(REPLACED))
    return data[:at] + chance.choice(PIECES) + data[at:]


def as_json(data: bytes, nested: bool) -> bytes:
    """The clicks of a log in YooChoose's form as JSON lines."""
    rows = [row for line in data.splitlines() if (row := by_hand(line, ",", line.count(b",") + 1, (0, 2, 1))) is not None]
    rows = rows or [("1", "2", 1396867869277)]
    if not nested:
        return b"".join(json.dumps({"s": s, "i": int(i), "t": t}).encode() + b"\n" for s, i, t in rows)
    lists: dict[str, list[dict[str, object]]] = {}
    for session, item, time_ms in rows:
        lists.setdefault(session, []).append({"i": item, "t": time_ms, "k": "view"})
    return b"".join(json.dumps({"s": int(s), "a": {"b": some}}).encode() + b"\n" for s, some in lists.items())


def lines_of(text: bytes) -> list[bytes]:
    """Without blank ones at the end."""
    lines = text.split(b"\n")
    while lines and lines[-1] in (b"", b"\r"):
        lines.pop()
    return lines


class Outcome(NamedTuple):
    """What was read of a log: its lines, the clicks if their ids are numbers, and number and bytes of lines set aside."""

    lines: int
    rows: int
    clicks: list[tuple[int, ...]]
    rejected: list[tuple[int, bytes]]


def rejected(path: Path) -> list[tuple[int, bytes]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(int(number), original(line)) for number, _, line in list(csv.reader(file))[1:]]


Read = Outcome | LogError


class Fuzz:
    """One log after the other into the same dataset folder, and what came of their lines."""

    def __init__(self, folder: Path) -> None:
        self.log, self.root, self.spool = folder / "log", folder / "d", folder / "spool"
        self.ingested = self.kept = self.set_aside = 0

    def read(
        self, data: bytes, *, whole: bool, stop: bool = False, zone: str = "UTC", columns: Columns | None = None
    ) -> Read:
        """Read a log as ingest does; what is kept and what is set aside are its lines."""
        self.log.write_bytes(data)
        try:
            read = (self._ingest if whole else self._spool)(stop, zone, columns)
        except LogError as error:
            return error
        assert read.rows + len(read.rejected) == read.lines
        self.ingested, self.kept = self.ingested + whole, self.kept + read.rows
        self.set_aside += len(read.rejected)
        return read

    def _ingest(self, stop: bool, zone: str, columns: Columns | None) -> Outcome:
        """Nothing is left half-written, and an error leaves the dataset as it was."""
        manifest = self.root / "parquet" / MANIFEST
        before = manifest.read_bytes() if manifest.exists() else b""
        try:
            how: BadRows = "stop" if stop else "set-aside"
            report = ingest(self.log, self.root, ReadSettings(timezone=zone, bad_rows=how, columns=columns), fresh=True)
        except LogError:
            assert before == (manifest.read_bytes() if manifest.exists() else b"")
            raise
        finally:
            assert not list(self.root.rglob(f"*{STAGED_SUFFIX}"))
        aside = rejected(Dataset(self.root).rejects)
        assert report.set_aside == len(aside)
        return Outcome(report.lines, report.rows, kept(self.root), aside)

    def _spool(self, stop: bool, zone: str, columns: Columns | None) -> Outcome:
        shutil.rmtree(self.spool, ignore_errors=True)
        self.spool.mkdir()
        begin = partial(form_of, name=str(self.log), reading=ReadSettings(timezone=zone, columns=columns), kind="clicks")
        log, aside = LineLog(self.log, begin), self.spool / "rejects.csv"
        intake = Intake(log, aside, set_aside=not stop)
        found = spool(intake.frames(SILENT), self.spool, SILENT)
        rows = [row for path in found.files for row in pl.read_parquet(path).rows()]
        assert [row[-1] for row in rows] == list(range(found.rows))
        lines = rejected(aside)
        assert intake.set_aside == len(lines)
        return Outcome(log.lines, found.rows, [row[:-1] for row in rows], lines)

    def plain(self, data: bytes, *, whole: bool, stop: bool, zone: str) -> str:
        """The original's form, by the independent judge."""
        clicks, bad, lines = read_log(data, zone)
        read = self.read(data, whole=whole, stop=stop, zone=zone)
        packing = is_packed(data)
        if isinstance(read, LogError):
            assert packing or not clicks or (stop and bad), read
            if stop and clicks and bad and not packing:
                assert f"line {bad[0]}: " in read.wrong
                return "stopped at the first bad line"
            return "taken for an archive" if packing else "no click in it"
        assert not (stop and bad)
        assert (read.lines, read.clicks) == (lines, clicks)
        text = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        assert read.rejected == [(number, text[number - 1].removesuffix(b"\r")) for number in bad]
        return "some lines set aside" if bad else "every line a click"

    def columns(self, data: bytes, separator: str, *, whole: bool, stop: bool) -> str:
        """A log with a header and some separator, by a reader of csv that goes a character at a time."""
        text = (b"SessionId,Timestamp,ItemId,Category\n" + data).replace(b",", separator.encode())
        found = [by_hand(line, separator, 4, (0, 2, 1)) for line in lines_of(text)]
        return self._as_found(text, [row and [row] for row in found[1:]], COLUMNS, whole=whole, stop=stop)

    def places(self, data: bytes, separator: str, *, whole: bool, stop: bool) -> str:
        """The same without a header, by the places of the columns."""
        text = (b"1,1396867869,214536502,0\n" + data).replace(b",", separator.encode())
        found = [by_hand(line, separator, 4, (0, 2, 1)) for line in lines_of(text)]
        columns = {"session": "1", "item": "3", "time": "2"}
        return self._as_found(text, [row and [row] for row in found], columns, whole=whole, stop=stop)

    def json(self, data: bytes, *, nested: bool, whole: bool, stop: bool) -> str:
        """JSON lines, by Python's json."""
        columns = (
            {"session": "s", "item": "a.b.i", "time": "a.b.t"} if nested else {"session": "s", "item": "i", "time": "t"}
        )
        found = [events_by_hand(line, nested, where=False) for line in lines_of(data)]
        return self._as_found(data, found, columns, whole=whole, stop=stop)

    def _as_found(
        self, text: bytes, found: list[list[tuple[str, str, int]] | None], columns: Columns, *, whole: bool, stop: bool
    ) -> str:
        """What is read of a text is what was found in its last lines, and where nothing was, the lines are set aside."""
        lines = lines_of(text)
        first = len(lines) - len(found)
        bad = [number for number, rows in enumerate(found, 1 + first) if rows is None]
        clicks = [row for rows in found for row in rows or []]
        read = self.read(text, whole=whole, stop=stop, columns=columns)
        if isinstance(read, LogError):
            assert not clicks or (stop and f"line {bad[0]}: " in read.wrong), read
            return "stopped at the first bad line" if clicks else "no click in it"
        assert not (stop and bad)
        assert read.lines == len(clicks) + len(bad)
        assert read.rejected == [(number, lines[number - 1].removesuffix(b"\r")) for number in bad]
        if not whole:
            assert [(str(session), str(item), ms) for session, item, ms in read.clicks] == clicks
        return "some lines set aside" if bad else "every line a click"

    def packed(self, data: bytes, kind: str, *, whole: bool) -> str:
        """A whole archive is its log."""
        clicks, _, lines = read_log(data)
        read = self.read(PACKERS[kind](data), whole=whole)
        if isinstance(read, LogError):
            assert not clicks or is_packed(data), read
            return "refused"
        assert (read.lines, read.clicks) == (lines, clicks)
        return "read"

    def damaged(self, data: bytes, *, whole: bool, columns: Columns | None = None) -> str:
        """What is read of it adds up, or it is one clear error."""
        return "refused" if isinstance(self.read(data, whole=whole, columns=columns), LogError) else "read"


def one_log(chance: random.Random, fuzz: Fuzz) -> str:
    """Mutate one log, read it, check; returns the kind of outcome."""
    data = real_looking(chance)
    for _ in range(chance.randint(0, 3)):
        data = mutated(data, chance)
    way, whole, stop = chance.random(), chance.random() < 0.2, chance.random() < 0.25
    if way < 0.45:
        return f"plain: {fuzz.plain(data, whole=whole, stop=stop, zone=chance.choice(ZONES))}"
    if way < 0.55:
        return f"columns: {fuzz.columns(data, chance.choice(SEPARATORS), whole=whole, stop=stop)}"
    if way < 0.65:
        return f"places: {fuzz.places(data, chance.choice(SEPARATORS), whole=whole, stop=stop)}"
    if way < 0.82:
        nested = chance.random() < 0.5
        data = as_json(real_looking(chance), nested)
        head = data[: data.find(b"\n") + 1]  # the names in it are those of the log
        for _ in range(chance.randint(0, 3)):
            data = mutated(data, chance)
        return f"JSON{', lists' * nested}: {fuzz.json(head + data, nested=nested, whole=whole, stop=stop)}"
    if way < 0.85:
        header = mutated(b"SessionId,Timestamp,ItemId,Category\n", chance)
        return f"changed header: {fuzz.damaged(header + data, whole=whole, columns=COLUMNS)}"
    kind = chance.choice(["gzip", "zstd", "Kaggle's"])
    if chance.random() < 0.3:
        return f"whole {kind}: {fuzz.packed(data, kind, whole=whole)}"
    return f"changed {kind}: {fuzz.damaged(mutated(PACKERS[kind](data), chance), whole=whole)}"


def test_no_log_is_too_odd(tmp_path: Path) -> None:
    began, outcomes, fuzz = time.monotonic(), Counter[str](), Fuzz(tmp_path)
    for number in range(LOGS):
        chance = random.Random(f"{SEED} {number}")
        try:
            outcomes[one_log(chance, fuzz)] += 1
        except BaseException as error:
            shutil.copy(fuzz.log, kept_log := tmp_path / "failed.log")
            pytest.fail(f"log {number} of seed {SEED}, {kept_log}: {error.__class__.__name__}: {error}")
    seconds = time.monotonic() - began
    lines = f"{fuzz.kept:,} lines kept, {fuzz.set_aside:,} set aside; {fuzz.ingested:,} ingested whole"
    print(f"\n{LOGS:,} logs in {seconds:.0f} s, {LOGS / seconds:.0f} a second; {lines}")  # for pytest -s
    for outcome, count in sorted(outcomes.items()):
        print(f"  {outcome:<40}{count:>9,}")
    assert sum(outcomes.values()) == LOGS
