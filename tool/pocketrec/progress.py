"""Progress as an observer: a stage says what it does and how far it is, and does not know who watches.

Bars go to stderr and only to a terminal; stdout belongs to results.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

Advance = Callable[[int], None]
"""Called with how much more has been done, in the task's unit."""


class Progress(Protocol):
    """Something that can watch a task."""

    def task(self, what: str, total: int, unit: str = "bytes") -> AbstractContextManager[Advance]:
        """Announce a task of `total` units ("bytes", "steps", ...); the body calls the yielded function as it goes."""
        ...


class Silent:
    """Watches nothing: the default of every library function."""

    @contextlib.contextmanager
    def task(self, what: str, total: int, unit: str = "bytes") -> Iterator[Advance]:  # noqa: ARG002
        """Yield a function that does nothing."""
        yield lambda _: None


SILENT = Silent()


class Bars:
    """One rich progress bar a task on stderr, which must be a terminal."""

    @contextlib.contextmanager
    def task(self, what: str, total: int, unit: str = "bytes") -> Iterator[Advance]:
        """Draw a bar while the body runs."""
        from rich import console, progress

        class Speed(progress.ProgressColumn):
            """Units a second, lately."""

            def render(self, task: progress.Task) -> str:
                return f"{task.speed or 0:,.0f} {unit}/s"

        amount = progress.DownloadColumn() if unit == "bytes" else progress.MofNCompleteColumn()
        suffix = progress.TextColumn("" if unit == "bytes" else unit)
        speed = (Speed(),) if unit in ("events", "examples") else ()
        columns = progress.TextColumn("{task.description:>10}"), progress.BarColumn(), amount, suffix, *speed
        stderr = console.Console(stderr=True)
        with progress.Progress(*columns, progress.TimeRemainingColumn(), console=stderr, transient=True) as bars:
            bar = bars.add_task(what, total=total)
            yield lambda done: bars.advance(bar, done)
