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
_listening = threading.Event()
_interrupted = threading.Event()
SECONDS_TO_LISTEN = 0.1
"""A main thread that is in Python hears of a SIGTERM within these; one that waits for Polars does not."""


def on_sigterm() -> None:
    """Make SIGTERM raise KeyboardInterrupt in the main thread, which must call this before there are other threads.

    What was begun with & in a script ignores SIGINT: Ctrl-C is for others there. But Polars, while it works, stops at every
    SIGINT. So it is blocked until there is a SIGTERM, in this thread and in those that it begins.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _noted)
    threading.Thread(target=_pass_on, args=(reader,), name="sigterm", daemon=True).start()


def _noted(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """In the main thread, once it is in Python: it takes the SIGINT that is passed on."""
    _unblock()
    _listening.set()


def _unblock() -> None:
    """Let this thread take a SIGINT; one that has been blocked so far comes at once, and none is to follow it."""
    if signal.SIGINT in signal.sigpending():
        _interrupted.set()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _pass_on(reader: int) -> None:
    while numbers := os.read(reader, 64):
        if signal.SIGTERM in numbers and not _terminated.is_set():  # a second one must not disturb the removal
            _terminated.set()
            _listening.wait(SECONDS_TO_LISTEN)
            _unblock()
            if not _interrupted.is_set():
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
