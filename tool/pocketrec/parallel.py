"""Work done ahead of whoever uses it: a few threads, results in order, never more than a few of them in memory.

numpy, Polars, xxhash and file writes let go of the interpreter lock while they work, so threads are enough to keep a second
core busy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Thing = TypeVar("Thing")
Result = TypeVar("Result")

THREADS = 2


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
