"""Laws of session-parallel batches: what goes in comes out once, in order, however it was handed over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.schema import Int32
from pocketrec.sessions import session_parallel
from pocketrec.sessions.options import Resets, Tail
from pocketrec.sessions.session_parallel import IDLE_FEAT, IDLE_MASK, IDLE_TARGET, Blocks, Lanes

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
    blocks: Blocks


def run(
    sessions: Sessions, lanes: int, *, resets: Resets = "once", tail: Tail = "drop", cuts: tuple[int, ...] = ()
) -> Result:
    """All steps, the sessions handed over in the pieces that `cuts` makes of them."""
    blocks = Blocks(lanes, resets=resets, tail=tail)
    found = []
    bounds = [0, *sorted(cut % (len(sessions) + 1) for cut in cuts), len(sessions)]
    for start, stop in itertools.pairwise(bounds):
        piece = sessions[start:stop]
        if piece:
            items = np.array([item for session in piece for item in session], np.int32)
            found += list(blocks.add(items, np.array([len(session) for session in piece], np.int64)))
    found += list(blocks.finish())
    nothing = np.empty((0, lanes), np.int32)
    for block in found:
        assert len(block.feats), "a block has a step or more"
        for array in (block.feats, block.targets, block.masks):
            assert (array.dtype, array.shape) == (np.dtype(np.int32), (len(block.feats), lanes))
    return Result(
        np.concatenate([nothing, *(block.feats for block in found)]),
        np.concatenate([nothing, *(block.targets for block in found)]),
        np.concatenate([nothing, *(block.masks for block in found)]),
        blocks,
    )


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
        cut = run(sessions, lanes, resets=resets, tail=tail, cuts=cuts)
    for name in ("feats", "targets", "masks"):
        assert np.array_equal(getattr(whole, name), getattr(cut, name)), name
    for name in ("sessions", "steps", "transitions", "dropped", "padded"):
        assert getattr(whole.blocks, name) == getattr(cut.blocks, name), name


@given(sessions=many_sessions(), lanes=st.integers(1, 12), resets=RESETS)
def test_pad_emits_every_transition_once(sessions: Sessions, lanes: int, resets: Resets) -> None:
    result = run(sessions, lanes, resets=resets, tail="pad")
    assert sorted(emitted(result)) == sorted(pairs(sessions))
    assert result.blocks.transitions == len(pairs(sessions))
    assert result.blocks.dropped == 0
    assert result.blocks.steps == len(result.feats)
    idle = result.targets == IDLE_TARGET
    assert (result.feats[idle] == IDLE_FEAT).all()
    assert (result.masks[idle] == IDLE_MASK).all()
    assert (np.diff(idle.astype(int), axis=0) >= 0).all(), "an idle lane stays idle"
    assert not idle.all(axis=1).any(), "some lane is busy at each step"


@given(sessions=many_sessions(least=12), lanes=st.integers(1, 12), resets=RESETS)
def test_drop_emits_all_but_what_it_counts_as_dropped(sessions: Sessions, lanes: int, resets: Resets) -> None:
    result, padded = (run(sessions, lanes, resets=resets, tail=tail) for tail in ("drop", "pad"))
    assert len(emitted(result)) == len(set(emitted(result))) == result.targets.size == result.blocks.transitions
    assert set(emitted(result)) <= set(pairs(sessions))
    assert result.blocks.transitions + result.blocks.dropped == len(pairs(sessions))
    steps = len(result.feats)
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
    assert result.blocks.dropped == 0
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
    assert result.blocks.padded
    assert sorted(emitted(result)) == sorted(pairs(sessions))
    assert len(result.feats) == max(map(len, sessions)) - 1


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_no_sessions_make_no_steps(tail: Tail) -> None:
    result = run([], 4, tail=tail)
    assert result.feats.shape == (0, 4)
    assert (result.blocks.sessions, result.blocks.steps, result.blocks.dropped) == (0, 0, 0)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=60), lanes=st.integers(1, 12), cut=st.integers(0, 60))
def test_lanes_are_a_queue_with_many_servers(lengths: list[int], lanes: int, cut: int) -> None:
    """Each session goes to the lane that is free first, the lowest of several."""
    queue, free = Lanes(lanes), [0] * lanes
    given_lengths = np.array(lengths, np.int64)
    halves = [queue.assign(half) for half in (given_lengths[:cut], given_lengths[cut:]) if len(half)]
    for length, start, lane in zip(
        lengths, *(np.concatenate(column).tolist() for column in zip(*halves, strict=True)), strict=True
    ):
        assert (start, lane) == min((step, number) for number, step in enumerate(free))
        free[lane] += length
    assert queue.free.tolist() == free
    assert queue.step == min(free)
