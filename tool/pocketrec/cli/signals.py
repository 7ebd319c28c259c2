"""Ctrl-C and SIGTERM end a command in the same way: what was begun is removed, what is finished stays.

A handler in Python runs when the main thread is back in Python, which during an ingest may be half a minute later. Polars
watches for SIGINT itself while it works, so a SIGTERM is passed on as a SIGINT, by a thread that the kernel's side of the
signal wakes up at once.
"""

from __future__ import annotations

import os
import shlex
import signal
import threading
from types import FrameType

_terminated = threading.Event()


def on_sigterm() -> None:
    """Make SIGTERM raise KeyboardInterrupt in the main thread, from which this must be called."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun with & in a script, where Ctrl-C is for others
        signal.signal(signal.SIGINT, _stop_if_terminated)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _noted)
    threading.Thread(target=_pass_on, args=(reader,), name="sigterm", daemon=True).start()


def _stop_if_terminated(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    if _terminated.is_set():
        raise KeyboardInterrupt


def _noted(number: int, frame: FrameType | None) -> None:
    """There must be a handler for the kernel to wake anybody up; the work is done in `_pass_on`."""


def _pass_on(reader: int) -> None:
    while numbers := os.read(reader, 64):
        if signal.SIGTERM in numbers and not _terminated.is_set():  # a second one must not disturb the removal
            _terminated.set()
            os.kill(os.getpid(), signal.SIGINT)


def exit_code() -> int:
    """128 and the number of the signal, as a shell has it."""
    return 128 + (signal.SIGTERM if _terminated.is_set() else signal.SIGINT)


def message(arguments: list[str]) -> str:
    """What is kept, and the command that goes on.

    Args:
        arguments: of the process, the program first. `--fresh` and `--clean` do again what is finished, and are left out.
    """
    again = shlex.join(["pocketrec", *(one for one in arguments[1:] if one not in ("--fresh", "--clean"))])
    return f"Stopped. Finished stages are kept, what was begun is removed.\nTo go on with the stage at work: {again}"
