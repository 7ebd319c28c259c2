"""Work done ahead: the same results in the same order, few of them at a time, and errors in their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apart import HANG
from pocketrec.parallel import ahead


@given(st.lists(st.integers(), max_size=30), st.integers(1, 4))
def test_it_is_a_map(things: list[int], threads: int) -> None:
    assert list(ahead(lambda thing: thing * 2, things, threads)) == [thing * 2 for thing in things]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_it_draws_no_more_than_it_may_hold(threads: int) -> None:
    """What grows with the rows must not pile up behind a slow consumer."""
    drawn = 0

    def things() -> Iterator[int]:
        nonlocal drawn
        for number in range(50):
            drawn += 1
            yield number

    for used, result in enumerate(ahead(lambda number: number, things(), threads)):
        assert result == used
        assert drawn - used <= max(2, threads)
    assert drawn == 50


def test_another_result_is_made_while_one_is_used() -> None:
    made = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            made.set()
        return number

    results = ahead(work, range(5), threads=1)
    assert next(results) == 0
    assert made.wait(HANG)
    results.close()  # type: ignore[attr-defined]


def test_an_error_comes_in_its_turn_and_nothing_after_it() -> None:
    done: list[int] = []
    before = set(threading.enumerate())

    def work(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError
        return number

    with pytest.raises(ZeroDivisionError):
        done.extend(ahead(work, range(100)))
    assert done == [0, 1, 2]
    assert set(threading.enumerate()) <= before
