"""iALS: factors of users and items by alternating least squares, with numpy alone.

A rated pair should score 1, and every pair a little 0 (Hu et al. 2008, "Collaborative Filtering for Implicit Feedback
Datasets"); the penalty of factors grows with the ratings that they explain (Rendle et al. 2022, "Revisiting the Performance
of iALS on Item Recommendation Benchmarks"). For users p (U, d), items q (I, d), rated pairs S, a weight a and a penalty r
this is made as small as it can be:

    sum over S of (1 - p_u . q_i)^2  +  a * sum over all pairs of (p_u . q_i)^2
    +  r * (sum over u of (ratings of u + a I) |p_u|^2  +  sum over i of (ratings of i + a U) |q_i|^2)

With the items held, the factors of each user are the answer of d linear equations, and so the other way round. A sweep
solves all users, then all items; the sum never grows. In memory are the ratings twice, by user and by item, at 4 bytes; the
factors; and the equations of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketrec.ncf.interactions import Interactions
from pocketrec.ncf.options import NcfTrainSettings
from pocketrec.progress import Advance
from pocketrec.schema import Float32, Int32, Int64
from pocketrec.storage.tensors import Tensors

NUMBERS_PER_BLOCK = 1 << 21
"""Of the equations that are solved at a time, and of the factors that are looked up for them."""
SPREAD = 0.1
"""Standard deviation of the length of an item's first factors."""


@dataclass(frozen=True)
class Side:
    """The ratings of each user, or of each item.

    Attributes:
        starts: (n + 1,) where each one's begin in `others`.
        others: the items of these ratings, or the users.
        weight: (n,) what the squares of each one's factors are penalised with.
    """

    starts: Int64
    others: Int32
    weight: Float32


class Als:
    """Factors in training, sweep by sweep."""

    def __init__(self, known: Interactions, settings: NcfTrainSettings) -> None:
        self.unobserved, self.ratings, width = settings.unobserved_weight, len(known.items), settings.num_factors

        def side(counts: Int64, others: Int32, of_all: int) -> Side:
            starts = np.concatenate([[0], np.cumsum(counts)])
            penalty = settings.regularization * (counts + self.unobserved * of_all)
            return Side(starts, others, penalty.astype(np.float32))

        by_item = np.argsort(known.items, kind="stable")
        self.by_user = side(known.counts, known.items, known.n_items)
        supports = np.bincount(known.items, minlength=known.n_items)
        self.by_item = side(supports, known.users()[by_item], known.n_users)
        self.steps = known.n_users + known.n_items
        drawn = np.random.default_rng(settings.seed).standard_normal((known.n_items, width), np.float32)
        self.users, self.items = np.zeros((known.n_users, width), np.float32), drawn * np.float32(SPREAD / width**0.5)

    def sweep(self, advance: Advance) -> float:
        """Solve all users, then all items; return the sum that is made small, by the number of ratings.

        `advance` is told about users and items.
        """
        self.users, _ = self._solved(self.by_user, self.items, advance)
        self.items, explained = self._solved(self.by_item, self.users, advance)
        penalty = float((self.by_user.weight * np.square(self.users).sum(axis=1)).sum())
        return (self.ratings - explained + penalty) / self.ratings

    def _solved(self, side: Side, held: Float32, advance: Advance) -> tuple[Float32, float]:
        """The factors of one side, and the sum of their products with the right sides of their equations.

        Where the equations hold, that sum is what the factors have taken off the number of ratings.
        """
        width, count = held.shape[1], len(side.weight)
        found, explained = np.empty((count, width), np.float32), 0.0
        everywhere, one = self.unobserved * (held.T @ held), np.eye(width, dtype=np.float32)
        step = max(1, NUMBERS_PER_BLOCK // width**2)
        for first in range(0, count, step):
            last = min(first + step, count)
            left = everywhere + side.weight[first:last, None, None] * one
            right = np.zeros((last - first, width), np.float32)
            for row in range(first, last):
                self._add(left[row - first], right[row - first], held, side.others[side.starts[row] : side.starts[row + 1]])
            found[first:last] = np.linalg.solve(left, right[:, :, None])[:, :, 0]
            explained += float((found[first:last] * right).sum(dtype=np.float64))
            advance(last - first)
        return found, explained

    @staticmethod
    def _add(left: Float32, right: Float32, held: Float32, others: Int32) -> None:
        """Add what the ratings of a user, or of an item, say to its equations."""
        step = max(1, NUMBERS_PER_BLOCK // held.shape[1])
        for first in range(0, len(others), step):
            rows = held[others[first : first + step]]
            left += rows.T @ rows
            right += rows.sum(axis=0)

    def weights(self) -> Tensors:
        """The factors, as they are now."""
        return {"user": self.users, "item": self.items}

    state = weights

    def restore(self, state: Tensors) -> None:
        """Go on from what `state` returned."""
        self.users, self.items = state["user"], state["item"]
