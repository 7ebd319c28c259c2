"""Settings of the baselines, chosen on train_valid: a seeded random search over neighbours, and own items on or off.

The first try is that of `METHODS`. The sessions of train_valid are measured evenly over the set, at most `EVENTS` next
clicks; each try is measured with the session's own items among the candidates and without them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pocketrec.gru4rec.ranking import JUDGED_AT
from pocketrec.gru4rec.scoring import Scorer, SessionScorer, rank_with_and_without_own
from pocketrec.lite.neighbours import METHODS, NEVER, Neighbourhood, SessionIndex, WeighedNeighbours
from pocketrec.progress import Advance
from pocketrec.schema import Int32, Int64

EVENTS = 2000
"""Next clicks of train_valid that a try is measured on: one standard error of Recall is .011 then, less between tries."""

_SIZES: dict[str, tuple[Any, ...]] = {
    "neighbours": (100, 200, 500, 1000, 2000),
    "newest": (500, 1000, 2500, 5000, 10_000),
}
_LENGTHS = (0.4, 0.7, 1.02, 2.0, 4.0, 8.0, NEVER)
_DAYS = (2.5, 5.0, 10.0, 20.0, 40.0, 80.0, NEVER)
_VECTOR: dict[str, tuple[Any, ...]] = {"norm": (0.0, 0.5), "idf": (0.0, 1.0, 2.0, 5.0, 10.0)}
_LINEAR: dict[str, tuple[Any, ...]] = dict.fromkeys(("inside", "match"), (2.0, 5.0, 10.0, NEVER))
_STAN: dict[str, tuple[Any, ...]] = {"inside": _LENGTHS, "recency": _DAYS, "near": _LENGTHS}
SPACES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "S-KNN": _SIZES,
    "V-SKNN": _SIZES | _VECTOR | _LINEAR,
    "STAN": _SIZES | _STAN,
    "VSTAN": _SIZES | _VECTOR | _STAN | {"match": _LENGTHS},
}
"""Method -> setting -> values that are drawn."""
AGAIN = (0.25, 0.5, 1.0)
"""How much more own items count: tried last, with the best of what was drawn."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for a baseline.

    Attributes:
        own: whether the session's own items may be expected again.
        settings: of neighbours; None for other baselines.
        mrr: MRR@20 on the events that it was chosen by; None if nothing was measured.
    """

    own: bool = True
    settings: Neighbourhood | None = None
    mrr: float | None = None

    def described(self) -> dict[str, Any]:
        """The settings that have an effect, by name."""
        found = {} if self.settings is None else asdict(self.settings)
        return {name: value for name, value in found.items() if value not in (NEVER, 0)} | {"own": self.own}


def tries(method: str, count: int, seed: int) -> Iterator[Neighbourhood]:
    """The first settings of a method, and count - 1 that are drawn from its space; the same for the same seed."""
    first = METHODS[method]
    yield from [first] * min(count, 1)
    draws = np.random.default_rng([seed, sorted(SPACES).index(method)])
    for _ in range(count - 1):
        yield replace(first, **{name: values[draws.integers(len(values))] for name, values in SPACES[method].items()})


def choose_neighbours(
    index: SessionIndex, method: str, count: int, seed: int, sessions: EvenSessions, advance: Advance = lambda _: None
) -> Choice:
    """The best of `count` tries of a method, and of more weight for own items; `measured(count)` in all."""
    best = Choice(settings=METHODS[method])

    def take(settings: Neighbourhood) -> None:
        nonlocal best
        best = better(best, SessionScorer(method, WeighedNeighbours(index, settings)), settings, sessions)
        advance(sessions.events)

    for settings in tries(method, count, seed):
        take(settings)
    drawn = best.settings or METHODS[method]
    for again in AGAIN if count else ():
        take(replace(drawn, again=again))
    return best


def measured(count: int) -> int:
    """How often `choose_neighbours` measures."""
    return count + (len(AGAIN) if count else 0)


def better(best: Choice, scorer: Scorer, settings: Neighbourhood | None, sessions: EvenSessions) -> Choice:
    """The better of a choice and a scorer, with or without own items; of equal ones the earlier, and the one with them."""
    for own, ranking in zip((True, False), rank_with_and_without_own(scorer, sessions, (JUDGED_AT,)), strict=True):
        mrr = ranking.accuracy("").mrr[JUDGED_AT]
        if mrr > (-math.inf if best.mrr is None else best.mrr):
            best = Choice(own, settings, mrr)
    return best


class EvenSessions:
    """Whole sessions of a set, taken evenly, with at most about so many next clicks: `events` of them."""

    def __init__(self, blocks: Iterable[tuple[Int32, Int64]], clicks: int, sessions: int, most: int = EVENTS) -> None:
        """Args: blocks: as `read_sequences` gives them; clicks, sessions: how many there are; most: next clicks."""
        self._blocks = []
        every, seen = max(1, math.ceil((clicks - sessions) / most)), 0
        for items, lengths in blocks:
            numbers = seen + np.arange(len(lengths))
            seen += len(lengths)
            taken = numbers % every == 0
            self._blocks.append((items[np.repeat(taken, lengths)], lengths[taken]))
        self.events = sum(len(items) - len(lengths) for items, lengths in self._blocks)

    def __iter__(self) -> Iterator[tuple[Int32, Int64]]:
        return iter(self._blocks)
