"""A machine of two cores and little memory, enforced by the kernel: the page cache counts; what needs more is killed.

Two cores wherever the tests run: each thread of the engines has memory of its own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth

CONTROLLERS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),  # version 1
    (Path("/sys/fs/cgroup"), "memory.max"),  # version 2
)


@contextlib.contextmanager
def memory_limit(megabytes: int) -> Iterator[Path]:
    """A control group whose processes together get so much memory; skips the test where none can be made."""
    for root, limit in CONTROLLERS:
        group = root / f"pocketrec-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
        try:
            if (group / limit).exists():
                (group / limit).write_text(f"{megabytes}M")
                yield group
                return
        except PermissionError:
            pass
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
    pytest.skip("no control group can be made here")


def inside(group: Path, *command: object) -> subprocess.CompletedProcess[str]:
    enter = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
    words, cores = ["sh", "-c", enter, "sh", *map(str, command)], os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:2])  # of this thread; the process inherits it
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False)
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("order", ["grouped", "shuffled"])
def test_prep_within_256_mb_of_memory_and_page_cache(tmp_path: Path, order: str) -> None:
    """The log, 14 MB, and what is made of it, 30 MB, are in the page cache too. Millions of rows: see the benchmarks."""
    log = synth(tmp_path / "clicks.dat", SynthSettings(clicks=330_000, seed=1, order=order)).path  # type: ignore[arg-type]
    with memory_limit(256) as group:
        done = inside(group, sys.executable, "-m", "pocketrec.cli", "prep", log, "--dataset", tmp_path / "d", "--json")
    assert done.returncode == 0, done.stderr


def test_the_limit_is_one() -> None:
    script = "print(len(bytearray(300_000_000)))"
    with memory_limit(256) as group:
        done = inside(group, sys.executable, "-c", script)
    assert (done.returncode, done.stdout) == (-9, "")
