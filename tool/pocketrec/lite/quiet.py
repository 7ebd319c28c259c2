"""Hides what C++ libraries write to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_redirected = threading.Lock()
"""Held while descriptor 2 leads nowhere: a second thread would keep that as the stderr to go back to."""


@contextlib.contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Redirect file descriptor 2 to nowhere while the body runs; Python exceptions still say what failed.

    TensorFlow and LiteRT write their log from C++, which no Python setting can stop. Where TF_CPP_MIN_LOG_LEVEL is set, the
    user wants to see the log, and nothing is redirected; nor is it where another thread has done so.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or not _redirected.acquire(blocking=False):
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
        _redirected.release()
