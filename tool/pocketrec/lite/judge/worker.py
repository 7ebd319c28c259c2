"""Runs a model in a process of its own, for `verify`: `python -m pocketrec.lite.judge.worker TASK ARGUMENTS.json`.

A file that crashes the interpreter ends only this process, and the peak memory measured is that of training only. The
result goes to the file named in the arguments. Each step prints a line, so that the parent process knows the progress.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.errors import PocketrecError
from pocketrec.lite.contract import STEP, digest
from pocketrec.lite.judge.memory import peak_memory
from pocketrec.lite.options import LARGEST_AMOUNT
from pocketrec.lite.runtime import LiteModel
from pocketrec.lite.sampling import Sampler
from pocketrec.schema import Float32, Int32
from pocketrec.storage.tensors import Tensors

ROUNDS, CLICKS = 4, 5
"""Rounds of the other signatures that learn over the same steps; steps of the session of one lane, at most."""


def run(model: LiteModel, arrays: Tensors, steps: int) -> dict[str, Any]:
    """Train on the rows, round after round (or only infer), then call all other signatures; returns a `Trial` as a dict."""
    learns, losses, seconds = model.settings.trainable, [], []
    feats, targets, masks = (arrays[name] for name in ("feats", "targets", "masks"))
    state = model.fresh_state()
    for step in range(steps):
        row = step % len(feats)
        state = model.fresh_state() if row == 0 else masks[row][:, None].astype(np.float32) * state
        began = time.perf_counter()
        if learns:
            loss, state = model.train(feats[row], targets[row], state)
            seconds.append(time.perf_counter() - began)
            losses.append(loss)
        else:
            _, state = model.infer(feats[row], state)
        print(step, flush=True)
    peak = peak_memory()
    rounds = _rounds(model, arrays) if learns else {}
    model.infer(feats[0], state)
    model.evaluate(feats[0], targets[0], state)
    model.recommend_next(int(feats[0, 0]), model.fresh_state(1))
    tensors = model.save()
    if learns:
        model.restore(tensors)
    return {"losses": losses, "rounds": rounds, "seconds": seconds, "peak_bytes": peak}


def _rounds(model: LiteModel, arrays: Tensors) -> dict[str, tuple[float, float]]:
    """Mean losses, first round and last, of train_sampled with the same drawn items, of train_one and learn on one lane.

    `learn` has no pull: weights that were trained above would be pulled back, and the loss could rise.
    """
    steps = list(zip(arrays["feats"], arrays["targets"], arrays["masks"][..., None].astype(np.float32), strict=True))
    sampler = Sampler(model.items.support, model.settings.sample_alpha)
    sampled = [(*step, sampler.draw(model.settings.negatives)) for step in steps]
    session = [tuple(part[:1] for part in step) for step in steps if step[1][0] >= 0][:CLICKS]
    found = {
        "train_sampled": _means(model.train_sampled, sampled, model.fresh_state()),
        "train_one": _means(model.train_one, session, model.fresh_state(1)),
    }
    if "learn" in model.card.signatures:
        rate = min(model.settings.learning_rate, LARGEST_AMOUNT)
        learn = partial(model.learn_one, rate=rate, share=1, pull=0)
        found["learn"] = _means(learn, session, model.fresh_state(1))
    return found


def _means(learn: Callable[..., tuple[float, Float32]], steps: list[Any], zero: Float32) -> tuple[float, float]:
    means = []
    for _ in range(ROUNDS):
        state, losses = zero, []
        for feat, target, keep, *negatives in steps:
            loss, state = learn(feat, target, keep * state, *negatives)
            losses.append(loss)
        means.append(float(np.mean(losses)))
    return means[0], means[-1]


def resume(model: LiteModel, arrays: Tensors) -> dict[str, Any]:
    """Restore tensors, save them again, and do the next training step."""
    feat, target, state = (arrays.pop(name) for name in ("feat", "target", "state"))
    model.restore(arrays)
    return {"restored": fingerprints(model.save()), "next": next_step(model, feat, target, state)}


def next_step(model: LiteModel, feat: Int32, target: Int32, state: Float32) -> dict[str, str]:
    """Do a training step: the fingerprints of its loss, of the new state and of all tensors after it."""
    loss, after = model.train(feat, target, state)
    return {"loss": loss.hex(), **fingerprints({"state": after, **model.save()})}


def fingerprints(tensors: Tensors) -> dict[str, str]:
    """The digest of each tensor, equal where all bits are equal; the step as a number."""
    return {name: str(int(value)) if name == STEP else digest(value) for name, value in tensors.items()}


def main(task: str, arguments: Path) -> None:
    """Do the task with the arguments that the parent process wrote."""
    given = json.loads(arguments.read_text())
    with np.load(given["arrays"], allow_pickle=False) as stored:
        arrays = dict(stored)
    try:
        model = LiteModel(given["model"], given["threads"], trusted=True)
        found = resume(model, arrays) if task == "resume" else run(model, arrays, given["steps"])
    except PocketrecError as error:
        sys.exit(" ".join(error.wrong.split()))
    Path(given["result"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
