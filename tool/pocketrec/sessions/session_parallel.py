"""Session-parallel mini-batches: sessions laid end to end in B lanes, one step taking one click from every lane.

Protocol (Hidasi et al. 2016, section 3.2, and the loader of the original preparation): sessions ascend by id; whenever
lanes run out of clicks, they take the next sessions, lanes in ascending order. A session of L clicks fills L-1 steps of
its lane: feat is the current item, target the next.

That is a queue with B servers. A set is laid part by part, a part being some sessions that follow each other:

    scan   `LaneState.advance` gives a part's sessions to the lanes. Of all sessions before, it needs the lengths alone.
    carry  `LaneState.held` says what the lanes still have of earlier sessions where a part begins.
    fill   `fill` lays out the steps from a part's first to the next part's first. No part waits for another.

The tail is one more part, without sessions (`LaneState.stop`). `lay` does all of it for one machine. Nothing here knows
files or sets.

The scan can be parallel, too. Lanes forget: two queues with as many transitions so far, and the same sessions from there
on, soon have the same lanes free at the same steps. So the state before a part can be guessed from the last sessions before
it (`LaneState.guessed`) and advanced over the part's own, all parts at once. Then `settle` goes through the parts to find
the true states, and has only those scanned again where the guess was wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from heapq import heapify, heapreplace
from itertools import islice, repeat
from operator import add, itemgetter
from typing import NamedTuple

import numpy as np

from pocketrec.progress import Advance
from pocketrec.schema import Bool, Int32, Int64
from pocketrec.sessions.options import Resets, Tail

IDLE_FEAT, IDLE_TARGET, IDLE_MASK = 0, -1, 0
"""What a lane without a session emits (`tail="pad"`)."""

CELLS_PER_BLOCK = 1 << 18
FEW_LANES = 64
"""With fewer lanes a heap is faster; from here on it is faster to take all lanes that are free at a step together."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Transitions that follow each other in a lane: a session, or what is left of one. Arrays of the same length.

    Attributes:
        place: where the first one's feat is in the items of the set; its target is the item after it.
        count: transitions, 1 or more, so a run has count + 1 items.
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

    def __len__(self) -> int:
        return len(self.place)

    def __add__(self, other: Runs) -> Runs:
        return Runs(*(np.concatenate([getattr(one, name) for one in (self, other)]) for name in RUN_COLUMNS))

    def __getitem__(self, rows: slice | Int64) -> Runs:
        return Runs(*(getattr(self, name)[rows] for name in RUN_COLUMNS))

    def cut(self, step: int) -> tuple[Runs, Runs]:
        """What they have before a step that is after all starts, and what the longer ones have from there on."""
        count = np.minimum(self.count, step - self.start)
        longer = np.flatnonzero(self.count > count)
        rest = Runs(
            place=(self.place + count)[longer],
            count=(self.count - count)[longer],
            start=np.full(len(longer), step),
            lane=self.lane[longer],
            begins=np.zeros(len(longer), bool),
        )
        return replace(self, count=count), rest

    def packed(self) -> Runs:
        """The runs on an array that has their items alone, one run after the other."""
        items = self.count + 1
        return replace(self, place=np.cumsum(items) - items)


RUN_COLUMNS = tuple(field.name for field in fields(Runs))


