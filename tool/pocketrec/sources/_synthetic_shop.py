"""The shop behind a synthetic log: which items there are, how popular they are, what follows what, and when people come.

The figures below were chosen so that a log of 33,003,944 clicks looks like YooChoose's; smaller shops keep its shape with
fewer items. Everything random comes from a generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist

import numpy as np

from pocketrec.schema import Float64, Int8, Int32, Int64

FULL_CLICKS = 33_003_944
FULL_ITEMS = 54_500
"""Items of a shop of full size. Some 4 % of them are never clicked, which leaves about YooChoose's 52.7 thousand."""

FIRST_MS = 1_396_321_200_124
"""2014-04-01T03:00:00.124Z in milliseconds since the epoch."""
LAST_MS = 1_412_045_999_430
"""2014-09-30T02:59:59.430Z."""

RARE_ITEMS = 0.38
"""Share of items that expect between 1.2 and 4.5 clicks, most of which a support filter of 5 drops."""
HEAD_POWER = 0.4
"""How popularity grows towards the top: 1 would be a power law; this leaves the top items 1 % of the clicks each."""

GROUP = 10
"""Items that follow each other."""
SUCCESSOR, AGAIN, GROUP_A, GROUP_B = 0.20, 0.05, 0.25, 0.20
"""Chances of the next click: the item after this one, this one again, one of either group; else one of its category."""

LENGTHS = (0.137, 0.37, 0.16)
"""Shares of sessions of 1, 2 and 3 clicks; longer ones follow a power law up to `LONGEST`."""
LONGEST = 200
LENGTH_EXPONENT = 3.12

CATEGORIES = ("0", "S", *(str(number) for number in range(1, 13)), "2088992280", "1172087153", "851567241")
"""Column 4: missing, special offer, the category's number, or a brand."""
BRANDS_FROM = 14

# Clicks an hour, by hour of the day (UTC) and by day of the week (Monday first): a quiet night, a busy Sunday.
HOURS = (8, 6, 5, 6, 10, 20, 32, 44, 52, 56, 58, 58, 57, 57, 58, 60, 66, 74, 80, 76, 62, 42, 24, 13)
WEEKDAYS = (1.05, 0.8, 1.0, 0.95, 0.9, 0.95, 1.25)


@dataclass(frozen=True)
class Shop:
    """What is on sale and what follows what. An item's code is its position in `ids`.

    Attributes:
        ids: (n,) item ids, ascending.
        categories: (n,) position in `CATEGORIES` of the item's own category.
        successors: (n,) the code that comes after this one.
        members: (3n,) codes ordered by cell, for each of three ways to cut the shop into cells: two of groups, then
            categories.
        cumulative: (3n,) running sum of the popularity of `members`; each third adds 1.
        low: (3, n) where on `cumulative` an item's cell begins in each cut.
        width: (3, n) the popularity of that cell.
    """

    ids: Int64
    categories: Int8
    successors: Int32
    members: Int32
    cumulative: Float64
    low: Float64
    width: Float64

    def draw(self, position: Float64) -> Int32:
        """The codes at these positions on `cumulative`."""
        found = np.searchsorted(self.cumulative, position, side="right")
        return self.members[np.minimum(found, len(self.members) - 1)]  # rounding can put a position on the very end

    def follow(self, rng: np.random.Generator, current: Int32) -> Int32:
        """The next click of sessions that are at these items.

        Each kind of move leaves popularity about as it is: cells are entered by popularity and left by it, and the
        items of a ring of successors are about equally popular.
        """
        move, place = rng.random((2, len(current)))
        ring, again = SUCCESSOR, SUCCESSOR + AGAIN
        cut = (move >= again + GROUP_A).astype(np.int8) + (move >= again + GROUP_A + GROUP_B)
        following = self.draw(self.low[cut, current] + place * self.width[cut, current])
        following = np.where(move < again, current, following)
        return np.where(move < ring, self.successors[current], following)


