"""Archives and standard input: the rows of the plain file; damage is one clear error and leaves nothing behind."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pty
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from apart import HANG
from conftest import call, write_log
from log_support import CLICKS, PACKERS, Watched, kaggle, kept, tarred, zipped
from pocketrec.errors import LogError
from pocketrec.ingestion.ingest import ingest
from pocketrec.sources import streams
from pocketrec.sources.options import ReadSettings, SynthSettings
from pocketrec.sources.streams import packing
from pocketrec.sources.synth import synth
from pocketrec.storage.files import content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import read_records

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return synth(
        tmp_path_factory.mktemp("log") / "clicks.dat", SynthSettings(clicks=3000, order="shuffled")
    ).path.read_bytes()


@pytest.fixture
def plain(tmp_path: Path, data: bytes) -> list[tuple[int, ...]]:
    """The rows by the other way."""
    log = tmp_path / "plain.dat"
    log.write_bytes(data)
    ingest(log, tmp_path / "plain")
    return kept(tmp_path / "plain")


@pytest.mark.parametrize("packer", PACKERS)
def test_the_same_rows_as_from_the_plain_file(
    tmp_path: Path, data: bytes, plain: list[tuple[int, ...]], packer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the file is called; unpacked nowhere."""
    monkeypatch.setattr(streams, "BLOCK_BYTES", 5000)
    log, watched = tmp_path / "log", Watched()
    log.write_bytes(PACKERS[packer](data))
    report = ingest(log, tmp_path / "d", progress=watched)
    assert kept(tmp_path / "d") == plain
    assert (report.lines, report.set_aside, report.rejects) == (len(plain), 0, None)
    assert watched.totals[0] == ("ingest", log.stat().st_size, "bytes")
    record = read_records(tmp_path / "d/parquet")["ingest"]
    assert record.inputs["log"] == content_hash(log)
    assert record.counts["text_bytes"] >= len(data)
    assert ingest(log, tmp_path / "d").reused
    log.write_bytes(PACKERS[packer](data[: data.index(b"\n") + 1]))
    assert ingest(log, tmp_path / "d").rows == 1


def test_progress_counts_packed_bytes(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 5000)
    for packer in ("gzip", "zstd"):
        log, watched = tmp_path / packer, Watched()
        log.write_bytes(PACKERS[packer](data))
        ingest(log, tmp_path / "d", progress=watched)
        assert watched.done - 3000 == pytest.approx(log.stat().st_size, rel=0.01), "and the rows of the second task"


def test_the_member_that_was_taken_is_said(tmp_path: Path, data: bytes) -> None:
    log = tmp_path / "recsys-challenge-2015.zip"
    log.write_bytes(kaggle(data))
    code, out, err = call("ingest", log, "--dataset", tmp_path / "d")
    assert (code, "3,000 clicks" in out) == (0, True)
    assert "  read from the archive: yoochoose-clicks.dat\n" in err
    log.write_bytes(kaggle(data + b"x\n"))
    code, out, err = call("ingest", log, "--dataset", tmp_path / "d")
    assert (code, out) == (1, "")
    assert f"{log}:yoochoose-clicks.dat, line 3001: 1 field instead of 4: 'x'" in err
    code, out, err = call("ingest", log, "--dataset", tmp_path / "d", "--bad-rows", "set-aside")
    assert code == 0
    assert f"1 of 3,001 lines are not clicks (0.033%); they are in {tmp_path / 'd/rejects.csv'}\n" in err
    assert "1 lines set aside" in call("inspect", "--dataset", tmp_path / "d")[1]


def encrypted(data: bytes) -> bytes:
    """The flags say so, here and in the directory."""
    archive = bytearray(zipped(("clicks.dat", data)))
    archive[6] |= 1
    archive[archive.index(b"PK\x01\x02") + 8] |= 1
    return bytes(archive)


