"""Training, evaluation, export and recommendation on a small set with structure, with TensorFlow and LiteRT as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import StopAt, StoppedError, call
from ncf_support import two_camps, write_dat
from pocketrec.errors import DatasetError, ModelError, SettingsError
from pocketrec.ncf.batches import batches
from pocketrec.ncf.evaluate import evaluate
from pocketrec.ncf.interactions import read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import Network, NetworkSettings, network_of, read_network
from pocketrec.ncf.options import (
    NcfExportSettings,
    NcfMakeSettings,
    NcfPrepSettings,
    NcfRankSettings,
    NcfRecommendSettings,
    NcfTrainSettings,
)
from pocketrec.ncf.prep import prep
from pocketrec.ncf.producer import Examples
from pocketrec.ncf.recommend import recommend
from pocketrec.ncf.runtime import NcfModel
from pocketrec.ncf.train import NcfTrainReport, train
from pocketrec.ncf.verify import verify_export
from pocketrec.storage.manifest import read_records
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.verify_data import verify_data
from pocketrec.training.epoch_runs import Checkpoints, History
from pocketrec.training.export import ids_of
from rebuild_support import as_0_1_left_it, rebuild_each

SMALL: dict[str, Any] = {
    "train_epochs": 3, "batch_size": 128, "eval_negatives": 20, "num_factors": 4, "layers": (8, 6), "learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def prepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ncf")
    prep(write_dat(folder / "ratings.dat", two_camps()), folder, NcfPrepSettings(min_ratings=5, validation=True))
    return folder


@pytest.fixture(scope="module")
def trained(prepped: Path) -> tuple[Path, NcfTrainReport]:
    return prepped, train(prepped, NcfTrainSettings(**SMALL))


@pytest.fixture(scope="module")
def short(prepped: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NcfTrainReport]:
    """One epoch."""
    folder = copy_of(prepped, tmp_path_factory.mktemp("short"))
    return folder, train(folder, NcfTrainSettings(**{**SMALL, "train_epochs": 1}))


def weights(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return read_network(NcfDataset(folder)).network.weights


def copy_of(prepped: Path, folder: Path) -> Path:
    shutil.copytree(prepped / "ncf", folder / "ncf", ignore=shutil.ignore_patterns("model"))
    return folder


def assert_same(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert {name: array.tobytes() for name, array in a.items()} == {name: array.tobytes() for name, array in b.items()}


def test_it_learns_and_knows_when_it_has(trained: tuple[Path, NcfTrainReport]) -> None:
    folder, report = trained
    assert [epoch.epoch for epoch in report.epochs] == [1, 2, 3]
    assert report.epochs[-1].loss < report.epochs[0].loss
    best = max((epoch for epoch in report.epochs if epoch.metrics), key=lambda epoch: epoch.metrics.ndcg)  # type: ignore[union-attr]
    assert (report.judged_on, report.kept) == ("valid", best.epoch)
    assert train(folder, NcfTrainSettings(**SMALL)).reused
    assert verify_data(NcfDataset(folder).home).passed


def test_tensorboard_has_a_curve_of_each_number(trained: tuple[Path, NcfTrainReport]) -> None:
    from tensorflow import make_ndarray
    from tensorflow.compat.v1.train import summary_iterator  # type: ignore[import-untyped, unused-ignore]

    folder, report = trained
    (path,) = (folder / "ncf" / "model" / "summaries").iterdir()
    found: dict[str, list[float]] = {}
    for event in summary_iterator(str(path)):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append(float(make_ndarray(value.tensor)))
    metrics = [epoch.metrics for epoch in report.epochs if epoch.metrics]
    assert found["loss"] == pytest.approx([epoch.loss for epoch in report.epochs])
    assert found["HR"] == pytest.approx([one.hr for one in metrics])
    assert found["NDCG"] == pytest.approx([one.ndcg for one in metrics])
    assert min(found["examples_a_second"]) > 0


def test_the_defaults_run(prepped: Path, tmp_path: Path) -> None:
    again = copy_of(prepped, tmp_path)
    code, out, _ = call("ncf", "train", "--dataset", again)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines() if line.startswith("epoch")] == [str(n) for n in range(1, 21)]
    code, out, _ = call("ncf", "evaluate", "--dataset", again)
    assert code == 0
    assert sorted(line.split("  ")[0].strip() for line in out.splitlines()[1:]) == ["neumf"] * 2 + ["popularity"] * 2


def test_a_run_that_was_stopped_ends_as_one_that_was_not(trained: tuple[Path, NcfTrainReport], tmp_path: Path) -> None:
    folder, whole = trained
    again = copy_of(folder, tmp_path)
    with pytest.raises(StoppedError):
        train(again, NcfTrainSettings(**SMALL), progress=StopAt("epoch 2"))
    report = train(again, NcfTrainSettings(**SMALL))
    assert report.resumed == 1
    assert [(epoch.loss, epoch.metrics) for epoch in report.epochs] == [
        (epoch.loss, epoch.metrics) for epoch in whole.epochs
    ]
    assert_same(folder, again)


def test_a_run_that_was_stopped_when_it_had_finished_is_tidied_up(
    trained: tuple[Path, NcfTrainReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = copy_of(trained[0], tmp_path)

    def stop(_: Checkpoints) -> None:
        if NcfDataset(again).network.exists():
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "clear", stop)
        with pytest.raises(StoppedError):
            train(again, NcfTrainSettings(**SMALL))
    folder = NcfDataset(again).checkpoints
    assert list(folder.iterdir())
    assert train(again, NcfTrainSettings(**SMALL)).reused
    assert not folder.exists()
    with pytest.raises(StoppedError):  # another run, which is to go on later
        train(again, NcfTrainSettings(**SMALL, num_neg=3), progress=StopAt("epoch 2"))
    assert train(again, NcfTrainSettings(**SMALL)).reused
    assert list(folder.iterdir())


def test_a_loop_of_its_own_on_written_epochs_comes_to_the_same(
    trained: tuple[Path, NcfTrainReport], tmp_path: Path
) -> None:
    folder, whole = trained
    again = copy_of(folder, tmp_path)
    same = {name: SMALL[name] for name in ("train_epochs", "batch_size", "eval_negatives")}
    made = batches(again, NcfMakeSettings(**same, eval_batch_size=63))
    assert made.evaluation_batches == 20
    assert batches(again, NcfMakeSettings(**same, eval_batch_size=63)).reused
    report = train(again, NcfTrainSettings(**SMALL, keras_use_ctl=True), train_dataset_path=made.folder)
    assert [epoch.metrics for epoch in report.epochs] == [epoch.metrics for epoch in whole.epochs]
    for name, array in weights(folder).items():
        np.testing.assert_allclose(weights(again)[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    with pytest.raises(SettingsError, match="made with num_neg 4, asked for is 3"):
        train(again, NcfTrainSettings(**SMALL, num_neg=3), train_dataset_path=made.folder)


@pytest.mark.parametrize(
    ("options", "exact"),
    [
        ({"enable_xla": True}, True),
        ({"enable_xla": True, "keras_use_ctl": True}, True),
        ({"distribution_strategy": "mirrored"}, True),
        ({"distribution_strategy": "mirrored", "keras_use_ctl": True}, True),
        ({"dtype": "fp16"}, False),
        ({"dtype": "fp16", "loss_scale": 1024.0}, False),
        ({"dtype": "fp16", "loss_scale": 1024.0, "keras_use_ctl": True, "distribution_strategy": "mirrored"}, False),
        ({"dtype": "bf16"}, False),
    ],
)
def test_how_it_is_computed_does_not_change_what_it_learns(
    short: tuple[Path, NcfTrainReport], tmp_path: Path, options: dict[str, Any], exact: bool
) -> None:
    folder, whole = short
    again = copy_of(folder, tmp_path)
    report = train(again, NcfTrainSettings(**{**SMALL, "train_epochs": 1}, **options))
    losses = [epoch.loss for epoch in report.epochs]
    assert losses == pytest.approx([epoch.loss for epoch in whole.epochs], rel=1e-5 if exact else 1e-3)
    for name, array in weights(folder).items():
        near = (1e-4, 1e-5) if exact else (0.0, 0.1)
        np.testing.assert_allclose(weights(again)[name], array, *near, err_msg=name)


def test_with_xla_the_step_is_compiled() -> None:
    from pocketrec.ncf.tf.trainer import Trainer

    for ctl in (False, True):
        trainer = Trainer(
            NetworkSettings(3, (6, 5), n_users=7, n_items=11),
            NcfTrainSettings(batch_size=4, enable_xla=True, keras_use_ctl=ctl),
        )
        codes, label = np.array([1, 1, 2, 3], np.int32), np.array([[1], [0], [0], [1]], np.float32)
        batch = ({"user": codes, "item": codes}, label, np.ones(4, np.float32))
        step = trainer._step if ctl else trainer.model.train_step
        given = batch if ctl else (batch,)
        assert "HloModule" in step.experimental_get_compiler_ir(*given)(stage="hlo")


@pytest.mark.parametrize("ctl", [False, True])
@pytest.mark.parametrize("scale", [0.0, 64.0])
def test_adam_takes_the_square_of_a_rows_whole_gradient(ctl: bool, scale: float) -> None:
    """Its first step moves by the learning rate, up or down, however often a row is in the batch."""
    from pocketrec.ncf.tf.trainer import Trainer

    options = NcfTrainSettings(
        batch_size=6, keras_use_ctl=ctl, learning_rate=0.01, dtype="fp16" if scale else "fp32", loss_scale=scale
    )
    trainer = Trainer(NetworkSettings(4, (4, 3), "gmf", n_users=5, n_items=9), options)
    before = trainer.weights()
    users, items = np.array([0, 0, 0, 0, 1, 4], np.int32), np.array([1, 2, 3, 4, 1, 8], np.int32)
    block = Examples(users, items, np.array([1, 1, 1, 1, 0, 1], bool), np.ones(6, bool))
    trainer.epoch(lambda: [block], 1, lambda _: None)
    moved = np.abs(trainer.weights()["user"] - before["user"])
    np.testing.assert_allclose(moved[[0, 1, 4]], 0.01, rtol=0.02)
    assert not moved[[2, 3]].any()


def test_early_stopping_and_regularization(prepped: Path, tmp_path: Path) -> None:
    again = copy_of(prepped, tmp_path)
    options = {**SMALL, "mf_regularization": 1e-3, "mlp_regularization": (0.0, 1e-2)}
    report = train(again, NcfTrainSettings(**options, early_stopping=True, hr_threshold=0.01))
    assert len(report.epochs) == 1
    assert report.epochs[0].metrics
    assert report.epochs[0].metrics.hr >= 0.01
    held = float(np.abs(weights(again)["user"]).mean())
    train(again, NcfTrainSettings(**{**options, "mf_regularization": 0.0, "train_epochs": 1}))
    assert held < float(np.abs(weights(again)["user"]).mean())


@pytest.mark.parametrize("model", ["gmf", "mlp"])
def test_one_half_alone(prepped: Path, tmp_path: Path, model: str) -> None:
    again = copy_of(prepped, tmp_path)
    code, out, _ = call("ncf", "train", "--dataset", again, "--model", model, "--batch-size", 128, "--train-epochs", 2,
                        "--num-factors", 4, "--layers", "8,6", "--eval-negatives", 20)  # fmt: skip
    assert code == 0
    assert "popularity" in out
    assert read_network(NcfDataset(again)).network.settings.kind == model


def test_a_run_that_is_killed_goes_on(prepped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the folder in the midst of a run is what a SIGKILL leaves; the same command ends with the same network."""
    one, other = copy_of(prepped, tmp_path / "one"), tmp_path / "other"
    write = Checkpoints.write

    def write_and_copy(self: Checkpoints, history: History, trainer: Any) -> None:
        write(self, history, trainer)
        if len(history.epochs) == 2:
            (one / "ncf" / "model" / "neumf.safetensors.incomplete").write_bytes(b"half")
            shutil.copytree(one, other)

    command = ["ncf", "train", "--batch-size", 128, "--train-epochs", 4, "--num-factors", 4, "--layers", "8,6",
               "--eval-negatives", 20, "--dataset"]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", write_and_copy)
        assert call(*command, one)[0] == 0
    code, _, err = call(*command, other)
    assert code == 0
    assert "went on after epoch 2" in err
    assert_same(one, other)
    assert not list(tmp_path.rglob("*.incomplete"))


