"""A command in odd surroundings: closed descriptors, names that are not UTF-8, an encoding of few letters, no locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apart import HANG, call_apart
from conftest import Click, call, write_log

COMMAND = f"{sys.executable} -m pocketrec.cli"


def small_log(path: Path) -> Path:
    day = 86_400_000
    clicks = [Click(session, 1_396_321_200_000 + session * day + k, 7) for session in range(1, 10) for k in range(3)]
    return write_log(path, clicks)


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    surroundings = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, timeout=HANG, check=False, env=surroundings)


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_lead_nowhere(tmp_path: Path, closed: str) -> None:
    small_log(tmp_path / "clicks.dat")
    done = shell(f"{COMMAND} prep clicks.dat --batch-size 2 --min-item-support 1 {closed}", tmp_path)
    assert done.returncode == 0, done.stderr
    if "2>" not in closed:
        assert b"Parquet" in done.stderr
    if ">&-" not in closed.replace("2>&-", ""):
        assert b"Full train set" in done.stdout
    assert call("verify-data", "--dataset", tmp_path / "dataset")[0] == 0
    wrong = shell(f"{COMMAND} prep - {closed}", tmp_path)
    assert wrong.returncode == 1
    assert b"Traceback" not in wrong.stderr


NOT_UTF8 = b"\xff\xfe\x1b[31m"


def test_names_that_are_not_utf8_are_refused_or_shown_as_text(tmp_path: Path) -> None:
    """As the log, the dataset folder, the folder of both, or what does not exist; in an encoding of few letters as well."""
    home = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + NOT_UTF8))
    home.mkdir()
    name = os.fsdecode(NOT_UTF8)
    small_log(home / f"{name}.dat")
    small_log(home / "plain.dat")
    ((code, _, err),) = call_apart([["prep", "plain.dat", "--batch-size", "2", "--min-item-support", "1"]], home)
    assert code == 0, err
    (home / "dataset").rename(home / f"d{name}")
    inspections = [["inspect", "--dataset", f"d{name}"], ["inspect", "--dataset", f"d{name}", "--json"]]
    others = [
        (["prep", f"{name}.dat"], 1),
        (["prep", "plain.dat", "--dataset", f"d{name}"], 1),
        (["verify-data", "--dataset", f"d{name}"], 0),
        (["evaluate", "--dataset", f"d{name}"], 1),
        (["inspect", f"no{name}"], 1),
        (["recommend", "--model", f"no{name}", "--session", "1"], 1),
        (["synth", f"{name}.new", "--clicks", "10"], 0),
        (["prep", "plain.dat", name], 1),
        (["inspect", "plain.dat", name], 2),
    ]
    for encoding, given in (
        ("utf-8", [(words, 0) for words in inspections]),
        ("ascii", [*((words, 0) for words in inspections), *others]),
    ):
        found = call_apart([words for words, _ in given], home, encoding)
        for (words, expected), (code, out, err) in zip(given, found, strict=True):
            assert code == expected, (words, err)
            said = os.fsencode(out + err)
            assert b"Traceback" not in said
            assert b"\x1b[31m" not in said
            assert b"\xff" not in said
            if "--json" in words:
                assert os.fsencode(json.loads(out)["dataset"]) == b"d" + NOT_UTF8


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_message(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a file system is not at hand: the system's answer is put in its place."""

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    code, out, err = call("prep", small_log(tmp_path / "clicks.dat"), "--dataset", tmp_path / "d")
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: {tmp_path / 'd'} is on a file system that gives no locks")
    assert not (tmp_path / "d").exists()


FORK = """
import multiprocessing, sys
from pathlib import Path

import pocketrec
from pocketrec import BatchSettings, PocketrecError, SplitSettings, prep


def work(name, said):
    batching, splitting = BatchSettings(batch_size=2), SplitSettings(min_item_support=1)
    try:
        prep("clicks.dat", name, batching=batching, splitting=splitting)
        said.put("done")
    except PocketrecError as error:
        said.put(str(error))


if __name__ == "__main__":
    method, used = sys.argv[1:]
    if used == "used":
        prep("clicks.dat", "parent", batching=BatchSettings(batch_size=2), splitting=SplitSettings(min_item_support=1))
    context = multiprocessing.get_context(method)
    said = context.Queue()
    children = [context.Process(target=work, args=(f"child{number}", said)) for number in range(2)]
    for child in children:
        child.start()
    print([said.get() for _ in children])
"""


@pytest.mark.parametrize(
    ("method", "used"), [("fork", "unused"), *((method, "used") for method in ("fork", "spawn", "forkserver"))]
)
def test_a_child_works_or_says_how_it_must_be_begun(method: str, used: str, tmp_path: Path) -> None:
    """It never hangs: after a fork the threads of Polars are missing, if there were any."""
    small_log(tmp_path / "clicks.dat")
    (tmp_path / "fork.py").write_text(FORK)
    done = subprocess.run(
        [sys.executable, "fork.py", method, used], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    expected = "forked from one in which Polars had been at work" if (method, used) == ("fork", "used") else "done"
    assert done.stdout.count(expected) == 2, done.stdout
    if expected != "done":
        assert 'multiprocessing.get_context("spawn")' in done.stdout
