"""`pocketrec ncf train`: epochs as they are made, each followed by an evaluation and a checkpoint.

TensorFlow is loaded when `train` is called. What follows an epoch depends on the weights, the optimizer and the number of
the epoch alone, and a checkpoint has all three: a run that was killed ends with the same network as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketrec.errors import require
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.ncf.batches import read_shards
from pocketrec.ncf.interactions import Interactions, prepared, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import Kind, Network, NetworkSettings
from pocketrec.ncf.options import Training
from pocketrec.ncf.producer import EvaluationRows, Producer, evaluation_rows
from pocketrec.ncf.ranking import Metrics, Popularity, sampled
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, Record, drop_record, json_values, read_records, write_record
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.space import OVERHEAD, room
from pocketrec.training.epoch_runs import Checkpoints, History, run_epochs

if TYPE_CHECKING:
    from pocketrec.ncf.tf.trainer import Trainer

STAGE, TOP = "ncf_train", 10


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch.

    Attributes:
        epoch: from 1.
        loss: its mean.
        metrics: HR@10 and NDCG@10 among sampled negatives; None where there was no evaluation.
        examples_a_second: of training, the producer included; None where an earlier run trained it.
    """

    epoch: int
    loss: float
    metrics: Metrics | None
    examples_a_second: float | None


@dataclass(frozen=True)
class TrainReport:
    """A finished training.

    Attributes:
        path: the network.
        parameters: trained numbers.
        epochs: what each came to.
        judged_on: valid where there are validation positives, else test.
        kept: the epoch whose weights were kept: the best on the validation positives; the last where there are none, since
            choosing by the test would flatter it.
        popularity: the same evaluation of the popularity baseline.
        negatives: sampled for each positive.
        resumed: epochs that were in a checkpoint of a run that had been stopped.
        reused: the same network was there already.
        seconds: wall time.
    """

    path: Path
    parameters: int
    epochs: tuple[EpochReport, ...]
    judged_on: str
    kept: int
    popularity: Metrics
    negatives: int
    resumed: int
    reused: bool
    seconds: float


def train(
    dataset: Path | str = "dataset",
    *,
    model: Kind = "neumf",
    num_factors: int = 8,
    layers: tuple[int, ...] = (64, 32, 16, 8),
    eval_batch_size: int | None = None,
    train_dataset_path: Path | str | None = None,
    clean: bool = False,
    progress: Progress = SILENT,
    **options: Any,
) -> TrainReport:
    """Train a network on the split of `ncf prep`.

    Args:
        dataset: the dataset folder.
        model: neumf, or gmf or mlp alone.
        num_factors: factors of GMF.
        layers: widths of the MLP, the first that of its input.
        eval_batch_size: checked as the original should have: a multiple of the positive and its negatives. Results do not
            depend on it.
        train_dataset_path: epochs that `ncf batches` wrote, instead of ones made on the way.
        clean: forget an earlier network and checkpoint.
        progress: told about examples.
        options: those of `Training`.

    Raises:
        DatasetError: there is no split, or the epochs are of another one.
        SettingsError: a setting that cannot be.
        MissingExtraError: TensorFlow is not installed.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written.
    """
    training, place = Training(**options), NcfDataset(Path(dataset))
    training.check(layers, eval_batch_size)
    record = prepared(place)
    settings = NetworkSettings(record.counts["users"], record.counts["items"], num_factors, layers, model)
    require("train a network", "tensorflow")
    needed = OVERHEAD + 4 * 5 * settings.parameters
    with hold(place.home, "ncf train"), room(place.model, "ncf train", needed):
        run = _Run(place, settings, training, record.content, progress)
        shards = Path(train_dataset_path) if train_dataset_path else None
        return run.go(shards, clean=clean)


