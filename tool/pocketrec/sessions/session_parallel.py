"""Session-parallel mini-batches: sessions laid end to end in B lanes, one step taking one click from every lane.

Protocol (Hidasi et al. 2016, section 3.2, and the loader of the original preparation): sessions ascend by id; whenever
lanes run out of clicks, they take the next sessions, lanes in ascending order. A session of L clicks fills L-1 steps of
its lane: feat is the current item, target the next.

That is a queue with B servers. `Lanes` assigns sessions to lanes, with one algorithm for few lanes and another for many;
`Blocks` then places all transitions of many sessions with a few array operations. Neither knows files or sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from heapq import heapify, heapreplace
from itertools import repeat
from operator import add, itemgetter

import numpy as np

from pocketrec.schema import Bool, Int32, Int64
from pocketrec.sessions.options import Resets, Tail

IDLE_FEAT, IDLE_TARGET, IDLE_MASK = 0, -1, 0
"""What a lane without a session emits (`tail="pad"`)."""

CELLS_PER_BLOCK = 1 << 18
FEW_LANES = 64
"""With fewer lanes a heap is faster; from here on it is faster to take all lanes that are free at a step together."""


class Block:
    """Consecutive steps; each array int32 of shape (steps, B).

    mask 1 = the lane goes on; 0 = the lane has just taken a new session, so its state must be reset before this step.

    Feats and targets are laid out when they are first asked for, in the thread that asks: `first` is the block's first
    step, `runs` are those that are in the block, each whole, on `items`.
    """

    def __init__(self, masks: Int32, first: int, items: Int32, runs: Runs) -> None:
        self.masks = masks
        self._first, self._items, self._runs = first, items, runs

    @property
    def feats(self) -> Int32:
        """The current items."""
        return self._arrays[0]

    @property
    def targets(self) -> Int32:
        """The next items."""
        return self._arrays[1]

    @cached_property
    def _arrays(self) -> tuple[Int32, Int32]:
        steps, width = self.masks.shape
        feats, targets = (np.full(steps * width, idle, np.int32) for idle in (IDLE_FEAT, IDLE_TARGET))
        places, runs = self._runs.places(), self._runs
        # Cell = step * B + lane. From one transition of a run to the next it grows by B.
        cells = np.repeat((runs.start - self._first - runs.place) * width + runs.lane, runs.count) + places * width
        feats[cells] = self._items[places]
        targets[cells] = self._items[places + 1]
        return feats.reshape(steps, width), targets.reshape(steps, width)


@dataclass(frozen=True)
class Runs:
    """Transitions that follow each other in a lane: a session, or what is left of one. Arrays of the same length.

    Attributes:
        place: where the first one's feat is in the items; its target is the item after it.
        count: transitions, 1 or more.
        start: step of the first one, ascending.
        lane: the lane.
        begins: whether it is the beginning of its session.
    """

    place: Int64
    count: Int64
    start: Int64
    lane: Int64
    begins: Bool

    @classmethod
    def empty(cls) -> Runs:
        """No runs."""
        nothing = np.empty(0, np.int64)
        return cls(nothing, nothing, nothing, nothing, nothing.astype(bool))

    def __add__(self, other: Runs) -> Runs:
        return Runs(*(np.concatenate([getattr(one, name) for one in (self, other)]) for name in RUN_COLUMNS))

    def __getitem__(self, rows: slice | Int64) -> Runs:
        return Runs(*(getattr(self, name)[rows] for name in RUN_COLUMNS))

    def until(self, step: int) -> tuple[Runs, Runs]:
        """The runs before a step, and those from there on; runs that cross it are cut in two."""
        stop = int(np.searchsorted(self.start, step))
        here = self[:stop]
        count = np.minimum(here.count, step - here.start)
        rest = here.count - count
        crossing = np.flatnonzero(rest)
        cut = Runs(
            place=(here.place + count)[crossing],
            count=rest[crossing],
            start=np.full(len(crossing), step),
            lane=here.lane[crossing],
            begins=np.zeros(len(crossing), bool),
        )
        return replace(here, count=count), cut + self[stop:]

    def places(self) -> Int64:
        """Where the feat of each transition is, one run after the other."""
        before = np.cumsum(self.count) - self.count
        return np.repeat(self.place - before, self.count) + np.arange(int(self.count.sum()))

    def moved(self, items: Int32) -> tuple[Int32, Runs]:
        """The items that the runs still need, and the runs on them."""
        longer = replace(self, count=self.count + 1)  # the last target is an item too
        return items[longer.places()], replace(self, place=np.cumsum(longer.count) - longer.count)


RUN_COLUMNS = tuple(field.name for field in fields(Runs))


class Lanes:
    """Assigns sessions to lanes, in order.

    Attributes:
        free: int64 (B,), the step at which each lane has nothing left.
        step: the first step that is not decided yet: a lane is free there, and no session is left to assign.
    """

    def __init__(self, lanes: int) -> None:
        self.free = np.zeros(lanes, np.int64)
        self.step = 0

    def assign(self, lengths: Int64) -> tuple[Int64, Int64]:
        """Assign sessions of the given numbers of transitions (1 or more); return start step and lane of each.

        Stops at the first step where the sessions run out; the next call goes on from there.
        """
        starts, lanes = self._few_lanes(lengths) if len(self.free) < FEW_LANES else self._many_lanes(lengths)
        self.step = int(self.free.min())
        return starts, lanes

    def _few_lanes(self, lengths: Int64) -> tuple[Int64, Int64]:
        """Each session takes the lane with the smallest step * B + lane, from a heap of these numbers.

        Few lanes are seldom free together, so arrays do not help; but chained iterators do it without a step of the
        interpreter: look at the smallest number, add the session to it, put the sum in its place.
        """
        width = len(self.free)
        heap = (self.free * width + np.arange(width)).tolist()
        heapify(heap)
        smallest = map(itemgetter(0), repeat(heap))
        taken = map(heapreplace, repeat(heap), map(add, smallest, (lengths * width).tolist()))
        starts, lanes = np.divmod(np.fromiter(taken, np.int64, len(lengths)), width)
        steps, ends = np.divmod(np.array(heap), width)
        self.free[ends] = steps
        return starts, lanes

    def _many_lanes(self, lengths: Int64) -> tuple[Int64, Int64]:
        """All lanes that are free at a step at once."""
        starts, lanes = np.empty_like(lengths), np.empty_like(lengths)
        free, done, count = self.free, 0, len(lengths)
        while done < count:
            step = np.minimum.reduce(free)  # the wrappers min and flatnonzero cost as much again
            ready = (free == step).nonzero()[0][: count - done]
            stop = done + len(ready)
            starts[done:stop] = step
            lanes[done:stop] = ready
            free[ready] = lengths[done:stop] + step
            done = stop
        return starts, lanes


class Blocks:
    """Turns sessions into blocks of steps; what is not complete yet is carried over.

    Memory: the items of the sessions given at once, plus what B lanes still hold of earlier ones.
    """

    def __init__(self, lanes: int, *, resets: Resets = "once", tail: Tail = "drop") -> None:
        self.width, self.resets, self.tail = lanes, resets, tail
        self.lanes = Lanes(lanes)
        self.sessions = 0
        """Sessions taken."""
        self.steps = 0
        """Steps emitted."""
        self.transitions = 0
        """Transitions emitted."""
        self.dropped = 0
        """Transitions that the end of the data left in the lanes (`tail="drop"`)."""
        self._items, self._runs = np.empty(0, np.int32), Runs.empty()
        self._last_mask = np.ones(lanes, np.int32)

    @property
    def padded(self) -> bool:
        """Whether there are fewer sessions than lanes."""
        return self.sessions < self.width

    def add(self, items: Int32, lengths: Int64) -> Iterator[Block]:
        """Take sessions; yield the steps they complete.

        `items` are the item codes of all sessions, one session after the other; `lengths` the clicks of each, 2 or more.
        """
        self.sessions += len(lengths)
        starts, lanes = self.lanes.assign(lengths - 1)
        place = len(self._items) + np.cumsum(lengths) - lengths
        self._items = np.concatenate([self._items, items])
        self._runs += Runs(place, lengths - 1, starts, lanes, np.ones(len(lengths), bool))
        yield from self._emit(self.lanes.step, idle_from=None)
        self._items, self._runs = self._runs.moved(self._items)

    def finish(self) -> Iterator[Block]:
        """No more sessions: with `pad` yield what the lanes still hold, with `drop` count it.

        Fewer sessions than lanes are always padded; dropping would leave nothing.
        """
        if self.tail == "pad" or self.padded:
            yield from self._emit(int(self.lanes.free.max()), idle_from=self.lanes.free)
        self.dropped = int(self._runs.count.sum())

    def _emit(self, until: int, idle_from: Int64 | None) -> Iterator[Block]:
        """Steps up to `until`; idle_from is the step from which each lane has no session, None where all have one."""
        while self.steps < until:
            stop = min(until, self.steps + max(1, CELLS_PER_BLOCK // self.width))
            runs, self._runs = self._runs.until(stop)
            self.transitions += int(runs.count.sum())
            yield Block(self._masks(runs, stop, idle_from), self.steps, self._items, runs)
            self.steps = stop

    def _masks(self, runs: Runs, stop: int, idle_from: Int64 | None) -> Int32:
        masks = np.ones((stop - self.steps, self.width), np.int32)
        # The states of the very first step are zero already: nothing to reset.
        new = runs[np.flatnonzero(runs.begins & (runs.start > 0))]
        masks[new.start - self.steps, new.lane] = 0
        if self.resets == "repeated":
            self._repeat(masks, idle_from)
        if idle_from is not None:
            masks[np.arange(self.steps, stop)[:, None] >= idle_from] = IDLE_MASK
        return masks

    def _repeat(self, masks: Int32, idle_from: Int64 | None) -> None:
        """Give each step the mask of the step at which some lane last ended, as the original does."""
        boundary: Bool = (masks == 0).any(axis=1)
        boundary[0] |= self.steps == 0
        if idle_from is not None:
            ended = idle_from[(idle_from >= self.steps) & (idle_from < self.steps + len(masks))]
            boundary[ended - self.steps] = True
        source = np.maximum.accumulate(np.where(boundary, np.arange(len(masks)), -1))
        before = source < 0
        masks[~before] = masks[source[~before]]
        masks[before] = self._last_mask
        self._last_mask = masks[-1].copy()
