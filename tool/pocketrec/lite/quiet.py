"""Keeps what C++ libraries write to stderr off the user's terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Send file descriptor 2 nowhere while the body runs; Python's own exceptions still tell what failed.

    TensorFlow and LiteRT log from C++, where no Python setting reaches. With TF_CPP_MIN_LOG_LEVEL set, whoever set it wants
    to see the log, and nothing is done.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        del os.environ["TF_CPP_MIN_LOG_LEVEL"]
