"""Which rating is for training, which for validation, which for the test: at random, at random for each user, or by time.

A part of the ratings at a time gets its roles, in order, from a generator that begins with the seed: the same seed gives
the same roles on each pass, and nothing is kept of them in between.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from pocketrec.schema import SESSION, TIME, UInt8

SETS = ("train", "valid", "test")
"""Role 0, 1 and 2."""
Roles = Callable[[pl.DataFrame], UInt8]
"""Deals out roles for one pass: from the next ratings to their roles, uint8 (n,)."""


def of_so_many(seed: int, counts: tuple[int, int, int]) -> Roles:
    """So many of all ratings, exactly, each as likely as any other; `counts`, of each role, is all that will come."""
    rng, left = np.random.default_rng(seed), np.array(counts, np.int64)

    def roles(frame: pl.DataFrame) -> UInt8:
        """How many of each are among the next n is drawn first, then which they are."""
        here = rng.multivariate_hypergeometric(left, len(frame), method="marginals")
        left[:] -= here
        found = np.repeat(np.arange(3, dtype=np.uint8), here)
        rng.shuffle(found)
        return found

    return roles


def of_each_user(seed: int, valid: float, test: float) -> Roles:
    """A share of each user's ratings, to the nearest whole one; each user keeps one to train on or more.

    A frame has the ratings of whole users.
    """
    rng = np.random.default_rng(seed)

    def roles(frame: pl.DataFrame) -> UInt8:
        keyed = frame.select(SESSION).with_columns(key=pl.Series(rng.random(len(frame))))
        ranked = keyed.select(
            place=pl.col("key").rank("ordinal").over(SESSION).cast(pl.Int64), own=pl.len().over(SESSION).cast(pl.Int64)
        )
        place, own = ranked["place"].to_numpy(), ranked["own"].to_numpy()
        tests = np.minimum(np.floor(own * test + 0.5), own - 1)
        valids = np.minimum(np.floor(own * valid + 0.5), own - 1 - tests)
        return np.where(place <= tests, 2, np.where(place <= tests + valids, 1, 0)).astype(np.uint8)

    return roles


def by_moment(valid_from: int, test_from: int) -> Roles:
    """What came before one moment trains, what came from another on tests."""
    cuts = np.array([valid_from, test_from], np.int64)
    return lambda frame: np.searchsorted(cuts, frame[TIME].to_numpy(), side="right").astype(np.uint8)
