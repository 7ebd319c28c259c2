"""Standard input, output and error as a command finds them: closed ones (`2>&-`) lead nowhere, and odd text is no error."""

from __future__ import annotations

import contextlib
import io
import os
import sys

_NUMBERS = (0, 1, 2)


def fill() -> None:
    r"""Open what is closed of the three; to be called before anything is opened, which would get its number.

    What libraries write to descriptor 2 would go into that file otherwise, and Python has None for `sys.stderr`. Closed
    standard input stays None, so that a log cannot be read from it. What the terminal's encoding does not have is shown as
    `\uNNNN`.
    """
    for number in _NUMBERS:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(errors="backslashreplace")
