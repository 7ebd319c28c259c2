"""The card of a frozen model: what is written, what is read, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import call
from lite_support import models
from pocketrec.dnn.runtime import DnnModel
from pocketrec.errors import ModelError
from pocketrec.lite import first_run
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import ANY, Signatures
from pocketrec.lite.frozen import NONE, FrozenCard, is_fixed
from pocketrec.ncf.network import NetworkSettings
from pocketrec.ncf.options import NcfExportSettings
from pocketrec.ncf.runtime import NcfModel

HOSTILE = int(os.environ.get("POCKETREC_HOSTILE", "300"))
"""Calls of each kind of model; see .github/CONTRIBUTING.md."""
Card = FrozenCard[NetworkSettings, NcfExportSettings]
FIXED = NcfExportSettings(fixed_items=4, fixed_seen=5, top_k=3)
CARD = FrozenCard("ncf", NetworkSettings(n_users=7, n_items=9, layers=(8, 4)), "0f" * 16, FIXED, "a", "b")
EARLIER = Path(__file__).parent.parent / "fixtures" / "card-1"
"""Models with a card of format 1: no ids, no signatures of fixed lengths."""


def read(document: Any) -> Card:
    return FrozenCard.from_json(json.dumps(document), "ncf", NetworkSettings, NcfExportSettings)


def test_a_card_is_read_as_it_was_written() -> None:
    assert read(json.loads(CARD.to_json())) == CARD
    plain = {"kind": "ncf", "settings": asdict(CARD.settings), "split": CARD.split}
    assert read(plain) == read({**plain, "format": 1}) == replace(CARD, fixed=None, items="", users="", version="")


def test_another_format_is_said_to_be_so() -> None:
    with pytest.raises(ModelError, match=r"of format 3\.\nExpected: format 1 or 2(.|\n)*pocketrec ncf export"):
        read({"format": 3, "whatever": "it has"})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"kind": "dnn"}, "kind 'dnn'"),
        ({"settings": {"n_users": 7}}, "n_items"),
        ({"settings": {**json.loads(CARD.to_json())["settings"], "layers": [7]}}, "which is odd"),
        ({"settings": []}, "TypeError"),
        ({"fixed": {"fixed_items": 0}}, "fixed_items is 0"),
        ({"fixed": {"fixed_items": 2**40}}, "fixed_items is 1099511627776"),
        ({"fixed": None}, "TypeError"),
        ({"settings": {**json.loads(CARD.to_json())["settings"], "n_users": True}}, "n_users is True"),
        ({"settings": {**json.loads(CARD.to_json())["settings"], "n_items": 2**40}}, "n_items is 1099511627776"),
        ({"settings": {**json.loads(CARD.to_json())["settings"], "n_items": "9"}}, "n_items"),
    ],
)
def test_what_is_not_such_a_card_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ModelError, match=f"cannot be read(.|\n)*{why}"):
        read({**json.loads(CARD.to_json()), **changed})


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "[" * 100_000])
def test_json_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        FrozenCard.from_json(text, "ncf", NetworkSettings, NcfExportSettings)


def test_a_file_without_a_record_is_tried_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(models() / "frozen.tflite", tmp_path))
    monkeypatch.setattr(first_run, "_tried", set())
    items = np.array([0, 8], np.int32)
    scores = NcfModel(path).score(6, items)
    assert scores.tolist() == NcfModel(path, trusted=True).score(6, items).tolist()
    monkeypatch.setattr(first_run, "_tried", set())
    monkeypatch.setattr(first_run, "SECONDS", 0.05)
    with pytest.raises(ModelError, match=r"was stopped after 0 s(.|\n)*pocketrec ncf export"):
        NcfModel(path)


def test_a_model_with_other_signatures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needed: Signatures = {"score": ({}, {}), "rate": ({}, {})}
    monkeypatch.setattr(NcfModel, "signatures", lambda _: needed)
    with pytest.raises(ModelError, match="no signature 'rate'"):
        NcfModel(models() / "frozen.tflite")


def test_threads_get_right_answers() -> None:
    """Each for other numbers of items: a thread took what another had asked for."""
    model = NcfModel(models() / "frozen.tflite", trusted=True)
    asked = [np.arange(1 + more, dtype=np.int32) for more in range(9)]
    wanted = [model.score(6, items).tolist() for items in asked]
    wrong: list[object] = []

    def ask(first: int) -> None:
        for turn in range(first, first + 1500):
            try:
                if (found := model.score(6, asked[turn % 9]).tolist()) != wanted[turn % 9]:
                    wrong.append(found)
            except ModelError as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(first,)) for first in (0, 3, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "answer",
    [
        np.float32(3),
        np.zeros((2, 1), np.float32),
        np.zeros(3, np.float32),
        np.zeros(2, np.float64),
        np.zeros(0, np.float32),
    ],
    ids=["no vector", "a matrix", "too many", "another type", "none"],
)
def test_an_answer_of_another_shape_is_refused(answer: object) -> None:
    """Found by the fuzzer: LiteRT ran a changed file, whose output was one number."""
    model = NcfModel(models() / "frozen.tflite")
    model._runner._runners["score"] = lambda **_: {"scores": answer}
    with pytest.raises(ModelError, match="of the signature 'score'"):
        model.score(6, np.array([0, 8], np.int32))


def test_signatures_of_fixed_lengths_answer_as_the_others() -> None:
    """The last block is not full; more items are asked for than there are; and less is left than fits."""
    ncf, dnn = (NcfModel(models() / "frozen.tflite", trusted=True), DnnModel(models() / "rating.tflite", trusted=True))
    items = np.array([8, 0, 3, 3, 1, 7, 2], np.int32)
    np.testing.assert_array_equal(ncf.score_fixed(6, items), ncf.score(6, items))
    for fixed, flexible in zip(dnn.predict_fixed(6, items), dnn.predict(6, items), strict=True):
        assert fixed is not None
        assert flexible is not None
        np.testing.assert_allclose(fixed, flexible, rtol=1e-6)
    for seen in ([], [4], [4, 4, 0, 8, 1]):
        codes = np.array(seen, np.int32)
        for ours, theirs in zip(ncf.recommend_fixed(2, codes), ncf.recommend(2, codes, 3), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    found, scores = ncf.recommend(2, np.arange(7, dtype=np.int32), 5)
    assert (sorted(found.tolist()), len(scores)) == ([7, 8], 2)
    assert [len(part) for part in ncf.recommend(2, np.arange(9, dtype=np.int32), 5)] == [0, 0]
    assert len(ncf.recommend(2, np.empty(0, np.int32), 12)[0]) == 9
    with pytest.raises(ModelError, match="there are 6 items"):
        ncf.recommend_fixed(2, np.arange(6, dtype=np.int32))


def test_the_ids_are_in_the_file(tmp_path: Path) -> None:
    model = NcfModel(models() / "frozen.tflite", trusted=True)
    assert model.ids is not None
    assert (model.ids.codes["i8"], model.ids.user_codes["u6"]) == (8, 6)
    flatbuffer = (models() / "frozen.tflite").read_bytes().split(b"PK\x03\x04")[0]
    others = {
        "other items": Catalogue.of([f"x{code}" for code in range(9)], np.arange(9), model.ids.users),
        "fewer users": replace(model.ids, users=model.ids.users[:-1]),
        "no users": replace(model.ids, users=()),
    }
    for name, ids in others.items():
        (tmp_path / name).write_bytes(ids.append_to(flatbuffer))
        with pytest.raises(ModelError, match="not those it was exported for"):
            NcfModel(tmp_path / name, trusted=True)
    (tmp_path / "none").write_bytes(flatbuffer)
    with pytest.raises(ModelError, match=r"cannot be read(.|\n)*pocketrec ncf export"):
        NcfModel(tmp_path / "none", trusted=True)


def test_files_of_the_earlier_card_still_run() -> None:
    ncf, dnn = NcfModel(EARLIER / "neumf.tflite"), DnnModel(EARLIER / "dnn.tflite")
    items, every = np.array([2], np.int32), np.arange(6, dtype=np.int32)
    scores = [-0.0543310, -0.2328141, 0.0847383, -0.1237748, -0.0190686, -0.4282095]
    np.testing.assert_allclose(ncf.score(1, every), scores, atol=1e-6)
    assert ncf.recommend(1, items, 3)[0].tolist() == [4, 0, 3]
    assert ncf.recommend(1, every[:0], 1)[0].tolist() == [2]
    assert ncf.recommend(1, every[:4], 6)[0].tolist() == [4, 5]
    ratings, odds = dnn.predict(1, every)
    np.testing.assert_allclose(ratings, [2.6240187, 2.7224345, 3.5880957, 3.332862, 2.8349679, 2.8637178], rtol=1e-6)
    assert odds is not None
    assert odds.shape == (6, 3)
    assert ncf.ids is dnn.ids is None
    with pytest.raises(ModelError, match="no signatures of fixed lengths"):
        ncf.score_fixed(1, items)


@pytest.mark.parametrize("name", ["frozen", "rating"])
def test_inspect_shows_a_model_that_only_answers(name: str) -> None:
    code, out, _ = call("inspect", models() / f"{name}.tflite")
    assert code == 0
    for text in ("TensorFlow Lite 2.", "9: i0, i1, i2", "7: u0, u1, u2", "_fixed", "items int32[-1]", "fixed_items=4"):
        assert text in out
    code, out, _ = call("inspect", EARLIER / "neumf.tflite")
    assert (code, "6; their ids are not in the file" in out) == (0, True)


@pytest.mark.parametrize(("name", "kind"), [("frozen", NcfModel), ("rating", DnnModel)])
def test_legal_answers_are_those_of_a_model_that_saw_nothing_hostile(name: str, kind: Any) -> None:
    """Half of the calls are hostile: wrong codes, lengths and types, in every signature."""
    one, other = (kind(models() / f"{name}.tflite", trusted=True) for _ in range(2))
    chance, made = np.random.default_rng(5), one.card.settings
    ends = {"user": made.n_users, "items": made.n_items, "seen": made.n_items}
    for _ in range(HOSTILE):
        signature = str(chance.choice(list(one.signatures())))
        specs = one.signatures()[signature][0]
        length = int(chance.integers(1, 12))
        shapes = {key: [length if part == ANY else part for part in spec.shape] for key, spec in specs.items()}
        given = {
            key: np.asarray(chance.integers(0, ends.get(key, made.n_items + 2), shapes[key]), np.int32) for key in specs
        }
        if chance.random() < 0.5:
            key = str(chance.choice([key for key in specs if key != "top"]))
            how, wrong = int(chance.integers(4)), given[key].copy()
            wrong[-1] = (ends[key], -2, 2**31 - 1, -(2**31))[how]
            answer = one.run(signature, **{**given, key: wrong})
            spoiled = [(value == NONE) if tensor == "items" else np.isnan(value) for tensor, value in answer.items()]
            assert all(part[... if key != "items" else -1].all() for part in spoiled), (signature, key, wrong)
            odd = (wrong[None], wrong.astype(np.float32), wrong[:0], np.array("x"))[how]
            if (key, how) != ("seen", 2) and (key, how, is_fixed(one.signatures()[signature])) != ("items", 2, False):
                with pytest.raises(ModelError):
                    one.run(signature, **{**given, key: odd})
        ours, theirs = (model.run(signature, **given) for model in (one, other))
        assert all(ours[tensor].tobytes() == theirs[tensor].tobytes() for tensor in ours)
        assert not np.isnan(ours.get("ratings", ours.get("scores"))).any()
