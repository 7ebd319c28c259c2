"""Hides what C++ libraries write to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Redirect file descriptor 2 to nowhere while the body runs; Python exceptions still say what failed.

    TensorFlow and LiteRT write their log from C++, which no Python setting can stop. Where TF_CPP_MIN_LOG_LEVEL is set, the
    user wants to see the log, and nothing is redirected.
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
