"""Training: killed and resumed, handed to a .tflite, measured there."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import call
from pocketrec.cli.reports import load_for, results
from pocketrec.errors import ModelError, SettingsError
from pocketrec.gru4rec import train as training
from pocketrec.gru4rec import tune as tuning
from pocketrec.gru4rec.checkpoints import STATE, Checkpoint, Position, read_checkpoint, write_checkpoint
from pocketrec.gru4rec.evaluate import evaluate, open_scorer
from pocketrec.gru4rec.options import RankSettings, TrainSettings, TuneSettings
from pocketrec.gru4rec.ranking import Ranking
from pocketrec.gru4rec.scoring import WithoutOwn, rank
from pocketrec.gru4rec.search import Choice, choose_neighbours
from pocketrec.gru4rec.tune import draw, rungs
from pocketrec.lite.contract import STEP, ModelSpec
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.judge.formulas import forward, no_masks, scores_of
from pocketrec.lite.neighbours import METHODS, SessionIndex
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.sampling import Sampler
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.prep import prep
from pocketrec.sessions.sequences import read_sequences
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import read_records
from pocketrec.storage.repair import rebuild_command
from ranking_oracle import slow_rank

SMALL: dict[str, Any] = {
    "embedding": "shared",
    "hidden_size": 12,
    "optimizer": "adagrad",
    "learning_rate": 0.1,
    "negatives": 64,
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    synth(folder / "clicks.dat", SynthSettings(clicks=6000, seed=5))
    prep(
        folder / "clicks.dat",
        folder / "d",
        batching=BatchSettings(batch_size=8, formats=("npy",), tail="pad"),
        splitting=SplitSettings(holdout=20 * 86400.0),
    )
    return folder / "d"


@pytest.fixture
def where(tmp_path: Path, prepared: Path) -> Dataset:
    shutil.copytree(prepared, tmp_path / "d")
    return Dataset(tmp_path / "d")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """Trained for an epoch."""
    folder = tmp_path_factory.mktemp("once") / "d"
    shutil.copytree(prepared, folder)
    training.train(folder, TrainSettings(batch_size=8, epochs=1, **SMALL))
    return folder


@pytest.fixture
def trained(tmp_path: Path, once: Path) -> Dataset:
    shutil.copytree(once, tmp_path / "trained")
    return Dataset(tmp_path / "trained")


KILLED = """
import os, sys
from pocketrec.gru4rec import train as training
from pocketrec.gru4rec import tune as tuning

training.STEPS_PER_BLOCK, training.SECONDS_PER_CHECKPOINT = 16, 0.0
saves, save = 0, training.Training._save_last

def save_and_die(self, state):
    global saves
    save(self, state)
    saves += 1
    if saves == 5:
        os.kill(os.getpid(), 9)