@pytest.mark.parametrize("kind", ["neumf", "gmf", "mlp"])
def test_keras_lite_and_numpy_agree(kind: str) -> None:
    from pocketrec.ncf.tf.keras_model import build, weights_of
    from pocketrec.ncf.tf.lite_model import LiteNetwork

    settings = NetworkSettings(3, (6, 5, 4), kind, n_users=7, n_items=11)  # type: ignore[arg-type]
    rng = np.random.default_rng(2)
    model = build(settings)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == settings.parameters
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape).astype(np.float32))
    network = Network(settings, weights_of(model, settings))
    users, items = np.repeat(np.arange(7, dtype=np.int32), 11), np.tile(np.arange(11, dtype=np.int32), 7)
    expected = network.pairs(users, items)
    np.testing.assert_allclose(model({"user": users, "item": items})[:, 0], expected, rtol=1e-4, atol=1e-5)
    lite = LiteNetwork(settings, network.weights, NcfExportSettings())
    found = [lite.score(np.array([user], np.int32), np.arange(11, dtype=np.int32))["scores"] for user in range(7)]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-4, atol=1e-5)


def test_the_size_that_the_original_has_on_ml_1m() -> None:
    assert NetworkSettings(n_users=6040, n_items=3706).parameters == 392_601


def test_evaluation_reports_both_rankings_beside_popularity(trained: tuple[Path, NcfTrainReport]) -> None:
    folder, report = trained
    found = evaluate(folder, NcfRankSettings(on="valid", ml_perf=False))
    kept = report.epochs[report.kept - 1].metrics
    assert found.network.sampled == kept
    assert found.popularity.sampled == report.popularity
    assert found.network.full
    assert found.popularity.full
    assert found.network.full.ndcg <= found.network.sampled.ndcg + 0.2
    assert evaluate(folder, NcfRankSettings(full=False)).network.full is None


