"""The card of a frozen model: what is written, what is read, and what is refused."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lite_support import models
from pocketrec.errors import ModelError
from pocketrec.lite import first_run
from pocketrec.lite.frozen import FrozenCard, Signatures
from pocketrec.ncf.network import NetworkSettings
from pocketrec.ncf.runtime import NcfModel

CARD = FrozenCard("ncf", NetworkSettings(n_users=7, n_items=9, layers=(8, 4)), "0f" * 16)


def read(document: Any) -> FrozenCard[NetworkSettings]:
    return FrozenCard.from_json(json.dumps(document), "ncf", NetworkSettings)


def test_a_card_is_read_as_it_was_written() -> None:
    assert read(json.loads(CARD.to_json())) == CARD
    assert "format" not in json.loads(CARD.to_json()), "a card of format 1 is as pocketrec 0.1 wrote it"
    assert read({**json.loads(CARD.to_json()), "format": 1}) == CARD


def test_another_format_is_said_to_be_so() -> None:
    with pytest.raises(ModelError, match=r"of format 2\.\nExpected: format 1(.|\n)*pocketrec ncf export"):
        read({"format": 2, "whatever": "it has"})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"kind": "dnn"}, "kind 'dnn'"),
        ({"settings": {"n_users": 7}}, "n_items"),
        ({"settings": {**json.loads(CARD.to_json())["settings"], "layers": [7]}}, "which is odd"),
        ({"settings": []}, "TypeError"),
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
        FrozenCard.from_json(text, "ncf", NetworkSettings)


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
    model._runner = SimpleNamespace(run=lambda *_: {"scores": answer})  # type: ignore[assignment]
    with pytest.raises(ModelError, match="scores of the signature 'score' is float"):
        model.score(6, np.array([0, 8], np.int32))