NO_LOG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "two logs": (lambda data: zipped(("a.dat", data), ("b.dat", data)), "it holds a.dat, b.dat"),
    "two clicks": (lambda data: zipped(("clicks1", data), ("clicks2", data)), "it holds clicks1, clicks2"),
    "an empty zip": (lambda _: zipped(), "it holds nothing"),
    "a zip in a zip": (lambda data: zipped(("a.zip", zipped(("a", data)))), "is itself packed (zip)"),
    "a gzip in a zip": (lambda data: zipped(("a.gz", gzip.compress(data))), "is itself packed (gzip)"),
    "a zstd in a gzip": (lambda data: gzip.compress(zstd.compress(data)), "is itself packed (zstd)"),
    "a cut xz": (lambda data: lzma.compress(data)[:-1000], "is cut or damaged"),
    "a cut bzip2": (lambda data: bz2.compress(data)[:-1000], "is cut or damaged"),
    "a tar of two logs": (lambda data: tarred(("a.dat", data), ("b.dat", data)), "it holds a.dat, b.dat"),
    "a cut tar": (lambda data: gzip.compress(tarred(("a.dat", data))[:2000]), "is cut or damaged"),
    "a 7z in a gzip": (lambda _: gzip.compress(b"7z\xbc\xaf\x27\x1c"), "is packed (7z)"),
    "Parquet in a gzip": (lambda _: gzip.compress(b"PAR1\x15\x04PAR1"), "is a Parquet file"),
    "an xz in a zip": (lambda data: zipped(("a.xz", lzma.compress(data))), "is itself packed (xz)"),
    "encrypted": (encrypted, "clicks.dat is encrypted"),
    "nothing": (lambda _: gzip.compress(b""), "is empty"),
    "another checksum": (lambda data: gzip.compress(data)[:-8] + b"1234" + gzip.compress(data)[-4:], "CRC check failed"),
    "something after it": (lambda data: gzip.compress(data) + b"garbage", "is cut or damaged"),
    "a cut gzip": (lambda data: gzip.compress(data)[:-1000], "is cut or damaged"),
    "a cut zstd": (lambda data: zstd.compress(data)[:-1000], "is cut or damaged"),
    "a cut zip": (lambda data: kaggle(data)[:-10], "is cut or damaged"),
}


@pytest.mark.parametrize("kind", NO_LOG)
@pytest.mark.parametrize("bad_rows", ["stop", "set-aside"])
def test_an_archive_that_is_no_log(tmp_path: Path, data: bytes, kind: str, bad_rows: str) -> None:
    make, words = NO_LOG[kind]
    log = tmp_path / "log"
    log.write_bytes(make(data))
    with pytest.raises(LogError) as error:
        ingest(log, tmp_path / "d", ReadSettings(bad_rows=bad_rows))  # type: ignore[arg-type]
    assert words in error.value.wrong
    assert str(log) in error.value.wrong
    assert error.value.expected
    assert list(tmp_path.iterdir()) == [log]


@pytest.mark.parametrize("packer", ["gzip", "zstd", "Kaggle's", "zip, bzip2", "zip, lzma"])
def test_a_cut_or_changed_archive_is_an_error_or_the_log(tmp_path: Path, packer: str) -> None:
    """A bit that was flipped may be in a name or a time of change; the rows are right then."""
    data = b"".join(click.line().encode() for click in CLICKS)
    whole, chance, log = PACKERS[packer](data), random.Random(5), tmp_path / "log"
    refused = 0
    for trial in range(36):
        at, bit = chance.randrange(1, len(whole)), chance.randrange(8)
        cut = whole[:at] if trial % 2 else whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
        log.write_bytes(cut)
        try:
            report = ingest(log, tmp_path / "d", fresh=True)
        except LogError:
            refused += 1
        else:
            assert report.rows == len(CLICKS)
            assert trial % 2 == 0
    assert refused >= 18


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MIN_LIMIT", 1 << 20)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 16)
    log = tmp_path / "bomb.gz"
    log.write_bytes(gzip.compress(CLICKS[0].line().encode() * 100_000))
    with pytest.raises(LogError, match=r"bomb.gz unpacks to more than \d,\d\d\d,\d\d\d bytes"):
        ingest(log, tmp_path / "d")
    assert list(tmp_path.iterdir()) == [log]


