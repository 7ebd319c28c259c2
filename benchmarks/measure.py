"""One tool, once, in its own process: how long, how much, and what came out.

Everything comes from the kernel's own account of the finished process (`os.wait4`). The peak is `ru_maxrss`, the figure
`/usr/bin/time -v` prints. Bytes read and written are blocks to and from storage (`ru_inblock`, `ru_oublock`, 512 bytes
each), temporary files included: the log is evicted from the page cache before each run, so every tool reads it from the
disk at least once, and memory-mapped reads count too, which the byte counts of `read` calls would miss.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

SETS = ("train_full", "test", "train_tr", "train_valid")
ARRAYS = ("feats", "targets", "masks")
BLOCK = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds on the clock and on the processors, bytes at its peak, bytes of storage traffic."""

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Output:
    """What files hold together: XXH3-128 over their names and bytes ("" when one is missing), and lines of each."""

    xxh3: str
    lines: tuple[int, ...]


def run(command: Sequence[str], messages: Path) -> Cost:
    """Run a command to its end; what it prints goes to `messages`.

    The process starts as a copy of this one, and its peak cannot come out lower than this one's size, so whoever calls
    this must stay small: no numpy, no Polars here.
    """
    with messages.open("wb") as stream:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | {"TZ": "UTC"})
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    return Cost(
        exit_code=child.returncode,
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,
        read_bytes=usage.ru_inblock * 512,
        written_bytes=usage.ru_oublock * 512,
    )


def evict(path: Path) -> None:
    """Finish all pending writes and drop a file from the page cache."""
    os.sync()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def txt_files() -> list[str]:
    """The four files of the split."""
    return [f"rsc15_{name}.txt" for name in SETS]


def batch_files(batch_size: int) -> list[str]:
    """The six files of the training batches, text first."""
    return [f"{name}_bs{batch_size}.{form}" for form in ("txt", "npy") for name in ARRAYS]


def read_output(folder: Path, names: Sequence[str]) -> Output:
    """Digest files by these names, wherever below `folder` they are."""
    digest, lines = xxhash.xxh3_128(), []
    for name in names:
        path = next(folder.rglob(name), None)
        if path is None:
            return Output("", ())
        digest.update(name.encode())
        lines.append(0)
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                digest.update(block)
                lines[-1] += block.count(b"\n")
    return Output(digest.hexdigest(), tuple(lines))


def last_line(messages: Path) -> str:
    """The end of what a tool printed, for the note of a failed run."""
    lines = messages.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


def linux_only() -> None:
    """Refuse other systems: their units of peak memory and their ways to evict a file differ."""
    if sys.platform != "linux":
        sys.exit("The benchmarks run on Linux only.")