@dataclass(eq=False)
class LaneState:
    """The lanes where some sessions have been assigned and the next ones have not: all that later parts need to know.

    Attributes:
        free: the step at which each lane has nothing left. Their sum is the number of transitions so far.
        start: the step at which the session of each lane began, -1 in a lane that has had none.
        end: place of that session's last item in the items of the set, or -1.

    Each int64 (B,).
    """

    free: Int64
    start: Int64
    end: Int64

    @classmethod
    def empty(cls, lanes: int) -> LaneState:
        """Before the first session."""
        return cls(np.zeros(lanes, np.int64), np.full(lanes, -1), np.full(lanes, -1))

    @classmethod
    def guessed(cls, transitions: int, lengths: Int64, lanes: int) -> LaneState:
        """A guess of the lanes after some sessions, from the last of them: right for sure where these are all.

        It is one of `free`: start and end are -1.

        Args:
            transitions: of all sessions so far. Their sum is true in the guess.
            lengths: clicks of each of the last sessions, assigned to lanes that are level.
            lanes: B.
        """
        level, more = divmod(transitions - int((lengths - 1).sum()), lanes)
        found = cls.empty(lanes)
        found.free += level
        found.free[:more] += 1
        found.advance(lengths, 0)
        return replace(cls.empty(lanes), free=found.free)

    @classmethod
    def from_bytes(cls, raw: bytes) -> LaneState:
        """From what `to_bytes` returned."""
        return cls(*np.frombuffer(raw, "<i8").astype(np.int64).reshape(3, -1))

    def to_bytes(self) -> bytes:
        """24 bytes a lane: free, start and end, little endian."""
        return self.stacked().astype("<i8", copy=False).tobytes()

    def stacked(self) -> Int64:
        """Free, start and end in an array (3, B), from which `LaneState(*array)` makes it again."""
        return np.stack([self.free, self.start, self.end])

    def copy(self) -> LaneState:
        """One that stays as it is when this one advances."""
        return LaneState(self.free.copy(), self.start.copy(), self.end.copy())

    @property
    def step(self) -> int:
        """The first step that is not decided yet: a lane is free there, and no session is left to assign."""
        return int(self.free.min())

    @property
    def padded(self) -> bool:
        """Whether there are fewer sessions than lanes."""
        return bool(self.start.min() < 0)

    def stop(self, tail: Tail) -> int:
        """Where the steps end if no session follows: `step`, or with `pad` where the last lane is free.

        Fewer sessions than lanes are always padded; dropping would leave nothing.
        """
        return int(self.free.max()) if tail == "pad" or self.padded else self.step

    def left(self, step: int) -> int:
        """Transitions that the lanes have from a step on."""
        return int(np.maximum(self.free - step, 0).sum())

    def held(self) -> Runs:
        """What the lanes have left at `step`, as runs that all start there, ascending by place."""
        step = self.step
        lane = np.flatnonzero(self.free > step)
        lane = lane[np.argsort(self.end[lane])]
        count = self.free[lane] - step
        # A session that begins at `step` is held, too: its lane was free there, and another still is.
        return Runs(self.end[lane] - count, count, np.full(len(lane), step), lane, self.start[lane] == step)

    def advance(self, lengths: Int64, place: int) -> Runs:
        """Assign the next sessions, in order; return them as whole runs.

        Args:
            lengths: clicks of each session, 2 or more.
            place: where the first one's first item is in the items of the set.
        """
        count, last = lengths - 1, place + np.cumsum(lengths) - 1
        start, lane = self._few_lanes(count) if len(self.free) < FEW_LANES else self._many_lanes(count)
        # numpy assigns one after the other: of several sessions in a lane the last one stays.
        self.start[lane] = start
        self.end[lane] = last
        return Runs(last - count, count, start, lane, np.ones(len(count), bool))

    def take(self, guess: Int64, after: LaneState) -> bool:
        """Go on to the state that a guess came to, if it was right; say whether it was.

        Args:
            guess: `free` of a `guessed` state.
            after: that state, advanced over the sessions that follow these.
        """
        if right := np.array_equal(self.free, guess):
            taken = after.end >= 0
            self.free[:] = after.free
            self.start[taken] = after.start[taken]
            self.end[taken] = after.end[taken]
        return right

    def _few_lanes(self, counts: Int64) -> tuple[Int64, Int64]:
        """Each session takes the lane with the smallest step * B + lane, from a heap of these numbers.

        Few lanes are seldom free together, so arrays do not help; but chained iterators do it without a step of the
        interpreter: look at the smallest number, add the session to it, put the sum in its place.
        """
        width = len(self.free)
        heap = (self.free * width + np.arange(width)).tolist()
        heapify(heap)
        smallest = map(itemgetter(0), repeat(heap))
        taken = map(heapreplace, repeat(heap), map(add, smallest, (counts * width).tolist()))
        starts, lanes = np.divmod(np.fromiter(taken, np.int64, len(counts)), width)
        steps, ends = np.divmod(np.array(heap), width)
        self.free[ends] = steps
        return starts, lanes

    def _many_lanes(self, counts: Int64) -> tuple[Int64, Int64]:
        """All lanes that are free at a step at once."""
        starts, lanes = np.empty_like(counts), np.empty_like(counts)
        free, done, total = self.free, 0, len(counts)
        while done < total:
            step = np.minimum.reduce(free)  # the wrappers min and flatnonzero cost as much again
            ready = (free == step).nonzero()[0][: total - done]
            stop = done + len(ready)
            starts[done:stop] = step
            lanes[done:stop] = ready
            free[ready] = counts[done:stop] + step
            done = stop
        return starts, lanes


