"""The commands around a model file: export with every option, inspect MODEL, recommend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import call
from lite_support import models
from pocketrec.storage.layout import Dataset


def path_of(name: str = "shared") -> Path:
    return Dataset(models() / name).tflite(4)


def test_inspect_shows_a_model() -> None:
    code, out, err = call("inspect", path_of())
    assert (code, err) == (0, "")
    for text in ("40: 100, 103, 106", "embedding=shared", "momentum=0.3", "recommend", "negatives int32[16]"):
        assert text in out
    assert "learn_pull=0.01, learn_rate=0.2, learn_share=0.25" in out
    code, out, _ = call("inspect", path_of(), "--json")
    document = json.loads(out)
    assert document["settings"]["loss"] == "bpr-max"
    assert len(document["items"]) == 32


def test_inspect_refuses_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"nothing of the kind")
    code, out, err = call("inspect", tmp_path / "x.tflite")
    assert (code, out) == (1, "")
    assert "not an intact .tflite" in err


@pytest.mark.parametrize("name", ["adam", "separate", "answers"])
def test_recommend_prints_ids_and_scores(name: str) -> None:
    code, out, err = call("recommend", "--model", path_of(name), "--session", "100,4711,103", "--top", "5")
    assert code == 0
    assert "does not know 4711" in err
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == 5
    assert all(int(item) in range(100, 220, 3) for item, _ in rows)
    scores = [float(score) for _, score in rows]
    assert scores == sorted(scores, reverse=True)


def test_recommend_names_what_it_does_not_know() -> None:
    code, _, err = call("recommend", "--model", path_of(), "--session", "1,2")
    assert code == 1
    assert "knows none of the items 1, 2" in err
