"""A disk that is too small or becomes full, and folders that cannot be written: one message, nothing earlier is lost."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import call
from pocketrec.errors import FolderError, SpaceError
from pocketrec.ingestion.ingest import ingest
from pocketrec.ingestion.write_parts import ingest_bytes
from pocketrec.sessions.batches import batches_bytes
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.prep import prep
from pocketrec.sessions.split import roles_bytes, txt_bytes
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.layout import Dataset
from pocketrec.storage.space import is_full, room

Usage = namedtuple("Usage", "total used free")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth(tmp_path_factory.mktemp("log") / "clicks.dat", SynthSettings(clicks=60_000, seed=3)).path


def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small disk of its own, where this user may mount one."""
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("mounting a small disk is not possible here")
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own; `fill` leaves some of it."""
    yield from mounted(tmp_path / "disk", "-o", "size=32m")


def fill(disk: Path, left: int) -> Path:
    """Fill a disk but for so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - left))
    return ballast


def test_an_estimate_above_what_is_free_is_refused_and_force_goes_on(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "d"
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**6, 10**6 - 1000, 1000))
    code, out, err = call("prep", log, "--dataset", home)
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: ingest needs about 1.3 MB in {home}/parquet/clicks, and 1.0 kB are free: about 1.3 MB")
    assert "--force" in err
    assert not home.exists()
    assert call("ingest", log, "--dataset", home, "--force")[0] == 0
    earlier = content(home)
    for command in ("split", "batches"):
        code, _, err = call(command, "--dataset", home)
        assert (code, err.startswith(f"Error: {command} needs about ")) == (1, True)
        assert content(home) == earlier
        assert call(command, "--dataset", home, "--force")[0] == 0
        earlier = content(home)
    assert call("prep", log, "--dataset", home)[0] == 0, "what is up to date needs no space"
    assert call("prep", log, "--dataset", home, "--fresh")[0] == 1
    assert content(home) == earlier
    assert call("prep", log, "--dataset", home, "--fresh", "--force")[0] == 0


@pytest.mark.parametrize("order", ["grouped", "interleaved", "shuffled"])
def test_estimates_are_a_little_above_what_is_written(tmp_path: Path, order: str) -> None:
    log = synth(tmp_path / "clicks.dat", SynthSettings(clicks=200_000, seed=5, order=order)).path  # type: ignore[arg-type]
    report = prep(log, tmp_path / "d", batching=BatchSettings(batch_size=64))
    where = Dataset(tmp_path / "d")
    written = {
        folder: sum(len(one) for one in content(folder).values()) for folder in (where.clicks, where.rsc15, where.final)
    }
    sizes = report.split.sets.values()
    transitions = sum(one.events - one.sessions for one in list(sizes)[1:])
    rows, log_bytes = report.ingest.rows, log.stat().st_size
    estimates = {
        where.clicks: ingest_bytes(log_bytes),
        where.rsc15: txt_bytes(log_bytes, rows),
        where.final: batches_bytes(transitions, report.batches.items, ("txt", "npy")),
    }
    for folder, estimate in estimates.items():
        assert written[folder] < estimate < 2.2 * written[folder], folder


def test_estimates_of_the_log_that_was_measured() -> None:
    assert 0.49e9 < ingest_bytes(1_490_000_000) < 0.75e9
    assert 2.08e9 < txt_bytes(1_490_000_000, 33_000_000) < 2.5e9
    assert 6 * 33_000_000 < roles_bytes(33_000_000) < 8 * 33_000_000


@pytest.mark.parametrize("what", ["ingest", "ingest packed", "split", "batches"])
def test_a_disk_that_becomes_full_costs_only_the_stage_at_work(
    log: Path, tmp_path: Path, small_disk: Path, what: str
) -> None:
    home, stage = small_disk / "d", what.split()[0]
    packed = tmp_path / "clicks.dat.gz"
    packed.write_bytes(gzip.compress(log.read_bytes(), 1))
    commands = {
        "ingest": ("ingest", log, "--timezone", "Asia/Tokyo"),
        "ingest packed": ("ingest", packed, "--timezone", "Asia/Tokyo"),
        "split": ("split", "--holdout", "2d"),
        "batches": ("batches", "--batch-size", "16"),
    }
    assert call("prep", log, "--dataset", home, "--batch-size", 16)[0] == 0
    earlier = content(home)
    for left in (20_000, 400_000):
        ballast = fill(small_disk, left)
        command = (*commands[what], "--dataset", home, "--force", "--fresh")
        code, out, err = call(*command)
        assert (code, out) == (1, "")
        assert err.startswith(f"Error: the disk of {home}"), err
        assert f"became full during {stage}" in err
        assert "are missing" in err
        assert content(home) == earlier
        ballast.unlink()
    assert call(*command)[0] == 0


def test_a_disk_that_is_full_from_the_start(log: Path, small_disk: Path) -> None:
    fill(small_disk, 0)
    code, out, err = call("prep", log, "--dataset", small_disk / "d", "--force")
    assert (code, out) == (1, "")
    assert "became full" in err
    assert not (small_disk / "d").exists()


