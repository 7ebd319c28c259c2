"""The rows of a synthetic log of people: users with lasting tastes, who come back for several sessions.

A block holds whole users, one after the other, each with sessions in order of time. Every user likes a few groups of items
of the shop, and at times does again what was done in a session before.
"""

from __future__ import annotations

import numpy as np

from pocketrec.schema import Int32, Int64
from pocketrec.sources import _synthetic_rows
from pocketrec.sources._synthetic_rows import ROW, Maker, Rows, walk
from pocketrec.sources._synthetic_shop import FIRST_MS, LAST_MS

PEOPLE = 4
"""Which random stream the numbers of users' clicks come from, beside those of `_synthetic_rows`."""
LIKED = 5
"""Groups of items that a user likes."""
BEGINS, TURNS = 0.3, 0.1
"""Chances that a session begins with an item of a liked group, and that a next click turns to one."""
REPEATS, RUN = 0.18, (0.1, 0.4, 0.5)
"""Chance that a session begins like an earlier one of its user, and of doing so for 1, 2 or 3 clicks."""
MOST_CLICKS = 1000
"""Most clicks of a user, on average: all of one user are in memory at a time."""
PAUSE_MS = 1_800_000
"""Least time between two sessions of a user, in milliseconds."""


class PeopleMaker(Maker):
    """As `Maker`, with `users` users; the sessions of a user have ids one after the other."""

    row = np.dtype([*(one for one in ROW.descr if one[0] != "category"), ("user", "<i4")])

    def __init__(self, clicks: int, seed: int, users: int) -> None:
        super().__init__(clicks, seed)
        active = np.cumsum(self.rng(PEOPLE).gamma(2.0, size=users))  # how much somebody clicks varies from user to user
        self.shares = 1 + np.diff(np.rint(active / active[-1] * (clicks - users)).astype(np.int64), prepend=0)
        self.done = 0

    def _block(self, rng: np.random.Generator) -> Rows:
        ends = np.cumsum(self.shares[self.done : self.done + _synthetic_rows.BLOCK_ROWS])
        count = max(1, int(np.searchsorted(ends, _synthetic_rows.BLOCK_ROWS, side="right")))
        ends = ends[:count]  # (users,) the row after the last one of each
        lengths = self._cut(rng, ends)
        starts = np.cumsum(lengths) - lengths
        user = np.searchsorted(ends, starts, side="right")  # of each session
        rows = np.empty(int(ends[-1]), dtype=self.row)
        rows["user"] = np.repeat(1 + self.done + user, lengths)
        rows["session"] = np.repeat(self._draw_ids(rng, len(lengths)), lengths)
        rows["item"] = self._walk(rng, lengths, starts, user)
        rows["time"] = self._draw_visits(rng, lengths, starts, user)
        self.done += count
        self.made += len(rows)
        self.sessions += len(lengths)
        return rows

    def _cut(self, rng: np.random.Generator, ends: Int64) -> Int64:
        """Clicks of each session: lengths as in `Maker`, cut where a user ends."""
        drawn = 1 + np.searchsorted(self.lengths, rng.random(int(ends[-1])), side="right").clip(max=len(self.lengths) - 1)
        cuts = np.union1d(np.cumsum(drawn), ends)
        lengths: Int64 = np.diff(cuts[cuts <= ends[-1]], prepend=0)
        return lengths

    def _walk(self, rng: np.random.Generator, lengths: Int64, starts: Int64, user: Int64) -> Int32:
        shop = self.shop
        liked = shop.draw(rng.random((int(user[-1]) + 1, LIKED)))  # an item of each liked group

        def of_taste(which: Int64) -> Int32:
            item = liked[user[which], rng.integers(0, LIKED, len(which))]
            return shop.draw(shop.low[1, item] + rng.random(len(which)) * shop.width[1, item])

        def begin(which: Int64) -> Int32:
            return np.where(rng.random(len(which)) < BEGINS, of_taste(which), shop.draw(rng.random(len(which))))

        def follow(which: Int64, now: Int32) -> Int32:
            found = shop.follow(rng, now)
            found = np.where(found == now, shop.successors[now], found)  # few people click an item twice in a row
            return np.where(rng.random(len(which)) < TURNS, of_taste(which), found)

        return walk(lengths, starts, begin, follow, self._sources(rng, lengths, user))

    def _sources(self, rng: np.random.Generator, lengths: Int64, user: Int64) -> list[Int64]:
        """Which session each session does again at its first clicks; itself where it does not."""
        session = np.arange(len(lengths))
        first = np.searchsorted(user, user)  # the first session of the same user
        earlier = first + (rng.random(len(session)) * (session - first)).astype(np.int64)
        run = 1 + np.searchsorted(np.cumsum(RUN[:-1]), rng.random(len(session)), side="right")
        run = np.where(rng.random(len(session)) < REPEATS, np.minimum(run, np.minimum(lengths, lengths[earlier])), 0)
        found = []
        for k in range(len(RUN)):
            source = np.where(run > k, earlier, session)
            while (source != source[source]).any():  # what is done again may have been done before that
                source = source[source]
            found.append(source)
        return found

    def _draw_visits(self, rng: np.random.Generator, lengths: Int64, starts: Int64, user: Int64) -> Int64:
        """Times of a block's rows: a user's sessions anywhere in the log's time, one after the other."""
        offsets, lasts = self._draw_offsets(rng, lengths, starts)
        first = np.searchsorted(user, user)
        taken = lasts + PAUSE_MS
        before = np.cumsum(taken) - taken
        before -= before[first]  # by earlier sessions of the user and the pauses after them
        whole = np.bincount(user, taken)[user]
        place = rng.random(len(user))
        place = place[np.lexsort((place, user))]  # ascending for each user
        free = np.interp(place, *self.visits) * np.maximum(1 - whole / (LAST_MS - FIRST_MS), 0)
        times: Int64 = offsets + np.repeat(FIRST_MS + np.rint(free).astype(np.int64) + before, lengths)
        return times
