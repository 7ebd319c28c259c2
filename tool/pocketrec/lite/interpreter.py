"""Opens a model in LiteRT. LiteRT is imported only here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pocketrec.errors import ModelError, require
from pocketrec.lite.quiet import native_stderr_closed


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
