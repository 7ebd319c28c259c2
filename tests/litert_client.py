"""A client of LiteRT as an app is one, with numpy alone: `python litert_client.py interpreter|compiled MODEL PLAN.json`.

It recommends, learns 28 steps and 4 more by `learn`, saves twice, restores in a fresh instance and does one more step in
both. What came of it is printed as JSON, and what was saved goes to MODEL.npz. Of ncf and dnn, which do not learn, it asks
the signatures of fixed lengths for the best items and what wrong codes give. In a process of its own: a runtime may crash,
and writes to stderr.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

STEPS, LEARNED = 28, 4
USER, SEEN = 1, (3, 5, 3)
Plan = dict[str, Any]
"""What a model is: `settings`, and `signatures`: by name the inputs and the outputs, each by name its shape and dtype."""


class Interpreted:
    """`Interpreter`, whose signatures are called by name."""

    def __init__(self, path: str, plan: Plan) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.plan, self.model = plan["signatures"], Interpreter(path)

    def call(self, name: str, **given: Any) -> dict[str, Any]:
        specs = self.plan[name][0]
        inputs = {key: np.asarray(given[key], spec["dtype"]).reshape(spec["shape"]) for key, spec in specs.items()}
        found: dict[str, Any] = self.model.get_signature_runner(name)(**inputs)
        return found


class Compiled:
    """`CompiledModel`, the only one in Kotlin from LiteRT 2.0.3 on."""

    def __init__(self, path: str, plan: Plan) -> None:
        from ai_edge_litert.compiled_model import CompiledModel

        self.plan, self.model = plan["signatures"], CompiledModel.from_file(path)

    def call(self, name: str, **given: Any) -> dict[str, Any]:
        ins, outs = self.plan[name]
        inputs, outputs = {}, {}
        for key, spec in ins.items():
            inputs[key] = self.model.create_input_buffer_by_name(name, key)
            inputs[key].write(np.ascontiguousarray(np.asarray(given[key], spec["dtype"]).reshape(spec["shape"])))
        for key in outs:
            outputs[key] = self.model.create_output_buffer_by_name(name, key)
        self.model.run_by_name(name, inputs, outputs)
        return {
            key: np.array(outputs[key].read(max(1, int(np.prod(spec["shape"]))), np.dtype(spec["dtype"]).type)).reshape(
                spec["shape"]
            )
            for key, spec in outs.items()
        }


def clicks(n_items: int) -> list[tuple[int, int]]:
    """Pairs of an item and the next one."""
    return [(step * 7 % n_items, step * 5 % n_items) for step in range(STEPS)]


def filled(codes: Any, length: int) -> Any:
    """A list of a fixed length, -1 behind the codes."""
    return np.concatenate([codes, np.full(length - len(codes), -1)])


def ask(client: Any, plan: Plan) -> dict[str, Any]:
    """Everything that an app asks a model that does not learn: scores of all items, and the best of them."""
    n_users, n_items = (plan["settings"][name] for name in ("n_users", "n_items"))
    ncf = "score_fixed" in plan["signatures"]
    name, output = ("score_fixed", "scores") if ncf else ("predict_fixed", "ratings")
    (block,) = plan["signatures"][name][0]["items"]["shape"]

    def answers(user: int, codes: Any) -> list[float]:
        found: list[float] = client.call(name, user=[user], items=filled(codes, block))[output].tolist()
        return found

    parts = [np.arange(first, min(first + block, n_items)) for first in range(0, n_items, block)]
    found: dict[str, Any] = {
        "scores": [score for part in parts for score in answers(USER, part)[: len(part)]],
        "wrong_item": answers(USER, [0, n_items, 1])[:4],
        "wrong_user": answers(n_users, [0, 1]),
    }
    if ncf:
        (length,) = plan["signatures"]["recommend_fixed"][0]["seen"]["shape"]
        for key, user, seen in (("items", USER, SEEN), ("no_user", -1, SEEN), ("no_item", USER, [0, n_items])):
            found[key] = client.call("recommend_fixed", user=[user], seen=filled(seen, length))["items"].tolist()
    return found


def use(make: Any, path: Path, plan: Plan) -> dict[str, Any]:
    """Everything that an app does, with the clients that `make(path, plan)` makes."""
    client, n_items = make(str(path), plan), plan["settings"]["n_items"]
    if "infer" not in plan["signatures"]:
        return ask(client, plan)
    fresh = np.zeros((1, plan["settings"]["hidden_size"]), np.float32)
    best = client.call("recommend", feat=[3], initstate=fresh)
    wrong = client.call("recommend", feat=[n_items], initstate=fresh)
    found: dict[str, Any] = {"items": best["items"].tolist(), "wrong": wrong["items"].tolist(), "losses": []}
    if "train_one" not in plan["signatures"]:
        return found
    state, found["clicks"] = fresh, clicks(n_items)
    for feat, target in found["clicks"]:
        learned = client.call("train_one", feat=[feat], target=[target], initstate=state)
        state = learned["state"]
        found["losses"].append(float(learned["loss"]))
    state, amounts = fresh, {"rate": [0.01], "share": [0.5], "pull": [0.25]}
    for feat, target in found["clicks"][:LEARNED]:
        learned = client.call("learn", feat=[feat], target=[target], initstate=state, **amounts)
        state = learned["state"]
        found["losses"].append(float(learned["loss"]))
    found["amounts"] = {name: amount for name, (amount,) in amounts.items()}
    refused = client.call("train_one", feat=[-1], target=[0], initstate=fresh)
    saved, again = (client.call("save", zero=[0]) for _ in range(2))
    other = make(str(path), plan)
    found["step"] = int(other.call("restore", **saved)["step"])
    step = {"feat": [1], "target": [2], "initstate": fresh}
    found["next"] = [float(one.call("train_one", **step)["loss"]).hex() for one in (client, other)]
    found["refused"] = bool(np.isnan(refused["loss"]))
    found["same"] = all(np.asarray(saved[name]).tobytes() == np.asarray(again[name]).tobytes() for name in saved)
    np.savez(path.with_suffix(".npz"), **saved)
    return found


def replay(model: Any, found: dict[str, Any]) -> list[float]:
    """The losses of an `OnDeviceModel` that learns what a client has learned by `use`."""
    losses = []
    for clicks, learn in (
        (found["clicks"], model.train_one),
        (found["clicks"][:LEARNED], partial(model.learn_one, **found["amounts"])),
    ):
        state = model.fresh_state(1)
        for feat, target in clicks:
            loss, state = learn(np.array([feat], np.int32), np.array([target], np.int32), state)
            losses.append(loss)
    return losses


if __name__ == "__main__":
    kind = {"interpreter": Interpreted, "compiled": Compiled}[sys.argv[1]]
    print(json.dumps(use(kind, Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()))))
