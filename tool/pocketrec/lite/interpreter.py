"""Opens a model in LiteRT and runs its signatures. LiteRT is imported only here."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.errors import ModelError, require
from pocketrec.lite.contract import Signatures, TensorSpec
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.storage.tensors import Tensors


def open_interpreter(path: Path, threads: int, *, do: str) -> Any:
    """Load a .tflite into a LiteRT interpreter.

    Args:
        path: the .tflite.
        threads: how many threads the interpreter uses.
        do: the command that makes such a file, for the message.

    Raises:
        MissingExtraError: LiteRT is not installed.
        ModelError: LiteRT cannot load the file.
    """
    require("run a .tflite", "ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    try:
        with native_stderr_closed():
            return Interpreter(str(path), num_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"LiteRT cannot load {path}: {error}", expected="a .tflite of builtin operators", do=do) from error


class Runner:
    """An interpreter of a model file, for any number of threads: it answers one call at a time.

    Args:
        path: the .tflite.
        threads: how many threads the interpreter uses.
        signatures: inputs and outputs of each signature, by name.
        do: the command that makes such a file, for messages.
        check: the command that tells what is wrong with a file that does not run.

    Raises:
        MissingExtraError, ModelError: as in `open_interpreter`.
    """

    def __init__(self, path: Path, threads: int, signatures: Signatures, *, do: str, check: str) -> None:
        self._path, self._signatures, self._check = path, signatures, check
        self._interpreter = open_interpreter(path, threads, do=do)
        self._runners: dict[str, Any] = {}
        self._shapes: dict[str, list[tuple[int, ...]]] = {}
        self._lock = threading.Lock()

    def run(self, signature: str, inputs: Mapping[str, Any]) -> Tensors:
        """The outputs of a signature by name, copies.

        Raises:
            ModelError: LiteRT does not run it; or an input is not what the signature takes: some versions of LiteRT end the
                process in a later call then; or an output is not what the signature gives.
        """
        takes, gives = self._signatures[signature]
        shapes = [np.shape(value) for value in inputs.values()]
        try:
            for name, spec in takes.items():
                if name not in inputs or not spec.takes(found := TensorSpec.of(inputs[name])):
                    raise ValueError(f"{name} is {found if name in inputs else 'missing'}, not {spec}")
            with self._lock:
                # Memory is allocated in the first call for such shapes, and LiteRT's delegate then writes to stderr.
                with nullcontext() if shapes == self._shapes.get(signature) else native_stderr_closed():
                    if signature not in self._runners:
                        self._runners[signature] = self._interpreter.get_signature_runner(signature)
                    outputs: Tensors = self._runners[signature](**inputs)
                self._shapes[signature] = shapes
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{self._path}: the signature {signature!r} failed: {error}",
                expected="a model and inputs that fit each other",
                do=self._check,
            ) from error
        for name, spec in gives.items():
            if not spec.takes(found := TensorSpec.of(outputs[name])):
                raise ModelError(
                    f"{self._path}: {name} of the signature {signature!r} is {found}.",
                    expected=f"{spec}; the file is damaged, or was changed",
                    do=self._check,
                )
        return outputs