training.Training._save_last = save_and_die
training.train(sys.argv[1], training.TrainSettings(batch_size=8, epochs=2, **eval(sys.argv[2])))
"""


def test_a_killed_training_goes_on_to_the_same_weights(where: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STEPS_PER_BLOCK", 16)
    done = subprocess.run([sys.executable, "-c", KILLED, str(where.root), repr(SMALL)], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert read_checkpoint(where.checkpoint(8, last=True)).position.step == 80
    resumed = training.train(where.root, TrainSettings(batch_size=8, epochs=2, **SMALL))
    assert resumed.resumed
    one = read_checkpoint(where.checkpoint(8, last=True))
    whole = training.train(where.root, TrainSettings(batch_size=8, epochs=2, **SMALL), fresh=True)
    assert not whole.resumed
    other = read_checkpoint(where.checkpoint(8, last=True))
    assert resumed.losses == whole.losses
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor, other.tensors[name], err_msg=name)
    assert one.position == other.position


def test_training_helps_and_the_tflite_measures_the_same(where: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = call(
        *("train", "--dataset", where.root, "--batch-size", 8, "--epochs", 2, "--hidden-size", 12, "--negatives", 64),
        "--json",
    )
    assert code == 0
    report = json.loads(out)
    assert report["losses"][0] > report["losses"][-1]
    kept = read_checkpoint(Path(report["checkpoint"]))
    assert kept.position.epoch == report["kept"] == 1 + int(np.argmax(report["validation"]))
    chosen: list[str] = []

    def counted(index: SessionIndex, method: str, *rest: Any) -> Choice:
        chosen.append(method)
        return choose_neighbours(index, method, *rest)

    monkeypatch.setattr("pocketrec.gru4rec.evaluate.choose_neighbours", counted)
    here = evaluate(where.root, RankSettings(blend="vstan"), model=report["checkpoint"])
    assert sorted(chosen) == sorted(METHODS), "each once, though the blend and the baselines both ask"
    assert here.models[1].name == f"{here.models[0].name} + VSTAN"
    assert 0 <= here.models[1].settings["weight"] <= 1
    recall = {one.name: one.recall[20] for one in here.models}
    assert here.models[0].recall[20] > recall["popularity"]
    code, out, _ = call("export", "--dataset", where.root, "--batch-size", 8, "--from", report["checkpoint"])
    assert code == 0
    path = where.tflite(8)
    there = evaluate(where.root, RankSettings(baselines=False), model=path)
    assert there.events == here.events
    assert there.models[0].recall == here.models[0].recall
    assert there.models[0].mrr == pytest.approx(here.models[0].mrr, abs=1e-6)
    hidden = evaluate(where.root, RankSettings(baselines=False, seen="hide"), model=path).models[0]
    scorer = WithoutOwn(open_scorer(path, read_item_list(where), where)[0])
    alone = rank(scorer, where, "test", Ranking()).accuracy(scorer.name)
    assert (hidden.name, hidden.recall, hidden.mrr) == (alone.name, alone.recall, alone.mrr)
    data = json.loads(call("report", "--dataset", where.root, "--json")[1])["data"]["clicks"]
    (run,) = data["training"]["data"]
    assert {**run["report"], "seconds": report["seconds"]} == report, "what train printed"
    names = ("losses", "validation", "kept")
    assert [run[name] for name in names] == [report[name] for name in names], "from the checkpoints"
    measured = [one["report"]["models"][0]["recall"]["20"] for one in data["accuracy"]["data"]]
    assert measured == [here.models[0].recall[20], there.models[0].recall[20], hidden.recall[20]]
    (model,) = data["model"]["data"]
    assert (model["from"], model["bytes"]) == (Path(report["checkpoint"]).name, path.stat().st_size)
    assert model["verify"]["state"] == "missing"
    saved = OnDeviceModel(path).save()
    assert saved[STEP] == kept.tensors[STEP] > 0
    for name in kept.settings.state:
        np.testing.assert_array_equal(saved[name], kept.tensors[name], err_msg=name)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    again = shlex.split(rebuild_command(where.root, read_records(where.model)["export_bs8"]))
    code, _, err = call(*again[1:])
    assert code == 0, err
    assert path.read_bytes() == content


def test_a_checkpoint_is_measured_as_by_a_slow_walk(once: Path) -> None:
    """One session at a time in numpy, the state fresh at each: lanes, masks and padding change nothing."""
    where = Dataset(once)
    path = where.checkpoint(8)
    found = evaluate(where.root, RankSettings(cutoffs=(5, 20), baselines=False), model=path)
    kept = read_checkpoint(path)
    tensors = {name: kept.tensors[name].astype(np.float64) for name in kept.settings.weights}
    ranks = []
    for items, lengths in read_sequences(where, "test"):
        for session in np.split(items, np.cumsum(lengths)[:-1]):
            state: Any = np.zeros((1, 12))
            for code, target in pairwise(session):
                step = forward(tensors, np.array([code]), state, no_masks(kept.settings, 1), kept.settings)
                state = step.state
                ranks.append(slow_rank(scores_of(state, tensors["output"])[0].tolist(), target, "conservative"))
    assert found.events == len(ranks) > 100
    for n in (5, 20):
        assert found.models[0].recall[n] == pytest.approx(np.mean([rank <= n for rank in ranks]), abs=1.5 / len(ranks))
        assert found.models[0].mrr[n] == pytest.approx(np.mean([(rank <= n) / rank for rank in ranks]), abs=2e-3)


def test_on_train_full_the_last_epoch_is_kept(where: Dataset) -> None:
    call("batches", "--dataset", where.root, "--batch-size", 8, "--formats", "npy", "--train-on", "train_full")
    report = training.train(where.root, TrainSettings(batch_size=8, epochs=1, **SMALL))
    assert (report.validation, report.kept) == ((), 1)
    again = training.train(where.root, TrainSettings(batch_size=8, epochs=1, **SMALL))
    assert again.resumed
    assert again.events == 0, "nothing is left to do"


def test_curves_for_tensorboard(where: Dataset, tmp_path: Path) -> None:
    command = ("train", "--dataset", where.root, "--batch-size", 8, "--epochs", 1, "--hidden-size", 4, "--negatives", 8)
    assert call(*command, "--tensorboard", tmp_path / "board")[0] == 0
    assert list((tmp_path / "board").glob("events*"))


def test_a_loss_that_is_no_number_stops(where: Dataset) -> None:
    with pytest.raises(ModelError, match="NaN or infinite"):
        training.train(
            where.root, TrainSettings(batch_size=8, epochs=1, **{**SMALL, "optimizer": "sgd", "learning_rate": 1e38})
        )
    with pytest.raises(SettingsError, match="epochs"):
        training.train(where.root, TrainSettings(batch_size=8, epochs=0))


def test_a_sampler_that_skips_is_one_that_drew() -> None:
    for count in (0, 7, 70_000, 140_000):
        drew, skips = Sampler([3, 1, 4, 1, 5], seed=9), Sampler([3, 1, 4, 1, 5], seed=9)
        drew.draw(count)
        skips.skip(count)
        np.testing.assert_array_equal(drew.draw(70_000), skips.draw(70_000))


@pytest.mark.parametrize("damage", ["cut", "changed", "other", "missing"])
def test_a_damaged_checkpoint_is_one_message(tmp_path: Path, damage: str) -> None:
    path, settings = tmp_path / "a.safetensors", ModelSpec(n_items=5, batch_size=2, hidden_size=3, optimizer="sgd")
    tensors = {name: np.zeros(spec.shape, spec.dtype) for name, spec in settings.state.items()}
    write_checkpoint(path, Checkpoint(settings, "items", "batches", position=Position(1, losses=(2.0,)), tensors=tensors))
    assert read_checkpoint(path).position == Position(1, losses=(2.0,))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    elif damage == "other":
        write_checkpoint(path, Checkpoint(settings, "items", "batches", tensors={"output": np.zeros(3)}))
    else:
        path.unlink()
    with pytest.raises(ModelError, match="is missing" if damage == "missing" else "cannot be read"):
        read_checkpoint(path)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_what_is_kept_is_a_mean_that_counts_later_steps_more(where: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: after t steps the first s count (s / t)^(1 / .06); each with the weights some steps later."""
    from pocketrec.gru4rec.tf.sparse_model import SparseGru4Rec

    monkeypatch.setattr(training, "STEPS_PER_BLOCK", 16)
    monkeypatch.setattr(training, "MEANS_AN_EPOCH", 4)
    of_steps: list[tuple[int, Any]] = []
    train_block = SparseGru4Rec.train_block

    def recorded(self: SparseGru4Rec, steps: Any, state: Any) -> Any:
        found = train_block(self, steps, state)
        of_steps.append((len(steps.feats), self.weights["output"].numpy()))
        return found

    monkeypatch.setattr(SparseGru4Rec, "train_block", recorded)
    report = training.train(where.root, TrainSettings(batch_size=8, epochs=2, **SMALL))
    kept = read_checkpoint(report.checkpoint)
    assert kept.average == 0.06
    epoch = sum(steps for steps, _ in of_steps) // 2
    blocks = epoch // (16 * 4)
    shown: list[tuple[int, int, Any]] = []  # the steps from one time to the next, and the weights then
    begin = done = 0
    for steps, weights in of_steps[: len(of_steps) // 2 * report.kept]:
        done += steps
        if done % epoch // (16 * blocks) != begin % epoch // (16 * blocks) or done % epoch == 0:
            shown.append((begin, done, weights))
            begin = done
    assert 4 * report.kept <= len(shown) <= 6 * report.kept
    power = [(last / done) ** (1 / 0.06) - (first / done) ** (1 / 0.06) for first, last, _ in shown]
    assert sum(power) == pytest.approx(1)
    by_hand = sum(share * weights.astype(np.float64) for share, (_, _, weights) in zip(power, shown, strict=True))
    np.testing.assert_allclose(kept.tensors["output"], by_hand, atol=1e-5)
    assert np.abs(kept.tensors["output"] - shown[-1][2]).max() > 1e-4


def test_without_a_mean_the_weights_after_the_last_step_are_kept(where: Dataset) -> None:
    report = training.train(where.root, TrainSettings(batch_size=8, epochs=1, average=0.0, **SMALL))
    kept, last = read_checkpoint(report.checkpoint), read_checkpoint(where.checkpoint(8, last=True))
    for name, tensor in kept.tensors.items():
        np.testing.assert_array_equal(tensor, last.tensors[name], err_msg=name)
    assert last.tensors.keys() - kept.tensors.keys() == {STATE}
    with pytest.raises(SettingsError, match=r"average 0 there, 0\.06 now"):
        training.train(where.root, TrainSettings(batch_size=8, epochs=1, **SMALL))


@pytest.mark.parametrize("lost", ["last", "kept"])
def test_without_one_of_its_files_a_training_begins_anew_and_says_so(where: Dataset, trained: Dataset, lost: str) -> None:
    two = TrainSettings(batch_size=8, epochs=2, **SMALL)
    training.train(where.root, two)
    expected = read_checkpoint(where.checkpoint(8, last=True))
    where = trained
    path, last = where.checkpoint(8, last=lost == "last"), where.checkpoint(8, last=True)
    damage(path)
    code, _, err = call(
        *("train", "--dataset", where.root, "--batch-size", 8, "--epochs", 2, "--hidden-size", 12),
        *("--negatives", 64),
    )
    assert code == 0, err
    told = " ".join(err.split())
    assert f"{path} cannot be read" in told
    assert f"{path} is missing or damaged: began anew" in told
    assert "events are few: methods without training are likely better" in told
    again = read_checkpoint(last)
    assert again.position == expected.position
    for name, tensor in expected.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor, err_msg=name)


