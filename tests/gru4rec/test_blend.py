"""The weight of a blend, chosen on train_valid: against every weight tried slowly."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.errors import SettingsError
from pocketrec.gru4rec.baselines import Baseline
from pocketrec.gru4rec.blend import WEIGHTS, choose_weight
from pocketrec.gru4rec.options import RankSettings
from pocketrec.lite.neighbours import METHODS, SessionIndex, WeighedNeighbours
from pocketrec.schema import Float32
from ranking_oracle import slow_rank

N = 6
TABLE = np.random.default_rng(1).normal(size=(N, N)).astype(np.float32)
TRAIN = np.random.default_rng(2).integers(0, N, (12, 3)).astype(np.int32)
VALID = np.random.default_rng(3).integers(0, N, (5, 4)).astype(np.int32)


def network() -> Baseline:
    return Baseline("network", lambda feat: TABLE[feat], lanes=2)


def slow_mrr(weight: float, own: bool, score: WeighedNeighbours) -> float:
    found = []
    for session in VALID.tolist():
        for stop in range(1, len(session)):
            logits, likes = TABLE[session[stop - 1]].astype(float), score(session[:stop]).astype(float)
            shares: Float32 = np.exp(logits) / np.exp(logits).sum()
            likes /= likes.sum() or 1
            both = (1 - weight) * np.log(shares) + weight * np.log(likes + 1e-4)
            both[[] if own else session[:stop]] = -99
            rank = slow_rank(both.astype(np.float32).tolist(), session[stop], "conservative")
            found.append((rank <= 20) / rank)
    return float(np.mean(found))


def test_the_best_weight_is_chosen() -> None:
    index = SessionIndex.of(TRAIN.ravel(), np.full(12, 3), np.arange(12), N)
    score = WeighedNeighbours(index, METHODS["STAN"])
    chosen = choose_weight(network(), score, [(VALID.ravel(), np.full(5, 4))])
    best = {(weight, own): slow_mrr(weight, own, score) for weight in WEIGHTS for own in (True, False)}
    assert best[chosen.weight, chosen.own] == pytest.approx(max(best.values()))


def test_a_weight_is_a_share_and_a_method_is_known() -> None:
    with pytest.raises(SettingsError, match="blend is 'tan'"):
        RankSettings(blend="tan")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="blend_weight is 2"):
        RankSettings(blend_weight=2)
