"""How this process asks the system for memory, where the C library is glibc; elsewhere it is Polars alone that changes.

Every array of a part is megabytes large. By default malloc maps each one anew and gives it back when it is freed, so that
the kernel clears the same memory again and again (a fifth of the processor time of `split`), and each thread has a heap of
its own that keeps what it once needed. One heap that is not trimmed is faster and, with the same arrays coming again and
again, smaller.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_NEVER = 1 << 30

_POLARS_OWN = "narenas:1,lg_tcache_max:12"
"""For the allocator inside Polars: one arena, and threads that keep only small pieces for themselves. With the larger ones,
which are what Parquet writers let go of, 190 open parts took 90 MB more."""


def keep_freed_memory(heaps: int = 1) -> None:
    """Set this up; to be called once by a process of our own, before it has threads and before it imports Polars.

    A library has no business to do so.

    Args:
        heaps: how many. Two threads that take and give memory all the time, as those of `train` do, wait for each other at
            one: it costs them a tenth of their speed.
    """
    os.environ.setdefault("_RJEM_MALLOC_CONF", _POLARS_OWN)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # not a third allocator that keeps what it had
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, heaps)
        mallopt(_M_MMAP_THRESHOLD, _NEVER)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
