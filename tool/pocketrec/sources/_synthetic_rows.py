"""The rows of a synthetic log: whole sessions, block by block, as numbers.

Each block has its own random stream, so what a block holds depends on the seed, the size of the log and its number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pocketrec.schema import Array, Int8, Int32, Int64
from pocketrec.sources._synthetic_shop import (
    BRANDS_FROM,
    CATEGORIES,
    FIRST_MS,
    LAST_MS,
    gap_table,
    length_table,
    open_shop,
    visit_table,
)

ROW = np.dtype([("session", "<i8"), ("time", "<i8"), ("item", "<i4"), ("category", "i1")])
"""A click before it is text: time in ms since the epoch, item and category as codes."""
Rows = Array
"""A structured array of `ROW`."""

BLOCK_ROWS = 1 << 19
"""About how many rows are in memory at a time: some 100 MB with everything that is made on the way."""
JITTER = 6 / 183
"""Session ids follow time only roughly: a session starts up to 3 days of 183 before or after its place."""
TIES, BACKWARDS = 0.004, 0.002
"""Shares of clicks that have the time of the click before them, or an earlier one."""
NO_CATEGORY, SPECIAL, BRAND = 0.50, 0.33, 0.01
"""Shares of "0", "S" and brands in column 4; the rest is the item's own category."""

CATALOGUE, BLOCK, SCATTER, BUCKET = range(4)
"""Which random stream a number comes from: the key of a spawned seed."""


