"""Logs with bytes changed at random: never anything but a PocketrecError, never a lost line, never another click.

POCKETREC_FUZZ sets how many logs (two hundred without it), POCKETREC_FUZZ_SEED which. A long run, with its figures:

    POCKETREC_FUZZ=100000 pytest tests/test_fuzz_logs.py -s
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from line_oracle import read_log
from pocketrec.errors import PocketrecError
from pocketrec.layout import Dataset
from pocketrec.partitions import ingest
from pocketrec.sources.lines import original
from test_bad_rows import TIMES, kept
from test_streams import PACKERS

LOGS = int(os.environ.get("POCKETREC_FUZZ", "200"))
SEED = int(os.environ.get("POCKETREC_FUZZ_SEED", "1"))
COLUMNS = {"session": "SessionId", "item": "ItemId", "time": "Timestamp"}
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
        return data.replace(
            *chance.choice([(b"\n", b"\r"), (b"\n", b"\r\n"), (b",", b";"), (b"Z", b""), (b",", b",,"), (b"T", b" ")])
        )
    return data[:at] + chance.choice(PIECES) + data[at:]


def check_plain(data: bytes, log: Path, root: Path) -> str:
    """The law for a log that can be read; returns what came of it."""
    clicks, bad, lines = read_log(data)
    log.write_bytes(data)
    try:
        report = ingest(log, root, bad_rows="set-aside", fresh=True)
    except PocketrecError:
        packing = data[:2] == b"\x1f\x8b" or data[:4] in (b"PK\x03\x04", b"PAR1")
        if clicks and not packing:
            raise
        return "taken for an archive" if packing else "no click in it"
    assert report.rows + report.set_aside == report.lines == lines
    assert kept(root) == clicks
    if not bad:
        return "every line a click"
    with Dataset(root).rejects.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    text = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert [(int(number), original(line)) for number, _, line in rows] == [
        (number, text[number - 1].removesuffix(b"\r")) for number in bad
    ]
    return "some lines set aside"


def check_any(data: bytes, log: Path, root: Path, **how: object) -> str:
    """A damaged archive, or a log of columns: what is read adds up, what is not is one clear error."""
    log.write_bytes(data)
    try:
        report = ingest(log, root, bad_rows="set-aside", fresh=True, **how)  # type: ignore[arg-type]
    except PocketrecError:
        return "refused"
    assert report.rows + report.set_aside == report.lines
    return "read"


def one_log(chance: random.Random, folder: Path) -> str:
    """Mutate one log, ingest it, check; returns the kind of outcome."""
    data = real_looking(chance)
    log, root = folder / "log", folder / "d"
    for _ in range(chance.randint(0, 3)):
        data = mutated(data, chance)
    way = chance.random()
    if way < 0.75:
        return f"plain: {check_plain(data, log, root)}"
    if way < 0.85:
        columned = b"SessionId,Timestamp,ItemId,Category\n" + data
        return f"columns: {check_any(columned, log, root, columns=COLUMNS)}"
    kind = chance.choice(["gzip", "zstd", "Kaggle's"])
    archive = PACKERS[kind](data)
    if chance.random() < 0.3:
        clicks, _, _ = read_log(data)
        what = check_any(archive, log, root)
        assert (what == "read") == bool(clicks) or data[:2] in (b"\x1f\x8b", b"PK"), what
        if what == "read":
            assert kept(root) == clicks
        return f"whole {kind}: {what}"
    return f"changed {kind}: {check_any(mutated(archive, chance), log, root)}"


def test_no_log_is_too_odd(tmp_path: Path) -> None:
    began, outcomes = time.monotonic(), Counter[str]()
    for number in range(LOGS):
        chance = random.Random(f"{SEED} {number}")
        try:
            outcomes[one_log(chance, tmp_path)] += 1
        except BaseException as error:
            shutil.copy(tmp_path / "log", kept_log := tmp_path / "failed.log")
            pytest.fail(f"log {number} of seed {SEED}, {kept_log}: {error.__class__.__name__}: {error}")
    seconds = time.monotonic() - began
    print(f"\n{LOGS:,} logs in {seconds:.0f} s, {LOGS / seconds:.0f} a second")  # for pytest -s
    for outcome, count in sorted(outcomes.items()):
        print(f"  {outcome:<32}{count:>9,}")
    assert sum(outcomes.values()) == LOGS
