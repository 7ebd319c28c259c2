"""A verdict as a ladder: one rung a question, each failure told, and a rung that cannot be tried says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np

from pocketrec.errors import MissingExtraError, PocketrecError

Verdict = Literal["passed", "failed", "skipped"]
CaseT = TypeVar("CaseT")


@dataclass(frozen=True)
class Rung:
    """One answered question.

    Attributes:
        name: which.
        verdict: passed, failed, or skipped.
        detail: what was found; for a failure every fault, a line each; for a skipped rung the reason.
        seconds: how long it took.
    """

    name: str
    verdict: Verdict
    detail: str
    seconds: float


class Fault(Exception):  # noqa: N818
    """A rung does not hold; the message has a line for each thing that is wrong."""


class NotAsked(Exception):  # noqa: N818
    """The question does not arise for this case; the message says why."""


@dataclass(frozen=True)
class Check(Generic[CaseT]):
    """A question.

    Attributes:
        name: of the rung.
        run: answers with what was found, or raises `Fault`, `NotAsked` or a `PocketrecError`.
        needs: names of rungs without which it cannot be asked.
    """

    name: str
    run: Callable[[CaseT], str]
    needs: tuple[str, ...] = ()


def climb(checks: Sequence[Check[CaseT]], case: CaseT) -> Iterator[Rung]:
    """Ask every question in order. A file may be made to break its reader in any way: whatever a check raises is a failure.

    Raises:
        MissingExtraError: a package is missing; that says nothing about the case.
    """
    failed: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        began = time.perf_counter()
        verdict, detail = _skip(missing) if missing else _ask(check, case)
        if verdict == "failed" or missing:
            failed.add(check.name)
        yield Rung(check.name, verdict, detail, time.perf_counter() - began)


def _skip(missing: list[str]) -> tuple[Verdict, str]:
    return "skipped", f"needs {', '.join(missing)}"


def _ask(check: Check[CaseT], case: CaseT) -> tuple[Verdict, str]:
    try:
        with np.errstate(all="ignore"):  # a model that computes nonsense is a failure, not a warning
            return "passed", check.run(case)
    except MissingExtraError:
        raise
    except NotAsked as reason:
        return "skipped", str(reason)
    except (Fault, PocketrecError) as fault:
        return "failed", str(fault)
    except Exception as error:
        return "failed", f"{error.__class__.__name__}: {error}"
