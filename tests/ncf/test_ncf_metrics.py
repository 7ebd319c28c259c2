"""HR and NDCG: the original's own cases, and an oracle that ranks one user at a time."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf_support import interactions_of
from pocketrec.ncf.network import Network, NetworkSettings
from pocketrec.ncf.producer import EvaluationRows, mask_duplicates
from pocketrec.ncf.ranking import Popularity, full, metrics, ranks, sampled

A, B, C = log(2) / log(3), log(2) / log(4), log(2) / log(5)
EASY = np.array([[2, 0, 1], [1, 0, 2], [2, 1, 0], [3, 4, 2]], np.float32)
TIED = np.array([[2, 2, 3, 1], [1, 0, 2, 3], [2, 3, 2, 0], [2, 4, 2, 3]], np.float32)
ITEMS = np.array([[2, 2, 3, 1], [2, 3, 4, 1], [2, 3, 2, 1], [3, 2, 1, 4]], np.int32)


@pytest.mark.parametrize(
    ("scores", "deduplicated", "top", "hr", "ndcg"),
    [
        (EASY, False, 1, 1 / 4, 1 / 4),
        (EASY, False, 2, 2 / 4, (1 + A) / 4),
        (EASY, False, 3, 4 / 4, (1 + A + 2 * B) / 4),
        (TIED, False, 3, 2 / 4, (1 + A) / 4),
        (TIED, False, 4, 4 / 4, (1 + A + 2 * C) / 4),
        (TIED, True, 3, 4 / 4, (1 + A + 2 * B) / 4),
    ],
)
def test_the_cases_of_the_original(scores: np.ndarray, deduplicated: bool, top: int, hr: float, ndcg: float) -> None:
    found = metrics(ranks(scores, mask_duplicates(ITEMS) if deduplicated else None), top)
    assert found.users == 4
    assert [found.hr, found.ndcg] == pytest.approx([hr, ndcg])


def test_the_positive_loses_ties_and_to_nan() -> None:
    assert ranks(np.array([[1.0, 1.0, 1.0], [0.0, np.nan, 1.0], [0.0, 0.0, np.nan]])).tolist() == [2, 1, 2]


SETTINGS = NetworkSettings(3, (4, 5), n_users=4, n_items=9)


def network(seed: int, settings: NetworkSettings = SETTINGS) -> Network:
    rng = np.random.default_rng(seed)
    return Network(settings, {name: rng.normal(size=shape) for name, shape in settings.shapes.items()})


@pytest.mark.parametrize("kind", ["neumf", "gmf", "mlp"])
@pytest.mark.parametrize("layers", [(4,), (6, 5), (2, 3, 4, 2)])
def test_scores_of_all_items_are_those_of_pairs_and_of_the_formula(kind: str, layers: tuple[int, ...]) -> None:
    settings = NetworkSettings(3, layers, kind, n_users=4, n_items=9)  # type: ignore[arg-type]
    model = network(1, settings)
    whole = model.all_items(np.arange(4, dtype=np.int32))
    pairs = model.pairs(np.repeat(np.arange(4, dtype=np.int32), 9), np.tile(np.arange(9, dtype=np.int32), 4))
    np.testing.assert_allclose(whole.reshape(-1), pairs, rtol=1e-4, atol=1e-5)
    w, mf = {name: array.astype(float) for name, array in model.weights.items()}, settings.mf_dim
    for user, item in ((0, 0), (3, 8), (2, 5)):
        p, q = w["user"][user], w["item"][item]
        hidden = [*p[mf:], *q[mf:]]
        for number in range(1, len(settings.dense) + 1):
            kernel, bias = w[f"kernel_{number}"], w[f"bias_{number}"]
            columns = range(kernel.shape[1])
            hidden = [max(0.0, sum(h * kernel[n, c] for n, h in enumerate(hidden)) + bias[c]) for c in columns]
        joined = [*(p[:mf] * q[:mf]), *hidden]
        expected = (
            sum(value * weight for value, weight in zip(joined, w["kernel_out"][:, 0], strict=True)) + w["bias_out"][0]
        )
        assert whole[user, item] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(rows=st.lists(st.sets(st.integers(1, 8), max_size=6), min_size=4, max_size=4), seed=st.integers(0, 5))
def test_full_ranking_is_brute_force(rows: list[set[int]], seed: int) -> None:
    interactions = interactions_of(rows, 9)
    model = network(seed)
    scores = model.all_items(np.arange(4, dtype=np.int32))
    better = [
        sum(scores[user, item] >= scores[user, 0] for item in range(1, 9) if item not in own)
        for user, own in enumerate(rows)
    ]
    found = full(model, interactions, "test", 3)
    assert found.hr == pytest.approx(np.mean([rank < 3 for rank in better]))
    assert found.ndcg == pytest.approx(np.mean([log(2) / log(rank + 2) if rank < 3 else 0 for rank in better]))


def test_popularity_is_the_train_rows() -> None:
    interactions = interactions_of([{1, 2}, {2, 3}, {2}, {4}], 6)
    assert Popularity(interactions).all_items(np.array([0, 1], np.int32)).tolist() == [[0, 1, 3, 1, 1, 0]] * 2
    rows = EvaluationRows(np.array([3], np.int32), np.array([[2, 5, 1]], np.int32), np.zeros((1, 3), bool))
    assert sampled(Popularity(interactions), [rows], 1, ml_perf=True).hr == 0.0
    assert sampled(Popularity(interactions), [rows], 2, ml_perf=True).hr == 1.0
