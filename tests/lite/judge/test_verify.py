"""The judge: sound models pass, and each fault is found at its own rung."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lite_support import MATRIX, STEPS, error_without, fresh, make_dataset, models, shrink_slots
from pocketrec.errors import DatasetError, ModelError, SettingsError
from pocketrec.lite.bundle import read_bundle
from pocketrec.lite.judge.verify import LADDER, VerifyReport, verify
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.options import VerifySettings
from pocketrec.storage.layout import Dataset

NAMES = [check.name for check in LADDER]
LEARNING = ("arithmetic", "sampled", "one", "learn", "learning", "restore")


def judge(dataset: Dataset, model: Path | None = None, batch_size: int = 4) -> VerifyReport:
    return verify(dataset.root, VerifySettings(batch_size=batch_size, steps=16), model=model)


def verdicts(report: VerifyReport) -> dict[str, str]:
    return {rung.name: rung.verdict for rung in report.rungs}


def failures(report: VerifyReport) -> dict[str, str]:
    return {rung.name: rung.detail for rung in report.failed}


def odd(tmp_path: Path, name: str) -> VerifyReport:
    return judge(fresh(tmp_path), models() / f"{name}.tflite")


@pytest.mark.parametrize(("name", "batch_size"), [("adam", 1), *((name, 4) for name in MATRIX)])
def test_exported_models_pass_every_rung(tmp_path: Path, name: str, batch_size: int) -> None:
    """In every configuration; of a file that cannot learn, the questions about learning are not asked."""
    dataset = fresh(tmp_path, name)
    report = judge(dataset, batch_size=batch_size)
    learns = MATRIX[name].get("storage") != "int8"
    assert failures(report) == {}
    assert verdicts(report) == {rung: "passed" if learns or rung not in LEARNING else "skipped" for rung in NAMES}
    assert report.passed
    assert len(report.losses) == (16 if learns else 0)
    assert all(map(math.isfinite, report.losses))
    assert not learns or (report.step_seconds > 0 and report.peak_bytes > 0)


def test_of_a_model_of_one_item_nothing_is_asked_that_needs_two(tmp_path: Path) -> None:
    report = judge(fresh(tmp_path, "one"))
    assert failures(report) == {}
    skipped = {rung.name: rung.detail for rung in report.rungs if rung.verdict == "skipped"}
    assert skipped.keys() == {"sampled", "learning"}
    assert "the loss is 0 and cannot fall" in skipped["learning"]


def test_the_report_is_on_disk_with_a_picture(tmp_path: Path) -> None:
    dataset = fresh(tmp_path)
    report = judge(dataset)
    document = json.loads(report.json.read_text())
    assert report.json == dataset.model / "verify.json"
    assert document["passed"] is True
    assert [rung["name"] for rung in document["rungs"]] == NAMES
    assert document["losses"] == list(report.losses)
    assert report.picture == dataset.model / "verify.png"
    assert report.picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_tensorflow_stays_out_and_stderr_clean(tmp_path: Path) -> None:
    code = (
        "import sys; from pocketrec import VerifySettings, verify;"
        "r = verify(sys.argv[1], VerifySettings(batch_size=4, steps=8));"
        "print(r.passed, 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(fresh(tmp_path).root)]
    environment = {"PYTHONWARNINGS": "error", **os.environ}  # .ci/lowest lets old packages be warned of
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout.split(), done.stderr) == (["True", "False"], "")


def test_a_flex_operator_fails_at_operators(tmp_path: Path) -> None:
    found = failures(odd(tmp_path, "flexing"))
    assert list(found) == ["operators"]
    assert "Select TF operator Flex" in found["operators"]


@pytest.mark.parametrize("recorded", [True, False])
def test_one_changed_weight_fails_at_weights(tmp_path: Path, recorded: bool) -> None:
    dataset = fresh(tmp_path)
    path = dataset.tflite(4)
    content, output = bytearray(path.read_bytes()), OnDeviceModel(path).save()["output"].tobytes()
    content[content.find(output) + 4 * 17 + 2] ^= 1  # one bit of one number
    if not recorded:
        path = tmp_path / "elsewhere.tflite"
    path.write_bytes(content)
    found = failures(judge(dataset, path))
    assert list(found) == (["record", "weights"] if recorded else ["weights"])
    assert "output is not what export wrote" in found["weights"]


def test_a_wrong_item_count_fails_at_signatures(tmp_path: Path) -> None:
    report = judge(fresh(tmp_path), Dataset(models() / "wider").tflite(4))
    found = failures(report)
    assert "n_items is 41, items.parquet holds 40" in found["signatures"]
    assert "infer: output output is float32[4, 41], not float32[4, 40]" in found["signatures"]
    assert verdicts(report)["load"] == "skipped"


def test_a_wrong_batch_size_fails_at_signatures(tmp_path: Path) -> None:
    found = failures(judge(fresh(tmp_path), Dataset(models() / "adam").tflite(1)))
    assert "batch_size is 1, asked for was 4" in found["signatures"]


@pytest.mark.parametrize(
    ("name", "rungs", "text"),
    [
        ("lazy", ["arithmetic", "sampled", "one", "learn", "learning"], "in the first round and"),
        ("diverging", ["arithmetic", "sampled", "one", "learn", "learning"], "step 0: output 0.00"),
        ("averaging", ["arithmetic", "sampled"], "step 1: output"),
        ("uncorrected", ["arithmetic", "sampled", "one", "learn"], "step 0: output 0.00"),
        ("counting", ["arithmetic"], "step 2: loss"),
        ("repeating", ["arithmetic", "sampled", "one"], "step 1: loss"),
        ("muddled", ["sampled", "answers", "recommend"], "all scores tied: eval: recall@1 is 1.000000, not from 0.000000"),
        ("forgetful", ["arithmetic", "sampled", "one", "learn", "restore"], "output is not the same after the next step"),
        ("belittling", ["learn"], "step 1: recurrent"),
        ("diffident", ["signatures"], "infer: output probabilities is not expected"),
    ],
)
def test_models_that_are_wrong_in_one_way(tmp_path: Path, name: str, rungs: list[str], text: str) -> None:
    found = failures(odd(tmp_path, name))
    assert list(found) == rungs
    assert text in "\n".join(found.values())


@pytest.mark.parametrize("share", [0, 0.0001, 0.1, 0.5, 0.9, 0.9999])
def test_a_file_cut_short_fails_at_file(tmp_path: Path, share: float) -> None:
    dataset = fresh(tmp_path)
    content = dataset.tflite(4).read_bytes()
    dataset.tflite(4).write_bytes(content[: int(share * len(content))])
    report = judge(dataset)
    assert set(failures(report)) == {"file", "record"}
    assert "is not an intact .tflite" in failures(report)["file"]
    assert [name for name, verdict in verdicts(report).items() if verdict == "skipped"] == NAMES[2:]
    assert report.picture is None
    assert json.loads(report.json.read_text())["passed"] is False


def test_every_shorter_file_is_noticed(tmp_path: Path) -> None:
    content, path = Dataset(models() / "adam").tflite(4).read_bytes(), tmp_path / "cut.tflite"
    for length in [*range(0, len(content), 499), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match="not an intact"):
            read_bundle(path)


@settings(max_examples=100)
@given(changes=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_reading_a_damaged_file_ends_in_a_model_or_an_error(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    content, path = bytearray(Dataset(models() / "adam").tflite(4).read_bytes()), tmp_path / "damaged.tflite"
    for place, value in changes:
        content[place] = value
    path.write_bytes(content)
    with contextlib.suppress(ModelError):
        read_bundle(path)


def test_a_model_that_kills_the_interpreter_fails_at_load(tmp_path: Path) -> None:
    """Slots of no rows pass every look at the file; LiteRT then reads beyond them, and its process dies of it."""
    dataset, path = fresh(tmp_path), tmp_path / "killer.tflite"
    path.write_bytes(shrink_slots(dataset.tflite(4).read_bytes()))
    report = judge(dataset, path)
    assert list(failures(report)) == ["load"]
    assert "the process that ran the model" in failures(report)["load"]
    assert verdicts(report)["arithmetic"] == "skipped"


def test_a_model_exported_for_another_index_fails_at_record(tmp_path: Path) -> None:
    dataset = fresh(tmp_path)
    pl.read_parquet(dataset.items).with_columns(pl.col("item_id") + 1).write_parquet(dataset.items)
    found = failures(judge(dataset))
    assert list(found) == ["record", "items"]
    assert "exported for another item index" in found["record"]
    assert "code 0 is '100', not '101'" in found["items"]


def test_a_model_without_a_record_is_judged_all_the_same(tmp_path: Path) -> None:
    dataset = fresh(tmp_path)
    (dataset.model / "manifest.json").unlink()
    report = judge(dataset)
    assert report.passed
    assert verdicts(report)["record"] == "skipped"


def test_missing_files_name_the_command(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    with pytest.raises(
        DatasetError, match=r"gru4rec_bs4.tflite is missing[\s\S]*pocketrec export --dataset .* --batch-size 4"
    ):
        judge(dataset)
    dataset = fresh(tmp_path)
    dataset.batches("masks", 4).unlink()
    with pytest.raises(DatasetError, match=r"masks_bs4.npy is missing[\s\S]*pocketrec batches --dataset .* --batch-size 4"):
        judge(dataset)
    dataset.items.unlink()
    with pytest.raises(DatasetError, match=r"items.parquet is missing"):
        judge(dataset)


def test_batches_of_another_index_are_refused(tmp_path: Path) -> None:
    dataset = fresh(tmp_path)
    targets = np.full((STEPS, 4), 40, np.int32)
    np.save(dataset.batches("targets", 4), targets)
    with pytest.raises(DatasetError, match=r"targets_bs4.npy holds item codes from 40 to 40"):
        judge(dataset)


@pytest.mark.parametrize(
    "array", [np.zeros((STEPS, 4)), np.zeros((STEPS, 3), np.int32), np.zeros((0, 4), np.int32), np.zeros((9, 4), np.int32)]
)
def test_batches_that_are_none(tmp_path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> None:
    dataset = fresh(tmp_path)
    np.save(dataset.batches("feats", 4), array)
    with pytest.raises(DatasetError, match="pocketrec batches"):
        judge(dataset)


def test_a_damaged_batch_file(tmp_path: Path) -> None:
    dataset = fresh(tmp_path)
    path = dataset.batches("feats", 4)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match="cannot be read"):
        judge(dataset)


def test_padding_lanes_are_fine(tmp_path: Path) -> None:
    dataset = fresh(tmp_path)
    targets = np.load(dataset.batches("targets", 4))
    targets[2:, 1] = -1
    np.save(dataset.batches("targets", 4), targets)
    assert judge(dataset).passed


def test_settings_that_show_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="steps is 7"):
        verify(tmp_path, VerifySettings(steps=7))
    with pytest.raises(SettingsError, match="threads"):
        verify(tmp_path, VerifySettings(threads=0))


def test_without_litert_verify_names_the_extra(tmp_path: Path) -> None:
    assert "pip install 'pocketrec[lite]'" in error_without("ai_edge_litert", "verify", tmp_path)
