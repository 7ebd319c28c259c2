"""`pocketrec ncf train`: epochs as they are made, each followed by an evaluation and a checkpoint.

TensorFlow is loaded when `train` is called. What follows an epoch depends on the weights, the optimizer and the number of
the epoch alone, and a checkpoint has all three: a run that was killed ends with the same network as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketrec.errors import require
from pocketrec.ncf.batches import Source, read_shards
from pocketrec.ncf.interactions import read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import Network, NetworkSettings
from pocketrec.ncf.options import NcfTrainSettings, NetworkShape
from pocketrec.ncf.producer import Producer
from pocketrec.ncf.ranking import Metrics, Popularity, Scorer, rows_to_rank, sampled
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.lock import hold
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.space import OVERHEAD
from pocketrec.training.epoch_runs import KEEP_LAST, Checkpoints, Epoch, History
from pocketrec.training.network_stage import NetworkRun

if TYPE_CHECKING:
    from pocketrec.ncf.tf.trainer import Trainer
    from pocketrec.training.tf.tensorboard import Curves

TOP = 10


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
class NcfTrainReport:
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
    settings: NcfTrainSettings = NcfTrainSettings(),
    *,
    train_dataset_path: Path | str | None = None,
    clean: bool = False,
    progress: Progress = SILENT,
) -> NcfTrainReport:
    """Train a network on the split of `ncf prep`.

    Args:
        dataset: the dataset folder.
        settings: of the network, and how it learns.
        train_dataset_path: a folder of epochs that `ncf batches` wrote with the same settings, instead of ones made on the
            way. The result is the same.
        clean: forget an earlier network and its checkpoints.
        progress: told about examples.

    Raises:
        DatasetError: there is no split, or the epochs are of another one.
        SettingsError: the epochs were made with other settings.
        MissingExtraError: TensorFlow is not installed.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written.
    """
    place = NcfDataset(Path(dataset))
    require("train a network", "tensorflow")
    with hold(place.home, "ncf train"):
        run = _Run(place, settings, None if train_dataset_path is None else Path(train_dataset_path), progress)
        needed = OVERHEAD + 4 * 5 * run.settings.parameters
        counts, resumed, reused = run.run(settings.train_epochs, needed, clean=clean)
        return NcfTrainReport(
            path=place.network,
            parameters=run.settings.parameters,
            epochs=tuple(run.epoch_report(**one) for one in counts["epochs"]),
            judged_on=counts["judged_on"],
            kept=counts["kept"],
            popularity=Metrics(**counts["popularity"]),
            negatives=counts["negatives"],
            resumed=resumed,
            reused=reused,
            seconds=time.perf_counter() - run.began,
        )


class _Run(NetworkRun):
    """One training."""

    place: NcfDataset

    def __init__(self, place: NcfDataset, training: NcfTrainSettings, shards: Path | None, progress: Progress) -> None:
        record = place.prepared()
        shape = asdict(NetworkShape.part_of(training))
        self.training, self.progress, self.shards = training, progress, shards
        self.settings = NetworkSettings(**shape, n_users=record.counts["users"], n_items=record.counts["items"])
        self.speeds: dict[int, float] = {}  # examples a second in the epochs of this run, by number from 1
        named = {**asdict(self.settings), **training.learning}
        checkpoints = Checkpoints(place.checkpoints, {"named": named, "split": record.content}, keep=1)
        super().__init__(place, training, named, record.content, checkpoints)

    def begin(self) -> tuple[Trainer, Curves]:
        shards, training = self.shards, self.training
        self.interactions = read_interactions(self.place)
        self.judged_on = "valid" if len(self.interactions.valid) else "test"
        source: Source = read_shards(shards, self.split, training) if shards else Producer(self.interactions, training)
        self.source = source
        from pocketrec.ncf.tf.trainer import Trainer  # when the data is known to be there: TensorFlow takes its time
        from pocketrec.training.tf.tensorboard import Curves

        return Trainer(self.settings, training), Curves(self.place.model / "summaries")

    def network(self, history: History) -> NetworkFile[Network]:
        network = Network(self.settings, history.weights)
        return NetworkFile(network, self.split, self.training.learning, history.kept)

    def counts(self, history: History) -> dict[str, Any]:  # noqa: ARG002
        popularity = asdict(self._judge(Popularity(self.interactions)))
        return {"judged_on": self.judged_on, "popularity": popularity, "negatives": self.training.eval_negatives}

    def epoch(self, trainer: Trainer, number: int) -> Epoch:
        began, epoch, source = time.perf_counter(), number + 1, self.source
        with self.progress.task(f"epoch {epoch}", source.steps * source.batch_size, "examples") as advance:
            loss = trainer.epoch(lambda: source.epoch(number), source.steps, advance)
        self.speeds[epoch] = source.examples / (time.perf_counter() - began)
        scalars, metrics = {"loss": loss, "examples_a_second": self.speeds[epoch]}, None
        if epoch == self.training.train_epochs or epoch % self.training.epochs_between_evals == 0:
            metrics = self._judge(Network(self.settings, trainer.weights()))
            scalars |= {"HR": metrics.hr, "NDCG": metrics.ndcg}
        score = KEEP_LAST if self.judged_on == "test" else metrics.ndcg if metrics else None
        return Epoch({"epoch": epoch, "loss": loss, "metrics": metrics and asdict(metrics)}, score, scalars)

    def _judge(self, scorer: Scorer) -> Metrics:
        rows = rows_to_rank(self.interactions, self.source, self.judged_on, self.training)
        with self.progress.task("evaluation", len(self.interactions.positives(self.judged_on)), "users") as advance:
            return sampled(scorer, rows, TOP, ml_perf=self.training.ml_perf, advance=advance)

    def enough(self, history: History) -> bool:
        """Whether the last evaluation is as good as was asked for."""
        last = history.epochs[-1]["metrics"] if history.epochs else None
        return bool(self.training.early_stopping and last and last["hr"] >= self.training.hr_threshold)

    def epoch_report(self, epoch: int, loss: float, metrics: Mapping[str, Any] | None) -> EpochReport:
        """From what the record says of an epoch."""
        return EpochReport(epoch, loss, Metrics(**metrics) if metrics else None, self.speeds.get(epoch))
