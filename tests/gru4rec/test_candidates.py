"""The distinct candidates of a step against a walk over its places, one at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.gru4rec import candidates
from pocketrec.gru4rec.candidates import NEVER, Finder

SUPPORT = np.array([1, 4, 9, 2, 0, 30, 7])


def slow_candidates(targets: list[int], inputs: list[int], drawn: list[int], alpha: float, logq: float) -> dict[int, float]:
    """Weight of each item of one step."""
    found = dict.fromkeys([*(max(one, 0) for one in targets), *inputs, *drawn], 0.0)
    for items, power in ((targets, logq), (drawn, alpha * logq)):
        for item in items:
            if item >= 0:
                found[item] += max(int(SUPPORT[item]), 1) ** -power
    return found


def rows(steps: int, columns: int, lowest: int = 0) -> st.SearchStrategy[list[list[int]]]:
    row = st.lists(st.integers(lowest, len(SUPPORT) - 1), min_size=columns, max_size=columns)
    return st.lists(row, min_size=steps, max_size=steps)


@given(data=st.data(), steps=st.integers(1, 5), lanes=st.integers(1, 4), drawn=st.integers(1, 6), looked_up=st.booleans())
def test_candidates_are_those_of_a_slow_walk(
    data: st.DataObject, steps: int, lanes: int, drawn: int, looked_up: bool
) -> None:
    targets = data.draw(rows(steps, lanes, lowest=-1))
    inputs, extra = data.draw(rows(steps, lanes if looked_up else 0)), data.draw(rows(steps, drawn))
    alpha, logq = data.draw(st.sampled_from([(0.75, 1.0), (0.5, 0.0), (0.0, 0.5)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "CELLS", 4 * len(SUPPORT))  # two steps at a time
        found = Finder(SUPPORT, alpha, logq).find(*(np.array(some, np.int32) for some in (targets, inputs, extra)))
    begins, cuts, ends = found.bounds.T
    assert (begins[0], ends[-1]) == (0, len(found.items))
    assert begins[1:].tolist() == ends[:-1].tolist()
    for step in range(steps):
        here = slice(begins[step], ends[step])
        items = found.items[here].tolist()
        wanted = slow_candidates(targets[step], inputs[step], extra[step], alpha, logq)
        named = {max(item, 0) for item in targets[step]} | set(inputs[step])
        assert items == [*sorted(named), *sorted(wanted.keys() - named)]
        assert cuts[step] - begins[step] == max(len(named), len(items) // 2)
        logs = [math.log(wanted[item]) if wanted[item] else NEVER for item in items]
        assert found.log_weights[here].tolist() == pytest.approx(logs, abs=1e-6)
        assert [items[place] for place in found.targets[step]] == [max(item, 0) for item in targets[step]]
        assert [items[place] for place in found.inputs[step]] == inputs[step]
