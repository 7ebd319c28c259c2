"""Laws of session-parallel batches: what goes in comes out once, in order, however it was handed over."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pocketrec.schema import Int32, Int64
from pocketrec.sessions import session_parallel
from pocketrec.sessions.options import Resets, Tail
from pocketrec.sessions.session_parallel import (
    IDLE_FEAT,
    IDLE_MASK,
    IDLE_TARGET,
    Arrays,
    Before,
    Block,
    Guess,
    LaneState,
    fill,
    lay,
    settle,
)

Sessions = list[list[int]]

RESETS = st.sampled_from(["once", "repeated"])
TAILS = st.sampled_from(["drop", "pad"])


@pytest.fixture(autouse=True, scope="module", params=[1, session_parallel.FEW_LANES], ids=["many", "few"])
def _few_lanes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every law holds for both ways to assign sessions, whatever the number of lanes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_parallel, "FEW_LANES", request.param)
        yield


@st.composite
def many_sessions(draw: st.DrawFn, *, least: int = 1) -> Sessions:
    """Sessions of 2 to 9 clicks. No code occurs twice, so every transition can be told from every other."""
    lengths = draw(st.lists(st.integers(2, 9) | st.just(2), min_size=least, max_size=40))
    codes = iter(range(1, sum(lengths) + 1))
    return [[next(codes) for _ in range(length)] for length in lengths]


@dataclass(frozen=True)
class Result:
    feats: Int32
    targets: Int32
    masks: Int32
    state: LaneState


def cut(sessions: Sessions, cuts: tuple[int, ...]) -> list[tuple[Int32, Int64]]:
    """Items and lengths of the pieces that `cuts` makes of some sessions; some may be empty."""
    bounds = [0, *sorted(cut % (len(sessions) + 1) for cut in cuts), len(sessions)]
    pieces = [sessions[start:stop] for start, stop in itertools.pairwise(bounds)]
    return [
        (np.array([item for one in piece for item in one], np.int32), np.array([len(one) for one in piece], np.int64))
        for piece in pieces
    ]


def joined(blocks: Iterable[Block], lanes: int) -> Arrays:
    found = [Arrays(*(np.empty((0, lanes), np.int32) for _ in range(3)))]
    for block in blocks:
        assert len(block.steps), "a block has a step or more"
        assert block.lanes == lanes
        assert len(block.steps) == 1 or len(block.steps) * lanes <= session_parallel.CELLS_PER_BLOCK
        found.append(block.arrays())
        assert {(array.dtype, array.shape) for array in found[-1]} == {(np.dtype(np.int32), (len(block.steps), lanes))}
    return Arrays(*map(np.concatenate, zip(*found, strict=True)))


def run(
    sessions: Sessions, lanes: int, *, resets: Resets = "once", tail: Tail = "drop", cuts: tuple[int, ...] = ()
) -> Result:
    """All steps, the sessions handed over in the pieces that `cuts` makes of them."""
    state = LaneState.empty(lanes)
    blocks = list(lay(state, cut(sessions, cuts), resets=resets, tail=tail))  # none is laid out before all are there
    return Result(*joined(blocks, lanes), state)


def pairs(sessions: Sessions) -> list[tuple[int, int]]:
    return [pair for session in sessions for pair in itertools.pairwise(session)]


def emitted(result: Result) -> list[tuple[int, int]]:
    busy = result.targets != IDLE_TARGET
    return list(zip(result.feats[busy].tolist(), result.targets[busy].tolist(), strict=True))


@pytest.mark.parametrize("cells", [1, 24, 1 << 20])
@given(
    sessions=many_sessions(),
    lanes=st.integers(1, 12),
    resets=RESETS,
    tail=TAILS,
    cuts=st.lists(st.integers(0, 40), max_size=6).map(tuple),
)
def test_how_the_input_is_cut_does_not_matter(
    cells: int, sessions: Sessions, lanes: int, resets: Resets, tail: Tail, cuts: tuple[int, ...]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = run(sessions, lanes, resets=resets, tail=tail)
        patch.setattr("pocketrec.sessions.session_parallel.CELLS_PER_BLOCK", cells)
        parted = run(sessions, lanes, resets=resets, tail=tail, cuts=cuts)
    for name in ("feats", "targets", "masks"):
        assert np.array_equal(getattr(whole, name), getattr(parted, name)), name
    assert whole.state.to_bytes() == parted.state.to_bytes()


@given(sessions=many_sessions(), lanes=st.integers(1, 12), resets=RESETS)
def test_pad_emits_every_transition_once(sessions: Sessions, lanes: int, resets: Resets) -> None:
    result = run(sessions, lanes, resets=resets, tail="pad")
    assert sorted(emitted(result)) == sorted(pairs(sessions))
    assert result.state.free.sum() == len(pairs(sessions))
    assert result.state.stop("pad") == len(result.feats)
    assert result.state.left(len(result.feats)) == 0
    idle = result.targets == IDLE_TARGET
    assert (result.feats[idle] == IDLE_FEAT).all()
    assert (result.masks[idle] == IDLE_MASK).all()
    assert (np.diff(idle.astype(int), axis=0) >= 0).all(), "an idle lane stays idle"
    assert not idle.all(axis=1).any(), "some lane is busy at each step"


@given(sessions=many_sessions(least=12), lanes=st.integers(1, 12), resets=RESETS)
def test_drop_emits_all_but_what_it_counts_as_dropped(sessions: Sessions, lanes: int, resets: Resets) -> None:
    result, padded = (run(sessions, lanes, resets=resets, tail=tail) for tail in ("drop", "pad"))
    assert len(emitted(result)) == len(set(emitted(result))) == result.targets.size
    assert set(emitted(result)) <= set(pairs(sessions))
    steps = len(result.feats)
    assert steps == result.state.stop("drop") == result.state.step
    assert len(emitted(result)) + result.state.left(steps) == len(pairs(sessions))
    for name in ("feats", "targets", "masks"):
        assert np.array_equal(getattr(result, name), getattr(padded, name)[:steps]), "drop is pad without its tail"
    assert (padded.targets[steps:] == IDLE_TARGET).any(axis=1).all(), "it stops only where a lane finds no session"


@given(sessions=many_sessions(), lanes=st.integers(1, 12), tail=TAILS)
def test_a_lane_goes_on_exactly_where_its_mask_is_1(sessions: Sessions, lanes: int, tail: Tail) -> None:
    result = run(sessions, lanes, tail=tail)
    heads = {session[0] for session in sessions}
    for step in range(len(result.feats)):
        for lane in np.flatnonzero(result.targets[step] != IDLE_TARGET):
            feat, mask = int(result.feats[step, lane]), result.masks[step, lane]
            assert mask == (feat not in heads or step == 0)
            if step and mask:
                assert feat == result.targets[step - 1, lane]


@given(sessions=many_sessions(), lanes=st.integers(1, 12), tail=TAILS)
def test_repeated_masks_only_add_resets_and_move_no_item(sessions: Sessions, lanes: int, tail: Tail) -> None:
    once, repeated = (run(sessions, lanes, resets=resets, tail=tail) for resets in ("once", "repeated"))
    assert np.array_equal(once.feats, repeated.feats)
    assert np.array_equal(once.targets, repeated.targets)
    assert (repeated.masks <= once.masks).all()


def by_hand(sessions: Sessions, lanes: int, resets: Resets, *, padded: bool) -> list[list[tuple[int, int, int]]]:
    """Step after step, (feat, target, mask) of each lane; what a lane holds begins with the click it is at."""
    steps: list[list[tuple[int, int, int]]] = []
    waiting, held, masks = iter(sessions), [[0]] * lanes, [1] * lanes
    while True:
        is_boundary = any(len(clicks) == 1 for clicks in held)  # a lane is at the last click of its session
        took = [len(clicks) <= 1 for clicks in held]
        held = [next(waiting, []) if ended else clicks for ended, clicks in zip(took, held, strict=True)]
        if not any(held) or not (padded or all(held)):
            return steps
        if is_boundary or resets == "once":
            masks = [int(bool(clicks) and not (new and steps)) for new, clicks in zip(took, held, strict=True)]
        codes = [(clicks[0], clicks[1]) if clicks else (IDLE_FEAT, IDLE_TARGET) for clicks in held]
        steps.append([(feat, target, mask) for (feat, target), mask in zip(codes, masks, strict=True)])
        held = [clicks[1:] for clicks in held]


@given(sessions=many_sessions(), lanes=st.integers(1, 12), resets=RESETS, tail=TAILS)
def test_every_number_is_that_of_a_step_by_step_account(sessions: Sessions, lanes: int, resets: Resets, tail: Tail) -> None:
    result = run(sessions, lanes, resets=resets, tail=tail)
    expected = by_hand(sessions, lanes, resets, padded=tail == "pad" or len(sessions) < lanes)
    found = np.stack([result.feats, result.targets, result.masks], axis=-1)
    assert found.tolist() == [[list(cell) for cell in step] for step in expected]


@given(sessions=many_sessions(), resets=RESETS, tail=TAILS)
def test_one_lane_is_the_sessions_end_to_end(sessions: Sessions, resets: Resets, tail: Tail) -> None:
    result = run(sessions, 1, resets=resets, tail=tail)
    assert emitted(result) == pairs(sessions)
    assert result.state.left(len(result.feats)) == 0
    if resets == "once":
        masks = [int(k > 0) for session in sessions for k in range(len(session) - 1)]
        assert result.masks.ravel().tolist() == [1, *masks[1:]]


@given(sessions=many_sessions(), lanes=st.integers(1, 12))
def test_sessions_are_taken_in_order_lanes_ascending(sessions: Sessions, lanes: int) -> None:
    """Reading the starts row by row gives the sessions in order."""
    result = run(sessions, lanes, tail="pad")
    number = {session[0]: index for index, session in enumerate(sessions)}
    starts = [number[feat] for row in result.feats.tolist() for feat in row if feat in number]
    assert starts == list(range(len(sessions)))


@given(sessions=many_sessions(), lanes=st.integers(41, 60), tail=TAILS)
def test_fewer_sessions_than_lanes_are_padded_whatever_was_asked(sessions: Sessions, lanes: int, tail: Tail) -> None:
    result = run(sessions, lanes, tail=tail)
    assert result.state.padded
    assert sorted(emitted(result)) == sorted(pairs(sessions))
    assert len(result.feats) == max(map(len, sessions)) - 1


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_no_sessions_make_no_steps(tail: Tail) -> None:
    result = run([], 4, tail=tail)
    assert result.feats.shape == (0, 4)
    assert result.state.to_bytes() == LaneState.empty(4).to_bytes()


@given(lengths=st.lists(st.integers(2, 9), min_size=1, max_size=60), lanes=st.integers(1, 12), half=st.integers(0, 60))
def test_lanes_are_a_queue_with_many_servers(lengths: list[int], lanes: int, half: int) -> None:
    """Each session goes to the lane that is free first, the lowest of several."""
    state, by_hand = LaneState.empty(lanes), [(0, -1, -1)] * lanes
    halves = [np.array(some, np.int64) for some in (lengths[:half], lengths[half:])]
    runs = state.advance(halves[0], 0) + state.advance(halves[1], int(halves[0].sum()))
    place = 0
    for row, length in enumerate(lengths):
        step, lane = min((free, number) for number, (free, _, _) in enumerate(by_hand))
        assert (runs.start[row], runs.lane[row], runs.place[row], runs.count[row]) == (step, lane, place, length - 1)
        place += length
        by_hand[lane] = step + length - 1, step, place - 1
    assert list(zip(state.free.tolist(), state.start.tolist(), state.end.tolist(), strict=True)) == by_hand
    assert state.step == min(free for free, _, _ in by_hand)
    assert state.padded == (len(lengths) < lanes)
    assert runs.begins.all()


GIANT = 400
"""Clicks of a session that is longer than all others of some parts together."""


@given(
    pattern=st.lists(st.integers(2, 9) | st.sampled_from([2, GIANT]), min_size=1, max_size=30),
    sizes=st.lists(st.integers(0, 25), min_size=4, max_size=16),
    lanes=st.integers(1, 12),
    replayed=st.integers(0, 60),
)
@example(pattern=[4], sizes=[20] * 12, lanes=5, replayed=7)  # lanes never forget sessions of one length
def test_a_scan_from_guesses_is_the_scan_in_order(pattern: list[int], sizes: list[int], lanes: int, replayed: int) -> None:
    """Whatever the lengths, with empty parts, parts shorter than what is replayed, and fewer sessions than lanes."""
    lengths = np.split(np.resize(np.array(pattern), sum(sizes)), np.cumsum(sizes)[:-1])
    places = [0, *np.cumsum([int(own.sum()) for own in lengths]).tolist()]
    true, expected, guesses, before = LaneState.empty(lanes), list[bytes](), list[Guess](), np.empty(0, np.int64)
    for part, own in enumerate(lengths):
        expected.append(true.to_bytes())
        transitions = int((before - 1).sum())
        after = LaneState.guessed(transitions, before[max(0, len(before) - replayed) :], lanes)
        assert after.free.sum() == transitions
        assert replayed < len(before) or np.array_equal(after.free, true.free), "right for sure if all are replayed"
        guesses.append(Guess(part, places[part], after.free.copy(), after))
        for state in (after, true):
            state.advance(own, places[part])
        before = np.concatenate([before, own])
    state = LaneState.empty(lanes)

    def in_order(first: int, last: int, place: int) -> Iterator[Before]:
        assert place == places[first]
        for part in range(first, last + 1):
            yield Before(part, places[part], state.copy())
            state.advance(lengths[part], places[part])

    found = list(settle(state, guesses, in_order))
    assert [(one.part, one.place, one.state.to_bytes()) for one in found] == [
        (part, places[part], expected[part]) for part in range(len(sizes))
    ]
    assert state.to_bytes() == true.to_bytes()


def test_lanes_forget_how_they_began() -> None:
    """Without giants a guess is right some hundred sessions a lane later; with one, not before all lanes are past it."""
    lanes, rng = 8, np.random.default_rng(0)
    lengths = rng.integers(2, 10, 4000)
    true = LaneState.empty(lanes)
    true.advance(lengths, 0)
    transitions = int((lengths - 1).sum())
    assert np.array_equal(LaneState.guessed(transitions, lengths[-400 * lanes :], lanes).free, true.free)
    lengths[0] = transitions
    true = LaneState.empty(lanes)
    true.advance(lengths, 0)
    found = LaneState.guessed(int((lengths - 1).sum()), lengths[-400 * lanes :], lanes)
    assert not np.array_equal(found.free, true.free)


def in_parts(
    sessions: Sessions, lanes: int, resets: Resets, tail: Tail, cuts: tuple[int, ...], order: Sequence[int]
) -> list[Arrays]:
    """The parts as other machines lay them: each from the bytes of its state, its sessions, and items that it is sent."""
    parts = [*cut(sessions, cuts), (np.empty(0, np.int32), np.empty(0, np.int64))]  # the tail has no sessions
    everything = np.concatenate([items for items, _ in parts])
    scanned, before, place = LaneState.empty(lanes), [], 0
    for items, lengths in parts:
        before.append((scanned.to_bytes(), place))
        scanned.advance(lengths, place)
        place += len(items)
    found: dict[int, Arrays] = {}
    for part in sorted(range(len(parts)), key=lambda part: (order[part % len(order)], part)):
        (items, lengths), (raw, place) = parts[part], before[part]
        assert len(raw) == 24 * lanes
        state = LaneState.from_bytes(raw)
        kept, first, held = state.copy(), state.step, state.held()
        assert (np.diff(held.place) > 0).all(), "whoever has the items finds them in order"
        assert (held.place + held.count < place).all(), "they are of earlier parts"
        runs = held + state.advance(lengths, place)
        assert kept.to_bytes() == raw, "a copy stays as it is"
        sent = [everything[at : at + count + 1] for at, count in zip(held.place, held.count, strict=True)]
        is_tail = part == len(parts) - 1
        steps = range(first, state.stop(tail) if is_tail else state.step)
        idle_from = state.free if is_tail else None
        blocks = fill(steps, lanes, runs, np.concatenate([*sent, items]), resets=resets, idle_from=idle_from)
        found[part] = joined(blocks, lanes)
        assert len(found[part].feats) == len(steps)
    return [found[part] for part in range(len(parts))]


@pytest.mark.parametrize("cells", [1, 24, 1 << 20])
@given(
    sessions=many_sessions() | st.integers(1, 40).map(lambda count: [[1, 2]] * count),  # many ties
    lanes=st.integers(1, 12),
    resets=RESETS,
    tail=TAILS,
    cuts=st.lists(st.integers(0, 40), max_size=6).map(tuple),
    order=st.lists(st.integers(0, 9), min_size=1, max_size=7),
)
@example(  # the last session begins beside a lane that turns idle, and goes on where another one does
    sessions=[[1, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14, 15]],
    lanes=3,
    resets="repeated",
    tail="pad",
    cuts=(),
    order=[0],
)
def test_each_part_can_be_filled_alone(
    cells: int, sessions: Sessions, lanes: int, resets: Resets, tail: Tail, cuts: tuple[int, ...], order: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_parallel, "CELLS_PER_BLOCK", cells)
        parts = in_parts(sessions, lanes, resets, tail, cuts, order)
    expected = by_hand(sessions, lanes, resets, padded=tail == "pad" or len(sessions) < lanes)
    assert np.stack([np.concatenate(one) for one in zip(*parts, strict=True)], axis=-1).tolist() == [
        [list(cell) for cell in step] for step in expected
    ]


def test_a_tie_of_lanes_cut_between_two_parts() -> None:
    """Three lanes are free at step 1; one takes the first part's last session, two those of the second."""
    sessions = [[1, 2], [3, 4], [5, 6], [7, 8, 9], [10, 11], [12, 13]]
    parts = in_parts(sessions, 3, "repeated", "drop", (4,), [0])
    assert [part.feats.tolist() for part in parts] == [[[1, 3, 5]], [[7, 10, 12]], []]
    assert [part.masks.tolist() for part in parts] == [[[1, 1, 1]], [[0, 0, 0]], []]


def test_a_session_of_many_blocks_alone_at_the_end() -> None:
    """What the lanes have left is laid out block by block, not at once."""
    state, length = LaneState.empty(64), 1 << 16
    items = np.arange(2 + length, dtype=np.int32)
    sizes = [arrays.feats.size for arrays in map(Block.arrays, lay(state, [(items, np.array([2, length]))]))]
    assert sum(sizes) == 64 * (length - 1)
    assert max(sizes) == session_parallel.CELLS_PER_BLOCK
