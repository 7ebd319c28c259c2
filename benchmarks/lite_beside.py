"""Time of a step of two model files beside each other, such as one of an earlier commit and one of today's.

    python benchmarks/lite_beside.py BEFORE.tflite AFTER.tflite --rounds 40

Both are in one process and take turns, each round with the same inputs, so that a slow minute of the machine affects both.
What is loaded later is up to a tenth slower, the same file, too; so each is loaded twice: before, after, after, before.
Printed are the medians, and the median of the rounds' ratios, after / before. Files are made as in benchmarks/lite.py:
`python benchmarks/tools/lite_step.py export ARGUMENTS.json`.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from ai_edge_litert.interpreter import Interpreter

from pocketrec.lite.runtime import read_bundle

QUICK = 20
"""Rounds of `recommend` and `train_one` for each one of the signatures with batches."""


def main(
    before: Annotated[Path, typer.Argument(help="A .tflite of GRU4Rec.")],
    after: Annotated[Path, typer.Argument(help="Another one of the same settings.")],
    rounds: Annotated[int, typer.Option(help="Rounds of each signature with batches.")] = 40,
    signatures: Annotated[str, typer.Option(help="Separated by commas.")] = "recommend,train_one,train_sampled,train",
) -> None:
    """Print a line for each signature."""
    specs = read_bundle(after)[0]
    n_items, chance = specs.settings.n_items, np.random.default_rng(7)
    typer.echo(f"{'':<14} {before.stat().st_size:>10,} bytes {after.stat().st_size:>10,} bytes")
    for name in signatures.split(","):
        inputs = specs.signatures[name].inputs
        one = inputs["feat"].shape == (1,)
        order, threads = (0, 1, 1, 0), 1 if one else 2
        opened = [Interpreter(str((before, after)[which]), num_threads=threads) for which in order]
        runners = [(which, model.get_signature_runner(name)) for which, model in zip(order, opened, strict=True)]
        times: list[list[float]] = [[], []]
        for turn in range(2 + rounds * (QUICK if one else 1)):
            given = {
                key: chance.integers(0, n_items, spec.shape, dtype=np.int32)
                if spec.dtype == "int32"
                else chance.uniform(-0.5, 0.5, spec.shape).astype(np.float32)
                for key, spec in inputs.items()
            }
            taken = [0.0, 0.0]
            for which, run in runners if turn % 2 else reversed(runners):
                began = time.perf_counter()
                run(**given)
                taken[which] += (time.perf_counter() - began) / 2
            for which, seconds in enumerate(taken):
                times[which].append(seconds)
        first, second = (one_file[2:] for one_file in times)  # the first two allocate memory
        ratio = median(b / a for a, b in zip(first, second, strict=True))
        typer.echo(f"{name:<14} {1e3 * median(first):10.3f} ms    {1e3 * median(second):10.3f} ms    {ratio:.3f}")


if __name__ == "__main__":
    typer.run(main)
