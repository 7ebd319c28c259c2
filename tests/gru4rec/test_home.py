"""The phone comes home: what a device has learned is measured, exported and trained on, on the desktop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import call
from lite_support import shrink_slots
from pocketrec.errors import ModelError, SettingsError
from pocketrec.gru4rec.checkpoints import STATE, read_checkpoint
from pocketrec.gru4rec.evaluate import evaluate
from pocketrec.gru4rec.export import export
from pocketrec.gru4rec.options import RankSettings, TrainSettings
from pocketrec.gru4rec.ranking import Ranking
from pocketrec.gru4rec.scoring import rank
from pocketrec.gru4rec.train import train
from pocketrec.lite.inputs import open_batches, read_item_list
from pocketrec.lite.judge.number_checks import step_differences
from pocketrec.lite.judge.verify import verify
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.options import ModelSettings, VerifySettings
from pocketrec.lite.runtime import LiteScorer
from pocketrec.lite.sampling import Sampler
from pocketrec.sessions.batches import batches
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.prep import prep
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.layout import Dataset

pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_litert")

LANES = 8
NETWORK: dict[str, Any] = {"hidden_size": 8, "negatives": 16, "seed": 3}
KINDS: dict[str, dict[str, Any]] = {
    "none, Adam": {},
    "shared, Adagrad, dropout": {
        "embedding": "shared",
        "optimizer": "adagrad",
        "learning_rate": 0.1,
        "dropout_hidden": 0.2,
    },
    "float16": {"embedding": "shared", "optimizer": "sgd", "storage": "float16"},
}
EVERYTHING = RankSettings(cutoffs=(1, 5, 20), baselines=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    log = synth(folder / "clicks.dat", SynthSettings(clicks=3000, seed=2)).path
    batching = BatchSettings(batch_size=LANES, formats=("npy",), tail="pad")
    prep(log, folder / "d", batching=batching, splitting=SplitSettings(holdout=20 * 86400.0))
    export(folder / "d", ModelSettings(batch_size=LANES, **NETWORK))  # once; in a copy it is up to date
    return folder / "d"


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """The dataset with a model of another kind."""
    folder = tmp_path_factory.mktemp("exported") / "d"
    shutil.copytree(prepared, folder)
    export(folder, ModelSettings(batch_size=LANES, **{**NETWORK, **KINDS[request.param]}))
    return folder


@pytest.fixture
def device(tmp_path: Path, exported: Path) -> OnDeviceModel:
    """A model on a device, fresh, beside its dataset."""
    shutil.copytree(exported, tmp_path / "d")
    return OnDeviceModel(Dataset(tmp_path / "d").tflite(LANES))


def learn(device: OnDeviceModel, steps: int = 20) -> None:
    """Steps of train_one along a session."""
    state = device.fresh_state(1)
    for step in range(steps):
        feat, target = (np.array([code % device.settings.n_items], np.int32) for code in (3 * step, 3 * step + 3))
        _, state = device.train_one(feat, target, state)


def where_of(device: OnDeviceModel) -> Dataset:
    return Dataset(device.path.parents[1])


def test_what_a_device_has_learned_is_measured_and_trained_on(device: OnDeviceModel, tmp_path: Path) -> None:
    where, file = where_of(device), tmp_path / "user.safetensors"
    learn(device)
    device.save_to(file)
    there = rank(LiteScorer(device), where, "test", Ranking(EVERYTHING.cutoffs)).accuracy("device")
    here = evaluate(where.root, EVERYTHING, model=file)
    assert here.models[0].name == "user.safetensors, 20 steps on a device"
    for n in EVERYTHING.cutoffs:
        assert here.models[0].recall[n] == pytest.approx(there.recall[n], abs=1.5 / here.events)
        assert here.models[0].mrr[n] == pytest.approx(there.mrr[n], abs=1e-4)
    untouched = evaluate(where.root, EVERYTHING, model=device.path).models[0]
    assert untouched.mrr != there.mrr, "20 steps have changed something"


def test_a_further_step_here_is_the_same_step_there(device: OnDeviceModel, tmp_path: Path) -> None:
    from pocketrec.gru4rec.tf.sparse_model import SparseGru4Rec

    where, file = where_of(device), tmp_path / "user.safetensors"
    items, batches = read_item_list(where), open_batches(where, LANES)
    learn(device)
    device.save_to(file)
    kept = read_checkpoint(file)
    here = SparseGru4Rec(kept.settings, support=items.support)
    here.load(kept.tensors)
    feats, targets = (np.array(rows[:1]) for rows in (batches.feats, batches.targets))
    drawn = Sampler(items.support, seed=1).draw(kept.settings.negatives).reshape(1, -1)
    steps = here.prepare(feats, targets, np.ones_like(feats), drawn, done=int(kept.tensors["step"]))
    losses, state = here.train_block(steps, device.fresh_state())
    loss, after = device.train_sampled(feats[0], targets[0], device.fresh_state(), drawn[0])
    there = (loss, after, device.save())
    differences = step_differences((losses[0], state, here.tensors()), there, kept.settings)
    assert {one.name for one in differences} == {"loss", "state", *kept.settings.state}
    assert not [str(one) for one in differences if one.too_large]


def test_training_goes_on_from_a_device_and_from_where_it_was_killed(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "d")
    where, file, lanes = Dataset(tmp_path / "d"), tmp_path / "user.safetensors", 5
    device = OnDeviceModel(where.tflite(LANES))
    learn(device)
    device.save_to(file)
    batches(where.root, BatchSettings(batch_size=lanes, formats=("npy",), tail="pad"))  # another size than the device has
    two = TrainSettings(batch_size=lanes, epochs=2)
    whole = train(where.root, two, source=file)
    kept = read_checkpoint(where.checkpoint(lanes, last=True))
    assert (kept.settings.optimizer, kept.settings.learning_rate, kept.settings.hidden_size) == ("adam", 0.001, 8)
    assert kept.settings.batch_size == lanes
    steps = len(open_batches(where, lanes))
    assert int(kept.tensors["step"]) == 20 + 2 * steps, "the count of steps goes on"
    train(where.root, TrainSettings(batch_size=lanes, epochs=1), source=file, fresh=True)
    resumed = train(where.root, two, source=file)
    assert resumed.resumed
    assert resumed.losses == whole.losses
    again = read_checkpoint(where.checkpoint(lanes, last=True))
    for name, tensor in kept.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor, err_msg=name)
    with pytest.raises(SettingsError, match="another file to begin from"):
        train(where.root, TrainSettings(batch_size=lanes, epochs=1))


def test_a_checkpoint_is_fine_tuned(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "d")
    where = Dataset(tmp_path / "d")
    first = train(where.root, TrainSettings(batch_size=LANES, epochs=1, **NETWORK)).checkpoint
    source = first.rename(tmp_path / "first.safetensors")
    code, _, err = call(
        "train",
        "--dataset",
        where.root,
        "--batch-size",
        LANES,
        "--epochs",
        1,
        "--from",
        source,
        "--learning-rate",
        0.01,
        "--json",
    )
    assert code == 0, err
    tuned = read_checkpoint(where.checkpoint(LANES))
    assert (tuned.settings.learning_rate, tuned.settings.embedding) == (0.01, "shared")
    assert tuned.source, "it remembers what it began from"
    assert tuned.tensors.keys() == tuned.settings.state.keys(), "what only the training needs is in its last state"
    with pytest.raises(SettingsError, match="hidden_size is 50, but the weights were made with 8"):
        train(where.root, TrainSettings(batch_size=LANES, hidden_size=50), source=source)
    with pytest.raises(SettingsError, match="optimizer is 'sgd'"):
        train(where.root, TrainSettings(batch_size=LANES, optimizer="sgd"), source=source)
    with pytest.raises(SettingsError, match="momentum"):
        train(where.root, TrainSettings(batch_size=LANES, momentum=0.5), source=source)


def test_other_items_are_refused_by_name(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "d")
    file = tmp_path / "user.safetensors"
    OnDeviceModel(export(tmp_path / "d", ModelSettings(batch_size=LANES, **NETWORK)).path).save_to(file)
    other = tmp_path / "other"
    log = synth(tmp_path / "other.dat", SynthSettings(clicks=3000, seed=9)).path
    prep(log, other, batching=BatchSettings(batch_size=LANES), splitting=SplitSettings(holdout=20 * 86400.0))
    for command in (("evaluate", file), ("train", "--batch-size", LANES, "--from", file), ("export", "--from", file)):
        code, out, err = call(*command, "--dataset", other)
        assert (code, out) == (1, ""), command
        assert f"{file} is made for other items than those of {other}" in " ".join(err.split()).replace("\n", " "), err


@pytest.mark.parametrize("damage", ["cut", "flipped", "another kind", "missing", "a folder"])
def test_a_file_that_is_not_one_is_one_message(prepared: Path, tmp_path: Path, damage: str) -> None:
    from pocketrec.storage.tensors import write_tensors

    shutil.copytree(prepared, tmp_path / "d")
    file = tmp_path / "user.safetensors"
    device = OnDeviceModel(export(tmp_path / "d", ModelSettings(batch_size=LANES, **NETWORK)).path)
    device.save_to(file)
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-3])
    elif damage == "flipped":
        file.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    elif damage == "another kind":
        write_tensors(file, "network", {}, {"a": np.zeros(3)})
    else:
        file.unlink()
        if damage == "a folder":
            file.mkdir()
    for command in (("evaluate", file), ("train", "--batch-size", LANES, "--from", file)):
        code, out, err = call(*command, "--dataset", tmp_path / "d")
        assert (code, out) == (1, ""), command
        assert str(file) in err
        assert "Expected: a checkpoint of train, or what save_to wrote on a device" in err
    with pytest.raises(ModelError):
        device.restore_from(file)


@pytest.mark.parametrize("number", [2, 3])
def test_files_of_the_first_version_are_still_read(prepared: Path, tmp_path: Path, number: int) -> None:
    """Format 2, checkpoints of train, and 3, what save_to wrote: the header as pocketrec 0.1 had it."""
    from safetensors.numpy import save_file

    from pocketrec.storage.tensors import _digest

    shutil.copytree(prepared, tmp_path / "d")
    path, old = tmp_path / "new.safetensors", tmp_path / "old.safetensors"
    device = OnDeviceModel(export(tmp_path / "d", ModelSettings(batch_size=LANES, **NETWORK)).path)
    learn(device)
    device.save_to(path)
    kept = read_checkpoint(path)
    tensors = {name: np.array(tensor) for name, tensor in kept.tensors.items()}
    about = {"format": number, "items": kept.items, "settings": {**vars(kept.settings)}}
    if number == 2:
        tensors[STATE] = np.zeros((LANES, 8), np.float32)
        position = {"epoch": 1, "step": 0, "losses": [2.5], "loss": 0.0, "validation": [0.1]}
        about |= {"position": position, "batches": "some", "xxh3": _digest(tensors)}
    save_file(tensors, old, metadata={"pocketrec": json.dumps(about, sort_keys=True)})
    found = evaluate(tmp_path / "d", EVERYTHING, model=old).models[0]
    assert found.mrr == evaluate(tmp_path / "d", EVERYTHING, model=path).models[0].mrr
    assert found.name == ("old.safetensors, epoch 1" if number == 2 else "old.safetensors, 20 steps on a device")
    if number == 3:
        device.restore_from(old)
    header = {"pocketrec": json.dumps({**about, "format": 9})}
    save_file(tensors, old, metadata=header)
    with pytest.raises(ModelError, match=r"is of format 9(.|\n)*Expected: format 4"):
        read_checkpoint(old)


def test_a_model_that_kills_the_interpreter_does_not_end_evaluate(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "d")
    path = export(tmp_path / "d", ModelSettings(batch_size=LANES, **NETWORK)).path
    path.write_bytes(shrink_slots(path.read_bytes()))
    code, out, err = call("evaluate", path, "--dataset", tmp_path / "d")
    assert (code, out) == (1, "")
    assert "the process that called each of its signatures" in " ".join(err.split())


def test_an_export_of_what_was_learned_passes_every_rung(prepared: Path, tmp_path: Path) -> None:
    """Its slots and its count of steps are not 0; the card says what they are."""
    shutil.copytree(prepared, tmp_path / "d")
    source = train(tmp_path / "d", TrainSettings(batch_size=LANES, epochs=1, **NETWORK)).checkpoint
    export(tmp_path / "d", ModelSettings(batch_size=LANES, storage="float16"), source=source)
    report = verify(tmp_path / "d", VerifySettings(batch_size=LANES, steps=8))
    assert report.rungs[[rung.name for rung in report.rungs].index("weights")].verdict == "passed"
    assert {rung.name: rung.detail for rung in report.failed} == {}