def test_the_checkpoint_of_another_training_is_not_replaced(trained: Dataset) -> None:
    where = trained
    kept, last = where.checkpoint(8), where.checkpoint(8, last=True)
    before = kept.read_bytes(), last.read_bytes()
    command = ("train", "--dataset", where.root, "--batch-size", 8, "--epochs", 1, "--hidden-size", 12, "--negatives", 64)
    code, out, err = call(*command, "--learning-rate", 0.05)
    assert (code, out) == (1, "")
    told = " ".join(err.split())
    assert "is of another training (epoch 1): learning_rate 0.1 there, 0.05 now. It was not touched." in told
    for cure in ("--fresh", f"move {kept} and {last} away"):
        assert cure in told
    assert (kept.read_bytes(), last.read_bytes()) == before
    state = last.rename(where.root / "state")
    assert call(*command, "--learning-rate", 0.05)[0] == 1
    assert call(*command, "--learning-rate", 0.05, "--fresh")[0] == 0
    assert kept.read_bytes() != before[0]
    kept.unlink()
    state.rename(last)
    assert call(*command, "--learning-rate", 0.05)[0] == 0, "the weights of the other training were moved away"
    kept.unlink()
    begun = read_checkpoint(last)
    write_checkpoint(last, replace(begun, position=Position(0, 16)))
    assert call(*command)[0] == 1, "its first epoch is all that there is of it"


