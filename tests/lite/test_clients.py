"""The other runtimes that apps use do what the interpreter does, keep what was learned, and let nothing in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lite_support import fresh, models
from litert_client import LEARNED, SEEN, STEPS, USER, replay
from pocketrec.dnn.runtime import DnnModel
from pocketrec.errors import ModelError
from pocketrec.lite.bundle import read_card
from pocketrec.lite.contract import NO_LEARN, NO_USER, NO_ZERO, STEP
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.judge.file_checks import check_clients
from pocketrec.lite.judge.ladder import Fault
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.runtimes import needed, unknown
from pocketrec.ncf.runtime import NcfModel
from pocketrec.storage.layout import Dataset

HERE = Path(__file__).parent
OLDEST = (2, 1, 5)
"""The first LiteRT whose CompiledModel has variables."""
LITERT = tuple(int(part) for part in version("ai-edge-litert").split(".")[:3])
MODELS = ["adam", "shared", "separate", "shared-adam-float16", "sgd", "answers"]
HOSTILE = int(os.environ.get("POCKETREC_HOSTILE", "300"))
"""Calls of each model; see .github/CONTRIBUTING.md."""
WRONG_STATES = (np.nan, np.inf, -np.inf, 1e30, 1001.0)
WRONG_AMOUNTS = {
    name: (np.nan, np.inf, -np.inf, -1e-30, most + 1) for name, most in (("rate", 1e3), ("share", 1e3), ("pull", 1))
}
LEARNING = ("train", "train_one", "train_sampled", "learn")


def asked(api: str, path: Path, plan: Path) -> dict[str, Any]:
    """What a client of its own process says of a model."""
    command = [sys.executable, str(HERE.parent / "litert_client.py"), api, str(path), str(plan)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.skipif(OLDEST > LITERT, reason=f"CompiledModel has variables from LiteRT {OLDEST} on")
@pytest.mark.parametrize("name", MODELS)
def test_compiled_model_does_the_same_and_keeps_it(tmp_path: Path, name: str) -> None:
    """28 steps, 4 of `learn`, saved twice, restored in a fresh instance; the next step is the same to the last bit."""
    path = fresh(tmp_path, name).tflite(4)
    model = OnDeviceModel(path)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"settings": asdict(model.settings), "signatures": model.card.signatures}, default=asdict))
    found = asked("compiled", path, plan)
    items, _, _ = model.recommend_next(3, model.fresh_state(1))
    assert found["items"] == items.tolist()
    assert set(found["wrong"]) == {-1}
    if not model.settings.trainable:
        return
    assert found["losses"] == pytest.approx(replay(model, found), abs=1e-5)
    assert (found["step"], found["same"], found["refused"]) == (STEPS + LEARNED, True, True)
    assert found["next"][0] == found["next"][1]
    own = model.save()
    with np.load(path.with_suffix(".npz")) as saved:
        for tensor, value in own.items():
            np.testing.assert_allclose(saved[tensor], value, atol=1e-5, err_msg=tensor)


@pytest.mark.skipif(OLDEST > LITERT, reason=f"models are asked for in LiteRT {OLDEST} on")
@pytest.mark.parametrize("api", ["interpreter", "compiled"])
@pytest.mark.parametrize(("name", "kind"), [("frozen", NcfModel), ("rating", DnnModel)])
def test_models_that_only_answer_do_so_in_every_client(tmp_path: Path, name: str, kind: Any, api: str) -> None:
    path, plan = Path(shutil.copy(models() / f"{name}.tflite", tmp_path)), tmp_path / "plan.json"
    model = kind(path, trusted=True)
    plan.write_text(json.dumps({"settings": asdict(model.card.settings), "signatures": model.signatures()}, default=asdict))
    found = asked(api, path, plan)
    every = np.arange(model.card.settings.n_items, dtype=np.int32)
    wanted = model.score(USER, every) if kind is NcfModel else model.predict(USER, every)[0]
    np.testing.assert_allclose(found["scores"], wanted, rtol=1e-5)
    assert np.isnan(found["wrong_item"]).tolist() == [False, True, False, True]
    assert np.isnan(found["wrong_user"]).all()
    if kind is NcfModel:
        assert found["items"] == model.recommend(USER, np.array(SEEN, np.int32), 3)[0].tolist()
        assert set(found["no_user"]) == set(found["no_item"]) == {-1}


def test_the_first_graph_and_signature_need_no_shape_from_the_app() -> None:
    """CompiledModel takes the first signature where none is named, others the first graph, and tensors by place."""
    from ai_edge_litert.interpreter import Interpreter

    for path, first in (
        (Dataset(models() / "adam").tflite(4), "recommend"),
        (models() / "frozen.tflite", "recommend_fixed"),
        (models() / "rating.tflite", "predict_fixed"),
    ):
        model = read_model(path)
        assert (model.first, next(iter(model.signatures))) == (first, first)
        graph = Interpreter(str(path))
        for side, specs in zip(
            (graph.get_input_details(), graph.get_output_details()), model.signatures[first], strict=True
        ):
            by_name = [(specs[name].shape, specs[name].dtype) for name in sorted(specs)]
            assert [(tuple(one["shape"].tolist()), np.dtype(one["dtype"]).name) for one in side] == by_name


def raw(model: OnDeviceModel, signature: str, **given: Any) -> dict[str, Any]:
    """A call as an app makes it that checks nothing."""
    specs = model.card.signatures[signature].inputs
    inputs = {name: np.asarray(given[name], spec.dtype).reshape(spec.shape) for name, spec in specs.items()}
    return model._runner.run(signature, inputs)


def inputs_of(model: OnDeviceModel, signature: str) -> dict[str, Any]:
    settings = model.settings
    lanes = 1 if signature in ("train_one", "learn", "recommend", "recommend_user") else settings.batch_size
    return {
        "feat": np.arange(lanes) % settings.n_items,
        "target": np.arange(lanes) - 1,
        "initstate": np.full((lanes, settings.hidden_size), 0.25),
        "negatives": np.arange(settings.negatives) % settings.n_items,
        "top_k": 3,
        "cache_states": np.full((settings.journal, settings.hidden_size), -0.5),
        "cache_items": np.arange(settings.journal) % (settings.n_items + 1) - 1,
        "cache_share": np.array([0.05], np.float32),
        "hide": np.arange(settings.journal) % 3 - 1,
        **{name: np.array([one], np.float32) for name, one in asdict(model.card.learning).items()},
    }


def hostile(model: OnDeviceModel, signature: str) -> list[dict[str, Any]]:
    """Inputs that cannot be, one thing wrong in each."""
    fine, wrong = inputs_of(model, signature), []
    n, names = model.settings.n_items, model.card.signatures[signature].inputs
    bad = {"feat": (-1, n, 2**31 - 1, -(2**31)), "target": (-2, n, 2**31 - 1), "negatives": (-1, n)}
    bad |= {"cache_items": (-2, n), "hide": (-2, n, 2**31 - 1)}
    for name in (name for name in bad if name in names):
        for code in bad[name]:
            changed = fine[name].copy()
            changed[-1] = code
            wrong.append({**fine, name: changed})
    for name in (name for name in ("initstate", "cache_states") if name in names):
        for value in WRONG_STATES:
            state = fine[name].copy()
            state[-1, -1] = value
            wrong.append({**fine, name: state})
    for name in (name for name in WRONG_AMOUNTS if name in names):
        wrong += [{**fine, name: np.array([value], np.float32)} for value in WRONG_AMOUNTS[name]]
    return wrong


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("name", MODELS)
def test_what_cannot_be_changes_nothing_and_is_seen(name: str) -> None:
    model = OnDeviceModel(Dataset(models() / name).tflite(4))
    for signature in LEARNING:
        if signature in model.card.signatures:
            raw(model, signature, **inputs_of(model, signature))  # slots are not zero then
    before = model.save()
    for signature in (*LEARNING, "recommend", "infer", "eval"):
        for given in hostile(model, signature) if signature in model.card.signatures else []:
            found = raw(model, signature, **given)
            seen = {"recommend": "scores", "infer": "output"}.get(signature, "loss")
            assert np.isnan(found[seen]).any(), (signature, given)
            if signature == "recommend":
                assert (found["items"] == -1).all()
            if "state" in found:
                np.testing.assert_array_equal(found["state"], given["initstate"].astype(np.float32))
            assert same(before, model.save()), (signature, given)


@pytest.mark.parametrize("name", ["adam", "shared", "sgd"])
@pytest.mark.parametrize("step", [-1, -(2**31), 2**31 - 1])
def test_a_count_of_steps_that_cannot_be_stops_learning(name: str, step: int) -> None:
    model = OnDeviceModel(Dataset(models() / name).tflite(4))
    tensors = {**model.save(), STEP: np.array(step, np.int32)}
    raw(model, "restore", **tensors)
    for signature in LEARNING:
        assert np.isnan(raw(model, signature, **inputs_of(model, signature))["loss"])
    assert same(tensors, model.save())
    with pytest.raises(ModelError, match="step"):
        model.restore(tensors)


@pytest.mark.parametrize("count", [2, 7])
def test_models_of_few_items_see_wrong_codes(count: int) -> None:
    """The converter took the bounds of their codes, -1 and 1, or 0 and 6, for an activation, and failed."""
    model = OnDeviceModel(models() / f"of{count}.tflite")
    before = model.save()
    for signature in ("train_one", "recommend", "recommend_user"):
        for given in hostile(model, signature):
            found = raw(model, signature, **given)
            assert np.isnan(found["loss" if signature == "train_one" else "scores"]).all()
    assert same(before, model.save())
    model.observe(model.items.ids)
    assert model.learn(keep="always").kept


def misshapen(model: OnDeviceModel, signature: str, chance: np.random.Generator) -> dict[str, Any]:
    """Inputs of which one has another shape or type than the signature says, or is missing."""
    specs = model.card.signatures[signature].inputs
    fine = inputs_of(model, signature)
    given = {name: np.asarray(fine[name], spec.dtype).reshape(spec.shape) for name, spec in specs.items()}
    name = str(chance.choice([one for one in specs if one != "top_k"]))
    value = given.pop(name)
    odd = (value[None], value[:0], np.repeat(value, 3, axis=0), value.astype(np.float64), np.array("x"))
    which = int(chance.integers(len(odd) + 1))
    return given if which == len(odd) else {**given, name: odd[which]}


@pytest.mark.parametrize("name", MODELS)
def test_legal_answers_are_those_of_a_model_that_saw_nothing_hostile(name: str) -> None:
    """A third of the calls are hostile: codes, states, shapes and types.

    `POCKETREC_HOSTILE` says how many calls of each model; after each hundred all weights are compared.
    """
    one, other = (OnDeviceModel(Dataset(models() / name).tflite(4)) for _ in range(2))
    chance = np.random.default_rng(5)
    signatures = [key for key in one.card.signatures if key not in ("save", "restore")]
    wrong = {key: hostile(one, key) for key in signatures}
    for call in range(HOSTILE):
        signature = str(chance.choice(signatures))
        if chance.random() < 0.3:
            raw(one, signature, **wrong[signature][int(chance.integers(len(wrong[signature])))])
        elif chance.random() < 0.1:
            with pytest.raises((ModelError, TypeError)):
                one._runner.run(signature, misshapen(one, signature, chance))
        else:
            given = inputs_of(one, signature)
            given["feat"] = chance.integers(0, one.settings.n_items, given["feat"].shape)
            given["initstate"] = chance.uniform(-1, 1, given["initstate"].shape)
            ours, theirs = raw(one, signature, **given), raw(other, signature, **given)
            assert same(ours, theirs)
            assert all(np.isfinite(value).all() for value in ours.values())
        if call % 100 == 99:
            saved = one.save()
            assert same(saved, other.save())
            assert all(np.isfinite(value).all() for value in saved.values())
    assert same(one.save(), other.save())


def test_what_is_not_finite_is_neither_saved_nor_restored(tmp_path: Path) -> None:
    model = OnDeviceModel(Dataset(models() / "adam").tflite(4))
    tensors = model.save()
    tensors["output"] = tensors["output"].copy()
    tensors["output"][3, 2] = np.nan
    with pytest.raises(ModelError, match="'output' to restore has numbers that are not finite"):
        model.restore(tensors)
    raw(model, "restore", **tensors)
    with pytest.raises(ModelError, match="'output' has numbers that are not finite"):
        model.save_to(tmp_path / "user.safetensors")
    assert not list(tmp_path.iterdir())


def test_two_threads_get_right_answers() -> None:
    model = OnDeviceModel(Dataset(models() / "adam").tflite(4))
    wanted = {code: model.recommend_next(code, model.fresh_state(1)) for code in range(20)}
    wrong: list[int] = []

    def ask() -> None:
        for turn in range(1500):
            code = turn % 20
            found = model.recommend_next(code, model.fresh_state(1))
            if any(a.tobytes() != b.tobytes() for a, b in zip(found, wanted[code], strict=True)):
                wrong.append(code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", ["adam", "answers"])
def test_items_can_be_left_out_or_be_the_only_ones(name: str) -> None:
    """By the scores of all items; also where more is left out than `recommend` has candidates."""
    model = OnDeviceModel(Dataset(models() / name).tflite(4))
    ids = model.items.ids
    session = [ids[3], ids[7], ids[3]]
    state, feat = model.fresh_state(), np.zeros(4, np.int32)
    for code in (3, 7, 3):
        feat[0] = code
        scores, state = model.infer(feat, state)
    order = [ids[code] for code in np.argsort(-scores[0], kind="stable")]
    plain = model.recommend(session)
    assert [one.item for one in plain] == order[: len(plain)]
    for exclude in ([], session, order[:1], order[:30], [*order[:5], "no such item"]):
        found = model.recommend(session, top=5, exclude=exclude)
        assert [one.item for one in found] == [item for item in order if item not in exclude][:5]
    allowed = order[-7:]
    assert [one.item for one in model.recommend(session, top=5, allow=allowed)] == allowed[:5]
    assert [one.item for one in model.recommend(session, top=9, allow=allowed, exclude=allowed[:4])] == allowed[4:]
    assert model.recommend(session, exclude=order) == []
    scored = {one.item: one.score for one in plain}
    for one in model.recommend(session, top=5, exclude=order[:1]):
        assert one.score == pytest.approx(scored.get(one.item, one.score), abs=1e-4)


def faults_of(path: Path) -> list[str]:
    """What the judge says of a file's fitness for other runtimes."""
    model = read_model(path)
    try:
        check_clients(SimpleNamespace(read=lambda: model, card=read_card(model, path)))  # type: ignore[arg-type]
    except Fault as fault:
        return str(fault).splitlines()
    return []


