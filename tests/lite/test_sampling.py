"""The sampler: its stream, its distribution, its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.errors import SettingsError
from pocketrec.lite.sampling import BLOCK, Sampler


@given(cuts=st.lists(st.integers(0, BLOCK), max_size=4), seed=st.integers(0, 2**32))
def test_the_stream_does_not_depend_on_the_draws(cuts: list[int], seed: int) -> None:
    whole, parts = Sampler([3, 1, 5], seed=seed), Sampler([3, 1, 5], seed=seed)
    drawn = [parts.draw(count) for count in cuts]
    assert all(part.dtype == np.int32 and len(part) == count for part, count in zip(drawn, cuts, strict=True))
    np.testing.assert_array_equal(np.concatenate([np.empty(0, np.int32), *drawn]), whole.draw(sum(cuts)))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.75, 1.0])
def test_items_come_as_often_as_they_should(alpha: float) -> None:
    support = np.array([1, 0, 1000, 30, 1, 0])
    sampler = Sampler(support, alpha, seed=3)
    drawn = np.bincount(sampler.draw(400_000), minlength=6)
    weights = support.astype(float) ** alpha
    expected = 400_000 * weights / weights.sum()
    assert np.all(np.abs(drawn - expected) <= 5 * np.sqrt(expected))
    np.testing.assert_allclose(sampler.probabilities.sum(), 1)
    assert alpha == 0 or drawn[[1, 5]].tolist() == [0, 0]


@given(support=st.lists(st.sampled_from([0, 1, 2, 10**6]), min_size=1, max_size=300).filter(any), seed=st.integers(0, 99))
def test_what_is_drawn_is_what_a_binary_search_finds(support: list[int], seed: int) -> None:
    """Also where one item has nearly all of the probability and the others crowd into what is left."""
    numbers = np.random.default_rng(seed).random(BLOCK)
    sampler = Sampler(support, 1.0, seed)
    bounds = np.cumsum(sampler.probabilities)
    bounds[np.flatnonzero(support)[-1] :] = 1.0
    np.testing.assert_array_equal(sampler.draw(BLOCK), np.searchsorted(bounds, numbers, side="right"))


@pytest.mark.parametrize("support", [[], [0, 0], [-1, 2], [np.nan, 1], [[1, 2]]])
def test_what_cannot_be_drawn_from(support: list[float]) -> None:
    with pytest.raises(SettingsError, match="no item can be drawn"):
        Sampler(support)