def test_a_training_that_diverges_exits_with_1_and_keeps_what_was_there(trained: Dataset) -> None:
    where = trained
    kept = where.checkpoint(8)
    before = kept.read_bytes()
    command = ("train", "--dataset", where.root, "--batch-size", 8, "--epochs", 2, "--hidden-size", 12, "--negatives", 64)
    for more in ((), ("--loss", "bpr-max"), ("--optimizer", "sgd")):
        code, out, err = call(*command, "--learning-rate", "1e30", "--fresh", *more)
        assert (code, out) == (1, ""), more
        assert "The training has diverged" in err
        assert "lower --learning-rate" in " ".join(err.split())
        assert kept.read_bytes() == before


def test_a_checkpoint_of_another_format_is_not_taken_for_a_damaged_one(trained: Dataset) -> None:
    where = trained
    last = where.checkpoint(8, last=True)
    content = last.read_bytes()
    assert content.count(b'\\"format\\": 4') == 1
    last.write_bytes(content.replace(b'\\"format\\": 4', b'\\"format\\": 5'))
    with pytest.raises(ModelError, match="is of format 5"):
        training.train(where.root, TrainSettings(batch_size=8, epochs=2, **SMALL))


@pytest.mark.parametrize(
    ("where_", "changed"),
    [
        ("position", {"epoch": "x"}),
        ("position", {"epoch": True}),
        ("position", {"step": -5}),
        ("position", {"step": 1.5}),
        ("position", {"losses": [[2.0]]}),
        ("position", {"losses": "2"}),
        ("position", {"losses": [2.0, 1.0]}),
        ("position", {"loss": float("nan")}),
        ("position", {"loss": {}}),
        ("position", {"validation": [None]}),
        ("position", {"more": 1}),
        ("position", []),
        ("settings", {"hidden_size": 9_000_000_000}),
        ("settings", {"hidden_size": 9e9}),
        ("settings", {"hidden_size": True}),
        ("settings", {"batch_size": 2**40}),
        ("settings", {"n_items": 10**30}),
        ("settings", {"learning_rate": 10**400}),
        ("settings", {"learning_rate": [0.1]}),
        ("settings", {"optimizer": {"adam": 1}}),
        ("settings", []),
    ],
)
def test_a_header_that_no_training_wrote_is_one_message(tmp_path: Path, where_: str, changed: Any) -> None:
    """With the right hash: nothing about it is damaged, and no memory is asked for."""
    from pocketrec.storage.tensors import write_tensors

    path, settings = tmp_path / "a.safetensors", ModelSpec(n_items=5, batch_size=2, hidden_size=3, optimizer="sgd")
    tensors = {name: np.zeros(spec.shape, spec.dtype) for name, spec in settings.state.items()}
    about: dict[str, Any] = {"items": "i", "batches": "b", "source": "", "settings": {**vars(settings)}}
    about["position"] = {"epoch": 1, "step": 0, "losses": [2.0], "loss": 0.0, "validation": []}
    write_tensors(path, "training", about, tensors)
    assert read_checkpoint(path).position.epoch == 1
    about[where_] = {**about[where_], **changed} if isinstance(changed, dict) else changed
    write_tensors(path, "training", about, tensors)
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(path)


