"""The one way a model gets into LiteRT, which is imported here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pocketrec.errors import ModelError, require
from pocketrec.lite.quiet import native_stderr_closed


def open_interpreter(path: Path, threads: int, *, do: str) -> Any:
    """A LiteRT interpreter with a model in it.

    Args:
        path: the .tflite.
        threads: of the interpreter.
        do: the command that makes such a file.

    Raises:
        MissingExtraError: LiteRT is not installed.
        ModelError: LiteRT does not load the file.
    """
    require("run a .tflite", "ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    try:
        with native_stderr_closed():
            return Interpreter(str(path), num_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"LiteRT does not load {path}: {error}", expected="a .tflite of builtin operators", do=do
        ) from error
