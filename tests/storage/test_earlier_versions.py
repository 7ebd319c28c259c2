"""What pocketrec 0.1 wrote is opened, or refused by a message that names both versions and the way on.

tests/fixtures/pocketrec-0.1 was made once by that version: `prep`, `train`, `export`, `ncf prep`, `ncf train`, `dnn prep`,
`dnn train` on clicks.dat and ratings.csv; learned.safetensors by `OnDeviceModel.save_to` after one session. It is copied
here, since commands write into a dataset folder.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import call
from pocketrec.version import __version__

FIXTURES = Path(__file__).parents[1] / "fixtures" / "pocketrec-0.1"
LANES = ("--batch-size", 4)


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*arguments: object) -> str:
    code, out, err = call(*arguments)
    assert code == 0, err
    return out


def opened_or_both_versions(*arguments: object) -> bool:
    """Whether a command took what 0.1 wrote; else its message names both versions and what to do."""
    code, _, err = call(*arguments)
    if code == 0:
        return True
    assert code == 1
    assert "0.1" in err
    assert __version__ in err
    assert "To go on: " in err
    return False


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_fixtures_are_small() -> None:
    assert sum(map(len, contents(FIXTURES).values())) < 300_000


def test_a_dataset_is_whole_or_made_again(earlier: Path) -> None:
    """Its records are read. Whatever is made again has the same bytes as before."""
    before = {path: one for path, one in contents(earlier).items() if path.suffix in (".npy", ".txt")}
    assert opened_or_both_versions("inspect")
    prep = ("prep", "clicks.dat", *LANES, "--min-item-support", 1, "--holdout", "1d")
    assert said(*prep).startswith("Full train set")
    assert {path: path.read_bytes() for path in before} == before
    stages = {(one["key"], one["state"]) for one in json.loads(said("inspect", "--json"))["stages"]}
    assert {(key, "current") for key in ("ingest", "roles", "sequences", "split", "batches_bs4")} <= stages


@pytest.mark.parametrize("weights", ["dataset/model/gru4rec_bs4.safetensors", "learned.safetensors"])
def test_weights_are_measured(earlier: Path, weights: str) -> None:  # noqa: ARG001
    pytest.importorskip("tensorflow")
    assert weights.rpartition("/")[2] in said("evaluate", weights, "--no-anchors")


def test_a_training_goes_on(earlier: Path) -> None:  # noqa: ARG001
    pytest.importorskip("tensorflow")
    defaults_of_then = ("--average", 0, "--dropout-embedding", 0.1, "--dropout-hidden", 0, "--sample-alpha", 0.75)
    code, out, err = call("train", *LANES, "--hidden-size", 3, "--epochs", 2, *defaults_of_then)
    assert code == 0, err
    assert "went on from the last checkpoint" in err
    assert "Loss 8.0136 -> " in out


def test_a_model_runs(earlier: Path) -> None:  # noqa: ARG001
    pytest.importorskip("ai_edge_litert")
    model = "dataset/model/gru4rec_bs4.tflite"
    assert "written by pocketrec 0.1.0" in said("inspect", model)
    plain = said("recommend", "--model", model, "--session", "100,101", "--top", 2)
    assert [line.split("\t")[0] for line in plain.splitlines()] == ["105", "104"]
    learned = json.loads(
        said("recommend", "--model", model, "--session", "100,101", "--weights", "learned.safetensors", "--json")
    )
    assert [one["item"] for one in learned["items"][:2]] == ["105", "104"]
    assert [one["score"] for one in learned["items"][:2]] == pytest.approx([0.21930617, 0.08888753], abs=1e-6)


@pytest.mark.parametrize("command", [("ncf", "evaluate", "--eval-negatives", 3), ("dnn", "evaluate")])
def test_networks_as_npz_are_refused_by_name_and_kept(earlier: Path, command: tuple[object, ...]) -> None:
    before = contents(earlier)
    assert not opened_or_both_versions(*command)
    _, _, err = call(*command)
    assert f"To go on: pocketrec {command[0]} train" in err
    assert contents(earlier) == before
