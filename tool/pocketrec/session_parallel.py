"""Session-parallel mini-batches: sessions laid end to end in B lanes, one step taking one click from every lane.

Protocol (Hidasi et al. 2016, section 3.2, and the loader of the original preparation): sessions ascend by id; whenever
lanes run out of clicks, they take the next sessions, lanes in ascending order. A session of L clicks fills L-1 steps of
its lane: feat is the current item, target the next.

That is a queue with B servers. `Lanes` assigns sessions to lanes a step at a time, all lanes that are free at a step at
once; `Blocks` then places all transitions of many sessions with a few array operations. Neither knows files or sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pocketrec.schema import Bool, Int32, Int64

Resets = Literal["once", "repeated"]
Tail = Literal["drop", "pad"]

IDLE_FEAT, IDLE_TARGET, IDLE_MASK = 0, -1, 0
"""What a lane without a session emits (`tail="pad"`)."""

CELLS_A_BLOCK = 1 << 18


@dataclass(frozen=True)
class Block:
    """Consecutive steps; each array int32 of shape (steps, B).

    mask 1 = the lane goes on; 0 = the lane has just taken a new session, so its state must be reset before this step.
    """

    feats: Int32
    targets: Int32
    masks: Int32


class Lanes:
    """Assigns sessions to lanes, in order.

    Attributes:
        free: int64 (B,), the step at which each lane has nothing left.
        step: the first step that is not yet decided: some lane is free there and no session is left to assign.
    """

    def __init__(self, lanes: int) -> None:
        self.free = np.zeros(lanes, np.int64)
        self.step = 0

    def assign(self, lengths: Int64) -> tuple[Int64, Int64]:
        """Assign sessions of the given numbers of transitions (1 or more); return start step and lane of each.

        Stops at the first step where the sessions run out; the next call goes on from there.
        """
        starts, lanes = np.empty_like(lengths), np.empty_like(lengths)
        if len(self.free) == 1:
            return self._assign_one_lane(lengths, starts, lanes)
        free, done, count = self.free, 0, len(lengths)
        while done < count:
            step = np.minimum.reduce(free)  # the wrappers min and flatnonzero cost as much again
            ready = (free == step).nonzero()[0][: count - done]
            stop = done + len(ready)
            starts[done:stop] = step
            lanes[done:stop] = ready
            free[ready] = lengths[done:stop] + step
            done = stop
        self.step = int(free.min())
        return starts, lanes

    def _assign_one_lane(self, lengths: Int64, starts: Int64, lanes: Int64) -> tuple[Int64, Int64]:
        lanes[:] = 0
        ends = self.step + np.cumsum(lengths)
        starts[:] = ends - lengths
        if len(ends):
            self.free[0] = self.step = int(ends[-1])
        return starts, lanes


class Blocks:
    """Turns sessions into blocks of steps; what is not complete yet is carried over.

    Memory: the transitions of the sessions given at once, plus what B lanes still hold.
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
        nothing = np.empty(0, np.int64)
        self._cells, self._feats, self._targets = nothing, nothing.astype(np.int32), nothing.astype(np.int32)
        self._resets = nothing
        self._last_mask = np.ones(lanes, np.int32)

    @property
    def padded(self) -> bool:
        """Whether there are fewer sessions than lanes."""
        return self.sessions < self.width

    def add(self, items: Int32, lengths: Int64) -> Iterator[Block]:
        """Take sessions; yield the steps they complete.

        Args:
            items: int32, the item codes of all sessions, one session after the other.
            lengths: int64, clicks of each session, each 2 or more; they add up to len(items).
        """
        self.sessions += len(lengths)
        transitions = lengths - 1
        starts, lanes = self.lanes.assign(transitions)
        ends = np.cumsum(lengths)
        first = ends - lengths  # of each session, in items
        is_feat = np.ones(len(items), bool)
        is_feat[ends - 1] = False
        feat = np.flatnonzero(is_feat)
        # Cell = step * B + lane. From one transition of a session to the next it grows by B.
        origin = starts * self.width + lanes - first * self.width
        cells = np.repeat(origin, transitions) + feat * self.width
        self._carry(cells, items[feat], items[feat + 1], starts * self.width + lanes)
        yield from self._emit(self.lanes.step, idle_from=None)

    def finish(self) -> Iterator[Block]:
        """No more sessions: with `pad` yield what the lanes still hold, with `drop` count it.

        Fewer sessions than lanes are padded whatever was asked for; dropping would leave nothing.
        """
        if self.tail == "pad" or self.padded:
            yield from self._emit(int(self.lanes.free.max()), idle_from=self.lanes.free)
        self.dropped = len(self._cells)

    def _carry(self, cells: Int64, feats: Int32, targets: Int32, starts: Int64) -> None:
        self._cells = np.concatenate([self._cells, cells])
        self._feats = np.concatenate([self._feats, feats])
        self._targets = np.concatenate([self._targets, targets])
        self._resets = np.concatenate([self._resets, starts])

    def _emit(self, until: int, idle_from: Int64 | None) -> Iterator[Block]:
        while self.steps < until:
            stop = min(until, self.steps + max(1, CELLS_A_BLOCK // self.width))
            yield self._block(stop, idle_from)
            self.steps = stop

    def _block(self, stop: int, idle_from: Int64 | None) -> Block:
        """Steps self.steps up to `stop`; idle_from is the step from which each lane has no session, if that can be."""
        shape = (stop - self.steps, self.width)
        here = self._cells < stop * self.width
        cells = self._cells[here] - self.steps * self.width
        feats, targets = np.full(shape, IDLE_FEAT, np.int32), np.full(shape, IDLE_TARGET, np.int32)
        feats.reshape(-1)[cells] = self._feats[here]
        targets.reshape(-1)[cells] = self._targets[here]
        self.transitions += len(cells)
        later = ~here
        self._cells, self._feats, self._targets = self._cells[later], self._feats[later], self._targets[later]
        return Block(feats, targets, self._masks(stop, idle_from))

    def _masks(self, stop: int, idle_from: Int64 | None) -> Int32:
        masks = np.ones((stop - self.steps, self.width), np.int32)
        here = self._resets < stop * self.width
        resets, self._resets = self._resets[here], self._resets[~here]
        resets = resets[resets >= self.width]  # the first step's states are zero already: nothing to reset
        masks.reshape(-1)[resets - self.steps * self.width] = 0
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
