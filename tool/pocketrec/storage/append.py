"""Large files written front to back without filling the page cache.

What a stage writes in gigabytes is not read again soon. Left to itself the kernel keeps it in memory until nothing is free,
then pushes out what is needed, and makes the last flush wait for all of it. Here each window is written to the disk while
the next one is filled, and its pages are given back: the memory of the machine stays with the Parquet parts, and the same
few pages are used again and again.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

WINDOW = 1 << 23
"""Bytes that are flushed at a time; up to two windows of a file are in memory."""

BYTES_PER_CALL = 1 << 17
"""What one system call copies; with more the kernel looks for large free blocks of memory, which takes longer."""


class BulkFile:
    """A new file that is only appended to, except for its first bytes, which `finish` may overwrite at the end."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._file = path.open("wb", buffering=0)
        self._flusher = ThreadPoolExecutor(1)
        self._flush: Future[None] | None = None
        self._unflushed = 0

    def append(self, data: bytes | memoryview) -> None:
        """Write bytes at the end; an OSError may also come from the flush of an earlier window."""
        rest = memoryview(data)
        self.size += len(rest)
        while len(rest):
            written = self._file.write(rest[:BYTES_PER_CALL])
            rest = rest[written:]
            self._unflushed += written
            if self._unflushed >= WINDOW:
                self._flush_window()

    def _flush_window(self) -> None:
        if self._flush:
            self._flush.result()
        self._flush = self._flusher.submit(_flush, self._file.fileno())
        self._unflushed = 0

    def finish(self, head: bytes = b"") -> None:
        """Put `head` over the first bytes, flush everything to the disk, and close."""
        self._flush_window()
        if head:
            os.pwrite(self._file.fileno(), head, 0)
            self._flush_window()
        assert self._flush is not None
        self._flush.result()
        self.close()

    def close(self) -> None:
        """Stop, whether finished or not; may be called again."""
        self._flusher.shutdown()
        self._file.close()


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
