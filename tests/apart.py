"""Commands in processes of their own: `call_apart`. As a program it is the process that they are forked from.

A command that hangs in a system call could not be ended by the test, and one that runs in the test's process has the
streams of the test. A child that is forked where everything is imported begins half a second earlier than a new process.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HANG = 600
"""Seconds after which a test that waits for something gives up: this ends a hang and measures nothing."""
RAISED = 99
"""Exit code of a command that ended with an exception that is no exit."""


def call_apart(
    commands: Sequence[Sequence[str]], cwd: Path | str = ".", encoding: str = "utf-8"
) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each command, in a folder; stdout has an encoding.

    Bytes that are not UTF-8 are in the texts as `os.fsdecode` has them. The code of a command that a signal has ended is
    the signal's number, negative.
    """
    process = _server()
    assert process.stdin is not None
    assert process.stdout is not None
    print(json.dumps([list(map(list, commands)), os.path.abspath(cwd), encoding]), file=process.stdin, flush=True)  # noqa: PTH100
    answer = process.stdout.readline()
    assert answer, "the process that commands are forked from has ended"
    return [
        (code, os.fsdecode(bytes.fromhex(out)), os.fsdecode(bytes.fromhex(err))) for code, out, err in json.loads(answer)
    ]


@functools.cache
def _server() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True)
    atexit.register(process.kill)
    return process


def _run(words: list[str], cwd: str, encoding: str) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if not (child := os.fork()):
            _be(words, cwd, encoding, [out.fileno(), err.fileno()])
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return code, out.read().hex(), err.read().hex()


def _be(words: list[str], cwd: str, encoding: str, streams: list[int]) -> Any:
    """Run a command, in the child, and end."""
    from pocketrec.cli import main

    signal.alarm(HANG)
    os.chdir(cwd)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate([nothing, *streams]):
        os.dup2(stream, number)
    sys.stdout.reconfigure(encoding=encoding)  # type: ignore[union-attr]
    sys.argv[1:] = words
    code = RAISED
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    import pyarrow.parquet  # noqa: F401
    from typer.testing import CliRunner

    import pocketrec.sessions.prep  # noqa: F401
    from pocketrec.cli.app import app

    CliRunner().invoke(app, ["inspect", "--dataset", "no/dataset"])  # imports what every command needs
    for line in sys.stdin:
        commands, cwd, encoding = json.loads(line)
        print(json.dumps([_run(words, cwd, encoding) for words in commands]), flush=True)
