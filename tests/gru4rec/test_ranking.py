"""Ranks, recall and MRR against a slow oracle on scores with many ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pocketrec.errors import ModelError, SettingsError
from pocketrec.gru4rec.options import RankSettings, Ties
from pocketrec.gru4rec.ranking import Ranking, ranks_of
from pocketrec.schema import Float32
from ranking_oracle import slow_rank

MODES: tuple[Ties, ...] = ("standard", "median", "conservative")
few_values = arrays(np.float32, st.tuples(st.integers(1, 6), st.just(7)), elements=st.integers(-2, 2).map(float))


@given(scores=few_values, data=st.data(), ties=st.sampled_from(MODES))
def test_recall_and_mrr_are_the_oracle_s(scores: Float32, data: st.DataObject, ties: Ties) -> None:
    target = np.array(data.draw(st.lists(st.integers(-1, 6), min_size=len(scores), max_size=len(scores))), np.int32)
    ranking = Ranking((1, 3, 7), ties)
    ranking.add(scores[:1], target[:1])
    ranking.add(scores[1:], target[1:])
    ranks = [slow_rank(row.tolist(), item, ties) for row, item in zip(scores, target, strict=True) if item >= 0]
    found = ranking.accuracy("a model")
    assert ranking.events == len(ranks)
    for n in (1, 3, 7):
        assert found.recall[n] == pytest.approx(sum(rank <= n for rank in ranks) / max(len(ranks), 1))
        assert found.mrr[n] == pytest.approx(sum(1 / rank for rank in ranks if rank <= n) / max(len(ranks), 1))


def test_the_tie_modes_differ_where_they_must() -> None:
    level = np.zeros((1, 9), np.float32)
    assert [ranks_of(level, np.array([4], np.int32), ties)[0] for ties in MODES] == [1, 5, 9]
    apart = np.arange(9, dtype=np.float32)[None]
    assert {ranks_of(apart, np.array([4], np.int32), ties)[0] for ties in MODES} == {5}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ModelError, match="not finite"):
        Ranking().add(np.array([[0, bad]], np.float32), np.array([0], np.int32))


@pytest.mark.parametrize("cutoffs", [(), (0,), (5, -1)])
def test_cutoffs_that_measure_nothing_are_refused(cutoffs: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError):
        RankSettings(cutoffs=cutoffs)
