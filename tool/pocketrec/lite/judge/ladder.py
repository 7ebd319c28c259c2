"""A verdict as a ladder: a list of checks, the rungs. Each reports all that fails; one that cannot run says why."""

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
    """The result of one check.

    Attributes:
        name: the name of the check.
        verdict: passed, failed, or skipped.
        detail: what was found; if it failed, one line for each fault; if it was skipped, the reason.
        seconds: wall time.
    """

    name: str
    verdict: Verdict
    detail: str
    seconds: float


class Fault(Exception):  # noqa: N818
    """A check failed; the message has one line for each fault."""


class NotAsked(Exception):  # noqa: N818
    """A check does not apply to this case; the message says why."""


def settle(faults: Sequence[str]) -> None:
    """Raise `Fault` if there are any faults."""
    if faults:
        raise Fault("\n".join(faults))


@dataclass(frozen=True)
class Check(Generic[CaseT]):
    """One check.

    Attributes:
        name: of the check and of its rung.
        run: returns what was found, in words, or raises `Fault`, `NotAsked` or a `PocketrecError`.
        needs: names of earlier checks; if one of them fails, this one is skipped.
    """

    name: str
    run: Callable[[CaseT], str]
    needs: tuple[str, ...] = ()


def climb(checks: Sequence[Check[CaseT]], case: CaseT) -> Iterator[Rung]:
    """Run all checks in order. Any exception is a failure, since a bad file may break a check in any way.

    Raises:
        MissingExtraError: a package is missing, which says nothing about the case.
    """
    failed: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        began = time.perf_counter()
        skipped: tuple[Verdict, str] = ("skipped", f"needs {', '.join(missing)}")
        verdict, detail = skipped if missing else _ask(check, case)
        if verdict == "failed" or missing:
            failed.add(check.name)
        yield Rung(check.name, verdict, detail, time.perf_counter() - began)


def _ask(check: Check[CaseT], case: CaseT) -> tuple[Verdict, str]:
    try:
        with np.errstate(all="ignore"):  # NaN and overflow make a check fail, not warn
            return "passed", check.run(case)
    except MissingExtraError:
        raise
    except NotAsked as reason:
        return "skipped", str(reason)
    except (Fault, PocketrecError) as fault:
        return "failed", str(fault)
    except Exception as error:
        return "failed", f"{error.__class__.__name__}: {error}"
