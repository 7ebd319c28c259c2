"""Training, evaluation, export and recommendation on a small set with structure, with TensorFlow and LiteRT as they are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import StopAt, StoppedError, call
from ncf_support import Rating, write_dat
from pocketrec.errors import DatasetError, ModelError, SettingsError
from pocketrec.integrity import verify_data
from pocketrec.ncf.evaluate import evaluate
from pocketrec.ncf.interactions import prepared, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import Network, NetworkFile, NetworkSettings, read_network
from pocketrec.ncf.prep import prep
from pocketrec.ncf.recommend import recommend
from pocketrec.ncf.runtime import NcfModel
from pocketrec.ncf.shards import batches
from pocketrec.ncf.train import TrainReport, train
from pocketrec.ncf.verify import verify_export

SMALL: dict[str, Any] = {
    "train_epochs": 3, "batch_size": 128, "eval_negatives": 20, "num_factors": 4, "layers": (8, 6), "learning_rate": 0.01,
}  # fmt: skip


def two_camps() -> list[Rating]:
    """60 users who each like one half of 50 items."""
    rng = np.random.default_rng(5)
    lines = []
    for user in range(60):
        own = rng.permutation(25)[:18] * 2 + user % 2
        lines += [Rating(100 + user, 1000 + int(item), 10**9 + int(time)) for time, item in enumerate(own)]
    return lines


@pytest.fixture(scope="module")
def prepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ncf")
    prep(write_dat(folder / "ratings.dat", two_camps()), folder, min_ratings=5, validation=True)
    return folder


@pytest.fixture(scope="module")
def trained(prepped: Path) -> tuple[Path, TrainReport]:
    return prepped, train(prepped, **SMALL)


def weights(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    place = NcfDataset(folder)
    return read_network(place.network, prepared(place).content, "").network.weights


def copy_of(prepped: Path, folder: Path) -> Path:
    shutil.copytree(prepped / "ncf", folder / "ncf", ignore=shutil.ignore_patterns("model"))
    return folder


def assert_same(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert {name: array.tobytes() for name, array in a.items()} == {name: array.tobytes() for name, array in b.items()}


def test_it_learns_and_knows_when_it_has(trained: tuple[Path, TrainReport]) -> None:
    folder, report = trained
    assert [epoch.epoch for epoch in report.epochs] == [1, 2, 3]
    assert report.epochs[-1].loss < report.epochs[0].loss
    best = max((epoch for epoch in report.epochs if epoch.metrics), key=lambda epoch: epoch.metrics.ndcg)  # type: ignore[union-attr]
    assert (report.judged_on, report.kept) == ("valid", best.epoch)
    assert list((folder / "ncf" / "model" / "summaries").iterdir())
    assert train(folder, **SMALL).reused
    assert verify_data(NcfDataset(folder).home).passed


def test_a_run_that_was_stopped_ends_as_one_that_was_not(trained: tuple[Path, TrainReport], tmp_path: Path) -> None:
    folder, whole = trained
    again = copy_of(folder, tmp_path)
    with pytest.raises(StoppedError):
        train(again, **SMALL, progress=StopAt("epoch 2"))
    report = train(again, **SMALL)
    assert report.resumed == 1
    assert [(epoch.loss, epoch.metrics) for epoch in report.epochs] == [
        (epoch.loss, epoch.metrics) for epoch in whole.epochs
    ]
    assert_same(folder, again)


def test_a_loop_of_its_own_on_written_epochs_comes_to_the_same(trained: tuple[Path, TrainReport], tmp_path: Path) -> None:
    folder, whole = trained
    again = copy_of(folder, tmp_path)
    same = {name: SMALL[name] for name in ("train_epochs", "batch_size", "eval_negatives")}
    made = batches(again, **same, eval_batch_size=63)
    assert made.evaluation_batches == 20
    assert batches(again, **same, eval_batch_size=63).reused
    report = train(again, **SMALL, keras_use_ctl=True, train_dataset_path=made.folder)
    assert [epoch.metrics for epoch in report.epochs] == [epoch.metrics for epoch in whole.epochs]
    for name, array in weights(folder).items():
        np.testing.assert_allclose(weights(again)[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    with pytest.raises(SettingsError, match="made with num_neg 4, asked for is 3"):
        train(again, **SMALL, num_neg=3, train_dataset_path=made.folder)


def test_mixed_precision_mirrored_and_early_stopping(prepped: Path, tmp_path: Path) -> None:
    again = copy_of(prepped, tmp_path)
    options = {**SMALL, "dtype": "fp16", "distribution_strategy": "mirrored", "mf_regularization": 1e-5}
    report = train(again, **options, mlp_regularization=(0.0, 1e-4), early_stopping=True, hr_threshold=0.01)
    assert len(report.epochs) == 1
    assert report.epochs[0].metrics
    assert report.epochs[0].metrics.hr >= 0.01


@pytest.mark.parametrize("kind", ["neumf", "gmf", "mlp"])
def test_keras_lite_and_numpy_agree(kind: str) -> None:
    from pocketrec.models.neumf import build, set_weights, weights_of
    from pocketrec.models.neumf_lite import LiteNetwork

    settings = NetworkSettings(7, 11, 3, (6, 5, 4), kind)  # type: ignore[arg-type]
    rng = np.random.default_rng(2)
    model = build(settings)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == settings.parameters
    set_weights(
        model, settings, {name: rng.normal(size=shape).astype(np.float32) for name, shape in settings.shapes.items()}
    )
    network = Network(settings, weights_of(model, settings))
    users, items = np.repeat(np.arange(7, dtype=np.int32), 11), np.tile(np.arange(11, dtype=np.int32), 7)
    expected = network.pairs(users, items)
    np.testing.assert_allclose(model({"user": users, "item": items})[:, 0], expected, rtol=1e-4, atol=1e-5)
    lite = LiteNetwork(settings, network.weights)
    found = [lite.score(np.array([user], np.int32), np.arange(11, dtype=np.int32))["scores"] for user in range(7)]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-4, atol=1e-5)


def test_the_size_that_the_original_has_on_ml_1m() -> None:
    assert NetworkSettings(6040, 3706).parameters == 392_601


def test_evaluation_reports_both_rankings_beside_popularity(trained: tuple[Path, TrainReport]) -> None:
    folder, report = trained
    found = evaluate(folder, on="valid", ml_perf=False)
    kept = report.epochs[report.kept - 1].metrics
    assert found.network.sampled == kept
    assert found.popularity.sampled == report.popularity
    assert found.network.full
    assert found.popularity.full
    assert found.network.full.ndcg <= found.network.sampled.ndcg + 0.2
    assert evaluate(folder, full_ranking=False).network.full is None


@pytest.fixture(scope="module")
def exported(trained: tuple[Path, TrainReport]) -> Path:
    code, out, _ = call("ncf", "export", "--dataset", trained[0])
    assert code == 0, out
    assert "Verified: 7 of 7 rungs passed" in out
    return trained[0]


def test_the_exported_network_recommends_as_the_trained(exported: Path) -> None:
    for user in (100, 101, 159):
        ours, theirs = recommend(exported, user=user, top=5), recommend(exported, user=str(user), top=5, tflite=True)
        assert [one.item for one in ours.items] == [one.item for one in theirs.items]
        rated = {line.item for line in two_camps() if line.user == user}
        assert not rated & {one.item for one in ours.items}
        assert ours.seen == len(rated) == 18
    code, out, err = call("ncf", "recommend", "--dataset", exported, "--user", 100, "--top", 3)
    assert (code, len(out.split())) == (0, 3)
    assert all(1000 <= int(item) < 1050 for item in out.split())
    assert "18 items" in err


def test_a_model_that_is_not_what_was_trained_fails(exported: Path, tmp_path: Path) -> None:
    place = NcfDataset(exported)
    trained = read_network(place.network, prepared(place).content, "")
    interactions = read_interactions(place)
    other = {**trained.network.weights, "bias_out": trained.network.weights["bias_out"] + 1}
    changed = NetworkFile(Network(trained.network.settings, other), trained.split)
    verdicts = {rung.name: rung.verdict for rung in verify_export(place.tflite, changed, interactions)}
    assert [name for name, verdict in verdicts.items() if verdict == "failed"] == ["scores", "top"]
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(place.tflite.read_bytes()[:5000])
    assert verify_export(cut, trained, interactions)[0].verdict == "failed"
    with pytest.raises(ModelError):
        NcfModel(cut)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--layers", "31,16"], "the first layer is 31, which is odd"),
        (["train", "--eval-batch-size", "256"], "a multiple of 1,000, such as 1,000 or 2,000"),
        (["train", "--learning-rate", "0"], "learning_rate is 0"),
        (["train", "--mlp-regularization", "0,1"], "2 numbers for 4 layers"),
        (["train", "--hr-threshold", "nan"], "hr_threshold is nan"),
        (["batches", "--eval-batch-size", "1500"], "does not hold whole users"),
        (["recommend", "--user", "7"], "user 7 is not among the 60 users"),
        (["recommend", "--user", "100", "--top", "99"], "1 to 32, the items that the user has not rated"),
        (["evaluate"], "neumf.npz is missing"),
        (["export"], "neumf.npz is missing"),
    ],
)
def test_what_cannot_be_is_said_in_one_message(prepped: Path, tmp_path: Path, words: list[str], message: str) -> None:
    code, out, err = call("ncf", *words, "--dataset", copy_of(prepped, tmp_path))
    assert (code, out) == (1, "")
    assert message in err


def test_a_damaged_file_and_what_is_out_of_date_are_named_with_their_command(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    shutil.copytree(exported, folder)
    code, out, _ = call("inspect", "--dataset", folder)
    assert code == 0
    states = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert {"ingest", "ncf_prep", "ncf_train", "ncf_export"} == set(states)
    assert all("  current  " in line for line in states.values()), out
    path = NcfDataset(folder).interactions / "train_items.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, out, _ = call("verify-data", "--dataset", folder)
    assert code == 1
    assert f"pocketrec ncf prep RATINGS --dataset {folder} " in out
    assert "--min-ratings 5 --split leave-one-out --validation --fresh" in out
    prep(folder / "ratings.dat", folder, min_ratings=4)
    assert "OUT OF DATE: split has changed since" in call("inspect", "--dataset", folder)[1]


def test_without_a_split_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    code, _, err = call("ncf", "train", "--dataset", tmp_path)
    assert code == 1
    assert f"pocketrec ncf prep RATINGS --dataset {tmp_path}" in err


def test_a_network_of_another_split_is_refused(trained: tuple[Path, TrainReport], tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(trained[0], folder)
    prep(folder / "ratings.dat", folder, min_ratings=5)
    with pytest.raises(DatasetError, match="trained on another split"):
        evaluate(folder)
    interactions = read_interactions(NcfDataset(folder))
    with pytest.raises(SettingsError, match="no user has a valid positive"):
        interactions.positives("valid")


def test_prep_by_the_command_line(tmp_path: Path) -> None:
    log = tmp_path / "own.csv"
    log.write_text("who;what;when\n" + "".join(f"{u};{i};{t}\n" for u, i, t in two_camps()))
    words = ["ncf", "prep", log, "--dataset", tmp_path, "--min-ratings", 5, "--split", "time", "--json"]
    code, out, _ = call(*words, "--columns", "user=who,item=what,time=when")
    assert code == 0
    assert '"users": 60' in out
    assert call(*words, "--columns", "user=who")[0] == 2
