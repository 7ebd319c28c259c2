"""Time of a step of two model files beside each other, such as one of an earlier commit and one of today's.

    python benchmarks/lite_beside.py BEFORE.tflite AFTER.tflite

Each cell is a separate process, since two models in one process are up to a tenth apart, the same file beside itself too.
The files take turns, so that a slow minute of the machine affects both. Printed are the median of the cells' medians and
their range. Files are made as in benchmarks/lite.py: `python benchmarks/tools/lite_step.py export ARGUMENTS.json`.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from lite import cell
from pocketrec.lite.bundle import read_bundle


def main(
    before: Annotated[Path, typer.Argument(help="A .tflite of GRU4Rec.")],
    after: Annotated[Path, typer.Argument(help="Another one of the same settings.")],
    repeats: Annotated[int, typer.Option(help="Cells of each file and signature.")] = 5,
    steps: Annotated[int, typer.Option(help="Steps of a cell with batches; ten times as many of one lane.")] = 60,
    signatures: Annotated[str, typer.Option(help="Separated by commas.")] = "recommend,train_one,train_sampled,train",
) -> None:
    """Print a line for each signature."""
    settings = asdict(read_bundle(after)[0].settings)
    typer.echo(f"{'':<14} {before.stat().st_size:>12,} bytes {after.stat().st_size:>12,} bytes")
    with tempfile.TemporaryDirectory() as folder:
        for name in signatures.split(","):
            one = name in ("recommend", "train_one")
            given = {"settings": settings, "signature": name, "steps": 10 * steps if one else steps, "threads": 2 - one}
            found: dict[Path, list[float]] = {before: [], after: []}
            for _ in range(repeats):
                for path, cells in found.items():
                    cells.append(1e3 * median(cell("litert", Path(folder), model=str(path), **given)["seconds"]))
            shown = [f"{median(cells):9.3f} ms ({min(cells):.3f} to {max(cells):.3f})" for cells in found.values()]
            ratio = median(found[after]) / median(found[before])
            typer.echo(f"{name:<14} {shown[0]} {shown[1]}  {ratio:.3f}")


if __name__ == "__main__":
    typer.run(main)
