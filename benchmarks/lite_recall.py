"""How accurate a model becomes that is trained on plain LiteRT only: Recall@20 on test, after a fixed number of steps.

    pocketrec prep accuracy-clicks.dat --dataset D --batch-size 32 --holdout 5d --tail pad --formats npy
    python benchmarks/lite_recall.py D --batch-size 32 --steps 2000

Each configuration is exported, trained through its signature on the first batches, and measured with `infer` on the next
clicks of all test sessions, with all items as candidates and conservative ties. The same model before training and the most
clicked items are measured, too. The trained weights of one configuration are then also stored as float16 and int8.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from learning import learn_batches
from pocketrec.gru4rec.baselines import popularity
from pocketrec.gru4rec.evaluate import sequences_record
from pocketrec.gru4rec.export import convert_model
from pocketrec.gru4rec.ranking import Ranking
from pocketrec.gru4rec.scoring import Scorer, rank
from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.runtime import LiteScorer
from pocketrec.storage.layout import Dataset
from rows import put

RESULTS = Path(__file__).parent / "results" / "lite_recall.csv"
SMALLER = ("shared", "adagrad")
"""The embedding and optimizer whose weights are also stored as float16 and int8."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "adagrad": {"optimizer": "adagrad", "learning_rate": 0.1},
    "sgd": {"optimizer": "sgd", "learning_rate": 1.0},
}
MORE: tuple[dict[str, Any], ...] = ({"dropout_embedding": 0.1}, {"momentum": 0.3}, {"loss": "bpr-max"})
"""Further settings, measured with the shared embedding, adagrad and drawn items."""


def configurations(embeddings: list[str], optimizers: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(signature, settings) of each embedding with each optimizer in both signatures, and of `MORE`."""
    for embedding, optimizer in product(embeddings, optimizers):
        settings = {"embedding": embedding, **OPTIMIZERS[optimizer]}
        yield "train_sampled", settings
        yield "train", settings
        if (embedding, optimizer) == SMALLER:
            for more in MORE:
                yield "train_sampled", {**settings, **more}


KEY = ("model", "signature", "batch_size")


@dataclass(frozen=True)
class Row:
    """One measurement; `recall` and `mrr` are Recall@20 and MRR@20."""

    model: str
    signature: str
    steps: int
    batch_size: int
    transitions: int
    recall: float
    mrr: float
    seconds: float


class Task:
    """A dataset and its item index."""

    def __init__(self, place: Dataset, batch_size: int) -> None:
        self.place, self.items, self.batch_size = place, read_item_list(place), batch_size
        record = sequences_record(place)
        clicks, sessions = (record.files[f"sequences/test_{what}.npy"].shape[0] for what in ("items", "lengths"))
        self.transitions = clicks - sessions

    def measure(self, scorer: Scorer) -> tuple[float, float]:
        """Recall@20 and MRR@20 over all events of test."""
        found = rank(scorer, self.place, "test", Ranking((20,))).accuracy(scorer.name)
        return found.recall[20], found.mrr[20]


def rows_of(task: Task, signature: str, settings: dict[str, Any], steps: int, folder: Path, small: bool) -> Iterator[Row]:
    """Rows of one configuration: untrained, trained, and, if `small`, the trained weights stored as float16 and int8."""
    from pocketrec.gru4rec.tf.model import Gru4Rec

    path = folder / "model.tflite"
    made = ModelSpec(n_items=len(task.items.ids), batch_size=task.batch_size, **settings)
    path.write_bytes(convert_model(Gru4Rec(made, support=task.items.support), task.items))
    model, name = OnDeviceModel(path), ", ".join(f"{key}={value}" for key, value in settings.items())
    yield Row(f"{name}, untrained", signature, 0, task.batch_size, task.transitions, *task.measure(LiteScorer(model)), 0.0)
    began = time.perf_counter()
    learn_batches(model, task.place.root, steps=steps, sampled=signature == "train_sampled")
    seconds = time.perf_counter() - began
    yield Row(
        name, signature, steps, task.batch_size, task.transitions, *task.measure(LiteScorer(model)), round(seconds, 1)
    )
    weights = {weight: model.save()[weight] for weight in made.weights}
    for storage in ("float16", "int8") if small else ():
        smaller = ModelSpec(n_items=len(task.items.ids), batch_size=task.batch_size, **settings, storage=storage)
        path.write_bytes(convert_model(Gru4Rec(smaller, weights, task.items.support), task.items))
        found = task.measure(LiteScorer(OnDeviceModel(path)))
        yield Row(f"{name}, stored as {storage}", signature, steps, task.batch_size, task.transitions, *found, 0.0)


def main(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder with npy batches.")],
    batch_size: Annotated[int, typer.Option(help="Batch size.")] = 32,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 4000,
    embeddings: Annotated[str, typer.Option(help="Embeddings, separated by commas.")] = "none,separate,shared",
    optimizers: Annotated[str, typer.Option(help="Optimizers, separated by commas.")] = ",".join(OPTIMIZERS),
    out: Annotated[Path, typer.Option(help="CSV file; rows of the same configuration are replaced.")] = RESULTS,
) -> None:
    """Train and measure every configuration."""
    task = Task(Dataset(dataset), batch_size)
    popular = Row("popularity", "", 0, batch_size, task.transitions, *task.measure(popularity(task.items.support)), 0.0)
    put(out, [popular], KEY)
    with tempfile.TemporaryDirectory() as folder:
        for signature, settings in configurations(embeddings.split(","), optimizers.split(",")):
            small = signature == "train_sampled" and settings == {"embedding": SMALLER[0], **OPTIMIZERS[SMALLER[1]]}
            for row in rows_of(task, signature, settings, steps, Path(folder), small):
                put(out, [row], KEY)
                typer.echo(f"{row.signature:<14} {row.model:<50} Recall@20 {row.recall:.4f}  MRR@20 {row.mrr:.4f}")


if __name__ == "__main__":
    typer.run(main)
