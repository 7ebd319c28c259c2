"""Runs a model in a process of its own, for `verify`: `python -m pocketrec.lite.judge.worker TASK ARGUMENTS.json`.

A file that makes the interpreter abort takes only this process with it, and the memory measured is that of training alone.
Results go to the file named in the arguments; each step prints a line, so that the parent sees how far it is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from pocketrec.errors import PocketrecError
from pocketrec.lite.contract import STEP
from pocketrec.lite.judge.memory import peak_memory
from pocketrec.lite.runtime import OnDeviceModel
from pocketrec.lite.sampling import Sampler

ROUNDS, CLICKS = 4, 5
"""How often the further signatures see the same steps; the steps of the session that train_one sees."""


def train(model: OnDeviceModel, arrays: dict[str, npt.NDArray[Any]], steps: int) -> dict[str, Any]:
    """Train on the given rows again and again, states at zero before each round; then call every other signature once."""
    losses, seconds, state = [], [], model.fresh_state()
    feats, targets, masks = (arrays[name] for name in ("feats", "targets", "masks"))
    for step in range(steps):
        row = step % len(feats)
        state = model.fresh_state() if row == 0 else masks[row][:, None].astype(np.float32) * state
        began = time.perf_counter()
        loss, state = model.train(feats[row], targets[row], state)
        seconds.append(time.perf_counter() - began)
        losses.append(loss)
        print(step, flush=True)
    peak = peak_memory()
    rounds = {"train_sampled": _sampled_rounds(model, arrays), "train_one": _session_rounds(model, arrays)}
    model.infer(feats[0], state)
    model.evaluate(feats[0], targets[0], state)
    model.recommend_next(int(feats[0, 0]), model.fresh_state(1))
    model.restore(model.save())
    return {"losses": losses, "rounds": rounds, "seconds": seconds, "peak_bytes": peak}


def answer(model: OnDeviceModel, arrays: dict[str, npt.NDArray[Any]], steps: int) -> dict[str, Any]:
    """Infer on the given rows, then call every other signature of a model that cannot learn once."""
    feats, state = arrays["feats"], model.fresh_state()
    for step in range(steps):
        _, state = model.infer(feats[step % len(feats)], state)
        print(step, flush=True)
    peak = peak_memory()
    model.evaluate(feats[0], arrays["targets"][0], state)
    model.recommend_next(int(feats[0, 0]), model.fresh_state(1))
    model.save()
    return {"peak_bytes": peak}


def _sampled_rounds(model: OnDeviceModel, arrays: dict[str, npt.NDArray[Any]]) -> tuple[float, float]:
    """Mean losses of train_sampled on the same steps and the same drawn items, first round and last."""
    sampler = Sampler(model.items.support, model.settings.sample_alpha)
    rows = [(*row, sampler.draw(model.settings.negatives)) for row in zip(*_columns(arrays), strict=True)]
    return _rounds(
        rows, lambda row, state: model.train_sampled(row[0], row[1], row[2] * state, row[3]), model.fresh_state()
    )


def _session_rounds(model: OnDeviceModel, arrays: dict[str, npt.NDArray[Any]]) -> tuple[float, float]:
    """The same of train_one, on the first lane."""
    rows = [tuple(part[:1] for part in row) for row in zip(*_columns(arrays), strict=True) if row[1][0] >= 0][:CLICKS]
    return _rounds(rows, lambda row, state: model.train_one(row[0], row[1], row[2] * state), model.fresh_state(1))


def _columns(arrays: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    return [arrays["feats"], arrays["targets"], arrays["masks"][..., None].astype(np.float32)]


def _rounds(rows: list[Any], step: Callable[[Any, Any], tuple[float, Any]], zero: npt.NDArray[Any]) -> tuple[float, float]:
    means = []
    for _ in range(ROUNDS):
        state, losses = zero, []
        for row in rows:
            loss, state = step(row, state)
            losses.append(loss)
        means.append(float(np.mean(losses)))
    return means[0], means[-1]


def resume(model: OnDeviceModel, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Restore tensors, hand them out again, and do the next step."""
    feat, target, state = (arrays.pop(name) for name in ("feat", "target", "state"))
    model.restore(arrays)
    restored = fingerprints(model.save())
    loss, after = model.train(feat, target, state)
    return {"restored": restored, "next": step_fingerprints(model, loss, after)}


def step_fingerprints(model: OnDeviceModel, loss: float, state: npt.NDArray[np.float32]) -> dict[str, str]:
    """One line a tensor that a step leaves behind."""
    return {"loss": loss.hex(), **fingerprints({"state": state, **model.save()})}


def fingerprints(tensors: dict[str, npt.NDArray[Any]]) -> dict[str, str]:
    """XXH3-64 of each tensor's bytes: equal where every bit is (the step as a number)."""
    return {
        name: str(int(value)) if name == STEP else xxhash.xxh3_64(value.tobytes()).hexdigest()
        for name, value in tensors.items()
    }


def main(task: str, arguments: Path) -> None:
    """Do what the parent wrote down."""
    given = json.loads(arguments.read_text())
    with np.load(given["arrays"], allow_pickle=False) as stored:
        arrays = dict(stored)
    try:
        model = OnDeviceModel(given["model"], given["threads"])
        if task == "resume":
            found = resume(model, arrays)
        else:
            found = {"train": train, "answer": answer}[task](model, arrays, given["steps"])
    except PocketrecError as error:
        sys.exit(" ".join(error.wrong.split()))
    Path(given["result"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
