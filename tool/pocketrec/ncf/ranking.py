"""Ranking a held-out positive: among sampled negatives, as the original does it, and among all unseen items.

A sampled metric can put models in another order than the full one (Krichene & Rendle 2020, "On Sampled Metrics for Item
Recommendation"), so both are always shown, with popularity beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pocketrec.ncf.batches import Source
from pocketrec.ncf.interactions import Interactions
from pocketrec.ncf.options import NcfMakeSettings
from pocketrec.ncf.producer import EvaluationRows, evaluation_rows
from pocketrec.schema import Bool, Int32, Int64

SCORES_PER_BLOCK = 1 << 22


class Scorer(Protocol):
    """Anything that scores items for users, higher being better."""

    def pairs(self, users: Int32, items: Int32) -> npt.NDArray[Any]:
        """(n,) scores of users and items side by side."""

    def all_items(self, users: Int32) -> npt.NDArray[Any]:
        """(n, I) scores of every item for some users."""


class Popularity:
    """Scores an item by its train rows, whoever asks."""

    def __init__(self, interactions: Interactions) -> None:
        self.support = np.bincount(interactions.items, minlength=interactions.n_items)

    def pairs(self, users: Int32, items: Int32) -> Int64:  # noqa: ARG002
        """(n,) train rows of each item."""
        return self.support[items]

    def all_items(self, users: Int32) -> Int64:
        """(n, I) train rows of every item."""
        return np.broadcast_to(self.support, (len(users), len(self.support)))


def rows_to_rank(
    interactions: Interactions, source: Source, name: str, settings: NcfMakeSettings
) -> Iterator[EvaluationRows]:
    """The positives of a set, test or valid, with the negatives that a run's settings ask for.

    Those of the test are the original's draws; those of the validation have a stream of random numbers of their own.
    """
    if name == "test":
        yield from source.evaluation()
        return
    rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((settings.seed, 1))))
    yield from evaluation_rows(interactions.positives(name), source.negatives, settings.eval_negatives, rng)


def sampled(
    scorer: Scorer,
    rows: Iterable[EvaluationRows],
    top: int,
    *,
    ml_perf: bool,
    advance: Callable[[int], None] = lambda _: None,
) -> Metrics:
    """HR@k and NDCG@k, k being `top`, among sampled negatives; `advance` is told about users.

    With `ml_perf` negatives that were drawn twice are left out; without it they count each time.
    """
    found = [np.empty(0, np.int64)]
    for some in rows:
        width = some.items.shape[1]
        scores = scorer.pairs(np.repeat(some.users, width), some.items.reshape(-1)).reshape(-1, width)
        found.append(ranks(scores, some.duplicates if ml_perf else None))
        advance(len(some.users))
    return metrics(np.concatenate(found), top)


def full(
    scorer: Scorer, interactions: Interactions, name: str, top: int, *, advance: Callable[[int], None] = lambda _: None
) -> Metrics:
    """HR@k and NDCG@k, k being `top`, of the positives `name`, test or valid; `advance` is told about users.

    A positive is ranked among all items that its user has not in the train set, nor, for the test, as validation positive.
    """
    positives = interactions.positives(name)
    known = dict(zip(interactions.valid.users.tolist(), interactions.valid.items.tolist(), strict=True))
    block, found = max(1, SCORES_PER_BLOCK // interactions.n_items), []
    for first in range(0, len(positives), block):
        users, items = positives.users[first : first + block], positives.items[first : first + block]
        scores, rows = scorer.all_items(users), np.arange(len(users))
        better = ~(scores < scores[rows, items][:, None])
        for row, user in enumerate(users.tolist()):
            better[row, interactions.of(user)] = False
            if name == "test" and user in known:
                better[row, known[user]] = False
        better[rows, items] = False
        found.append(better.sum(axis=1))
        advance(len(users))
    return metrics(np.concatenate(found), top)


@dataclass(frozen=True)
class Metrics:
    """Means over users.

    Attributes:
        hr: HR@k.
        ndcg: NDCG@k.
        users: how many.
    """

    hr: float
    ndcg: float
    users: int


def ranks(scores: npt.NDArray[Any], left_out: Bool | None = None) -> Int64:
    """The rank, from 0, of the last column of scores (n, N + 1) among the others, (n,); a NaN counts as a better one.

    Others that are `left_out` (n, N + 1) do not count.
    """
    ahead = ~(scores[:, :-1] < scores[:, -1:])
    if left_out is not None:
        ahead &= ~left_out[:, :-1]
    counted: Int64 = ahead.sum(axis=1)
    return counted


def metrics(found: Int64, top: int) -> Metrics:
    """HR and NDCG at `top` of some ranks."""
    if not len(found):
        return Metrics(0.0, 0.0, 0)
    gains = np.where(found < top, np.log(2) / np.log(found + 2.0), 0.0)
    return Metrics(float((found < top).mean()), float(gains.mean()), len(found))