class Before(NamedTuple):
    """A part's number, where its items begin in those of the set, and the state before it."""

    part: int
    place: int
    state: LaneState


class Guess(NamedTuple):
    """A part's number, where its items begin, the guess of `free` before it, and what that state came to after it."""

    part: int
    place: int
    free: Int64
    after: LaneState


def settle(
    state: LaneState, guesses: Iterable[Guess], in_order: Callable[[int, int, int], Iterable[Before]]
) -> Iterator[Before]:
    """The states before all parts. They do not depend on the guesses; how many parts are scanned again does.

    Args:
        state: an empty one; after the last part it is that of the whole set.
        guesses: of the parts, in order.
        in_order: advances `state` over some parts that follow each other, given the numbers of the first and the last one,
            and where the items of the first one begin.
    """
    ahead, at_once = iter(guesses), 1
    for part, place, free, after in ahead:
        known = state.copy()
        if state.take(free, after):
            yield Before(part, place, known)
            at_once = 1
        else:
            last = max((one.part for one in islice(ahead, at_once - 1)), default=part)
            yield from in_order(part, last, place)
            at_once *= 2  # where one guess is wrong, such as beside a giant session, the next ones are often, too


class Arrays(NamedTuple):
    """Consecutive steps; each array int32 of shape (steps, B).

    mask 1 = the lane goes on; 0 = the lane has just taken a new session, so its state must be reset before this step.
    """

    feats: Int32
    targets: Int32
    masks: Int32


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive steps that are not laid out before they are asked for, in the thread that asks.

    Attributes:
        steps: which.
        lanes: B.
        runs: those in these steps, on `items`.
        items: item codes.
        resets: as of `BatchSettings`.
        before: lanes that the last boundary before these steps resets; see `boundaries`.
        idle_from: the step from which each lane has no session; None where all have one.
    """

    steps: range
    lanes: int
    runs: Runs
    items: Int32
    resets: Resets
    before: Int64
    idle_from: Int64 | None

    def arrays(self) -> Arrays:
        """Lay them out."""
        return Arrays(*self._items(), self._masks())

    def after(self) -> Int64:
        """`before` of the block that follows."""
        start, lane = self._new()
        last = self._boundaries(start).max(initial=-1)
        return lane[start == last] if last >= 0 else self.before

    def _items(self) -> tuple[Int32, Int32]:
        """Feats and targets."""
        height, runs = len(self.steps), self.runs
        feats, targets = (np.full(height * self.lanes, idle, np.int32) for idle in (IDLE_FEAT, IDLE_TARGET))
        places = _spread(runs.place, runs.count)
        # Cell = step * B + lane. From one transition of a run to the next it grows by B.
        cells = _spread((runs.start - self.steps.start) * self.lanes + runs.lane, runs.count, by=self.lanes)
        feats[cells] = self.items[places]
        targets[cells] = self.items[places + 1]
        return feats.reshape(height, self.lanes), targets.reshape(height, self.lanes)

    def _masks(self) -> Int32:
        first, height, (start, lane) = self.steps.start, len(self.steps), self._new()
        masks = np.ones((height + (self.resets == "repeated"), self.lanes), np.int32)
        masks[start - first, lane] = 0
        if self.resets == "repeated":
            masks[-1, self.before] = 0  # a row more, for the steps before the first boundary
            source, boundaries = np.full(height, -1), self._boundaries(start) - first
            source[boundaries] = boundaries
            masks = masks[np.maximum.accumulate(source)]
        if self.idle_from is not None:
            masks[np.arange(first, self.steps.stop)[:, None] >= self.idle_from] = IDLE_MASK
        return masks

    def _new(self) -> tuple[Int64, Int64]:
        """Start and lane of sessions that begin. The states of the very first step are zero already: nothing to reset."""
        new = np.flatnonzero(self.runs.begins & (self.runs.start > 0))
        return self.runs.start[new], self.runs.lane[new]

    def _boundaries(self, begun: Int64) -> Int64:
        """The steps before which some lane ended. The original gives every step the mask of the last one of these.

        The first step of a part is always one: a lane is free there, and takes a session or stays idle.

        Args:
            begun: the steps at which sessions begin.
        """
        if self.idle_from is None:
            return begun
        ended = self.idle_from[(self.idle_from >= self.steps.start) & (self.idle_from < self.steps.stop)]
        return np.concatenate([begun, ended])


def fill(
    steps: range, lanes: int, runs: Runs, items: Int32, *, resets: Resets = "once", idle_from: Int64 | None = None
) -> Iterator[Block]:
    """The steps of a part, in blocks of about `CELLS_PER_BLOCK` cells.

    With the state before the part, the runs are `state.held() + state.advance(lengths, place)`, and the steps go from
    what `state.step` was to what it is then. The tail: the steps from `state.step` to `state.stop(tail)`, `state.held()`,
    and `idle_from=state.free`.

    Args:
        steps: which; runs may go on after them, and begin where they stop.
        lanes: B.
        runs: what the part has in the lanes, ascending by start.
        items: item codes of all runs, one run after the other; `place` is not looked at.
        resets: as of `BatchSettings`.
        idle_from: in the tail, the step from which each lane has no session.
    """
    runs, height = runs.packed(), max(1, CELLS_PER_BLOCK // lanes)
    going, before, done = Runs.empty(), np.empty(0, np.int64), 0
    for first in range(0, len(steps), height):
        some = steps[first : first + height]
        begun = int(np.searchsorted(runs.start, some.stop))
        here, going = (going + runs[done:begun]).cut(some.stop)
        block = Block(some, lanes, here, items, resets, before, idle_from)
        before, done = block.after() if resets == "repeated" else before, begun
        yield block


def lay(
    state: LaneState,
    parts: Iterable[tuple[Int32, Int64]],
    *,
    resets: Resets = "once",
    tail: Tail = "drop",
    advance: Advance = lambda _: None,
) -> Iterator[Block]:
    """All steps of a set. In memory: the items of a part, and those that the lanes still need of earlier ones.

    Args:
        state: an empty one; after the last block it is that of the whole set.
        parts: items and lengths of some sessions at a time, the items one session after the other, lengths 2 or more.
        resets: as of `BatchSettings`.
        tail: as of `BatchSettings`.
        advance: told about clicks that are done.
    """
    lanes, place, runs, needed = len(state.free), 0, Runs.empty(), np.empty(0, np.int32)
    for items, lengths in parts:
        first = state.step
        runs += state.advance(lengths, place)
        needed = np.concatenate([needed, items])
        if state.step > first:  # else all runs begin at `first` still
            yield from fill(range(first, state.step), lanes, runs, needed, resets=resets)
            held = state.held()
            # Places ascend in both: each held run is in the last run that does not begin after it.
            of = np.searchsorted(runs.place, held.place, side="right") - 1
            needed = needed[_spread(runs.packed().place[of] + held.place - runs.place[of], held.count + 1)]
            runs = held
            del held, of  # with very many lanes they are large
        place += len(items)
        advance(len(items))
    yield from fill(range(state.step, state.stop(tail)), lanes, runs, needed, resets=resets, idle_from=state.free)


def _spread(begin: Int64, count: Int64, by: int = 1) -> Int64:
    """The numbers begin, begin + by, ..., `count` of each (1 or more), one after the other."""
    ends = np.cumsum(count)
    numbers = np.full(int(count.sum()), by)
    if len(begin):  # a sum of steps: the step to the next begin is from the last number before it
        numbers[0] = begin[0]
        numbers[ends[:-1]] = np.diff(begin) - (count[:-1] - 1) * by
    return np.cumsum(numbers, out=numbers)