def open_shop(rng: np.random.Generator, clicks: int) -> Shop:
    """A shop that will see this many clicks."""
    count = max(1, min(round(FULL_ITEMS * (clicks / FULL_CLICKS) ** 0.5), clicks // 8))
    popularity = rng.permutation(expected_clicks(count, clicks))
    popularity /= popularity.sum()
    ranks = np.argsort(np.argsort(popularity, kind="stable"), kind="stable")
    blurred = np.argsort(np.argsort(ranks + rng.random(count) * 8 * GROUP, kind="stable"), kind="stable")
    categories = rng.integers(2, BRANDS_FROM, count)
    cuts = [cells(ranks // GROUP, popularity), cells(blurred // GROUP, popularity), cells(categories, popularity)]
    members = np.concatenate([cut[0] for cut in cuts])
    return Shop(
        ids=item_ids(rng, count),
        categories=categories.astype(np.int8),
        successors=ring(cuts[0][0], ranks // GROUP),
        members=members.astype(np.int32),
        cumulative=np.concatenate([number + np.cumsum(popularity[cut[0]]) for number, cut in enumerate(cuts)]),
        low=np.stack([number + cut[1] for number, cut in enumerate(cuts)]),
        width=np.stack([cut[2] for cut in cuts]),
    )


def expected_clicks(count: int, clicks: int) -> Float64:
    """Ascending clicks to expect of each of `count` items, about `clicks` in all: a rare tail and a steep head."""
    rare = np.linspace(1.2, 4.5, round(RARE_ITEMS * count), endpoint=False)
    quantiles = (np.arange(count - len(rare)) + 0.5) / (count - len(rare))
    steps = (-np.log1p(-quantiles)) ** HEAD_POWER
    low, high = 0.0, 20.0
    for _ in range(60):  # bisection: the total grows with the slope
        slope = (low + high) / 2
        total = rare.sum() + (4.5 * np.exp(slope * steps)).sum()
        low, high = (slope, high) if total < clicks else (low, slope)
    return np.concatenate([rare, 4.5 * np.exp(low * steps)])


def cells(cell: Int64, popularity: Float64) -> tuple[Int64, Float64, Float64]:
    """Codes ordered by cell; for each code, where its cell begins on their running popularity, and how wide it is."""
    order = np.argsort(cell, kind="stable")
    edges = np.concatenate([[0.0], np.cumsum(popularity[order])])
    low = edges[np.searchsorted(cell[order], cell, side="left")]
    high = edges[np.searchsorted(cell[order], cell, side="right")]
    return order, low, high - low


def ring(order: Int64, cell: Int64) -> Int32:
    """The successor of each code: the next of its cell, the first after the last."""
    ordered = cell[order]
    following = np.arange(1, len(order) + 1)
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    following[is_last] = np.searchsorted(ordered, ordered[is_last], side="left")
    successors = np.empty(len(order), dtype=np.int32)
    successors[order] = order[following]
    return successors


def item_ids(rng: np.random.Generator, count: int) -> Int64:
    """Ascending ids with holes: most from 214,507,224 on, some above 643 million, a few above 1.18 billion."""
    gaps = rng.integers(1, 18, count)
    late, latest = count - count // 12, count - count // 50
    gaps[:1] = 0
    gaps[late : late + 1] += 428_500_000
    gaps[latest : latest + 1] += 537_000_000
    ids: Int64 = 214_507_224 + np.cumsum(gaps)
    return ids


def length_table() -> Float64:
    """Running share of sessions of 1, 2, ... `LONGEST` clicks."""
    tail = np.arange(len(LENGTHS) + 1, LONGEST + 1) ** -LENGTH_EXPONENT
    shares = np.concatenate([LENGTHS, tail / tail.sum() * (1 - sum(LENGTHS))])
    return np.cumsum(shares)


def gap_table() -> Int64:
    """4,096 equally likely times in ms between two clicks: median 50 s, mean 2 minutes, at most an hour."""
    normal = NormalDist()
    quantiles = np.array([normal.inv_cdf((k + 0.5) / 4096) for k in range(4096)])
    seconds = np.minimum(50 * np.exp(1.3 * quantiles), 3600)
    gaps: Int64 = np.rint(seconds * 1000).astype(np.int64)
    return gaps


def visit_table() -> tuple[Float64, Float64]:
    """Running share of the visits at the end of each hour of the log, and that hour in ms since `FIRST_MS`."""
    start = datetime.fromtimestamp(FIRST_MS // 1000, UTC)
    hours = -(-(LAST_MS - FIRST_MS) // 3_600_000)
    clock = np.arange(hours) + start.hour
    traffic = np.array(HOURS)[clock % 24] * np.array(WEEKDAYS)[(clock // 24 + start.weekday()) % 7]
    shares = np.concatenate([[0.0], np.cumsum(traffic)])
    edges = np.minimum(np.arange(hours + 1) * 3_600_000.0, LAST_MS - FIRST_MS)
    return shares / shares[-1], edges
