"""Sessions like the current one: a recommender that keeps sessions instead of training on them (weighed neighbours).

Of each item of the current session only the last click counts; its age is the number of clicks since then. A neighbour n is
a kept session that shares an item with the current one. The latest item that they share is m.

    likeness(n) = sum over shared items of fall(age, inside) / |n|^norm * exp(-days before the newest session / recency)
    score(i)    = sum over the likest n, `neighbours` of them at most, that hold i, of
                      likeness(n) * fall(age of m, match) * fall(|place of i - place of m in n|, near)
                  * (1 + idf * log(sessions / sessions that hold i))

For people who come back to what they have seen, an item of the current session gets more: the best of these scores (1 if
all are 0) * again * fall(age, 10).

A fall over x clicks is exp(-x / length), or 1 - x / length down to 0. An infinite length leaves a factor out, and so the
methods of the literature are settings of this one: S-KNN and V-SKNN (Ludewig & Jannach 2018), STAN (Garg et al. 2019),
VSTAN (Ludewig et al. 2020). When the current session began would multiply all scores alike, so it need not be known.

Of an item only its `newest` sessions are looked at, so that the time of a click does not grow with the log.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from pocketrec.schema import Float32, Int32, Int64

Shape = Literal["exponential", "linear"]
UInt16 = npt.NDArray[np.uint16]
Float64 = npt.NDArray[np.float64]

MS_A_DAY = 86_400_000
FARTHEST = 255
"""Ages and distances of more clicks count as this many."""
AGAIN_FALLS = 10.0
"""Clicks over which what an item of the session gets more falls; 3 and 1 did no better on Diginetica's sample."""
NEVER = math.inf
"""A length over which nothing falls."""


@dataclass(frozen=True)
class Neighbourhood:
    """Settings of weighed neighbours; the formula is in the first lines of this file.

    Attributes:
        neighbours: sessions that give their items, at most; of equally like ones the newest.
        newest: sessions of each item that are looked at, from the newest on.
        shape: how falls fall.
        inside: length of the fall over ages inside the current session, in clicks.
        norm: 0 to 1; by how much a long session is less like any other: 0 not at all, .5 as in the cosine.
        recency: length of the fall over the time between a session and the newest one, in days.
        match: length of the fall over the age of the latest shared item, in clicks.
        near: length of the fall over the distance from that item in the neighbour, in clicks.
        idf: how much more a rare item counts.
        again: how much more an item of the current session counts.
    """

    neighbours: int = 500
    newest: int = 2500
    shape: Shape = "exponential"
    inside: float = NEVER
    norm: float = 0.5
    recency: float = NEVER
    match: float = NEVER
    near: float = NEVER
    idf: float = 0.0
    again: float = 0.0

    def fall(self, length: float) -> Float64:
        """The fall at 0, 1, ..., `FARTHEST` clicks."""
        clicks = np.arange(FARTHEST + 1) / length
        return np.exp(-clicks) if self.shape == "exponential" else np.maximum(0, 1 - clicks)


METHODS = {
    "S-KNN": Neighbourhood(neighbours=100),
    "V-SKNN": Neighbourhood(shape="linear", inside=10, norm=0, match=10, idf=1),
    "STAN": Neighbourhood(inside=1.0, recency=40, near=2.0),
    "VSTAN": Neighbourhood(inside=1.0, norm=0.0, match=1.0, near=1.0, idf=2),
}
"""The methods of the literature with settings that do well on most logs."""


