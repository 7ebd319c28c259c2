"""Weighed neighbours against a slow oracle, on random small cases with many ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neighbour_oracle import SlowNeighbours
from pocketrec.lite.neighbours import METHODS, NEVER, Neighbourhood, SessionIndex, WeighedNeighbours

N = 7
SESSIONS = st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=6), min_size=1, max_size=12)
LENGTHS = st.sampled_from([0.5, 1.0, 3.0, NEVER])
NEIGHBOURHOODS = st.builds(
    Neighbourhood,
    neighbours=st.integers(1, 5),
    newest=st.integers(1, 5),
    shape=st.sampled_from(["exponential", "linear"]),
    inside=LENGTHS,
    norm=st.sampled_from([0.0, 0.5, 1.0]),
    recency=LENGTHS,
    match=LENGTHS,
    near=LENGTHS,
    idf=st.sampled_from([0.0, 1.0]),
    again=st.sampled_from([0.0, 0.5, 1.0]),
)


def indexed(train: list[list[int]], times: list[int]) -> SessionIndex:
    items = np.array([item for one in train for item in one], np.int32)
    return SessionIndex.of(items, np.array([len(one) for one in train]), np.array(times), N)


@given(SESSIONS, st.lists(st.integers(0, 3), min_size=12, max_size=12), SESSIONS, NEIGHBOURHOODS)
@settings(max_examples=60)
def test_scores_are_the_oracle_s(
    train: list[list[int]], days: list[int], now: list[list[int]], chosen: Neighbourhood
) -> None:
    times = sorted(day * 86_400_000 for day in days[: len(train)])
    score, slow = WeighedNeighbours(indexed(train, times), chosen), SlowNeighbours(train, times, N)
    for session in now:  # one after the other in the same buffers
        assert score(session) == pytest.approx(slow.scores(session, chosen), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_of_equally_like_sessions_the_newest_count(method: str) -> None:
    train = [[0, 1], [0, 2], [0, 3], [0, 4]]
    score = WeighedNeighbours(indexed(train, [5, 5, 5, 5]), replace(METHODS[method], neighbours=2))
    assert np.flatnonzero(score([0])).tolist() == [0, 3, 4]


def test_of_an_item_only_its_newest_sessions_are_looked_at() -> None:
    train = [[0, 1], [5, 6], [0, 2], [0, 3]]
    index = indexed(train, [1, 2, 3, 4])
    assert np.flatnonzero(WeighedNeighbours(index, Neighbourhood(newest=2))([0])).tolist() == [0, 2, 3]
    assert not WeighedNeighbours(index, Neighbourhood())([4]).any(), "no session holds it"