@pytest.fixture(scope="module")
def exported(trained: tuple[Path, NcfTrainReport]) -> Path:
    code, out, _ = call("ncf", "export", "--dataset", trained[0])
    assert code == 0, out
    assert "Verified: 10 of 10 rungs passed" in out
    return trained[0]


def test_the_page_has_these_figures_and_the_verdict(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    measured = json.loads(call("ncf", "evaluate", "--dataset", exported, "--json")[1])
    code, out, err = call("report", "--dataset", exported, "--out", tmp_path / "page.html", "--json")
    assert code == 0, err
    data = json.loads(out)["data"]
    assert data["clicks"] is data["dnn"] is None
    assert measured in data["ncf"]["accuracy"]["data"]
    trained = read_records(NcfDataset(exported).model)["ncf_train"].counts
    assert data["ncf"]["training"]["data"]["epochs"] == trained["epochs"]
    verdict = data["ncf"]["model"]["data"]["verify"]["data"]
    assert [rung["verdict"] for rung in verdict["rungs"]] == ["passed"] * 10
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for one in (measured["network"], measured["popularity"]):
        assert f"{one['sampled']['hr']:.4f}" in page
        assert f"{one['full']['ndcg']:.4f}" in page


def test_the_exported_network_recommends_as_the_trained(exported: Path) -> None:
    for user in (100, 101, 159):
        ours, theirs = (
            recommend(exported, NcfRecommendSettings(top=5), user=user),
            recommend(exported, NcfRecommendSettings(top=5, tflite=True), user=str(user)),
        )
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
    trained = read_network(place)
    beside = ids_of(place, unknown=False), NcfExportSettings(), read_interactions(place)
    other = {**trained.network.weights, "bias_out": trained.network.weights["bias_out"] + 1}
    changed = NetworkFile(network_of(trained.network.settings, other), trained.split)
    verdicts = {rung.name: rung.verdict for rung in verify_export(place.tflite, changed, *beside)}
    assert [name for name, verdict in verdicts.items() if verdict == "failed"] == ["scores", "top"]
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(place.tflite.read_bytes()[:5000])
    assert verify_export(cut, trained, *beside)[0].verdict == "failed"
    with pytest.raises(ModelError):
        NcfModel(cut)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--layers", "31,16"], "the first layer is 31, which is odd"),
        (["train", "--eval-batch-size", "256"], "a multiple of 1,000, such as 1,000 or 2,000"),
        (["train", "--learning-rate", "0"], "learning_rate is 0"),
        (["train", "--mlp-regularization", "0,1"], "2 numbers for 4 layers"),
        (["train", "--epsilon", "nan"], "epsilon is nan"),
        (["batches", "--eval-batch-size", "1500"], "does not hold whole users"),
        (["recommend", "--user", "7"], "user 7 is not among the 60 users"),
        (["recommend", "--user", "100", "--top", "99"], "1 to 32, the items that the user has not rated"),
        (["evaluate"], "neumf.safetensors is missing"),
        (["export"], "neumf.safetensors is missing"),
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
    path = NcfDataset(folder).split / "train_items.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, out, _ = call("verify-data", "--dataset", folder)
    assert code == 1
    assert f"pocketrec ncf prep {exported / 'ratings.dat'} --timezone UTC --bad-rows stop " in out
    assert f"--min-ratings 5 --split leave-one-out --holdout 0.1 --validation --fresh --dataset {folder}" in out
    prep(folder / "ratings.dat", folder, NcfPrepSettings(min_ratings=4))
    assert "OUT OF DATE: split has changed since" in call("inspect", "--dataset", folder)[1]


def test_each_stage_is_made_again_by_the_command_of_its_record(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "a dataset")
    sizes = {name: SMALL[name] for name in ("train_epochs", "batch_size", "eval_negatives")}
    batches(tmp_path / "a dataset", NcfMakeSettings(**sizes, eval_batch_size=63))
    commands = rebuild_each(tmp_path / "a dataset", "ncf")
    assert [" ".join(words.split()[:2]) for words in commands] == ["ncf prep"] * 1 + [
        "ncf batches", "ncf prep", "ncf export", "ncf train",
    ]  # fmt: skip
    assert all(
        words.split()[-1] == {"train": "--clean", "export": "20"}.get(words.split()[1], "--fresh") for words in commands
    )


def test_a_network_that_0_1_wrote_is_named_with_the_command_that_makes_it(
    trained: tuple[Path, NcfTrainReport], tmp_path: Path
) -> None:
    shutil.copytree(trained[0], tmp_path / "d")
    place = NcfDataset(tmp_path / "d")
    old = as_0_1_left_it(place)
    for words in (["evaluate"], ["recommend", "--user", "100"], ["export"]):
        code, _, err = call("ncf", *words, "--dataset", place.root)
        assert code == 1
        assert f"{place.network} is missing. The network that is there, {old}, was written by pocketrec 0.1" in err
        assert f"To go on: pocketrec ncf train --dataset {place.root}" in err
    report = train(place.root, NcfTrainSettings(**SMALL))
    assert not report.reused
    assert not old.exists()
    assert_same(trained[0], place.root)


@pytest.mark.parametrize("name", ["recommend", "evaluate"])
def test_a_damaged_network_is_named_with_its_command(
    trained: tuple[Path, NcfTrainReport], tmp_path: Path, name: str
) -> None:
    shutil.copytree(trained[0], tmp_path / "d")
    place = NcfDataset(tmp_path / "d")
    content = bytearray(place.network.read_bytes())
    content[-1] ^= 1
    place.network.write_bytes(content)
    code, _, err = call("ncf", name, "--dataset", place.root, *(["--user", "100"] if name == "recommend" else []))
    assert code == 1
    assert f"{place.network} cannot be read" in err
    assert "--num-factors 4 --layers 8,6" in err
    assert f"--clean --dataset {place.root}" in err


def test_without_a_split_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    code, _, err = call("ncf", "train", "--dataset", tmp_path)
    assert code == 1
    assert f"pocketrec ncf prep RATINGS --dataset {tmp_path}" in err


def test_a_network_of_another_split_is_refused(trained: tuple[Path, NcfTrainReport], tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(trained[0], folder)
    prep(folder / "ratings.dat", folder, NcfPrepSettings(min_ratings=5))
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