@dataclass(frozen=True)
class SessionIndex:
    """Kept sessions, each a set of items with the place of its last click; twice, by session and by item.

    Attributes:
        items: item codes of all sessions, one session after the other, int32 (pairs,); each code once a session.
        places: the place in its session of the last click on each of `items`, from 0, uint16 (pairs,).
        starts: where each session begins in `items`, and the end, int64 (sessions + 1,).
        lengths: the clicks of each session, int32 (sessions,).
        times: when each session began, in ms since 1970, ascending, int64 (sessions,).
        n_items: number of item codes.
    """

    items: Int32
    places: UInt16
    starts: Int64
    lengths: Int32
    times: Int64
    n_items: int

    @classmethod
    def of(cls, items: Int32, lengths: Int64, times: Int64, n_items: int) -> SessionIndex:
        """Index sessions.

        Args:
            items: item codes, one session after the other.
            lengths: clicks of each session.
            times: when each began, ascending, in ms since 1970.
            n_items: codes go from 0 to n_items - 1.
        """
        owner = np.repeat(np.arange(len(lengths)), lengths)
        # The last click of a session on an item: the first of its kind from behind.
        _, behind = np.unique((owner * n_items + items)[::-1], return_index=True)
        kept = np.sort(len(items) - 1 - behind)
        places = np.minimum(kept - (np.cumsum(lengths) - lengths)[owner[kept]], np.iinfo(np.uint16).max)
        starts = np.concatenate([[0], np.cumsum(np.bincount(owner[kept], minlength=len(lengths)))])
        return cls(
            items[kept].astype(np.int32, copy=False),
            places.astype(np.uint16),
            starts,
            lengths.astype(np.int32),
            times,
            n_items,
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def support(self) -> Int64:
        """Sessions that hold each item, int64 (n_items,)."""
        return np.bincount(self.items, minlength=self.n_items)

    @cached_property
    def by_item(self) -> tuple[Int32, Int64]:
        """Places in `items` of the clicks on item 0, then 1, ..., of each from the newest session on; where each begins."""
        last = len(self.items) - 1
        order = last - np.argsort(self.items[::-1], kind="stable")
        return order.astype(np.int32), np.cumsum(self.support) - self.support

    @cached_property
    def owner(self) -> Int32:
        """The session of each of `items`, int32 (pairs,)."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))


class WeighedNeighbours:
    """Scores items by the sessions of an index. It keeps a buffer, so it serves one thread."""

    def __init__(self, index: SessionIndex, settings: Neighbourhood) -> None:
        self.index, self.settings = index, settings
        self._inside, self._match, self._near, self._again = (
            settings.fall(length) for length in (settings.inside, settings.match, settings.near, AGAIN_FALLS)
        )
        newest = int(index.times[-1]) if len(index) else 0
        days = (newest - index.times) / MS_A_DAY
        self._weight = np.exp(-days / settings.recency) / index.lengths**settings.norm
        self._rarity = 1 + settings.idf * np.log(max(len(index), 1) / np.maximum(index.support, 1))
        self._slot = np.empty(len(index), np.int32)

    def __call__(self, session: Sequence[int]) -> Float32:
        """Scores of all items after the clicks of a session, item codes, oldest first; float32 (n_items,), 0 or more."""
        index = self.index
        codes, ages = _youngest(session)
        who, likeness, place = self._likest(codes, ages)
        counts = index.starts[who + 1] - index.starts[who]
        held = ranges(index.starts[who], counts)
        distance = np.abs(index.places[held].astype(np.int64) - np.repeat(place, counts))
        weights = np.repeat(likeness, counts) * self._near[np.minimum(distance, FARTHEST)]
        scores: Float64 = np.bincount(index.items[held], weights, index.n_items) * self._rarity
        if self.settings.again:
            scores[codes] += self.settings.again * (scores.max(initial=0) or 1) * self._again[ages]
        return scores.astype(np.float32)

    def _likest(self, codes: Int64, ages: Int64) -> tuple[Int32, Float64, Int64]:
        """The neighbours, their likeness times the fall of `match`, and the place of the latest shared item in each."""
        index, settings = self.index, self.settings
        order, begins = index.by_item
        counts = np.minimum(index.support[codes], settings.newest)
        pairs = order[ranges(begins[codes], counts)]
        who, age = index.owner[pairs], np.repeat(ages, counts)
        # The last pair of each session is its latest shared item: of what is written to one slot, the last stays.
        numbers = np.arange(len(pairs), dtype=np.int32)
        self._slot[who] = numbers
        last = self._slot[who]
        of_last = last == numbers
        likeness = np.bincount((np.cumsum(of_last) - 1)[last], self._inside[age])
        found = np.flatnonzero(of_last)
        # In float32, so that sums that differ in their last bits alone are equal.
        likeness = (likeness * self._weight[who[found]]).astype(np.float32)
        best = _largest(likeness, who[found], settings.neighbours)
        found = found[best]
        places = index.places[pairs[found]].astype(np.int64)
        return who[found], likeness[best] * self._match[age[found]], places


def _youngest(session: Sequence[int]) -> tuple[Int64, Int64]:
    """The items of a session, the youngest last, and the age of each."""
    youngest: dict[int, int] = {}
    for clicks, code in enumerate(reversed(session)):
        youngest.setdefault(code, min(clicks, FARTHEST))
    codes, ages = reversed(youngest), reversed(youngest.values())
    return np.fromiter(codes, np.int64, len(youngest)), np.fromiter(ages, np.int64, len(youngest))


def _largest(values: Float32, newness: Int32, most: int) -> Int64:
    """Where the largest values are, at most so many; of equal ones those of the larger newness. In ascending order."""
    if len(values) <= most:
        return np.arange(len(values))
    limit = np.partition(values, len(values) - most)[len(values) - most]
    above, level = np.flatnonzero(values > limit), np.flatnonzero(values == limit)
    level = level[np.argsort(newness[level])[len(above) - most :]]
    return np.sort(np.concatenate([above, level]))


def ranges(begins: Int64, counts: Int64) -> Int64:
    """The numbers begin, begin + 1, ..., begin + count - 1 of each range, one range after the other."""
    return np.repeat(begins - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