@pytest.mark.parametrize("columns", [None, {"session": "a", "item": "b", "time": "c"}])
def test_a_log_of_nothing_but_other_lines_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, str] | None
) -> None:
    """A little archive of a thousand million blank lines, each of them set aside, would fill the disk."""
    monkeypatch.setattr("pocketrec.ingestion.intake.HOPELESS", 5_000)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1_000)
    log, head = tmp_path / "log.gz", b"a,b,c\n" if columns else b""
    log.write_bytes(gzip.compress(head + b"\n" * 20_000 + CLICKS[0].line().encode()))
    with pytest.raises(LogError, match=r"none of the first 5,\d\d\d lines of .*log.gz is a click, line [12]: a blank line"):
        ingest(log, tmp_path / "d", ReadSettings(bad_rows="set-aside", columns=columns))
    assert list(tmp_path.iterdir()) == [log]
    log.write_bytes(gzip.compress(CLICKS[0].line().encode() + b"\n" * 20_000))
    assert columns or ingest(log, tmp_path / "d", ReadSettings(bad_rows="set-aside")).set_aside == 20_000


def test_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    """The kernel gives an error for memory at address 0, as for a broken disk."""
    with pytest.raises(LogError, match=r"/proc/self/mem cannot be read \(Input/output error\)"):
        ingest("/proc/self/mem", tmp_path / "d")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("head", [b"", b"P", b"1,2", b"\x1f", b"PK\x05"])
def test_what_is_no_archive(head: bytes) -> None:
    assert packing(head) == ""


def piped(data: bytes, root: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pocketrec.cli", "ingest", "-", "--dataset", str(root)]
    return subprocess.run(command, input=data, capture_output=True, timeout=HANG, check=False)


def test_standard_input(tmp_path: Path, data: bytes, plain: list[tuple[int, ...]]) -> None:
    """It is ingested again each time; the same bytes are the same log for what follows."""
    root = tmp_path / "d"
    first = piped(data, root)
    assert (first.returncode, b"3,000 clicks" in first.stdout) == (0, True), first.stderr
    assert kept(root) == plain
    before = read_records(root / "parquet")["ingest"]
    again = piped(data, root)
    assert b"up to date" not in again.stdout
    assert read_records(root / "parquet")["ingest"] == before
    assert before.counts["log"] == "-"
    assert "current" in call("inspect", "--dataset", root)[1]
    bad = piped(data + b"x\n", root)
    assert bad.returncode == 1
    assert b"standard input, line 3001: 1 field instead of 4: 'x'" in bad.stderr
    assert read_records(root / "parquet")["ingest"] == before


@pytest.mark.parametrize(
    ("given", "words"), [(b"", b"standard input is empty."), (gzip.compress(b"1", mtime=0), b"is packed (gzip)")]
)
def test_standard_input_that_is_no_log(tmp_path: Path, given: bytes, words: bytes) -> None:
    done = piped(given, tmp_path / "d")
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "d").exists()


def test_standard_input_that_is_closed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pocketrec.cli", "ingest", "-", "--dataset", str(tmp_path / "d")]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True, timeout=HANG, check=False)
    assert (done.returncode, done.stderr.startswith(b"Error: standard input is closed.")) == (1, True), done.stderr
    assert not (tmp_path / "d").exists()


def test_standard_input_that_breaks_off(tmp_path: Path) -> None:
    """A terminal that was hung up: reading it is an error of the system."""
    ours, theirs = pty.openpty()
    os.close(ours)
    command = [sys.executable, "-m", "pocketrec.cli", "ingest", "-", "--dataset", str(tmp_path / "d")]
    done = subprocess.run(command, stdin=theirs, capture_output=True, timeout=HANG, check=False)
    os.close(theirs)
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False), done.stderr
    assert done.stderr.startswith(b"Error: standard input ")
    assert not (tmp_path / "d").exists()


def test_leftovers_of_the_spool_are_removed(tmp_path: Path) -> None:
    """A killed run leaves them beside the parts."""
    log, where = write_log(tmp_path / "clicks.dat", CLICKS), Dataset(tmp_path / "d")
    for name in ("clicks.incomplete/spool", "scan.incomplete/part=0000"):
        (where.clicks.parent / name).mkdir(parents=True)
        (where.clicks.parent / name / "000000.parquet").write_bytes(b"half")
    ingest(log, where.root)
    assert sorted(path.name for path in where.clicks.parent.iterdir()) == ["clicks", "manifest.json"]
    assert [path.name for path in where.clicks.iterdir()] == ["part=0000"]
