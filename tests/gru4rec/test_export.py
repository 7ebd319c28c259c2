"""Export: what the file holds, and that it is a function of the settings."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite_support import BEGIN, MATRIX, error_without, fresh, make_dataset, models
from pocketrec.errors import DatasetError, ModelError, SettingsError
from pocketrec.gru4rec.export import export
from pocketrec.lite.contract import Card, ModelSpec, digest
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.options import ModelSettings
from pocketrec.storage.files import content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import Record, read_records, write_record


def exported(name: str, batch_size: int = 4) -> Path:
    return Dataset(models() / name).tflite(batch_size)


def test_the_same_seed_gives_the_same_bytes_in_another_process_which_says_nothing_on_stderr(tmp_path: Path) -> None:
    """The other process is the one that made all the shared models."""
    dataset = make_dataset(tmp_path / "again")
    report = export(dataset.root, ModelSettings(batch_size=4, hidden_size=8, negatives=16))
    assert dataset.tflite(4).read_bytes() == exported("adam").read_bytes()
    assert (report.xxh3, report.parameters) == (
        content_hash(exported("adam")),
        ModelSpec(n_items=40, batch_size=4, hidden_size=8).parameters,
    )
    assert (models() / "stderr.txt").read_text().endswith(f"{BEGIN}\n")


@pytest.mark.parametrize(("name", "batch_size"), [("adam", 1), *((name, 4) for name in MATRIX)])
def test_signatures_are_the_originals_by_name_shape_and_dtype(name: str, batch_size: int) -> None:
    model = read_model(exported(name, batch_size))
    settings = Card.from_json(model.metadata["pocketrec"]).settings
    assert settings.batch_size == batch_size
    for signature, (inputs, outputs) in settings.signatures.items():
        found = model.signatures[signature]
        assert {key: str(tensor) for key, tensor in found.inputs.items()} == {key: str(s) for key, s in inputs.items()}
        assert {key: str(tensor) for key, tensor in found.outputs.items()} == {key: str(s) for key, s in outputs.items()}
    assert str(model.signatures["infer"].outputs["output"]) == f"float32[{batch_size}, 40]"  # not n_items + 1
    assert str(model.signatures["eval"].inputs["top_k"]) == "int32[]"


def test_only_builtin_operators() -> None:
    assert read_model(exported("adam")).foreign_operators == ()
    assert all(name.startswith("Flex") for name in read_model(models() / "flexing.tflite").foreign_operators)
    assert read_model(models() / "flexing.tflite").foreign_operators


def test_initial_weights_are_keras_kind_and_the_card_knows_them() -> None:
    weights = OnDeviceModel(exported("adam")).save()
    card = Card.from_json(read_model(exported("adam")).metadata["pocketrec"])
    assert {name: digest(weights[name]) for name in card.digests} == card.digests
    np.testing.assert_allclose(weights["recurrent"] @ weights["recurrent"].T, np.eye(8), atol=1e-6)
    for name, fans in (("kernel_z", 40 + 24), ("output", 8 + 40)):
        limit = np.sqrt(6 / fans)
        assert 0.9 * limit < np.abs(weights[name]).max() <= limit
    assert all(not weights[name].any() for name in weights if name.endswith(("bias", "_m", "_v")))
    assert not weights["output"][:, -1].any()


def test_initial_weights_with_an_embedding_are_the_official_ones() -> None:
    weights = OnDeviceModel(exported("separate")).save()
    for name, fans in (("input", 8 + 8), ("recurrent", 8 + 8), ("embedding", 40 + 8)):
        limit = np.sqrt(6 / fans)
        assert 0.9 * limit < np.abs(weights[name]).max() <= limit


def test_slots_cost_nothing_in_the_file() -> None:
    """Three times the weights in memory, once in the file."""
    one_gate = np.zeros(40 * 8, np.float32).tobytes()
    assert one_gate not in exported("adam").read_bytes()


@pytest.mark.parametrize(("name", "kind"), [("adam", np.float32), ("shared-adam-float16", np.float16)])
def test_what_learn_pulls_to_costs_nothing_in_the_file(name: str, kind: type[np.floating[Any]]) -> None:
    """It is what the weights begin with, which is there once."""
    path = exported(name)
    assert path.read_bytes().count(OnDeviceModel(path).save()["output"].astype(kind).tobytes()) == 1


def test_constants_lie_at_multiples_of_16() -> None:
    content = exported("adam").read_bytes()
    output = OnDeviceModel(exported("adam")).save()["output"].tobytes()
    assert content.find(output) % 16 == 0


def test_manifest_says_what_was_written_from_what() -> None:
    dataset = Dataset(models() / "adagrad")
    record = read_records(dataset.model)["export_bs4"]
    path = dataset.tflite(4)
    assert record.files[path.name].xxh3 == content_hash(path)
    assert record.inputs["items"] == content_hash(dataset.items)
    assert record.inputs["checkpoint"] == ""
    settings = ModelSpec(n_items=40, batch_size=4, hidden_size=8, negatives=16, **MATRIX["adagrad"])
    assert record.settings == asdict(settings)


def test_a_model_is_made_again_only_if_it_would_be_another_or_is_damaged(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    again = partial(export, tmp_path, ModelSettings(batch_size=4, hidden_size=8, storage="int8"))  # the quickest to make
    first = again()
    when = first.path.stat().st_mtime_ns
    second = again()
    assert (first.reused, second.reused) == (False, True)
    assert replace(second, reused=False, seconds=first.seconds) == first
    assert first.path.stat().st_mtime_ns == when
    content = bytearray(first.path.read_bytes())
    content[-1] ^= 1  # of the same size
    first.path.write_bytes(content)
    mended = again()
    assert (mended.reused, mended.xxh3) == (False, first.xxh3)
    write_record(dataset.rsc15, "split", Record("split", {"holdout": 3600.0}, {}, {}))
    assert not again().reused  # the protocol is in the file
    assert Card.from_json(read_model(first.path).metadata["pocketrec"]).protocol["split"] == {"holdout": 3600.0}


def test_missing_and_damaged_item_index_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"items.parquet is missing[\s\S]*pocketrec batches --dataset"):
        export(tmp_path)
    dataset = make_dataset(tmp_path)
    dataset.items.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DatasetError, match="cannot be read"):
        export(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"optimizer": "lion"}, {"batch_size": 0}, {"hidden_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
     {"seed": -1}, {"embedding": "tied"}, {"loss": "top1"}, {"storage": "int4"}, {"momentum": 0.5}, {"dropout_hidden": 1.0},
     {"negatives": 0}, {"logq": -1.0}, {"top_k": 0}],
)  # fmt: skip
def test_settings_no_model_can_have(tmp_path: Path, wrong: dict[str, float]) -> None:
    make_dataset(tmp_path)
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        export(tmp_path, ModelSettings(**wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', json.dumps({"format": 3, "settings": {"n": 1}, "digests": {}})]
)
def test_a_card_that_is_none(text: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        Card.from_json(text)


def test_importing_loads_neither_tensorflow_nor_litert(tmp_path: Path) -> None:
    code = (
        "import sys, pocketrec, pocketrec.gru4rec.export, pocketrec.lite.judge.verify, pocketrec.lite.runtime;"
        "print([m for m in ('tensorflow', 'ai_edge_litert', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


def test_without_tensorflow_export_names_the_extra(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    assert "pip install 'pocketrec[train]'" in error_without("tensorflow", "export", tmp_path)


def test_a_rewritten_model_is_whole(tmp_path: Path) -> None:
    """Nothing is left beside it."""
    dataset = fresh(tmp_path)
    assert sorted(path.name for path in dataset.model.iterdir()) == [
        "gru4rec_bs1.tflite",
        "gru4rec_bs4.tflite",
        "manifest.json",
    ]
