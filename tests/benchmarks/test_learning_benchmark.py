"""benchmarks/people.py and on_device.py: users, folds, ranks and intervals are what they say, on logs of a few clicks."""

from __future__ import annotations

import importlib
import lzma
import zipfile
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from lite_support import models
from pocketrec.gru4rec.ranking import ranks_of
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.layout import Dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MOVIELENS = "userId,movieId,rating,timestamp\n1,7,4.0,90\n1,9,3.0,80\n10,7,1.0,5\n2,9,5.0,5\n2,8,5.0,4\n"
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n5\t3\t1\t20\n5\t4\t2\t10\n"

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="benchmarks/ is not part of a source distribution")


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("people")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("on_device")


@pytest.fixture
def model() -> OnDeviceModel:
    return OnDeviceModel(Dataset(models() / "shared").tflite(4), threads=1)


def test_logs_of_every_form_are_read(people: ModuleType, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        archive.writestr("ml/ratings.csv", MOVIELENS)
    (tmp_path / "a.inter").write_text(INTER)
    (tmp_path / "tmall.csv.xz").write_bytes(lzma.compress(b"3,9\n0,0:1@2\n1,8\n"))
    (tmp_path / "log.csv").write_text(
        "user,session,time,item\n4,2,2020-01-02T00:00:00.000Z,8\n3,1,2020-01-01T00:00:02.000Z,6\n"
        "4,9,2020-01-01T00:00:00.000Z,7\n3,1,2020-01-01T00:00:01.000Z,5\n"
    )
    found = {name: people.read_people(tmp_path / name) for name in ("ml.zip", "a.inter", "tmall.csv.xz", "log.csv")}
    assert found["ml.zip"].users == [[["9", "7"]], [["8", "9"]], [["7"]]]
    assert found["a.inter"].users == [[["4", "3"]]]
    assert found["tmall.csv.xz"].users == [[["0", "1"], ["2"]], [["8"]]]
    assert found["log.csv"].users == [[["5", "6"]], [["7"], ["8"]]]
    assert [one.carry for one in found.values()] == [True, True, False, False]


def test_folds_share_no_user_and_leave_none_out(people: ModuleType) -> None:
    users = [[[str(number)]] for number in range(20)]
    everyone = people.People("log", users, carry=False)
    folds = [everyone.fold(fold, 3) for fold in range(people.FOLDS)]
    assert sorted(int(user[0][0]) for inside, _ in folds for user in inside) == list(range(20))
    for inside, others in folds:
        assert sorted(inside + others) == sorted(users)
    assert everyone.fold(1, 3) == folds[1]
    assert everyone.fold(1, 4) != folds[1]


def test_the_log_of_the_others_is_theirs_in_their_order(people: ModuleType, tmp_path: Path) -> None:
    others = people.read_people(synth(tmp_path / "s.csv", SynthSettings(clicks=500, users=20)).path).users
    assert people.write_log(others, tmp_path / "others.csv") == sum(map(len, others))
    log = pl.read_csv(tmp_path / "others.csv", schema_overrides={"item": pl.String})
    assert log["time"].is_sorted()
    found = log.group_by("session", maintain_order=True).agg("item")["item"].to_list()
    assert found == [session for user in others for session in user]


def test_a_half_is_learned_and_the_other_asked(script: ModuleType, model: OnDeviceModel) -> None:
    a, b, c, d = model.items.ids[:4]
    sessions = [[a, b, c], ["unknown"], [b, d, a], [c], [c, d], [a, "unknown", b]]
    [user] = script.users_of([sessions], model, carry=False, repeats=True)
    assert user.learned == [[a, b, c], [b, d, a]]
    assert user.asked == [[c, d], [a, b]], "sessions without a next click are not asked"
    assert user.repeats
    few = [[a, b], [b, c], [c, d], [d, a]]
    assert not list(script.users_of([few], model, carry=False, repeats=False)), "2 next clicks are too few to learn"
    apart = [[a, b, c], [d, *model.items.ids[5:8]], [a, b], [c, d]]
    assert len(list(script.users_of([apart], model, carry=False, repeats=False))) == 1
    assert not list(script.users_of([apart], model, carry=False, repeats=True))
    [whole] = script.users_of([[[a, b, c, d, a, b, c, d, a, b]]], model, carry=True, repeats=False)
    assert (whole.learned, whole.asked) == ([[a, b, c, d, a]], [[b, c, d, a, b]])


def test_ranks_are_those_of_infer(script: ModuleType, model: OnDeviceModel) -> None:
    codes = np.arange(9)
    state, wanted = model.fresh_state(), []
    for code, target in pairwise(codes):
        shares, state = model.infer(np.full(4, code, np.int32), state)
        rank = ranks_of(shares[:1], np.array([target]), "conservative")[0]
        wanted.append(rank if rank <= script.TOP else np.inf)
    session = [model.items.ids[code] for code in codes]
    assert script.ranks_of(model, script.User([], [session])) == wanted
    again = script.ranks_of(model, script.User([], [[*session[:3], session[0]]]), hide=True)
    assert again[-1] == np.inf, "what was seen is hidden"


def test_recipes_begin_with_the_model_as_shipped(script: ModuleType, model: OnDeviceModel) -> None:
    shipped, ids = model.save(), model.items.ids
    user = script.User([[*ids[:6]]], [[*ids[3:9]]])
    other = script.User([[*ids[20:30]]], [])
    bench = script.Bench(model)
    once, again = ({(one.recipe, one.seen): one for one in bench.user(7, user, other, beside=True)} for _ in range(2))
    assert once == again
    assert {one.asked for one in once.values()} == {5}
    assert {name for name, _ in once} >= {"cache", "learn", "keep better", "placebo: learn", "train_one"}
    assert once["learn", "show"].reciprocal != once["shipped", "show"].reciprocal
    model.forget()
    for name, value in model.save().items():
        np.testing.assert_array_equal(value, shipped[name])


def test_an_interval_is_that_of_draws_of_users(script: ModuleType) -> None:
    rng = np.random.default_rng(2)
    asked = rng.integers(1, 9, 50).astype(float)
    before, after = asked * rng.random(50), asked * rng.random(50)
    found, low, high = script.change(before, after, asked, np.random.default_rng(5))
    assert found == pytest.approx(after.sum() / asked.sum() - before.sum() / asked.sum())
    means = []
    draws = np.random.default_rng(5)
    for drawn in draws.integers(0, 50, (script.DRAWS, 50)):
        means.append(sum(after[one] - before[one] for one in drawn) / sum(asked[one] for one in drawn))
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert script.change(before, before + asked / 8, asked, rng) == pytest.approx((1 / 8, 1 / 8, 1 / 8))


def test_the_table_compares_on_the_same_users(script: ModuleType, tmp_path: Path) -> None:
    def score(user: int, recipe: str, seen: str, hits: int, reciprocal: float) -> Any:
        return script.Score(user, recipe, seen, 4, hits, reciprocal)

    scores = [score(user, "shipped", "show", 2, 1.0) for user in range(4)]
    scores += [score(user, "learn", "show", 3, 1.0 + moved) for user, moved in enumerate((0.4, 0.4, 0.0, -0.4))]
    scores += [score(user, "placebo: learn", "show", 1, 0.9) for user in range(2)]
    (tmp_path / "log-1").mkdir()
    script.write_scores(tmp_path / "log-1" / "scores-0.csv", 1, scores)
    script.table(tmp_path, tmp_path / "out.csv")
    rows = {(row["recipe"], row["against"]): row for row in pl.read_csv(tmp_path / "out.csv").to_dicts()}
    learned = rows["learn", "shipped, show"]
    wanted = {"log": "log", "users": 4, "asked": 16, "recall": 0.75, "mrr": 0.275, "recall_change": 0.25}
    wanted |= {"mrr_change": 0.025, "worse": 0.25, "better": 0.5}
    assert {name: learned[name] for name in wanted} == wanted
    assert learned["mrr_low"] <= learned["mrr_change"] <= learned["mrr_high"]
    own = rows["learn", "placebo: learn, show"]
    assert (own["users"], own["mrr_change"]) == (2, pytest.approx(0.125))
