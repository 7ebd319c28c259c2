"""How far predictions are from ratings, and the baselines beside them: the global mean, and biases of users and items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pocketrec.dnn.network import DnnSettings, class_of, expected_rating
from pocketrec.dnn.sets import RatingSet, RatingSets
from pocketrec.progress import Advance
from pocketrec.schema import Float32, Int32

Predict = Callable[[Int32, Int32], Float32]
"""From users and items side by side to outputs, float32 (n, outputs), or to ratings, (n,)."""
STRENGTHS = ((2.0, 2.0), (4.0, 3.0), (5.0, 5.0), (10.0, 5.0), (15.0, 10.0), (25.0, 25.0))
"""Ridge of user and item biases: the best on the validation set is taken."""
SWEEPS = 10


@dataclass(frozen=True)
class Accuracy:
    """Over the ratings of a set.

    Attributes:
        rmse: root of the mean squared error, in stars, of ratings within those that are given.
        mae: mean absolute error, in stars.
        accuracy: share of ratings whose class is met; None with the task `rate`.
        cross_entropy: mean, in nats; None with the task `rate`, and of baselines, which have no probabilities.
    """

    rmse: float
    mae: float
    accuracy: float | None = None
    cross_entropy: float | None = None


def measure(settings: DnnSettings, rows: RatingSet, predict: Predict, advance: Advance = lambda _: None) -> Accuracy:
    """Predict a set that is not empty, a block at a time; `advance` is told about ratings.

    `settings` are those of the network that predicts, or that a baseline stands beside.
    """
    squared = absolute = right = nats = 0.0
    probable = True
    for users, items, ratings in rows.blocks():
        outputs = predict(users, items)
        if outputs.ndim == 1:
            probable, found = False, np.clip(outputs, settings.lowest, settings.highest)
            chosen = class_of(settings, found)
        else:
            found, chosen = expected_rating(settings, outputs), outputs.argmax(axis=1)
        error = found.astype(np.float64) - ratings
        squared, absolute = squared + float((error**2).sum()), absolute + float(np.abs(error).sum())
        if settings.task == "classify":
            classes = class_of(settings, ratings)
            right += float((chosen == classes).sum())
            nats += _nats(outputs, classes) if outputs.ndim > 1 else 0.0
        advance(len(ratings))
    classify = settings.task == "classify"
    return Accuracy(
        math.sqrt(squared / len(rows)),
        absolute / len(rows),
        right / len(rows) if classify else None,
        nats / len(rows) if classify and probable else None,
    )


@dataclass(frozen=True)
class Spread:
    """How predictions are spread where a rating was given, in stars.

    Attributes:
        rating: that was given; where there are more than `MOST_RATINGS` of them the middle of a range.
        count: how often.
        mean: of the predictions.
        low: below it are a tenth of the predictions.
        middle: below it is half of them.
        high: above it are a tenth of them.
    """

    rating: float
    count: int
    mean: float
    low: float
    middle: float
    high: float


MOST_RATINGS, BINS = 20, 500
"""Ratings that are told apart; ranges of predictions that are counted, so that nothing is kept of single ratings."""


def spread(settings: DnnSettings, rows: RatingSet, predict: Predict) -> tuple[Spread, ...]:
    """Count the ratings that `predict` gives instead of each rating of a set, a block at a time."""
    lowest, width = settings.lowest, max(settings.highest - settings.lowest, 1e-6)
    given = np.unique(np.concatenate([np.unique(ratings) for *_, ratings in rows.blocks()]))
    if len(given) > MOST_RATINGS:
        edges = np.linspace(given[0], given[-1], MOST_RATINGS + 1)
        given = (edges[1:] + edges[:-1]) / 2
    counts, sums = np.zeros((len(given), BINS), np.int64), np.zeros(len(given))
    for users, items, ratings in rows.blocks():
        found = predict(users, items)
        own = np.abs(ratings[:, None] - given[None, :]).argmin(axis=1)
        bins = np.clip((found - lowest) / width * BINS, 0, BINS - 1).astype(np.int64)
        np.add.at(counts, (own, bins), 1)
        sums += np.bincount(own, found, len(given))
    totals, below = counts.sum(axis=1), counts.cumsum(axis=1)
    spreads = []
    for rating, total, part, mean in zip(given.tolist(), totals.tolist(), below, sums.tolist(), strict=True):
        if total:
            at = (lowest + (np.searchsorted(part, np.array([0.1, 0.5, 0.9]) * total) + 0.5) / BINS * width).tolist()
            spreads.append(Spread(rating, total, mean / total, *at))
    return tuple(spreads)


def _nats(outputs: Float32, classes: Int32) -> float:
    top = outputs.max(axis=1)
    total = top + np.log(np.exp(outputs - top[:, None]).sum(axis=1))
    return float((total - outputs[np.arange(len(classes)), classes]).sum(dtype=np.float64))


def baselines(settings: DnnSettings, sets: RatingSets, learn_from: Sequence[str]) -> dict[str, Predict]:
    """The baselines by name, beside a network with these settings; their numbers come from the sets `learn_from`.

    The ridge is chosen by learning from train and predicting valid.
    """
    train, valid = sets.sets["train"], sets.sets["valid"]
    best = STRENGTHS[1]
    if len(valid):
        best = min(STRENGTHS, key=lambda one: measure(settings, valid, biases(settings, [train], one)).rmse)
    rows = [sets.sets[name] for name in learn_from]
    found = {"global mean": _constant(mean_rating(rows)), "user + item bias": biases(settings, rows, best)}
    return found if settings.task == "rate" else {"most frequent": _constant(most_frequent(settings, rows)), **found}


def mean_rating(rows: Sequence[RatingSet]) -> float:
    """Of all ratings in some sets."""
    total = sum(float(ratings.sum(dtype=np.float64)) for one in rows for *_, ratings in one.blocks())
    return total / sum(map(len, rows))


def most_frequent(settings: DnnSettings, rows: Sequence[RatingSet]) -> float:
    """The value that most ratings in some sets have; the lowest of several."""
    counts = np.zeros(settings.outputs, np.int64)
    for one in rows:
        for *_, ratings in one.blocks():
            counts += np.bincount(class_of(settings, ratings), minlength=settings.outputs)
    return settings.values[int(counts.argmax())]


def _constant(rating: float) -> Predict:
    return lambda users, _: np.full(len(users), rating, np.float32)


def biases(settings: DnnSettings, rows: Sequence[RatingSet], ridge: tuple[float, float]) -> Predict:
    """Rating = mean + b_u + b_i, the biases by least squares with a ridge (Koren 2008, "Factorization meets the
    neighborhood", equation 1 and 2), users and items in turn; an unknown user or item has none.

    `ridge` is that of users and of items.
    """
    mean = mean_rating(rows)
    user, item = np.zeros(settings.n_users), np.zeros(settings.n_items)
    for _ in range(SWEEPS):
        for own, other, strength, by_user in ((item, user, ridge[1], False), (user, item, ridge[0], True)):
            left, counts = np.zeros(len(own)), np.zeros(len(own))
            for one in rows:
                for users, items, ratings in one.blocks():
                    mine, theirs = (users, items) if by_user else (items, users)
                    left += np.bincount(mine, ratings - mean - other[theirs], minlength=len(own))
                    counts += np.bincount(mine, minlength=len(own))
            own[:] = left / (counts + strength)
            own[0] = 0
    return lambda users, items: (mean + user[users] + item[items]).astype(np.float32)
