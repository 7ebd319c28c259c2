"""The rating DNN trained, measured, exported and asked, with TensorFlow and LiteRT as they are, on small data with
structure.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import StopAt, StoppedError, call
from dnn_support import Rated, camps, movies_csv, write_zip
from pocketrec.dnn.evaluate import evaluate
from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.metrics import Accuracy, biases, measure
from pocketrec.dnn.network import DnnSettings, Network, class_of, expected_rating, read_network
from pocketrec.dnn.options import (
    DnnExportSettings,
    DnnMeasureSettings,
    DnnPredictSettings,
    DnnPrepSettings,
    DnnTrainSettings,
)
from pocketrec.dnn.predict import predict
from pocketrec.dnn.prep import prep
from pocketrec.dnn.runtime import DnnModel
from pocketrec.dnn.sets import RatingSet, read_sets
from pocketrec.dnn.train import DnnTrainReport, train
from pocketrec.dnn.verify import verify_export
from pocketrec.errors import DatasetError, ModelError
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.verify_data import verify_data
from pocketrec.training.export import ids_of
from rebuild_support import as_0_1_left_it, rebuild_each

SMALL: dict[str, Any] = {
    "epochs": 6, "batch_size": 64, "embedding_size": 6, "layers": (12, 8), "learning_rate": 0.01, "regularization": 1e-4,
    "checkpoint_every": 2,
}  # fmt: skip
WORDS = ["--epochs", 6, "--batch-size", 64, "--embedding-size", 6, "--layers", "12,8", "--learning-rate", 0.01]


@pytest.fixture(scope="module")
def prepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new user and a new item are in the test, and an item that movies.csv does not know."""
    folder = tmp_path_factory.mktemp("dnn")
    late = [
        Rated(900, 1000, 4.5, 2_000_000_000),
        Rated(101, 1031, 4.0, 2_000_000_001),
        Rated(102, 1040, 4.0, 2_000_000_002),
    ]
    prep(
        write_zip(folder / "ml.zip", [*camps(), *late], movies=movies_csv(range(1000, 1032))),
        folder,
        DnnPrepSettings(split="time"),
    )
    return folder


@pytest.fixture(scope="module")
def trained(prepped: Path) -> tuple[Path, DnnTrainReport]:
    return prepped, train(prepped, DnnTrainSettings(**SMALL))


@pytest.fixture(scope="module")
def classified(prepped: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DnnTrainReport]:
    folder = copy_of(prepped, tmp_path_factory.mktemp("classes"))
    return folder, train(folder, DnnTrainSettings(task="classify", **SMALL))


def copy_of(prepped: Path, folder: Path) -> Path:
    shutil.copytree(prepped / "dnn", folder / "dnn", ignore=shutil.ignore_patterns("model"))
    return folder


def network_of(folder: Path) -> Network:
    return read_network(DnnDataset(folder)).network


def assert_same(one: Path, other: Path) -> None:
    a, b = network_of(one).weights, network_of(other).weights
    assert {name: array.tobytes() for name, array in a.items()} == {name: array.tobytes() for name, array in b.items()}


