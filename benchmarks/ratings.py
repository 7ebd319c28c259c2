"""Synthetic ratings of MovieLens' shape, any size in bounded memory: `python benchmarks/ratings.py OUT.csv ROWS [SEED]`.

Users have 20 rows or more, log-normally many; items are drawn by a power law; no user has an item twice. At 20,000,263
rows there are 138,493 users and 26,744 items, as in ml-20m.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]

ML20M_ROWS, ML20M_USERS, ML20M_ITEMS = 20_000_263, 138_493, 26_744
USERS_PER_BLOCK = 4096
FIRST, LAST = 789_652_009, 1_427_784_002
"""Seconds since the epoch of ml-20m's first and last rating."""


def write_ratings(path: Path, rows: int, seed: int = 0) -> None:
    """Write a ratings.csv of exactly so many rows, grouped by user, in no order of time."""
    with path.open("wb") as file:
        file.write(b"userId,movieId,rating,timestamp\n")
        for users, items, times in _blocks(rows, np.random.default_rng(seed)):
            frame = pl.DataFrame({"user": users + 1, "item": items + 1, "rating": pl.repeat(3.5, len(users), eager=True)})
            frame.with_columns(pl.Series("time", times)).write_csv(file, include_header=False)


def _blocks(rows: int, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints, Ints]]:
    share = rows / ML20M_ROWS
    users = max(1, min(round(ML20M_USERS * share), rows // 20))
    items = max(200, round(ML20M_ITEMS * share**0.35))
    popularity = np.cumsum((1.0 + np.arange(items)) ** -0.7)
    popularity /= popularity[-1]
    lengths = _lengths(rows, users, items, rng)
    for first in range(0, users, USERS_PER_BLOCK):
        wanted = lengths[first : first + USERS_PER_BLOCK]
        found = np.empty(0, np.int64)  # user * items + item, ascending
        missing = wanted
        while missing.any():
            who = np.repeat(np.arange(len(wanted)), 2 * missing)  # twice: about half are there already
            drawn = np.minimum(np.searchsorted(popularity, rng.random(len(who))), items - 1)
            more = np.setdiff1d(who * items + drawn, found, assume_unique=False)
            more = rng.permutation(more)  # of what is too much, any
            more = more[np.argsort(more // items, kind="stable")]
            new = np.bincount(more // items, minlength=len(wanted))
            place = np.arange(len(more)) - np.repeat(np.cumsum(new) - new, new)
            found = np.union1d(found, more[place < missing[more // items]])
            missing = wanted - np.bincount(found // items, minlength=len(wanted))
        yield first + found // items, found % items, rng.integers(FIRST, LAST, len(found))


def _lengths(rows: int, users: int, items: int, rng: np.random.Generator) -> Ints:
    weights = np.exp(1.3 * rng.standard_normal(users))
    extra = rows - 20 * users
    lengths: Ints = np.minimum(20 + (extra * weights / weights.sum()).astype(np.int64), items // 4)
    while left := rows - int(lengths.sum()):  # what rounding and the cap took
        open_to_more = np.flatnonzero(lengths < items // 4)
        lengths[rng.choice(open_to_more, min(left, len(open_to_more)), replace=False)] += 1
    return lengths


if __name__ == "__main__":
    write_ratings(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
