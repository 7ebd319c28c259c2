"""Space on the disk: checked before a stage starts, and explained where it runs out midway.

The estimates are bounds a little above what a log of 33.0 million rows and 1.49 GB came to: Parquet 0.49 GB, the scratch of
split 5 bytes a row and its roles 1, the four txt files 2.08 GB, batches as txt and npy with 512 lanes 0.56 GB. They are
estimates: `--force` begins in spite of them, and a disk that becomes full costs only the work of the stage at hand.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pocketrec.errors import FolderError, PocketrecError, SpaceError

OVERHEAD = 1 << 17
"""Bytes for manifests, headers, Parquet footers and half-filled disk blocks: most of what a small log needs."""

_NUMBER = re.compile(r"\(os error (\d+)\)")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_IN_WORDS = ("No space left on device", "Disk quota exceeded", "(os error 28)", "(os error 122)")
_UNUSABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)
"""What the user can cure by another folder or other permissions."""
_CURES = {
    errno.EMFILE: ("a limit of at least 1024 open files", "ulimit -n 4096, and again"),
    errno.EFBIG: ("files of any size", "ulimit -f unlimited, or name a folder on another file system with --dataset"),
    errno.EIO: ("a disk that can be read and written", "see what the system says of the disk (dmesg), copy what is on it"),
    errno.ESTALE: ("a network disk that stays", "mount it again; then the same command goes on"),
}
"""Other errors of the system: what was expected, and what to do. Any that is not here is reported with its traceback."""


def size(count: float) -> str:
    """A number of bytes as text for people: 12.3 MB."""
    if count < 1000:
        return f"{count:.0f} B"
    power = min(4, int(math.log10(count) / 3))
    return f"{count / 1000**power:.1f} {'kMGT'[power - 1]}B"


def free_bytes(folder: Path) -> int:
    """Bytes that are free for this user where a folder is or would be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or the user's quota, is full.

    Polars raises what the system said as text; numpy says how many numbers it could not write, and no more.
    """
    text = str(error)
    return (
        (isinstance(error, OSError) and error.errno in _FULL)
        or any(said in text for said in _FULL_IN_WORDS)
        or (isinstance(error, OSError) and " requested and " in text and text.endswith(" written"))
    )


def _of_system(error: Exception) -> OSError:
    """The system's error behind another: Polars passes its number on as text. Without a number if there is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    number = _NUMBER.search(str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError()


def unusable(error: OSError, path: Path) -> FolderError | None:
    """The message for a file or folder (`path`, if the error names none) that cannot be used; None for other errors."""
    where = Path(error.filename2 or error.filename or path)
    if error.errno in _CURES:
        expected, do = _CURES[error.errno]
        return FolderError(f"{where}: {error.strerror}.", expected=expected, do=do)
    if error.errno not in _UNUSABLE:
        return None
    # A file may stand where a folder above should be, or at the place itself where a folder was to be made.
    places = (*reversed(where.parents), where) if error.errno in (errno.ENOTDIR, errno.EEXIST) else ()
    if blocked := next((place for place in places if place.is_file()), None):
        do = "name another folder with --dataset, or move the file away"
        return FolderError(f"{blocked} is a file.", expected="a folder", do=do)
    if error.errno == errno.EISDIR:
        return FolderError(f"{where} is a folder.", expected="a file that pocketrec writes", do="move the folder away")
    return FolderError(
        f"{where} cannot be used: {error.strerror}.",
        expected=f"a folder that this user can write to: {path}",
        do="name another folder with --dataset, or change its permissions",
    )


@contextlib.contextmanager
def room(folder: Path, stage: str, needed: int = 0, *, force: bool | None = None) -> Iterator[None]:
    """Check that a folder has space for what a stage writes in the `with` block, and explain it if the space runs out.

    `needed` is about how many bytes the stage will write, 0 where nobody knows; with `force` it begins even where less is
    free (None where a command has no such option). The folder need not exist. The block must remove what it began by
    itself, which `files.staged_folder` and `Writer` do. Raised are a SpaceError, also if the disk becomes full, and a
    FolderError for what cannot be written or read.
    """
    try:
        free = free_bytes(folder)
        if free < needed and not force:
            raise SpaceError(
                f"{stage} needs about {size(needed)} in {folder}, and {size(free)} are free: "
                f"about {size(needed - free)} are missing.",
                expected=f"{size(needed)} free; nothing has been written",
                do="free some space, or name another folder with --dataset"
                + (", or try it with --force" if force is False else ""),
            )
        yield
    except PocketrecError:
        raise
    except Exception as error:
        if is_full(error):
            raise _ran_out(folder, stage, needed, free) from error
        explained = unusable(_of_system(error), folder)
        if explained is None:
            raise
        raise explained from error


def _ran_out(folder: Path, stage: str, needed: int, free: int) -> SpaceError:
    """The message for a disk that became full; what was begun has been removed by now."""
    if needed > free:
        missing = f"it needs about {size(needed)}, {size(free)} were free when it began: "
        missing += f"about {size(needed - free)} are missing"
    else:  # somebody else took it, or the estimate was too low
        again = free_bytes(folder)
        missing = f"{size(free)} were free when it began" + (f" of the {size(needed)} it needs" if needed else "")
        missing += f", {size(again)} are free now: about {size(max(needed - again, OVERHEAD))} or more are missing"
    return SpaceError(
        f"the disk of {folder} became full during {stage}; {missing}.",
        expected="enough space; what was begun is removed, what earlier stages wrote is as it was",
        do="free some space, then the same command goes on with this stage",
    )
