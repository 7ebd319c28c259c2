"""Which rating is for training, which for validation, which for the test: at random, at random for each user, or by time.

A part of the ratings at a time gets its roles, in order, from a generator that begins with the seed: the same seed gives
the same roles on each pass, and nothing is kept of them in between.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl

from pocketrec.schema import SESSION, TIME, UInt8

SETS = ("train", "valid", "test")
"""Role 0, 1 and 2."""


class Roles(Protocol):
    """Deals out roles for one pass."""

    def of(self, frame: pl.DataFrame) -> UInt8:
        """The roles of the next ratings, uint8 (n,)."""


class RandomRoles:
    """So many of all ratings, exactly, each as likely as any other."""

    def __init__(self, seed: int, counts: tuple[int, int, int]) -> None:
        """Args:
        seed: of the generator.
        counts: ratings of each role; together all that will come.
        """
        self.rng, self.left = np.random.default_rng(seed), np.array(counts, np.int64)

    def of(self, frame: pl.DataFrame) -> UInt8:
        """How many of each are among the next n is drawn first, then which they are."""
        here = self.rng.multivariate_hypergeometric(self.left, len(frame), method="marginals")
        self.left -= here
        roles = np.repeat(np.arange(3, dtype=np.uint8), here)
        self.rng.shuffle(roles)
        return roles


class UserRoles:
    """A share of each user's ratings, to the nearest whole one; each user keeps one to train on or more."""

    def __init__(self, seed: int, valid: float, test: float) -> None:
        self.rng, self.valid, self.test = np.random.default_rng(seed), valid, test

    def of(self, frame: pl.DataFrame) -> UInt8:
        """The ratings of whole users."""
        keyed = frame.select(SESSION).with_columns(key=pl.Series(self.rng.random(len(frame))))
        ranked = keyed.select(
            place=pl.col("key").rank("ordinal").over(SESSION).cast(pl.Int64), own=pl.len().over(SESSION).cast(pl.Int64)
        )
        place, own = ranked["place"].to_numpy(), ranked["own"].to_numpy()
        test = np.minimum(np.floor(own * self.test + 0.5), own - 1)
        valid = np.minimum(np.floor(own * self.valid + 0.5), own - 1 - test)
        roles = np.where(place <= test, 2, np.where(place <= test + valid, 1, 0))
        return roles.astype(np.uint8)


class TimeRoles:
    """What came before one moment trains, what came from another on tests."""

    def __init__(self, valid_from: int, test_from: int) -> None:
        self.cuts = np.array([valid_from, test_from], np.int64)

    def of(self, frame: pl.DataFrame) -> UInt8:
        """By the time of each."""
        return np.searchsorted(self.cuts, frame[TIME].to_numpy(), side="right").astype(np.uint8)
