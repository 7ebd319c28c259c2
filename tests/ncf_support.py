"""Ratings for tests, an oracle of the split that is slow and obvious, and the fixture behind the original's checksums."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from pocketrec.ncf.interactions import Interactions, Positives


class Rating(NamedTuple):
    """A line: ids and seconds since the epoch."""

    user: int
    item: int
    time: int


def write_dat(path: Path, ratings: Iterable[Rating]) -> Path:
    """As ml-1m's ratings.dat."""
    path.write_text("".join(f"{user}::{item}::4::{time}\n" for user, item, time in ratings))
    return path


def two_camps() -> list[Rating]:
    """60 users who each like one half of 50 items."""
    rng = np.random.default_rng(5)
    lines = []
    for user in range(60):
        own = rng.permutation(25)[:18] * 2 + user % 2
        lines += [Rating(100 + user, 1000 + int(item), 10**9 + int(time)) for time, item in enumerate(own)]
    return lines


def golden_ratings() -> tuple[list[Rating], np.random.RandomState]:
    """The fixture of the original's own test of its producer, and the generator as it stands afterwards."""
    rng = np.random.RandomState(0)
    users, items = np.arange(3000), np.arange(6000)
    rng.shuffle(users)
    rng.shuffle(items)
    chosen = rng.choice(users[:1000], 50_000), rng.choice(items[:2000], 50_000)
    rng.randint(0, 5, 50_000)
    times = rng.randint(1_000_000_000, 1_200_000_000, 50_000)
    first: dict[tuple[int, int], int] = {}
    for user, item, time in zip(*chosen, times, strict=True):
        first.setdefault((int(user), int(item)), int(time))
    return [Rating(user, item, time) for (user, item), time in first.items()], rng


@st.composite
def ratings(draw: st.DrawFn, max_users: int = 12, max_items: int = 15) -> list[Rating]:
    """A few users with different items, few different times, in any order."""
    lines = []
    for user in range(draw(st.integers(1, max_users))):
        for item in draw(st.lists(st.integers(0, max_items), unique=True, max_size=max_items - 2)):
            lines.append(Rating(1000 - 7 * user, 3 * item, 1_000_000_000 + draw(st.integers(0, 4))))
    return draw(st.permutations(lines))


class Expected(NamedTuple):
    """The split with the ids of the log: train rows by user in order of time, and one positive for some users."""

    users: list[int]
    items: list[int]
    train: dict[int, list[int]]
    valid: dict[int, int]
    test: dict[int, int]


def split_slowly(lines: list[Rating], min_ratings: int, validation: bool, holdout: float | None = None) -> Expected:
    """The protocol, a rating at a time."""
    counts: dict[int, int] = {}
    for line in lines:
        counts[line.user] = counts.get(line.user, 0) + 1
    left = [line for line in lines if counts[line.user] >= min_ratings]
    users = list(dict.fromkeys(line.user for line in left))
    items = list(dict.fromkeys(line.item for line in left))
    cuts = None
    if holdout is not None and left:
        moments = sorted(line.time for line in left)
        cuts = [moments[min(len(left) - 1, int(share * len(left)))] for share in (1 - 2 * holdout, 1 - holdout)]
        cuts = cuts if validation else [cuts[1], cuts[1]]
    expected = Expected(users, items, {}, {}, {})
    for user in users:
        own = sorted((line for line in left if line.user == user), key=lambda line: line.time)
        if cuts is None:
            held = 2 if validation else 1
            train = len(own) - held if len(own) > held else len(own)
            later = own[train:]
            if later and validation:
                expected.valid[user] = later.pop(0).item
            if later:
                expected.test[user] = later[0].item
        else:
            train = sum(line.time < cuts[0] for line in own)
            between = [line.item for line in own if cuts[0] <= line.time < cuts[1]]
            after = [line.item for line in own if line.time >= cuts[1]]
            if train and between:
                expected.valid[user] = between[0]
            if train and after:
                expected.test[user] = after[0]
        expected.train[user] = [line.item for line in own[:train]]
    return expected


def interactions_of(rows: list[set[int]], n_items: int) -> Interactions:
    """Train sets by user code; each user's test positive is item 0."""
    counts = [len(items) for items in rows]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    items = np.array([item for row in rows for item in sorted(row, key=lambda item: (item * 7) % 5)], dtype=np.int32)
    users = np.arange(len(rows), dtype=np.int32)
    none = np.empty(0, np.int32)
    return Interactions(n_items, starts, items, Positives(users, np.zeros(len(rows), np.int32)), Positives(none, none))
