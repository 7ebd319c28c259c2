"""The commands around a model file: export with every option, inspect MODEL, recommend."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import call
from lite_support import models
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.neighbour_model import KnownSessions
from pocketrec.lite.neighbours import METHODS, SessionIndex
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


def test_inspect_shows_kept_sessions(tmp_path: Path) -> None:
    items, path = Catalogue(("a", "b", "c", "d"), np.array([2, 1, 1, 0])), tmp_path / "vstan.safetensors"
    index = SessionIndex.of(np.array([0, 1, 0, 2]), np.array([3, 1]), np.array([0, 90_000_000]), 4)
    KnownSessions("VSTAN", METHODS["VSTAN"], False, items, index, {"gap": 9}).write(path)
    code, out, err = call("inspect", path)
    assert (code, err) == (0, "")
    for text in ("kept sessions for VSTAN", "4: a, b, c, ...", "2 with 4 clicks, from 1970-01-01 00:00 to 1970-01-02 01:00",
                 "inside=1.0", "recency=None", "seen=hide", "gap=9", "items uint8[3]", "times uint32[2]"):  # fmt: skip
        assert text in out
    document = json.loads(call("inspect", path, "--json")[1])
    assert (document["kind"], document["items"], document["settings"]["near"]) == ("neighbours", items.hash, 1)
    none = items.support[:0]
    KnownSessions("VSTAN", METHODS["VSTAN"], True, items, SessionIndex.of(none.astype(np.int32), none, none, 4), {}).write(
        path
    )
    assert "0 with 0 clicks\n" in call("inspect", path)[1]
    path.write_bytes(path.read_bytes()[:-1])
    assert "cannot be read" in call("inspect", path)[2]


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
