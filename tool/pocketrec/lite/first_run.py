"""Calls each signature of a model file once in a process of its own, before this process calls any.

LiteRT trusts its file. One changed byte can make it read memory that is not its own, which ends the whole process, or
compute without end. `flatbuffer.read_model` finds what can be seen without running it (an offset, an index, a size); the
rest is found here, by a process that may die of it.

This is a guard against damage and against odd files. It is no sandbox: the other process has the rights of this one.

A file is not tried if the manifest in its folder has its hash. It is then, byte for byte, what `export` wrote there.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pocketrec.errors import ModelError, PocketrecError, require
from pocketrec.lite.contract import TensorSpec
from pocketrec.lite.interpreter import open_interpreter
from pocketrec.lite.processes import run_python
from pocketrec.storage.files import content_hash
from pocketrec.storage.manifest import json_digest, read_records

SECONDS = 600.0
"""That the calls may take. A model of 12,000 items and 512 lanes needs 4 s, on a slow machine perhaps 100."""

LEAST_MEMORY = 256 << 20
"""That the calls of a small model may take."""

_tried: set[str] = set()
"""Digests of the files and calls that have passed in this process: whoever opens a file again does not wait again."""


class Call(NamedTuple):
    """A call of a signature: name of each input -> its shape and dtype, and numbers that are repeated to fill it."""

    signature: str
    inputs: Mapping[str, tuple[TensorSpec, Sequence[float]]]


def try_calls(path: Path, calls: Sequence[Call], threads: int, *, do: str, memory: int | None = None) -> None:
    """Make some calls of a model file in a process of its own, unless the file is known to be as it was written.

    Args:
        path: the .tflite.
        calls: in their order.
        threads: of the interpreter.
        do: the command that makes such a file, for the message.
        memory: bytes that the calls may take, on Linux; None for as many as there are.

    Raises:
        MissingExtraError: LiteRT is not installed.
        ModelError: the process died, was not done in time, or a call failed.
    """
    require("run a .tflite", "ai_edge_litert")
    digest = content_hash(path)
    if is_recorded(path, digest):
        return
    told = [
        (call.signature, {name: (spec.shape, spec.dtype, list(fill)) for name, (spec, fill) in call.inputs.items()})
        for call in calls
    ]
    key = json_digest([digest, told, threads])
    if key in _tried:
        return
    if getattr(sys, "frozen", False):  # sys.executable is an app made of Python, not Python: it would start itself
        raise ModelError(
            f"{path} cannot be tried in a process of its own by a program that is packed into one file.",
            expected="a file that the program trusts",
            do="pass trusted=True",
        )
    given = {
        "path": str(path.absolute()),
        "threads": threads,
        "do": do,
        "seconds": SECONDS,
        "calls": told,
        "memory": memory,
    }
    if ending := run_python(["-m", "pocketrec.lite.first_run", json.dumps(given)], SECONDS):
        raise ModelError(
            f"{path} cannot be run: the process that called each of its signatures {ending}",
            expected="a model file as it was exported; this one is damaged, or was changed",
            do=do,
        )
    _tried.add(key)


def is_recorded(path: Path, digest: str) -> bool:
    """Whether the manifest in the folder of a file has it with this hash (`content_hash`)."""
    try:
        records = read_records(path.parent)
    except PocketrecError:  # a manifest that cannot be read says nothing
        return False
    return any(record.files[path.name].xxh3 == digest for record in records.values() if path.name in record.files)


def _run(path: str, threads: int, do: str, seconds: float, calls: Sequence[Any], memory: int | None) -> None:
    """The part of the other process."""
    if hasattr(signal, "alarm"):  # its end, too, if the process that waits for it is killed
        signal.alarm(int(seconds) + 1)
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no file `core` in the user's folder
        status = Path("/proc/self/status")
        if memory is not None and status.exists():
            used = next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmData"))
            resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))
    interpreter = open_interpreter(Path(path), threads, do=do)
    for signature, inputs in calls:
        arrays = {name: np.resize(np.array(fill, dtype), shape) for name, (shape, dtype, fill) in inputs.items()}
        try:
            interpreter.get_signature_runner(signature)(**arrays)
        except (RuntimeError, ValueError) as error:
            sys.exit(f"the signature {signature!r} failed: {error}".replace("\n", " "))


if __name__ == "__main__":
    try:
        _run(**json.loads(sys.argv[1]))
    except PocketrecError as error:
        sys.exit(" ".join(error.wrong.split()))