def test_tensors_of_another_type_are_not_those_of_the_settings(tmp_path: Path) -> None:
    path, settings = tmp_path / "a.safetensors", ModelSpec(n_items=5, batch_size=2, hidden_size=3, optimizer="sgd")
    tensors = {name: np.zeros(spec.shape, np.float64) for name, spec in settings.state.items()}
    write_checkpoint(path, Checkpoint(settings, "items", "batches", tensors=tensors))
    with pytest.raises(ModelError, match="not those of its settings"):
        read_checkpoint(path)


def test_rungs_halve_the_trials_and_double_the_epochs() -> None:
    assert rungs(8, 8) == [(8, 2), (4, 4), (2, 8)]
    assert rungs(5, 7) == [(5, 2), (3, 4), (2, 7)]
    assert rungs(8, 2) == [(8, 1), (2, 2)]
    assert rungs(8, 1) == [(8, 1)]


def test_a_tune_chooses_on_train_valid_goes_on_where_it_was_and_trains_nothing_again(
    where: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules, base = TuneSettings(trials=2), TrainSettings(batch_size=8, epochs=2, **SMALL)
    drawn = list(draw(rules, base))
    assert drawn[0]["dropout_embedding"] == 0.4
    assert drawn == list(draw(rules, base)) != list(draw(replace(rules, tune_seed=1), base))
    first = tuning.tune(where.root, rules, replace(base, epochs=1))
    assert [len(one.validation) for one in first.trials] == [1, 1]
    mrr: dict[tuple[int, bool], float] = {}
    for one in first.trials:
        for own, kind in ((True, lambda scorer: scorer), (False, WithoutOwn)):
            scorer = kind(open_scorer(one.checkpoint, read_item_list(where), where)[0])
            mrr[one.number, own] = rank(scorer, where, "train_valid", Ranking((20,))).accuracy("").mrr[20]
    assert mrr[first.trials[0].number, first.own] == max(mrr.values())
    epochs: list[int] = []
    train = training.Training._epoch

    def train_and_count(self: training.Training, epoch: int, *rest: Any) -> None:
        epochs.append(epoch)
        train(self, epoch, *rest)

    monkeypatch.setattr(training.Training, "_epoch", train_and_count)
    found = tuning.tune(where.root, rules, base)
    assert epochs == [1], "the better of the two goes on to its second epoch"
    best = found.trials[0]
    assert best.validation[:1] == first.trials[0].validation
    assert best.best == max(best.validation)
    assert read_checkpoint(best.checkpoint).position.epoch == best.epoch
    rows = (where.model / "tune" / "tune.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(one.number) for one in found.trials]
    assert found.picture is not None
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SettingsError, match="of another training"):
        tuning.tune(where.root, rules, replace(base, seed=7))
    load_for(found)
    text = "\n".join(results(found))
    assert "measured once" in text
    assert " ".join(found.options) in text
