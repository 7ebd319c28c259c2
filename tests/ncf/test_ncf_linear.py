"""iALS and EASE: against dense float64 arithmetic that shares no code, and through every command, without TensorFlow."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import StopAt, StoppedError, call
from ncf_support import interactions_of, two_camps, write_dat
from pocketrec.lite.judge.ladder import Fault
from pocketrec.ncf import als, ease
from pocketrec.ncf.als import Als
from pocketrec.ncf.batches import batches
from pocketrec.ncf.ease import EaseSolver
from pocketrec.ncf.interactions import Interactions, hold_out_latest, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.linear import Ease, EaseSettings, Factors, FactorSettings
from pocketrec.ncf.network import network_of, read_network
from pocketrec.ncf.options import NcfExportSettings, NcfMakeSettings, NcfPrepSettings, NcfTrainSettings
from pocketrec.ncf.prep import prep
from pocketrec.ncf.runtime import NcfModel, signatures_of
from pocketrec.ncf.train import made_of, train
from pocketrec.ncf.verify import LADDER, Case
from pocketrec.storage.networks import NetworkFile
from pocketrec.training.export import ids_of

Floats = npt.NDArray[np.float64]

CAMPS = [{item for item in range(9) if item % 2 == user % 2 or item == user} for user in range(7)]
some_rows = st.lists(st.sets(st.integers(1, 8), min_size=1, max_size=6), min_size=2, max_size=6)


def silent(_: int) -> None:
    """Nobody watches."""


def dense(known: Interactions) -> Floats:
    """1 where a user has an item, (U, I)."""
    rated = np.zeros((known.n_users, known.n_items))
    for user in range(known.n_users):
        for item in known.of(user):
            rated[user, item] = 1
    return rated


def swept(rated: Floats, items: Floats, a: float, r: float, sweeps: int) -> tuple[Floats, Floats, list[float]]:
    """IALS with a weight for every cell: users, items, and the sum after each sweep."""
    n_users, n_items = rated.shape
    width, losses = items.shape[1], []
    of_user, of_item = r * (rated.sum(axis=1) + a * n_items), r * (rated.sum(axis=0) + a * n_users)
    users = np.zeros((n_users, width))
    for _ in range(sweeps):
        for u in range(n_users):
            left = sum((a + rated[u, i]) * np.outer(items[i], items[i]) for i in range(n_items))
            users[u] = np.linalg.solve(left + of_user[u] * np.eye(width), items.T @ rated[u])
        for i in range(n_items):
            left = sum((a + rated[u, i]) * np.outer(users[u], users[u]) for u in range(n_users))
            items[i] = np.linalg.solve(left + of_item[i] * np.eye(width), users.T @ rated[:, i])
        scores = users @ items.T
        off = (rated * (1 - scores) ** 2).sum() + a * (scores**2).sum()
        penalty = (of_user * (users**2).sum(axis=1)).sum() + (of_item * (items**2).sum(axis=1)).sum()
        losses.append((off + penalty) / rated.sum())
    return users, items, losses


@pytest.mark.parametrize("block", [1, 20, 1 << 21])
def test_sweeps_are_those_of_dense_arithmetic(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(als, "NUMBERS_PER_BLOCK", block)
    known = interactions_of(CAMPS, 9)
    solver = Als(known, NcfTrainSettings(kind="ials", num_factors=3, regularization=0.05, unobserved_weight=0.2))
    users, items, losses = swept(dense(known), solver.items.astype(float), 0.2, 0.05, 3)
    assert [solver.sweep(silent) for _ in range(3)] == pytest.approx(losses, rel=1e-4)
    np.testing.assert_allclose(solver.users, users, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(solver.items, items, rtol=1e-3, atol=1e-4)


@given(rows=some_rows, weight=st.sampled_from([0.001, 0.1, 2.0]))
def test_the_loss_of_a_sweep_is_never_more_than_that_of_the_one_before(rows: list[set[int]], weight: float) -> None:
    solver = Als(interactions_of(rows, 9), NcfTrainSettings(kind="ials", num_factors=4, unobserved_weight=weight))
    losses = [solver.sweep(silent) for _ in range(4)]
    assert all(later <= before + 1e-5 for before, later in pairwise(losses))


def regressed(rated: Floats, r: float) -> Floats:
    """Each column by ridge regression on the other ones, (I, I)."""
    n_items = rated.shape[1]
    weights = np.zeros((n_items, n_items))
    for column in range(n_items):
        others = [item for item in range(n_items) if item != column]
        known = np.concatenate([rated[:, others], np.sqrt(r) * np.eye(n_items - 1)])
        target = np.concatenate([rated[:, column], np.zeros(n_items - 1)])
        weights[others, column] = np.linalg.lstsq(known, target, rcond=None)[0]
    return weights


@pytest.mark.parametrize("keep", [3, 50])
@pytest.mark.parametrize("block", [2, 512])
def test_ease_is_a_regression_of_each_item_on_the_others(block: int, keep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "BLOCK", block)
    monkeypatch.setattr(ease, "NUMBERS_PER_BLOCK", block)
    known = interactions_of(CAMPS, 9)
    rated, r = dense(known), 2.0
    solver = EaseSolver(known, NcfTrainSettings(kind="ease", regularization=r, neighbours=keep))
    loss = solver.sweep(silent)
    weights = regressed(rated, r)
    assert loss == pytest.approx((((rated - rated @ weights) ** 2).sum() + r * (weights**2).sum()) / rated.sum(), rel=1e-4)
    for row in weights:
        row[np.argsort(-np.abs(row), kind="stable")[keep:]] = 0
    model = Ease(EaseSettings(solver.keep, len(known.items), n_users=7, n_items=9), solver.weights())
    found = np.zeros((9, 9))
    np.put_along_axis(found, model.weights["neighbours"], model.weights["weights"], axis=1)
    np.testing.assert_allclose(np.sort(np.abs(found)), np.sort(np.abs(weights)), atol=1e-5)  # of equal ones any may be kept
    np.testing.assert_allclose(model.all_items(np.arange(7, dtype=np.int32)), rated @ found, atol=1e-5)
    if keep > 9:
        np.testing.assert_allclose(found, weights, atol=1e-5)


@pytest.mark.parametrize("kind", ["ials", "ease"])
def test_pairs_are_places_of_all_items(kind: str) -> None:
    known = interactions_of(CAMPS, 9)
    training = NcfTrainSettings(kind=kind, num_factors=3, neighbours=4)  # type: ignore[arg-type]
    solver = (Als if kind == "ials" else EaseSolver)(known, training)
    solver.sweep(silent)
    model = network_of(made_of(training, {"users": 7, "items": 9, "train": len(known.items)}), solver.weights())
    users, items = np.array([6, 0, 6, 3, 0], np.int32), np.array([8, 1, 0, 4, 1], np.int32)
    np.testing.assert_allclose(model.pairs(users, items), model.all_items(users)[np.arange(5), items], rtol=1e-5)


@given(rows=some_rows)
def test_the_latest_training_item_of_a_user_is_held_out_unless_it_is_the_only_one(rows: list[set[int]]) -> None:
    known = interactions_of(rows, 9)
    held = hold_out_latest(known)
    valid = dict(zip(held.valid.users.tolist(), held.valid.items.tolist(), strict=True))
    for user in range(known.n_users):
        own, left = known.of(user).tolist(), held.of(user).tolist()
        assert (left, valid.get(user)) == ((own[:-1], own[-1]) if len(own) > 1 else (own, None))
    assert held.test is known.test


@pytest.fixture(scope="module")
def prepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linear")
    prep(write_dat(folder / "ratings.dat", two_camps()), folder, NcfPrepSettings(min_ratings=5))
    return folder


SMALL = ("--eval-negatives", 20, "--num-factors", 4, "--train-epochs", 3, "--neighbours", 10)


@pytest.fixture(scope="module", params=["ials", "ease"])
def solved(prepped: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained where there is no TensorFlow."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(prepped, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tensorflow", "keras", "ai_edge_litert"):
            patch.setitem(sys.modules, name, None)
        code, out, err = call("ncf", "train", "--model", request.param, "--dataset", folder, *SMALL)
        assert code == 0, err
        epochs = 3 if request.param == "ials" else 1
        assert f"epoch {epochs}" in out.splitlines()[-1]
        assert "up to date" in call("ncf", "train", "--model", request.param, "--dataset", folder, *SMALL)[1]
        code, out, _ = call("ncf", "evaluate", "--dataset", folder)
        assert code == 0
        sampled = {line.split()[0]: float(line.split()[4]) for line in out.splitlines() if "20 negatives " in line}
        assert sampled[request.param] > sampled["popularity"]
    return folder


def test_it_is_exported_proved_and_recommended_from(solved: Path) -> None:
    code, out, _ = call("ncf", "export", "--dataset", solved)
    assert code == 0, out
    assert "Verified: 10 of 10 rungs passed" in out
    words = ("ncf", "recommend", "--dataset", solved, "--user", 101, "--top", 5)
    assert call(*words)[1] == call(*words, "--tflite")[1]
    place = NcfDataset(solved)
    trained, fixed = read_network(place), NcfExportSettings()
    other = {**trained.network.weights}
    name = "item" if isinstance(trained.network, Factors) else "weights"
    other[name] = other[name] * np.float32(1.001)
    changed = NetworkFile(network_of(trained.network.settings, other), trained.split)
    case = Case(
        place.tflite, changed, ids_of(place, unknown=False), fixed, signatures_of(trained.network.settings, fixed),
        NcfModel, "", interactions=read_interactions(place),
    )  # fmt: skip
    for check in LADDER[-2:]:
        with pytest.raises(Fault, match="differ by"):
            check.run(case)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(prepped: Path, tmp_path: Path) -> None:
    settings = NcfTrainSettings(kind="ials", num_factors=4, train_epochs=3, eval_negatives=20, keep="best")
    found = []
    for name in ("whole", "stopped"):
        shutil.copytree(prepped, tmp_path / name)
        if name == "stopped":
            with pytest.raises(StoppedError):
                train(tmp_path / name, settings, progress=StopAt("epoch 2"))
        report = train(tmp_path / name, settings)
        weights = read_network(NcfDataset(tmp_path / name)).network.weights
        found.append({key: array.tobytes() for key, array in weights.items()})
    assert report.resumed == 1
    assert found[0] == found[1]
    ndcg = [epoch.metrics.ndcg for epoch in report.epochs if epoch.metrics]
    assert (report.judged_on, report.held_out, report.chosen) == ("valid", 60, True)
    assert report.kept == 1 + int(np.argmax(ndcg))


def test_what_was_held_out_to_choose_the_epoch_is_said(prepped: Path, tmp_path: Path) -> None:
    shutil.copytree(prepped, tmp_path / "d")
    code, out, err = call("ncf", "train", "--model", "ials", "--keep", "best", "--dataset", tmp_path / "d", *SMALL)
    assert code == 0
    assert "the best on the validation positives" in out
    assert "the latest training rating of 60 users, which was held out" in err


def test_nothing_is_held_out_of_written_epochs_or_of_a_single_one(prepped: Path, tmp_path: Path) -> None:
    shutil.copytree(prepped, tmp_path / "d")
    many = NcfTrainSettings(kind="ials", num_factors=4, train_epochs=3, eval_negatives=20, keep="best")
    made = batches(tmp_path / "d", NcfMakeSettings.part_of(many))
    written = train(tmp_path / "d", many, train_dataset_path=made.folder)
    assert (written.held_out, written.judged_on, written.kept, written.chosen) == (0, "test", 3, False)
    chosen = train(tmp_path / "d", many)
    assert (chosen.held_out, chosen.chosen, chosen.reused) == (60, True, False)
    for single in (replace(many, train_epochs=1), replace(many, kind="ease")):
        assert train(tmp_path / "d", single).held_out == 0


def test_a_preset_gives_the_defaults_of_options_that_are_not_given(prepped: Path, tmp_path: Path) -> None:
    shutil.copytree(prepped, tmp_path / "d")
    words = ("--model", "ials", "--num-factors", 4, "--eval-negatives", 20, "--dataset", tmp_path / "d")
    assert call("ncf", "train", "--preset", "mlperf", *words)[0] == 0
    trained = read_network(NcfDataset(tmp_path / "d"))
    assert trained.network.settings == FactorSettings(4, n_users=60, n_items=50)
    assert (trained.training["ml_perf"], trained.training["train_epochs"]) == (True, 10)
    assert call("ncf", "train", "--preset", "other", *words)[0] == 2


def test_the_default_of_a_setting_can_be_the_models() -> None:
    found = {kind: NcfTrainSettings(kind=kind) for kind in ("neumf", "ials", "ease")}
    assert {kind: (one.num_factors, one.keep) for kind, one in found.items()} == {
        "neumf": (8, "best"), "ials": (64, "last"), "ease": (8, "last"),
    }  # fmt: skip
    assert NcfTrainSettings(kind="ials", num_factors=5).num_factors == 5
    own = {"ials": {"regularization", "unobserved_weight", "keep"}, "ease": {"regularization"}, "neumf": {"keep", "dtype"}}
    every = {*own["ials"], *own["neumf"]}
    assert {kind: every & one.learning.keys() for kind, one in found.items()} == own


def test_equations_without_an_answer_are_one_message(prepped: Path, tmp_path: Path) -> None:
    shutil.copytree(prepped, tmp_path / "d")
    words = ("--model", "ease", "--regularization", 1e39, "--dataset", tmp_path / "d")
    code, _, err = call("ncf", "train", *words)
    assert code == 1
    assert "another --regularization" in err


def test_ease_too_large_for_the_memory_is_refused(prepped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(prepped, tmp_path / "d")
    monkeypatch.setattr(ease, "free_memory", lambda: 4_000)
    code, out, err = call("ncf", "train", "--model", "ease", "--dataset", tmp_path / "d")
    assert (code, out) == (1, "")
    assert f"ease needs {ease.bytes_needed(50):,} bytes of memory for 50 items" in err
    assert "4,000 are free" in err
    assert not list((tmp_path / "d" / "ncf" / "model").glob("*safetensors*"))


def test_the_memory_that_is_free_is_that_of_the_machine_or_less() -> None:
    assert 0 < ease.free_memory() < 1 << 62