@pytest.mark.parametrize("command", [("export", "--weights", "int8"), ("train", "--epochs", "1")], ids=lambda one: one[0])
def test_a_disk_that_becomes_full_under_a_model(log: Path, small_disk: Path, command: tuple[str, ...]) -> None:
    pytest.importorskip("tensorflow")
    dataset = small_disk / "d"
    prep(
        log, dataset, batching=BatchSettings(batch_size=64, formats=("npy",)), splitting=SplitSettings(min_item_support=200)
    )
    before = content(dataset)
    ballast = fill(small_disk, 8_000)
    words = (*command, "--dataset", dataset, "--batch-size", 64, "--hidden-size", 8)
    code, _, err = call(*words)
    assert (code, err.count("Error")) == (1, 1)
    assert "became full during" in err
    ballast.unlink()
    assert content(dataset) == before
    assert call(*words)[0] == 0


def test_synth_on_a_full_disk_leaves_the_earlier_log(small_disk: Path) -> None:
    log = small_disk / "clicks.dat"
    assert call("synth", log, "--clicks", 1000)[0] == 0
    earlier = content(small_disk)
    fill(small_disk, 100_000)
    code, _, err = call("synth", log, "--clicks", 100_000, "--order", "shuffled")
    assert (code, "became full during synth" in err) == (1, True)
    (small_disk / "ballast").unlink()
    assert content(small_disk) == earlier


def test_a_read_only_folder_is_one_message(log: Path, tmp_path: Path) -> None:
    for disk in mounted(tmp_path / "disk", "-o", "ro,size=1m"):
        for arguments in (("prep", log), ("ingest", log), ("split",), ("export",)):
            code, out, err = call(*arguments, "--dataset", disk / "d")
            assert (code, out) == (1, "")
            assert err.startswith(f"Error: {disk}/d")
            assert "Read-only file system" in err
            assert "Traceback" not in err


@pytest.mark.parametrize("folder", ["parquet", "rsc15", "final"])
def test_a_file_where_a_stage_writes_its_folder(log: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / folder).write_text("mine")
    code, _, err = call("prep", log, "--dataset", tmp_path / "d", "--batch-size", 16)
    assert code == 1
    assert err.startswith(f"Error: {tmp_path}/d/{folder} is a file.")
    assert (tmp_path / "d" / folder).read_text() == "mine"


@pytest.mark.parametrize("folder", ["parquet", "rsc15", "final"])
def test_a_manifest_that_is_a_folder(log: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "d" / folder / "manifest.json").mkdir(parents=True)
    code, _, err = call("prep", log, "--dataset", tmp_path / "d", "--batch-size", 16)
    assert code == 1
    assert err.startswith(f"Error: {tmp_path}/d/{folder}/manifest.json cannot be read (Is a directory).")
    assert "Traceback" not in err


def test_the_dataset_is_a_file(log: Path, tmp_path: Path) -> None:
    (tmp_path / "d").write_text("mine")
    code, _, err = call("prep", log, "--dataset", tmp_path / "d")
    assert (code, err.startswith(f"Error: {tmp_path}/d is a file.")) == (1, True)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (pl.exceptions.ComputeError("No space left on device (os error 28)"), True),
        (OSError("No space left on device (os error 28)"), True),
        (OSError("5000 requested and 0 written"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (pl.exceptions.ComputeError("found more fields than defined in 'Schema'"), False),
        (ValueError("3 requested and 2 written"), False),
    ],
)
def test_what_says_that_the_disk_is_full(error: Exception, full: bool) -> None:
    assert is_full(error) is full


def test_numpy_on_a_full_disk(small_disk: Path) -> None:
    fill(small_disk, 4096)
    with pytest.raises(SpaceError, match="became full during split"), room(small_disk, "split", 10**9, force=True):
        np.save(small_disk / "x.npy", np.zeros(100_000))


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Broken pipe"), room(tmp_path, "split"):
        raise OSError(errno.EPIPE, "Broken pipe")
    with pytest.raises(FolderError, match="Input/output error"), room(tmp_path, "split"):
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(FolderError, match="Permission denied"), room(tmp_path, "split"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))


def test_files_that_may_not_become_so_large(log: Path, tmp_path: Path) -> None:
    """A limit of the shell's, or a file system's own."""
    command = [sys.executable, "-m", "pocketrec.cli", "ingest", str(log), "--dataset", str(tmp_path / "d")]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {tmp_path}/d"), done.stderr
    assert "ulimit -f unlimited" in done.stderr
    assert not (tmp_path / "d").exists()


def test_a_log_that_this_user_may_not_read(log: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(log.read_bytes())
    (tmp_path / "log").chmod(0)
    command = [sys.executable, "-m", "pocketrec.cli", "ingest", str(tmp_path / "log"), "--dataset", str(tmp_path / "d")]
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if drop and (not shutil.which(drop[0]) or subprocess.run([*drop, "true"], capture_output=True, check=False).returncode):
        pytest.skip("this user may read everything")
    done = subprocess.run([*drop, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {tmp_path}/log cannot be read (Permission denied).")
    assert not (tmp_path / "d").exists()


def test_a_log_that_is_ingested_from_a_library_is_refused_too(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**6, 10**6, 0))
    with pytest.raises(SpaceError, match="ingest needs about"):
        ingest(log, tmp_path / "d")
    assert ingest(log, tmp_path / "d", force=True).rows == 60_000
