"""Time and memory of a step on plain LiteRT, compared with the same arithmetic in TensorFlow; one row per configuration.

    python benchmarks/lite.py --batch-sizes 512,32 --repeats 3

Each cell is a separate process. LiteRT and TensorFlow take turns, so that a slow minute of the machine affects both. The
time is the median over the steps of all repeats. TensorFlow runs the functions that were converted, the full softmax once
in the chunks that suit LiteRT and once with all items at once; its time is the faster of the two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from pocketrec.lite.contract import ModelSpec
from rows import put

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "lite.csv"
CHUNKS = (1024, 1 << 30)
"""Chunk sizes with which TensorFlow is measured: as on LiteRT, and all items at once."""
ONE = ("recommend", "train_one", "learn")
"""The signatures of one session."""
KEY = ("signature", "embedding", "optimizer", "storage", "items", "batch_size", "threads")
"""The columns that identify a row; the others are measured."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adagrad": {"optimizer": "adagrad", "learning_rate": 0.05},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1},
}


@dataclass(frozen=True)
class Row:
    """One configuration.

    Attributes:
        litert_ms: median time of a step in ms; those of one session (`ONE`) use 1 thread.
        tensorflow_ms: the same in TensorFlow; None if it was not measured.
        ratio: litert_ms / tensorflow_ms.
        peak_bytes: peak memory of the process that ran LiteRT, Python included.
        file_bytes: size of the model file.
    """

    started: str
    machine: str
    signature: str
    embedding: str
    optimizer: str
    storage: str
    items: int
    batch_size: int
    threads: int
    litert_ms: float
    tensorflow_ms: float | None
    ratio: float | None
    peak_bytes: int
    tensorflow_peak_bytes: int | None
    file_bytes: int


def cell(job: str, folder: Path, **given: Any) -> dict[str, Any]:
    """Run tools/lite_step.py in a process and return what it printed."""
    arguments = folder / "arguments.json"
    arguments.write_text(json.dumps(given))
    command = [sys.executable, str(HERE / "tools" / "lite_step.py"), job, str(arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    if done.returncode:
        sys.exit(f"{job} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(settings: dict[str, Any], signatures: list[str], steps: int, repeats: int) -> Iterator[Row]:
    """Measure one model file: a row for each signature."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = str(folder / "model.tflite")
        size = cell("export", folder, settings=settings, model=model)["bytes"]
        for signature in signatures:
            threads = 1 if signature in ONE else 2
            given = {"settings": settings, "model": model, "signature": signature, "steps": steps, "threads": threads}
            ours, theirs = [], []
            for _ in range(repeats):
                ours.append(cell("litert", folder, **given))
                chunks = CHUNKS if signature == "train" else CHUNKS[:1]
                theirs.append([cell("tensorflow", folder, **given, chunk=chunk) for chunk in chunks])
            fast = time_of(ours)
            beside = min(zip(*theirs, strict=True), key=time_of)
            yield Row(
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                machine=f"{os.cpu_count()} cores",
                signature=signature,
                embedding=settings["embedding"],
                optimizer=settings.get("optimizer", "adam"),
                storage=settings.get("storage", "float32"),
                items=settings["n_items"],
                batch_size=1 if threads == 1 else settings["batch_size"],
                threads=threads,
                litert_ms=round(fast, 2),
                tensorflow_ms=round(time_of(beside), 2),
                ratio=round(fast / time_of(beside), 3),
                peak_bytes=max(one["peak_bytes"] for one in ours),
                tensorflow_peak_bytes=max(one["peak_bytes"] for one in beside),
                file_bytes=size,
            )


def time_of(cells: Any) -> float:
    """Median milliseconds over the steps of all repeats."""
    return 1e3 * float(median(second for one in cells for second in one["seconds"]))


def main(
    items: Annotated[int, typer.Option(help="Number of items in the item index.")] = 37_484,
    batch_sizes: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "512,32",
    embeddings: Annotated[str, typer.Option(help="Embeddings, separated by commas.")] = "none,separate,shared",
    optimizers: Annotated[str, typer.Option(help="Optimizers, separated by commas.")] = "adam,adagrad,sgd",
    weights: Annotated[
        str, typer.Option(help="How weights are stored, separated by commas: float32, float16, int8.")
    ] = "float32",
    signatures: Annotated[
        str, typer.Option(help="Signatures, separated by commas; those that a file does not have are skipped.")
    ] = "train,train_sampled",
    single: Annotated[bool, typer.Option(help="Also the signatures of one session, with the first batch size.")] = True,
    steps: Annotated[int, typer.Option(help="Steps of each repeat.")] = 12,
    repeats: Annotated[int, typer.Option(help="Repeats of each cell.")] = 3,
    out: Annotated[Path, typer.Option(help="CSV file; rows of the same configuration are replaced.")] = RESULTS,
) -> None:
    """Measure all configurations and add them to the table."""
    sizes = [int(size) for size in batch_sizes.split(",")]
    kinds = product(*(which.split(",") for which in (embeddings, optimizers, weights)))
    for (embedding, optimizer, storage), size in product(kinds, sizes):
        settings = {
            "n_items": items,
            "batch_size": size,
            "embedding": embedding,
            **OPTIMIZERS[optimizer],
            "storage": storage,
        }
        names = signatures.split(",") + ([*ONE] if single and size == sizes[0] else [])
        has = ModelSpec(**settings).signatures
        for row in measure(settings, [name for name in names if name in has], steps, repeats):
            put(out, [row], KEY)
            typer.echo(
                f"{row.signature:<14} {row.embedding:<9} {row.optimizer:<8} {row.storage} B={row.batch_size:<4} "
                f"{row.litert_ms:8.1f} ms, "
                f"TensorFlow {row.tensorflow_ms:8.1f} ms, {row.peak_bytes / 1e6:6.0f} MB, file {row.file_bytes / 1e6:.1f}"
            )


if __name__ == "__main__":
    typer.run(main)