def pairs_of(settings: DnnSettings) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Every user with every item."""
    users, items = np.meshgrid(np.arange(settings.n_users), np.arange(settings.n_items), indexing="ij")
    return users.ravel().astype(np.int32), items.ravel().astype(np.int32)


def test_it_learns_beats_its_baselines_and_knows_when_it_has(trained: tuple[Path, DnnTrainReport]) -> None:
    folder, report = trained
    assert report.epochs[-1].train["rmse"] < report.epochs[0].train["rmse"]
    best = min(report.epochs, key=lambda epoch: epoch.valid.rmse)  # type: ignore[union-attr]
    assert report.kept == best.epoch
    found = evaluate(folder)
    assert found.models["dnn"].rmse < 0.8 * min(found.models[name].rmse for name in ("global mean", "user + item bias"))
    assert evaluate(folder, DnnMeasureSettings(on="valid")).models["dnn"] == best.valid
    assert train(folder, DnnTrainSettings(**SMALL)).reused
    assert verify_data(folder).passed
    assert sum(one.count for one in found.spread) == found.ratings
    mean = sum(one.count * one.mean for one in found.spread) / found.ratings
    rows, network = read_sets(DnnDataset(folder)).sets["test"], read_network(DnnDataset(folder)).network
    assert mean == pytest.approx(float(network.ratings(*rows.pairs.T).mean()), abs=1e-4)
    code, out, err = call("report", "--dataset", folder, "--json")
    assert code == 0, err
    data = json.loads(out)["data"]["dnn"]
    assert [asdict(one) for one in found.spread] == data["accuracy"]["data"][0]["spread"]
    assert data["accuracy"]["data"][0]["models"]["dnn"]["rmse"] == found.models["dnn"].rmse
    assert sum(one["count"] for one in data["log"]["data"]["values"]) == data["log"]["data"]["rows"]
    assert list((folder / "dnn" / "model" / "summaries").iterdir())


def test_checkpoints_have_the_epoch_in_their_names(trained: tuple[Path, DnnTrainReport]) -> None:
    names = sorted(path.name for path in DnnDataset(trained[0]).checkpoints.iterdir())
    assert names == ["epoch-0002.safetensors", "epoch-0004.safetensors", "epoch-0006.safetensors"]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(trained: tuple[Path, DnnTrainReport], tmp_path: Path) -> None:
    folder, whole = trained
    again = copy_of(folder, tmp_path)
    with pytest.raises(StoppedError):
        train(again, DnnTrainSettings(**SMALL), progress=StopAt("epoch 4"))
    assert not DnnDataset(again).network.exists()
    report = train(again, DnnTrainSettings(**SMALL))
    assert (report.resumed, report.epochs, report.kept) == (2, whole.epochs, whole.kept)
    assert_same(folder, again)


def test_more_epochs_later_are_the_same_as_at_once(trained: tuple[Path, DnnTrainReport], tmp_path: Path) -> None:
    folder, whole = trained
    again = copy_of(folder, tmp_path)
    assert len(train(again, DnnTrainSettings(**{**SMALL, "epochs": 3})).epochs) == 3
    report = train(again, DnnTrainSettings(**SMALL))
    assert (report.resumed, report.epochs) == (3, whole.epochs)
    assert_same(folder, again)
    fewer = train(again, DnnTrainSettings(**{**SMALL, "epochs": 4}))
    assert (fewer.resumed, fewer.epochs) == (4, whole.epochs[:4])


def test_a_damaged_checkpoint_is_passed_over(trained: tuple[Path, DnnTrainReport], tmp_path: Path) -> None:
    folder, whole = trained
    shutil.copytree(folder / "dnn", tmp_path / "dnn")
    newest = DnnDataset(tmp_path).checkpoints / "epoch-0004.safetensors"
    newest.write_bytes(newest.read_bytes()[:2000])
    report = train(tmp_path, DnnTrainSettings(**{**SMALL, "epochs": 5}))
    assert (report.resumed, report.epochs) == (2, whole.epochs[:5])


def test_the_same_seed_is_the_same_network_and_another_is_not(prepped: Path, tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((0, 0, 1)):
        folder = copy_of(prepped, tmp_path / str(number))
        train(folder, DnnTrainSettings(**{**SMALL, "epochs": 1}, seed=seed))
        found.append({name: array.tobytes() for name, array in network_of(folder).weights.items()})
    assert found[0] == found[1]
    assert found[0]["kernel_1"] != found[2]["kernel_1"]


def test_it_stops_early_and_without_validation_keeps_the_last(prepped: Path, tmp_path: Path) -> None:
    again = copy_of(prepped, tmp_path / "a")
    report = train(again, DnnTrainSettings(**{**SMALL, "epochs": 60, "patience": 2, "learning_rate": 0.05}))
    assert report.stopped
    assert len(report.epochs) == report.kept + 2
    prep(prepped / "ml.zip", tmp_path / "b", DnnPrepSettings(split="time", validation=0))
    words = ["dnn", "train", "--dataset", tmp_path / "b", "--epochs", 2, *WORDS[2:]]
    assert "no validation set" in call(*words)[2]
    found = json.loads(call(*words, "--json")[1])  # what it has come to; it is not trained again
    assert (found["reused"], found["kept"], found["epochs"][-1]["valid"]) == (True, 2, None)


SETTINGS = DnnSettings(5, (6, 4), n_users=7, n_items=9, user_columns=3, item_columns=4, lowest=0.5, highest=5.0)
CLASSES = replace(SETTINGS, layers=(6,), task="classify", values=tuple(np.arange(1, 11) / 2))


@pytest.mark.parametrize("settings", [SETTINGS, CLASSES], ids=["rate", "classify"])
def test_functional_subclassed_lite_and_numpy_agree(settings: DnnSettings, tmp_path: Path) -> None:
    import keras

    from pocketrec.dnn.tf.keras_model import RatingDnn, functional, set_weights, weights_of
    from pocketrec.dnn.tf.lite_model import LiteDnn

    rng = np.random.default_rng(2)
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in settings.shapes.items()}
    one, other = functional(settings), RatingDnn(settings)
    other.build()
    users, items = pairs_of(settings)
    for model in (one, other):
        set_weights(model, settings, weights)
        assert {name: array.tobytes() for name, array in weights_of(model, settings).items()} == {
            name: array.tobytes() for name, array in weights.items()
        }
    inputs = {"user": users, "item": items}
    found = np.asarray(one(inputs))
    assert found.shape == (63, settings.outputs)
    np.testing.assert_array_equal(np.asarray(other(inputs)), found)
    trainable = sum(int(np.prod(variable.shape)) for variable in one.trainable_variables)
    assert trainable == sum(int(np.prod(v.shape)) for v in other.trainable_variables) == settings.parameters
    network = Network(settings, weights)
    np.testing.assert_allclose(network.outputs(users, items), found, rtol=1e-4, atol=1e-5)
    lite = [
        LiteDnn(settings, weights).predict(np.array([user], np.int32), np.arange(9, dtype=np.int32)) for user in range(7)
    ]
    ratings = np.concatenate([np.asarray(part["ratings"]) for part in lite])
    np.testing.assert_allclose(ratings, network.ratings(users, items), rtol=1e-4, atol=1e-5)
    for number, model in enumerate((one, other)):
        path = tmp_path / f"{number}.keras"
        model.save(path)
        np.testing.assert_array_equal(np.asarray(keras.saving.load_model(path)(inputs)), found)


def test_the_saved_keras_model_predicts_what_the_network_does(trained: tuple[Path, DnnTrainReport]) -> None:
    import keras

    folder, report = trained
    network = network_of(folder)
    users, items = pairs_of(network.settings)
    model = keras.saving.load_model(report.keras)
    found = np.asarray(model({"user": users, "item": items}))
    np.testing.assert_allclose(found, network.outputs(users, items), rtol=1e-4, atol=1e-5)
    from pocketrec.dnn.tf.keras_model import functional, set_weights

    fresh = functional(network.settings)
    set_weights(fresh, network.settings, network.weights)
    np.testing.assert_array_equal(np.asarray(fresh({"user": users, "item": items})), found)


def test_codes_that_nobody_has_trained_are_zeros(trained: tuple[Path, DnnTrainReport]) -> None:
    weights = network_of(trained[0]).weights
    for name in ("user", "item", "user_bias", "item_bias"):
        assert not weights[name][0].any()
    assert not weights["item"][-1].any(), "a film without train ratings"
    assert weights["item_features"][-1].any(), "which has its genres and its year all the same"


def test_classes(classified: tuple[Path, DnnTrainReport], trained: tuple[Path, DnnTrainReport]) -> None:
    folder, report = classified
    assert report.epochs[-1].train["cross_entropy"] < report.epochs[0].train["cross_entropy"]
    found = evaluate(folder).models
    assert found["dnn"].accuracy is not None
    assert found["global mean"].accuracy is not None
    assert found["dnn"].accuracy > found["global mean"].accuracy
    assert found["dnn"].rmse < found["user + item bias"].rmse
    assert found["dnn"].rmse < found["most frequent"].rmse
    assert evaluate(trained[0]).models["dnn"].accuracy is None
    one = predict(folder, user=100, items=[1000]).items[0]
    train_ratings = read_sets(DnnDataset(folder)).sets["train"].ratings
    assert list(one.probabilities) == np.unique(train_ratings).tolist()
    assert sum(one.probabilities.values()) == pytest.approx(1)
    assert one.rating == pytest.approx(sum(value * share for value, share in one.probabilities.items()), abs=1e-4)


def test_measures_by_hand() -> None:
    rows = RatingSet(np.array([[1, 1], [1, 2], [2, 1]], np.int32), np.array([1.0, 2.0, 4.5], np.float32))

    def outputs(users: Any, items: Any) -> Any:  # noqa: ARG001
        return np.array([[1.5], [9.0], [4.5]], np.float32)

    by_hand = measure(SETTINGS, rows, outputs)
    assert [by_hand.rmse, by_hand.mae] == pytest.approx([np.sqrt((0.5**2 + 3**2) / 3), 3.5 / 3])
    assert by_hand == Accuracy(by_hand.rmse, by_hand.mae), "no classes"
    logits = np.log(np.full((3, 10), 0.05, np.float32))
    logits[0, 1] = logits[1, 0] = logits[2, 8] = np.log(0.55)
    found = measure(CLASSES, rows, lambda *_: logits)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.cross_entropy == pytest.approx(-(2 * np.log(0.55) + np.log(0.05)) / 3, rel=1e-5)
    assert class_of(CLASSES, np.array([0.5, 0.74, 0.76, 5.0, 3.0], np.float32)).tolist() == [0, 0, 1, 9, 5]
    assert expected_rating(CLASSES, logits[:1])[0] == pytest.approx(0.5 * 1.0 + 0.05 * 27.5, rel=1e-5)


def test_biases_are_those_of_least_squares_with_a_ridge() -> None:
    rng = np.random.default_rng(3)
    pairs = np.array([(u, i) for u in range(1, 6) for i in range(1, 8) if rng.random() < 0.8], np.int32)
    ratings = rng.normal(3, 1, len(pairs)).astype(np.float32)
    settings = DnnSettings(n_users=6, n_items=8, user_columns=1, item_columns=1, lowest=-9.0, highest=9.0)
    design = np.zeros((len(pairs), 14))
    design[np.arange(len(pairs)), pairs[:, 0]] = 1
    design[np.arange(len(pairs)), 6 + pairs[:, 1]] = 1
    ridge = np.diag([2.0] * 6 + [3.0] * 8)
    solved = np.linalg.solve(design.T @ design + ridge, design.T @ (ratings - ratings.mean(dtype=np.float64)))
    found = biases(settings, [RatingSet(pairs, ratings)], (2.0, 3.0))(pairs[:, 0], pairs[:, 1])
    np.testing.assert_allclose(found, ratings.mean() + design @ solved, atol=2e-3)
    unknown = biases(settings, [RatingSet(pairs, ratings)], (2.0, 3.0))(np.zeros(1, np.int32), np.zeros(1, np.int32))
    assert unknown[0] == pytest.approx(ratings.mean())


@pytest.fixture(scope="module")
def exported(trained: tuple[Path, DnnTrainReport]) -> Path:
    code, out, _ = call("dnn", "export", "--dataset", trained[0])
    assert code == 0, out
    assert "Verified: 10 of 10 rungs passed" in out
    return trained[0]


def test_the_exported_network_predicts_as_the_trained(exported: Path, classified: tuple[Path, DnnTrainReport]) -> None:
    ours, theirs = (
        predict(exported, DnnPredictSettings(tflite), user=100, items=[1000, 1001, 7]) for tflite in (False, True)
    )
    assert [one.rating for one in ours.items] == pytest.approx([one.rating for one in theirs.items], abs=1e-4)
    assert call("dnn", "export", "--dataset", classified[0])[0] == 0
    ours, theirs = (predict(classified[0], DnnPredictSettings(tflite), user=100, items=[1000]) for tflite in (False, True))
    assert ours.items[0].probabilities == pytest.approx(theirs.items[0].probabilities, abs=1e-4)


def test_a_model_that_is_not_what_was_trained_fails(exported: Path, tmp_path: Path) -> None:
    place = DnnDataset(exported)
    network = network_of(exported)
    split, beside = place.prepared().content, (ids_of(place, unknown=True), DnnExportSettings())
    other = {**network.weights, "user_features": network.weights["user_features"] + np.float32(0.1)}
    changed = NetworkFile(Network(network.settings, other), split)
    verdicts = {rung.name: rung.verdict for rung in verify_export(place.tflite, changed, *beside)}
    assert [name for name, verdict in verdicts.items() if verdict == "failed"] == ["ratings"]
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(place.tflite.read_bytes()[:5000])
    assert verify_export(cut, changed, *beside)[0].verdict == "failed"
    with pytest.raises(ModelError):
        DnnModel(cut)
    with pytest.raises(ModelError, match="no user with code 99"):
        DnnModel(place.tflite).predict(99, np.zeros(1, np.int32))


def test_who_and_what_is_not_known_is_predicted_and_said(exported: Path) -> None:
    words = ["dnn", "predict", "--dataset", exported, "--user", 100, "--item", 1000, "--item", 1031, "--item", "x7"]
    code, out, err = call(*words)
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[0] for line in lines] == ["1000", "1031", "x7"]
    assert lines[0][2] == "Film, The (1950)"
    assert all(0.5 <= float(line[1]) <= 5 for line in lines)
    assert "item 1031 has no ratings in the train set: it is known by its genres and year" in err
    assert "item x7 is in neither the train set nor movies.csv" in err
    assert (
        "user -3 has no ratings in the train set"
        in call("dnn", "predict", "--dataset", exported, "--user=-3", "--item", 1)[2]
    )
    found = json.loads(call(*words, "--json")[1])
    assert [one["known"] for one in found["items"]] == [True, True, False]


def test_unseen_codes_are_in_the_test_and_are_measured(prepped: Path) -> None:
    pairs = read_sets(DnnDataset(prepped)).sets["test"].pairs
    assert (pairs == 0).any(axis=0).tolist() == [True, True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--layers", "0,16"], "layers is 0"),
        (["train", "--dropout", "1"], "dropout is 1.0"),
        (["train", "--learning-rate", "nan"], "learning_rate is nan"),
        (["train", "--learning-rate", "1e30", *WORDS[:-2]], "the loss is nan"),
        (["evaluate"], "dnn.safetensors is missing"),
        (["export"], "dnn.safetensors is missing"),
        (["predict", "--user", "1", "--item", "2"], "dnn.safetensors is missing"),
    ],
)
def test_what_cannot_be_is_said_in_one_message(prepped: Path, tmp_path: Path, words: list[str], message: str) -> None:
    code, out, err = call("dnn", *words, "--dataset", copy_of(prepped, tmp_path))
    assert (code, out) == (1, "")
    assert message in err


def test_a_network_of_another_split_is_refused_and_what_is_out_of_date_is_named(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "d")
    folder = tmp_path / "d"
    states = {line.split()[0]: line for line in call("inspect", "--dataset", folder)[1].splitlines()[1:]}
    assert {"ingest", "dnn_prep", "dnn_train", "dnn_export"} == set(states)
    assert all("  current  " in line for line in states.values()), states
    path = DnnDataset(folder).split / "train_pairs.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, out, _ = call("verify-data", "--dataset", folder)
    assert code == 1
    again = f"pocketrec dnn prep {exported / 'ml.zip'} --timezone UTC --bad-rows stop --time-unit auto"
    assert f"{again} --gap-over kept --quote double --encoding utf-8 --duplicates stop --min-ratings 1" in out
    prep(folder / "ml.zip", folder)
    assert "OUT OF DATE: split has changed since" in call("inspect", "--dataset", folder)[1]
    with pytest.raises(DatasetError, match="trained on another split"):
        evaluate(folder)


def test_each_stage_is_made_again_by_the_command_of_its_record(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "a dataset")
    commands = rebuild_each(tmp_path / "a dataset", "dnn")
    assert [words.split()[1] for words in commands] == ["prep", "prep", "export", "train"]


def test_a_network_that_0_1_wrote_is_named_with_the_command_that_makes_it(
    trained: tuple[Path, DnnTrainReport], tmp_path: Path
) -> None:
    shutil.copytree(trained[0], tmp_path / "d")
    place = DnnDataset(tmp_path / "d")
    old = as_0_1_left_it(place)
    for words in (["evaluate"], ["predict", "--user", "100", "--item", "1000"], ["export"]):
        code, _, err = call("dnn", *words, "--dataset", place.root)
        assert code == 1
        assert f"{place.network} is missing. The network that is there, {old}, was written by pocketrec 0.1" in err
        assert f"To go on: pocketrec dnn train --dataset {place.root}" in err
    assert not train(place.root, DnnTrainSettings(**SMALL)).reused
    assert not old.exists()
    assert_same(trained[0], place.root)


def test_the_picture_is_drawn(exported: Path, tmp_path: Path) -> None:
    place, own = DnnDataset(exported), tmp_path / "own.png"
    assert place.picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    code, _, err = call("dnn", "evaluate", "--dataset", exported, "--picture", own)
    assert (code, own.read_bytes()[:4]) == (0, b"\x89PNG")
    assert str(own) in err


def test_prep_and_train_by_the_command_line(tmp_path: Path) -> None:
    log = tmp_path / "own.csv"
    log.write_text("who;what;when;stars\n" + "".join(f"{u};{i};{t};{r}\n" for u, i, r, t in camps(10, 12, 8)))
    words = ["dnn", "prep", log, "--dataset", tmp_path, "--json"]
    code, out, _ = call(*words, "--columns", "user=who,item=what,time=when,rating=stars", "--split", "user")
    assert code == 0
    assert json.loads(out)["users"] == 10
    assert call(*words, "--columns", "user=who,item=what,time=when")[0] == 2
    code, out, _ = call("dnn", "train", "--dataset", tmp_path, *WORDS, "--quiet")
    assert code == 0
    assert out.count("epoch ") >= 6
    assert "Keras model" in out
