"""Files come into being whole or not at all.

Everything pocketrec writes is staged next to its final name, flushed to the disk, and renamed. A process that dies
leaves at most a staged file behind, which `remove_leftovers` recognises by its suffix.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import xxhash

from pocketrec.errors import FolderError, ModelError, PocketrecError

STAGED_SUFFIX = ".incomplete"
"""What every staged file or folder ends in until it is committed."""
SECONDS_TO_HEAR = 0.02
"""Seconds between two tries to remove a folder. Measured: of some thousands of ingests that stopped at a bad line, in one a
file was made after its folder had been removed."""
MOST_REMOVALS = 10
"""Tries; a folder that is still there then is one that this user may not remove."""


def size_of(path: Path) -> int | None:
    """Bytes of a regular file; None where there is none: what is missing, a folder, a pipe or a link counts as that.

    pocketrec writes no links. One inside a dataset folder leads to what is not its own.
    """
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def staged_name(path: Path) -> Path:
    """The name under which `path` is built: beside it, so that the final rename stays inside one file system."""
    return path.with_name(path.name + STAGED_SUFFIX)


def flush(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, durable: a rename is only safe once its folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit(staged: Path, path: Path) -> None:
    """Give a complete staged file its final name. The file's own bytes must have been flushed before."""
    staged.replace(path)
    flush(path.parent)


@contextlib.contextmanager
def parents_of(path: Path) -> Iterator[None]:
    """Make the folders above `path`; on failure remove those that were not there before and are still empty."""
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to; on success flush it and rename it to `path`, on any failure remove it."""
    staged = staged_name(path)
    with parents_of(path):
        try:
            remove(staged)  # left by a run that was killed; a link or a pipe must not be written through
            yield staged
            flush(staged)
            commit(staged, path)
        finally:
            staged.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it takes the place of `path`, on any failure it is removed.

    A folder cannot be swapped for another in one system call, so the old one is removed first: for a moment there is
    none, never a mixture.
    """
    staged = staged_name(path)
    with parents_of(path):
        try:
            remove(staged)
            staged.mkdir()  # a signal may stop us as soon as it is there
            yield staged
            for written in (*staged.rglob("*"), staged):
                flush(written)
            shutil.rmtree(path, ignore_errors=True)
            commit(staged, path)
        except BaseException as error:
            if isinstance(error, PocketrecError) and error.__cause__ is None:  # our own, and nobody writes any more
                shutil.rmtree(staged, ignore_errors=True)
            else:
                remove_written(staged)
            raise


def remove_written(folder: Path) -> None:
    """Remove a folder that may still be written to: Polars raises before the last of its threads has heard of it."""
    for _ in range(MOST_REMOVALS):
        if not folder.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(SECONDS_TO_HEAR)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with staged_file(path) as staged:
        staged.write_text(text, encoding="utf-8")


def leftovers(folder: Path, own: re.Pattern[str]) -> list[Path]:
    """What a killed run left staged in a folder: names that match `own` and end in `STAGED_SUFFIX`."""
    found = sorted(folder.glob(f"*{STAGED_SUFFIX}")) if folder.is_dir() and not folder.is_symlink() else []
    return [path for path in found if own.fullmatch(path.name.removesuffix(STAGED_SUFFIX))]


def remove_leftovers(folder: Path, own: re.Pattern[str]) -> None:
    """Remove `leftovers`."""
    for path in leftovers(folder, own):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; of a link or a pipe only the name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def content_hash(path: Path, advance: Callable[[int], None] | None = None, *, block_bytes: int = 1 << 20) -> str:
    """XXH3-128 of a file's bytes as 32 hex digits, read block by block; `advance` is told the bytes of each block.

    It tells one version of a file from another; it does not protect against someone who makes a collision on purpose.
    """
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(block_bytes))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            if advance:
                advance(count)
    return digest.hexdigest()


def check_name(path: Path | str) -> None:
    """See that a path is text: Polars takes no other.

    Raises:
        FolderError: it has bytes that are not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # Python has such bytes as halves of characters
        raise FolderError(
            f"the name {str(path)!r} has bytes that are not UTF-8.",
            expected="a path that is UTF-8 throughout",
            do="rename the file or folder, or reach it through a link with another name",
        ) from error


def regular_file(path: Path, expected: str, do: str) -> None:
    """See that what a user named can be read to an end: a pipe would be waited for, a device never ends.

    Raises:
        ModelError: it is missing, or is a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise ModelError(f"{path} {why}.", expected=expected, do=do) from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise ModelError(f"{path} is {what}.", expected=f"{expected}, as a file", do=do)
