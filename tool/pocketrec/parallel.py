"""Work done ahead of whoever uses it: a few threads, results in order, never more than a few of them in memory.

numpy, Polars, xxhash and file writes let go of the interpreter lock while they work, so threads are enough to keep a second
core busy. A process that was forked off beside such threads has none of them, and what waits for one waits for ever:
`check_fork`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pocketrec.errors import PocketrecError

Thing = TypeVar("Thing")
Result = TypeVar("Result")

THREADS = 2

_POOL = re.compile(r"polars-[0-9]")
"""Names of the threads that Polars begins when it has the first thing to do, and never ends."""
_fork = {"pool": False, "lost": False}
"""Whether this process had the pool when it last forked; whether it was forked from one that had it."""


def ahead(work: Callable[[Thing], Result], things: Iterable[Thing], threads: int = THREADS) -> Iterator[Result]:
    """`map(work, things)`, with `work` in some threads while the caller uses an earlier result.

    `things` is drawn from in the caller's thread. Up to `threads` results, and never less than one, are made before they
    are asked for. What `work` raises is raised here, in its turn; work that has begun is waited for, the rest is given up.
    """
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for thing in things:
                begun.append(pool.submit(work, thing))
                if len(begun) > max(1, threads - 1):
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


def check_fork() -> None:
    """To be called before Polars is given something to do.

    Raises:
        PocketrecError: this process was forked from one in which Polars had been at work, so that Polars would hang.
    """
    if _fork["lost"]:
        raise PocketrecError(
            "this process was forked from one in which Polars had been at work, and threads do not come along.",
            expected="a process of its own, or one that was forked before",
            do='begin it another way: multiprocessing.get_context("spawn"), or "forkserver"',
        )


def _before_fork() -> None:
    _fork["pool"] = False
    for name in Path("/proc/self/task").glob("*/comm"):  # none where there is no such folder: then nothing is detected
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile; those of the pool do not
            _fork["pool"] = _fork["pool"] or bool(_POOL.match(name.read_text()))


def _after_fork_in_child() -> None:
    _fork["lost"] = _fork["lost"] or _fork["pool"]


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