class Maker:
    """Makes the rows, in the order of session ids, and keeps count of them; `row` is their dtype."""

    row = ROW

    def __init__(self, clicks: int, seed: int) -> None:
        self.clicks, self.seed = clicks, seed
        self.shop = open_shop(self.rng(CATALOGUE), clicks)
        self.lengths, self.gaps, self.visits = length_table(), gap_table(), visit_table()
        self.made = self.sessions = self.last_session = 0
        self.seen = np.zeros(len(self.shop.ids), dtype=bool)
        self.first_ms, self.last_ms = LAST_MS, FIRST_MS

    def rng(self, stream: int, number: int = 0) -> np.random.Generator:
        """A generator of random numbers that is independent of all others of this log."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(stream, number))))

    def span(self) -> tuple[str, str]:
        """The earliest and the latest time so far, as text."""
        first, last = (str(np.datetime64(ms, "ms")) + "Z" for ms in (self.first_ms, self.last_ms))
        return first, last

    def blocks(self) -> Iterator[Rows]:
        """All rows, about `BLOCK_ROWS` at a time, in whole sessions."""
        number = 0
        while self.made < self.clicks:
            rows = self._block(self.rng(BLOCK, number))
            self.seen[rows["item"]] = True
            self.first_ms = min(self.first_ms, int(rows["time"].min()))
            self.last_ms = max(self.last_ms, int(rows["time"].max()))
            yield rows
            number += 1

    def _block(self, rng: np.random.Generator) -> Rows:
        lengths = self._draw_lengths(rng)
        starts = np.cumsum(lengths) - lengths  # (sessions,) the first row of each
        rows = np.empty(int(lengths.sum()), dtype=ROW)
        rows["session"] = np.repeat(self._draw_ids(rng, len(lengths)), lengths)
        draw, follow = self.shop.draw, self.shop.follow
        rows["item"] = walk(lengths, starts, lambda which: draw(rng.random(len(which))), lambda _, now: follow(rng, now))
        rows["time"] = self._draw_times(rng, lengths, starts)
        rows["category"] = self._draw_categories(rng, rows["item"])
        self.made += len(rows)
        self.sessions += len(lengths)
        return rows

    def _draw_lengths(self, rng: np.random.Generator) -> Int64:
        """Clicks of each session of a block; the last session of the log is cut to fit."""
        left = self.clicks - self.made
        count = -(-min(left, BLOCK_ROWS) // 3)  # a session has 3.57 clicks on average, so this is a little too many
        lengths = 1 + np.searchsorted(self.lengths, rng.random(count), side="right").clip(max=len(self.lengths) - 1)
        ends = np.cumsum(lengths)
        lengths = lengths[: np.searchsorted(ends, min(left, BLOCK_ROWS)) + 1]
        lengths[-1] -= max(0, int(lengths.sum()) - left)
        return lengths

    def _draw_ids(self, rng: np.random.Generator, count: int) -> Int64:
        """Ascending session ids: one in five is followed by a hole."""
        hole = rng.random(count)
        ids: Int64 = self.last_session + np.cumsum(1 + (hole < 0.2).astype(np.int64) + (hole < 0.05))
        self.last_session = int(ids[-1])
        return ids

    def _draw_times(self, rng: np.random.Generator, lengths: Int64, starts: Int64) -> Int64:
        """Times of a block's rows in ms since the epoch. The log's first session and last session touch its ends."""
        offsets, lasts = self._draw_offsets(rng, lengths, starts)
        place = (self.made + starts) / self.clicks + (rng.random(len(starts)) - 0.5) * JITTER
        place = 1 - np.abs(1 - np.abs(place))  # reflected at both ends
        free = 1 - lasts / (LAST_MS - FIRST_MS)  # no session outlasts the log
        begin = FIRST_MS + np.rint(np.interp(place, *self.visits) * free).astype(np.int64)
        if self.made == 0:
            begin[0] = FIRST_MS
        if self.made + len(offsets) == self.clicks and self.sessions + len(starts) > 1:
            begin[-1] = LAST_MS - lasts[-1]
        times: Int64 = offsets + np.repeat(begin, lengths)
        return times

    def _draw_offsets(self, rng: np.random.Generator, lengths: Int64, starts: Int64) -> tuple[Int64, Int64]:
        """Milliseconds from a session's earliest click to each of its clicks, (rows,), and to its latest, (sessions,)."""
        kind = rng.random(int(lengths.sum()))
        gaps = self.gaps[rng.integers(0, len(self.gaps), len(kind))] + rng.integers(0, 1000, len(kind))
        gaps[kind < TIES] = 0
        gaps[kind > 1 - BACKWARDS] *= -1
        gaps[starts] = 0
        offsets = np.cumsum(gaps)
        offsets -= np.repeat(np.minimum.reduceat(offsets, starts), lengths)
        return offsets, np.maximum.reduceat(offsets, starts)

    def _draw_categories(self, rng: np.random.Generator, items: Int32) -> Int8:
        """Column 4 of a block's rows as positions in `CATEGORIES`."""
        kind = rng.random(len(items))
        drawn = np.where(kind < NO_CATEGORY + SPECIAL, (kind >= NO_CATEGORY).astype(np.int8), self.shop.categories[items])
        brands = np.flatnonzero(kind >= 1 - BRAND)
        drawn[brands] = rng.integers(BRANDS_FROM, len(CATEGORIES), len(brands))
        return drawn


def walk(
    lengths: Int64,
    starts: Int64,
    begin: Callable[[Int64], Int32],
    follow: Callable[[Int64, Int32], Int32],
    sources: Sequence[Int64] = (),
) -> Int32:
    """Item codes of all rows. All sessions take their k-th step at once, longest first, so those not ended are a prefix.

    Args:
        lengths: clicks of each session.
        starts: first row of each session.
        begin: the first clicks of these sessions.
        follow: the next clicks of these sessions, which are at these items.
        sources: for the first steps, (sessions,) each: the session whose click at this step is this one's, too.
    """
    items = np.empty(int(lengths.sum()), dtype=np.int32)
    longest_first = np.argsort(-lengths, kind="stable")
    places = starts[longest_first]
    ended = np.cumsum(np.bincount(lengths))  # sessions of at most k clicks
    current = np.empty(0, dtype=np.int32)
    for k in range(int(lengths.max())):
        active = len(lengths) - int(ended[k])
        which = longest_first[:active]
        current = follow(which, current[:active]) if k else begin(which)
        items[places[:active] + k] = current
        if k < len(sources):
            current = items[starts[sources[k][which]] + k]
            items[places[:active] + k] = current
    return items