def test_the_judge_names_what_other_runtimes_cannot_do(tmp_path: Path) -> None:
    """A file of 0.1, and files that claim too little, have another graph first, or an operator that is not known."""
    earlier = HERE.parent / "fixtures" / "pocketrec-0.1" / "dataset" / "model" / "gru4rec_bs4.tflite"
    found = faults_of(earlier)
    assert "the signature 'save' has no input" in found
    assert "the output save: step has no fixed shape" in found
    assert "the first graph is eval, not recommend" in found
    whole = Dataset(models() / "separate").tflite(4)
    assert faults_of(whole) == []
    content = whole.read_bytes()
    assert content.count(b"2.13.0\0") == 1
    (tmp_path / "less").write_bytes(content.replace(b"2.13.0\0", b"2.6.0\0\0"))
    found = faults_of(tmp_path / "less")
    assert any("says that 2.6.0 runs it, but BITWISE_XOR version 1 is there from 2.13 on" in line for line in found)
    assert needed([(0, 1), (53, 3)]) == "2.8"
    assert unknown([(0, 99), (250, 1), (0, 1)]) == ["ADD version 99", "builtin 250 version 1"]


@pytest.mark.parametrize(
    ("earlier", "form"),
    [
        ("pocketrec-0.1/dataset/model/gru4rec_bs4.tflite", NO_ZERO),
        ("card-4/gru4rec.tflite", NO_LEARN),
        ("card-5/gru4rec.tflite", NO_USER),
    ],
)
def test_files_of_earlier_cards_still_run(earlier: str, form: int) -> None:
    model = OnDeviceModel(HERE.parent / "fixtures" / earlier)
    assert model.card.format == form
    saved = model.save()
    one, session = np.array([1], np.int32), model.items.ids[:3]
    loss, _ = model.train_one(one, one, model.fresh_state(1))
    assert np.isfinite(loss)
    model.observe(session)
    assert len(model.recommend(session, exclude_seen=True)) == min(model.settings.k, len(model.items.ids) - 3)
    model.restore(saved)
    assert same(saved, model.save())
    if form == NO_USER:
        assert model.learn(keep="always").kept
        return
    with pytest.raises(ModelError, match=r"no signature 'learn': it is of an earlier pocketrec[\s\S]*pocketrec export"):
        model.learn()