class _Run:
    """One training."""

    def __init__(
        self, place: NcfDataset, settings: NetworkSettings, training: Training, split: str, progress: Progress
    ) -> None:
        self.place, self.settings, self.training, self.split, self.progress = place, settings, training, split, progress
        self.began = time.perf_counter()
        self.speeds: dict[int, float | None] = {}  # of this run's epochs
        self.named = json_values({**asdict(settings), **training.settings()})
        self.checkpoints = Checkpoints(place.checkpoints, {"named": self.named, "split": split}, keep=1)

    def go(self, shards: Path | None, *, clean: bool) -> TrainReport:
        found = read_records(self.place.model).get(STAGE)
        if clean:
            self.checkpoints.clear()
        elif found and found.is_current(self.place.model, self.named, {"split": self.split}):
            self.checkpoints.clear_own()
            return self._report(found.counts, resumed=0, reused=True)
        self.interactions = read_interactions(self.place)
        self.judged_on = "valid" if len(self.interactions.valid) else "test"
        source, epochs = self._source(shards), self.training.train_epochs
        with native_stderr_closed():
            from pocketrec.ncf.tf.trainer import Trainer
            from pocketrec.training.tf.tensorboard import Curves

            trainer = Trainer(self.settings, self.training)
        history = self.checkpoints.resume(trainer, epochs)
        resumed = len(history.epochs)
        with Curves(self.place.model / "summaries") as log:

            def one(number: int) -> tuple[dict[str, Any], float | None]:
                epoch = self._epoch(trainer, source, number)
                log(number + 1, **_scalars(epoch))
                self.speeds[epoch.epoch] = epoch.examples_a_second
                return _content(epoch), self._score(epoch)

            run_epochs(trainer, history, self.checkpoints, epochs, one, self._reached)
        return self._finish(source, history, resumed)

    def _source(self, shards: Path | None) -> Any:
        """What makes the epochs, or has them."""
        t = self.training
        if shards:
            return read_shards(shards, self.split, t)
        return Producer(
            self.interactions, batch_size=t.batch_size, epochs=t.train_epochs, num_neg=t.num_neg,
            eval_negatives=t.eval_negatives, rng=np.random.RandomState(t.seed),
        )  # fmt: skip

    def _epoch(self, trainer: Trainer, source: Any, number: int) -> EpochReport:
        began, last = time.perf_counter(), number + 1 == self.training.train_epochs
        with self.progress.task(f"epoch {number + 1}", source.steps * self.training.batch_size, "examples") as advance:
            loss = trainer.epoch(lambda: source.epoch(number), source.steps, advance)
        speed = source.examples / (time.perf_counter() - began)
        judged = last or (number + 1) % self.training.epochs_between_evals == 0
        network = Network(self.settings, trainer.weights())
        return EpochReport(number + 1, loss, self._judge(network, source) if judged else None, speed)

    def _judge(self, scorer: Any, source: Any) -> Metrics:
        rows = rows_of(self.interactions, source, self.judged_on, self.training)
        with self.progress.task("evaluation", len(self.interactions.positives(self.judged_on)), "users") as advance:
            return sampled(scorer, rows, TOP, ml_perf=self.training.ml_perf, advance=advance)

    def _score(self, epoch: EpochReport) -> float | None:
        """What epochs are chosen by; infinite where there is nothing to choose by, so that the last is kept."""
        if self.judged_on != "valid":
            return math.inf
        return epoch.metrics.ndcg if epoch.metrics else None

    def _reached(self, history: History) -> bool:
        last = history.epochs[-1]["metrics"] if history.epochs else None
        return bool(self.training.early_stopping and last and last["hr"] >= self.training.hr_threshold)

    def _finish(self, source: Any, history: History, resumed: int) -> TrainReport:
        popular = asdict(self._judge(Popularity(self.interactions), source))
        counts = {
            "epochs": history.epochs, "judged_on": self.judged_on, "kept": history.kept, "popularity": popular,
            "negatives": self.training.eval_negatives,
        }  # fmt: skip
        drop_record(self.place.model, STAGE)
        network = Network(self.settings, history.weights)
        NetworkFile(network, self.split, self.training.settings(), history.kept).write(self.place.network)
        files = {self.place.network.name: OutputFile.of(self.place.network)}
        write_record(self.place.model, STAGE, Record(STAGE, self.named, {"split": self.split}, files, counts))
        self.checkpoints.clear()
        return self._report(counts, resumed=resumed, reused=False)

    def _report(self, counts: Any, *, resumed: int, reused: bool) -> TrainReport:
        return TrainReport(
            path=self.place.network,
            parameters=self.settings.parameters,
            epochs=tuple(_epoch_report(one, self.speeds.get(one["epoch"])) for one in counts["epochs"]),
            judged_on=counts["judged_on"],
            kept=counts["kept"],
            popularity=Metrics(**counts["popularity"]),
            negatives=counts["negatives"],
            resumed=resumed,
            reused=reused,
            seconds=time.perf_counter() - self.began,
        )


def rows_of(interactions: Interactions, source: Any, name: str, training: Training) -> Iterator[EvaluationRows]:
    """The evaluation rows of a run: those of the original for the test, and draws of their own for validation."""
    if name == "test":
        yield from source.evaluation()
        return
    stream = np.random.MT19937(np.random.SeedSequence((training.seed, 1)))
    rng = np.random.RandomState(stream)
    yield from evaluation_rows(interactions.positives(name), source.negatives, training.eval_negatives, rng)


def _scalars(epoch: EpochReport) -> dict[str, float]:
    judged = {"HR": epoch.metrics.hr, "NDCG": epoch.metrics.ndcg} if epoch.metrics else {}
    speed = {"examples_a_second": epoch.examples_a_second} if epoch.examples_a_second else {}
    return {"loss": epoch.loss, **speed, **judged}


def _content(epoch: EpochReport) -> dict[str, Any]:
    """What is the same in every run of the same settings: the clock has no part in files."""
    return {name: value for name, value in asdict(epoch).items() if name != "examples_a_second"}


def _epoch_report(values: Any, speed: float | None) -> EpochReport:
    metrics = Metrics(**values["metrics"]) if values["metrics"] else None
    return EpochReport(values["epoch"], values["loss"], metrics, speed)
