"""Commands in processes of their own. As a program it is the process that they are forked from.

A command that hangs in a system call could not be ended by the test, and one that runs in the test's process has the
streams of the test and cannot be killed. A child that is forked where everything is imported begins a third of a second
earlier than a new process.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

HANG = 600
"""Seconds after which a test that waits for something gives up: this ends a hang and measures nothing."""
RAISED = 99
"""Exit code of a command that ended with an exception that is no exit."""


@dataclass(frozen=True)
class Apart:
    """A command at work in a process of its own."""

    pid: int

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more; it can still be waited for."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0] == "Z"

    @property
    def written(self) -> int:
        """Bytes that it has handed to the kernel so far, in all of its threads."""
        return int(Path(f"/proc/{self.pid}/io").read_text().split()[3])

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; none if it has ended."""
        os.kill(self.pid, number)

    def wait(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr; call it once.

        Bytes that are not UTF-8 are in the texts as `os.fsdecode` has them. The code of a command that a signal has ended
        is the signal's number, negative.
        """
        code, *texts = _ask("wait", pid=self.pid)
        out, err = (os.fsdecode(bytes.fromhex(text)) for text in texts)
        return code, out, err


def start_apart(
    words: Sequence[str], cwd: Path | str = ".", *, encoding: str = "utf-8", count: tuple[Path, int, int] | None = None
) -> Apart:
    """Begin a command in a folder; its stdout has an encoding.

    `count` is (folder, at, number): the command sends itself a signal of that number before its `at`-th change to names in
    the folder. With 0 it says at the end, as the last line of stderr, how many there were, "=", and the bytes written.
    """
    watched = count and (os.path.abspath(count[0]), *count[1:])  # noqa: PTH100
    return Apart(_ask("start", words=list(words), cwd=os.path.abspath(cwd), encoding=encoding, count=watched))  # noqa: PTH100


def call_apart(
    commands: Sequence[Sequence[str]], cwd: Path | str = ".", encoding: str = "utf-8"
) -> list[tuple[int, str, str]]:
    """What `Apart.wait` says of commands that run one after the other."""
    return [start_apart(words, cwd, encoding=encoding).wait() for words in commands]


def _ask(what: str, **given: object) -> Any:
    process = _server()
    assert process.stdin is not None
    assert process.stdout is not None
    print(json.dumps([what, given]), file=process.stdin, flush=True)
    answer = process.stdout.readline()
    assert answer, "the process that commands are forked from has ended"
    return json.loads(answer)


@functools.cache
def _server() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True)
    atexit.register(process.kill)
    return process


_begun: dict[int, tuple[BinaryIO, BinaryIO]] = {}
"""In the process that forks: stdout and stderr of each child that was not waited for."""


def _start(words: list[str], cwd: str, encoding: str, count: tuple[str, int, int] | None) -> int:
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    if not (child := os.fork()):
        _be(words, cwd, encoding, count, [out.fileno(), err.fileno()])
    _begun[child] = out, err
    return child


def _wait(pid: int) -> tuple[int, str, str]:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = []
    for file in _begun.pop(pid):
        with file:
            file.seek(0)
            texts.append(file.read().hex())
    return code, texts[0], texts[1]


def _be(words: list[str], cwd: str, encoding: str, count: tuple[str, int, int] | None, streams: list[int]) -> NoReturn:
    """Run a command, in the child, and end."""
    from pocketrec.cli import main

    signal.alarm(HANG)
    os.chdir(cwd)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate([nothing, *streams]):
        os.dup2(stream, number)
    sys.stdout.reconfigure(encoding=encoding)  # type: ignore[union-attr]
    sys.argv[1:] = words
    code, told = RAISED, _count_changes(*count) if count else lambda: ""
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    print(told(), end="", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _count_changes(home: str, at: int, number: int) -> Callable[[], str]:
    """See `start_apart`; returns what says how many changes there were."""
    changes, ended = 0, False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if ended or event not in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            return
        if not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = os.fspath(arguments[0])
        if os.path.abspath(path).startswith(home) or not os.path.isabs(path):  # noqa: PTH100, PTH117
            changes += 1
            if changes == at:
                os.kill(os.getpid(), number)

    def told() -> str:
        nonlocal ended
        ended = True
        return "" if at else f"\n{changes}={Apart(os.getpid()).written}\n"

    sys.addaudithook(watch)
    return told


if __name__ == "__main__":
    import pyarrow.parquet  # noqa: F401
    from typer.testing import CliRunner

    import pocketrec.sessions.prep  # noqa: F401
    from pocketrec.cli.app import app

    CliRunner().invoke(app, ["inspect", "--dataset", "no/dataset"])  # imports what every command needs
    for line in sys.stdin:
        what, given = json.loads(line)
        print(json.dumps(_start(**given) if what == "start" else _wait(**given)), flush=True)
