"""One cell of benchmarks/lite.py, as a separate process: `python lite_step.py export|litert|tensorflow ARGUMENTS.json`.

Prints one JSON object. Steps have random items and states of zero; each step is timed separately.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.judge.memory import peak_memory
from pocketrec.lite.options import LearnSettings
from pocketrec.lite.sampling import Sampler

SKIPPED = 2
"""First steps that are not timed: they allocate memory and optimise graphs."""


def items_of(settings: ModelSpec) -> Catalogue:
    """Items with supports as in a shop: they fall with the rank of the item."""
    ranks = np.arange(1, settings.n_items + 1)
    return Catalogue.of(ranks * 17 + 214_000_000, (1e6 / ranks**0.9).astype(np.int64) + 5)


def inputs_of(settings: ModelSpec, signature: str, steps: int) -> list[dict[str, Any]]:
    """The arguments of each step."""
    rng, one = np.random.default_rng(7), signature in ("train_one", "learn", "recommend")
    sampler = Sampler(items_of(settings).support, settings.sample_alpha)
    amounts = asdict(LearnSettings.of(settings, settings.batch_size))
    amounts = {name: np.array([amount], np.float32) for name, amount in amounts.items()}
    made = []
    for _ in range(steps):
        lanes = 1 if one else settings.batch_size
        feat, target = rng.integers(0, settings.n_items, (2, lanes), dtype=np.int32)
        step: dict[str, Any] = {"feat": feat, "initstate": np.zeros((lanes, settings.hidden_size), np.float32)}
        step |= {} if signature == "recommend" else {"target": target}
        step |= amounts if signature == "learn" else {}
        step |= {"negatives": sampler.draw(settings.negatives)} if signature == "train_sampled" else {}
        made.append(step)
    return made


def clock(step: Callable[[dict[str, Any]], Any], inputs: list[dict[str, Any]]) -> list[float]:
    """Time of each step in seconds, without the first `SKIPPED`."""
    seconds = []
    for given in inputs:
        began = time.perf_counter()
        step(given)
        seconds.append(time.perf_counter() - began)
    return seconds[SKIPPED:]


def litert(settings: ModelSpec, given: dict[str, Any]) -> dict[str, Any]:
    """Run the signature on plain LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(given["model"], num_threads=given["threads"]).get_signature_runner(given["signature"])
    seconds = clock(lambda step: runner(**step), inputs_of(settings, given["signature"], given["steps"]))
    return {"seconds": seconds, "peak_bytes": peak_memory()}


def tensorflow(settings: ModelSpec, given: dict[str, Any]) -> dict[str, Any]:
    """Run in TensorFlow the functions that were converted, with `chunk` items at a time in the full softmax."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(given["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from pocketrec.gru4rec.tf import losses
    from pocketrec.gru4rec.tf.model import Gru4Rec

    losses.CHUNK = given["chunk"]
    function = Gru4Rec(settings, support=items_of(settings).support).signatures()[given["signature"]]
    inputs = inputs_of(settings, given["signature"], given["steps"])
    tensors = [{name: tf.constant(value) for name, value in step.items()} for step in inputs]
    return {"seconds": clock(lambda step: function(**step), tensors), "peak_bytes": peak_memory()}


def export(settings: ModelSpec, given: dict[str, Any]) -> dict[str, Any]:
    """Write the model file."""
    from pocketrec.gru4rec.export import model_bytes

    content = model_bytes(settings, items_of(settings))
    Path(given["model"]).write_bytes(content)
    return {"bytes": len(content)}


def main(job: str, arguments: Path) -> None:
    """Run a cell and print its result."""
    given = json.loads(arguments.read_text())
    settings = ModelSpec(**given["settings"])
    print(json.dumps({"export": export, "litert": litert, "tensorflow": tensorflow}[job](settings, given)))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(sys.argv[1], Path(sys.argv[2]))
