"""One process at a time in a dataset folder, and how a process that is stopped leaves it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apart import HANG
from conftest import call
from pocketrec.errors import BusyError, FolderError
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.streams import BLOCK_BYTES
from pocketrec.sources.synth import synth
from pocketrec.storage.files import staged_name
from pocketrec.storage.lock import HOLDER, LOCK, hold
from pocketrec.storage.manifest import MANIFEST

HOLD = """
import sys
from pocketrec.storage.lock import hold
with hold(sys.argv[1], "prep"):
    print("held", flush=True)
    sys.stdin.read()
"""
CLI = [sys.executable, "-m", "pocketrec.cli"]


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(found: Callable[[], object]) -> None:
    end = time.monotonic() + HANG
    while not found():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth(tmp_path_factory.mktemp("log") / "clicks.dat", SynthSettings(clicks=20_000, seed=3)).path


def test_the_second_one_says_who_holds_it(log: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    home = tmp_path / "d"
    with holder(home) as other:
        before = names(home)
        for arguments in (("prep", log), ("ingest", log), ("split",), ("batches",), ("export",), ("run", log)):
            code, out, err = call(*arguments, "--dataset", home)
            assert (code, out) == (1, "")
            assert err.startswith(f"Error: {home} is in use by process {other.pid} (pocketrec prep), since 20")
        assert names(home) == before == {LOCK, HOLDER}
        with hold(tmp_path / "another", "prep"):
            pass


def test_a_killed_holder_holds_nothing_and_what_it_had_begun_is_removed(log: Path, tmp_path: Path) -> None:
    home = tmp_path / "d"
    with holder(home) as other:
        (home / "final").mkdir()
        (home / "final" / "feats_bs8.npy.incomplete").write_text("half")
        (home / "mine.incomplete").write_text("of another program")
        other.kill()
        other.wait()
    assert (home / LOCK).exists()
    assert call("ingest", log, "--dataset", home)[0] == 0
    assert names(home) & {LOCK, HOLDER, "final/feats_bs8.npy.incomplete"} == set()
    assert (home / "mine.incomplete").exists(), "only the folders that are pocketrec's own are tidied"


def test_a_thread_may_take_it_again_and_another_may_not(tmp_path: Path) -> None:
    refused: list[BusyError] = []

    def other() -> None:
        try:
            with hold(tmp_path / "d", "split"):
                pass
        except BusyError as error:
            refused.append(error)

    with hold(tmp_path / "d", "prep"):
        with hold(tmp_path / "sub" / ".." / "d", "ingest"):
            pass
        assert (tmp_path / "d" / LOCK).exists(), "the inner one leaves it held"
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert f"process {os.getpid()} (pocketrec prep)" in str(refused[0])
    other()
    assert len(refused) == 1


def test_what_fails_before_it_has_made_anything_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "deep" / "d", "prep"):
        raise ZeroDivisionError
    assert names(tmp_path) == set()
    (tmp_path / "own.txt").write_text("x")
    with pytest.raises(ZeroDivisionError), hold(tmp_path, "prep"):
        raise ZeroDivisionError
    assert names(tmp_path) == {"own.txt"}


def test_what_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    with hold(tmp_path / "d", "prep"):
        (tmp_path / "d" / "final").mkdir()
    staged = staged_name(tmp_path / "d" / "final" / "items.parquet")
    with contextlib.suppress(KeyboardInterrupt), hold(tmp_path / "d", "prep"):
        staged.write_text("x")
        raise KeyboardInterrupt
    assert names(tmp_path / "d") == {"final"}
    assert names(tmp_path / "d" / "final") == set()


def test_a_holder_that_says_nothing(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / HOLDER).write_text("{}")
        with pytest.raises(BusyError, match="in use by another process"), hold(tmp_path, "split"):
            pass


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("x")
    for folder in (tmp_path / "d", tmp_path / "d" / "deeper"):
        with pytest.raises(FolderError, match="d is a file"), hold(folder, "prep"):
            pass
    assert names(tmp_path) == {"d"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_says_how_to_go_on_and_leaves_nothing_half_written(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    log, home = synth(tmp_path / "clicks.dat", SynthSettings(clicks=400_000, seed=1)).path, tmp_path / "d"
    command = [*CLI, "prep", str(log), "--dataset", str(home), "--fresh"]
    too_late = True
    while too_late:  # where this process had to wait for its turn, the parts were finished, and stay
        shutil.rmtree(home, ignore_errors=True)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda: list(home.rglob("*.incomplete")) or process.poll() is not None)
            process.send_signal(number)
            out, err = process.communicate(timeout=HANG)
        too_late = (home / "parquet" / MANIFEST).exists()
    assert (process.returncode, out) == (code, "")
    assert "Finished stages are kept" in err
    assert err.endswith(f"pocketrec prep {log} --dataset {home}\n")
    assert "Traceback" not in err
    assert not home.exists()


def test_sigterm_stops_what_was_begun_in_the_background_of_a_script(tmp_path: Path) -> None:
    """A shell has such a process ignore SIGINT; SIGTERM is for it all the same.

    The log comes through a pipe, which has room for few bytes: all of a second write is in it when the process has read on.
    """
    half, home = synth(tmp_path / "clicks.dat", SynthSettings(clicks=60_000, seed=1)).path.read_bytes(), tmp_path / "d"
    assert len(half) > BLOCK_BYTES
    ignoring = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", ignoring, *CLI, "prep", "-", "--dataset", str(home)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        process.stdin.write(half)
        wait_for(lambda: list(home.rglob("*.incomplete")))
        process.send_signal(signal.SIGINT)
        process.stdin.write(half)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=HANG)
    assert process.returncode == 143
    assert not list(tmp_path.rglob("*.incomplete"))
