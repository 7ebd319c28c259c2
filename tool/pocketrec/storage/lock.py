"""One process at a time writes into a dataset folder.

The lock is the kernel's, on DIR/.pocketrec.lock: it ends with the process that holds it, however that dies, so there is no
stale lock to remove by hand. DIR/.pocketrec.holder says for people who holds it. Both are gone when the work is done.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pocketrec.errors import BusyError, FolderError
from pocketrec.parallel import check_fork
from pocketrec.storage.files import check_name, parents_of, remove_leftovers, size_of, write_text
from pocketrec.storage.layout import OWN, Dataset
from pocketrec.storage.space import room

LOCK, HOLDER = ".pocketrec.lock", ".pocketrec.holder"

PATIENCE = 0.3
"""Seconds to wait for a lock: one that is being given back at this moment is not a reason to refuse."""

ANOTHER = "another process"

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What flock says on a network disk without a lock service, and on file systems that have none."""

_held: dict[Path, tuple[int, int]] = {}
"""Folder -> process and thread that hold it. A fork inherits the table, not the right to write."""


@contextlib.contextmanager
def hold(folder: Path | str, command: str) -> Iterator[None]:
    """Hold a dataset folder while the `with` block writes into it; made if need be, removed if it fails and is empty.

    A thread that holds the folder may take it again: `prep` holds it for all its stages, and each holds it for itself.
    The outermost holder removes what a killed run left staged; nobody else can be at work on it then. `command` says what
    is going on, for the message that others get. For what can be raised see "The errors of a stage" in `stage`.
    """
    check_fork()
    check_name(folder)
    home, me = Path(folder).resolve(), (os.getpid(), threading.get_ident())
    if _held.get(home) == me:
        yield
        return
    shown = Path(folder)
    with contextlib.ExitStack() as stack:
        with room(shown, command):
            Dataset(shown).check()
            stack.enter_context(parents_of(home / LOCK))
            _check_own(home / LOCK, ours=size_of(home / LOCK) == 0)
            stack.enter_context(_locked(home, shown))
            stack.callback(_held.pop, home, None)
            _held[home] = me
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            holder = {"pid": os.getpid(), "command": command, "since": since, "host": socket.gethostname()}
            write_text(home / HOLDER, json.dumps(holder))
            _tidy(home)
        try:
            yield
        except BaseException:
            _tidy(home)  # a signal may have come between the making of a file and the block that would remove it
            raise


def _tidy(home: Path) -> None:
    for place in (*Dataset(home).homes, Dataset(home).model / "checkpoints"):
        remove_leftovers(place, OWN)


def _check_own(path: Path, *, ours: bool) -> None:
    """Refuse to take for a file of the lock what pocketrec did not write."""
    if os.path.lexists(path) and not ours:
        raise FolderError(
            f"{path} is in the way: pocketrec did not write it.",
            expected="no such file, or the one that a running pocketrec keeps there",
            do="move it away, or name another folder with --dataset",
        )


@contextlib.contextmanager
def _locked(home: Path, shown: Path) -> Iterator[None]:
    lock = FileLock(home / LOCK, fallback_to_soft=False)  # a soft lock would outlive a process that is killed
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=PATIENCE / 10)
    except Timeout as error:
        raise BusyError(
            f"{shown} is in use by {_holder(home)}.",
            expected="one process at a time in a dataset folder",
            do="wait until it is done or stop it, or name another folder with --dataset",
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        with contextlib.suppress(OSError):
            (home / LOCK).unlink()
        raise FolderError(
            f"{shown} is on a file system that gives no locks ({error.strerror}).",
            expected="one that has flock, so that two processes never write into the same folder",
            do="name a folder on a disk of this machine with --dataset, or mount the file system with locks",
        ) from error
    gone = [LOCK]
    try:
        _check_own(home / HOLDER, ours=(size_of(home / HOLDER) or 0) < 4096 and _holder(home) != ANOTHER)
        gone.append(HOLDER)
        yield
    finally:
        # Removed while still held: whoever waits for this very file sees that it has no name any more, and asks again.
        for name in reversed(gone):
            with contextlib.suppress(OSError):
                (home / name).unlink()
        lock.release()


def _holder(home: Path) -> str:
    """Who holds the folder, by its file; one that has just begun, or is of another version, may not have written it."""
    try:
        if size_of(home / HOLDER) is None:  # a pipe would be waited for
            return ANOTHER
        who = json.loads((home / HOLDER).read_text(encoding="utf-8"))
        where = "" if who["host"] == socket.gethostname() else f" on {who['host']}"
        return f"process {who['pid']}{where} (pocketrec {who['command']}), since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ANOTHER
