"""`pocketrec ncf train`: epochs as they are made, each followed by an evaluation and a checkpoint.

An epoch of a network is one of its producer, with TensorFlow, which is loaded when `train` is called; one of iALS is a
sweep, and EASE has a single one, both with numpy alone. What follows an epoch depends on the weights, the optimizer and the
number of the epoch alone, and a checkpoint has all three: a run that was killed ends with the same network as one that was
not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketrec.errors import SettingsError, require
from pocketrec.ncf.als import Als
from pocketrec.ncf.batches import Source, read_shards
from pocketrec.ncf.ease import EaseSolver
from pocketrec.ncf.interactions import hold_out_latest, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.linear import EaseSettings, FactorSettings
from pocketrec.ncf.network import AnyNetwork, AnySettings, NetworkSettings, network_of
from pocketrec.ncf.options import LINEAR, NcfTrainSettings, NetworkShape
from pocketrec.ncf.producer import Producer
from pocketrec.ncf.ranking import Metrics, Popularity, Scorer, rows_to_rank, sampled
from pocketrec.progress import SILENT, Advance, Progress
from pocketrec.storage.lock import hold
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.space import OVERHEAD
from pocketrec.training.epoch_runs import KEEP_LAST, Checkpoints, Epoch, History
from pocketrec.training.network_stage import NetworkRun

if TYPE_CHECKING:
    from pocketrec.ncf.tf.trainer import Trainer

TOP = 10


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch.

    Attributes:
        epoch: from 1.
        loss: its mean.
        metrics: HR@10 and NDCG@10 among sampled negatives; None where there was no evaluation.
        examples_a_second: of training, the producer included (of ials and ease: ratings); None where an earlier run trained
            it.
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
        held_out: training ratings that were taken for validation positives, the latest of each user, and not trained on.
        kept: the epoch whose weights were kept.
        chosen: it is the best on the validation positives, not the last; the last is kept where there are none, since
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
    held_out: int
    kept: int
    chosen: bool
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
            way. The result is the same, but that no rating of theirs can be held out to choose the epoch by.
        clean: forget an earlier network and its checkpoints.
        progress: told about examples.

    Raises:
        DatasetError: there is no split, or the epochs are of another one.
        SettingsError: the epochs were made with other settings, or ease does not fit in memory.
        MissingExtraError: TensorFlow is not installed.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written.
    """
    place = NcfDataset(Path(dataset))
    if settings.kind not in LINEAR:
        require("train a network", "tensorflow")
    with hold(place.home, "ncf train"):
        run = _Run(place, settings, None if train_dataset_path is None else Path(train_dataset_path), progress)
        needed = OVERHEAD + 4 * 5 * run.settings.parameters
        counts, resumed, reused = run.run(run.epochs, needed, clean=clean)
        return NcfTrainReport(
            path=place.network,
            parameters=run.settings.parameters,
            epochs=tuple(run.epoch_report(**one) for one in counts["epochs"]),
            judged_on=counts["judged_on"],
            held_out=counts.get("held_out", 0),
            kept=counts["kept"],
            chosen=counts["judged_on"] == "valid" and run.training.keep == "best",
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
        self.epochs = 1 if training.kind == "ease" else training.train_epochs
        if self.epochs == 1 or (shards and not record.counts["valid"]):  # nothing to choose, or nothing to choose by
            training = replace(training, keep="last")
        self.training, self.progress, self.shards = training, progress, shards
        self.settings = made_of(training, record.counts)
        self.speeds: dict[int, float] = {}  # examples a second in the epochs of this run, by number from 1
        named = {**asdict(self.settings), **training.learning}
        checkpoints = Checkpoints(place.checkpoints, {"named": named, "split": record.content}, keep=1)
        super().__init__(place, training, named, record.content, checkpoints)

    def begin(self) -> tuple[Trainer | Als | EaseSolver, AbstractContextManager[Callable[..., None]]]:
        shards, training, known = self.shards, self.training, read_interactions(self.place)
        whole = len(known.items)
        if training.keep == "best" and not len(known.valid):
            known = hold_out_latest(known)
        self.interactions, self.held_out = known, whole - len(known.items)
        self.judged_on = "valid" if len(known.valid) else "test"
        self.source: Source = read_shards(shards, self.split, training) if shards else Producer(known, training)
        if training.kind in LINEAR:
            return (Als if training.kind == "ials" else EaseSolver)(known, training), nullcontext(lambda *_, **__: None)
        assert isinstance(self.settings, NetworkSettings)
        from pocketrec.ncf.tf.trainer import Trainer  # when the data is known to be there: TensorFlow takes its time
        from pocketrec.training.tf.tensorboard import Curves

        return Trainer(self.settings, training), Curves(self.place.model / "summaries")

    def network(self, history: History) -> NetworkFile[AnyNetwork]:
        network = network_of(self.settings, history.weights)
        return NetworkFile(network, self.split, self.training.learning, history.kept)

    def counts(self, history: History) -> dict[str, Any]:  # noqa: ARG002
        popularity = asdict(self._judge(Popularity(self.interactions)))
        return {
            "judged_on": self.judged_on, "held_out": self.held_out, "popularity": popularity,
            "negatives": self.training.eval_negatives,
        }  # fmt: skip

    def epoch(self, trainer: Trainer | Als | EaseSolver, number: int) -> Epoch:
        began, epoch = time.perf_counter(), number + 1
        loss, examples = self._learn(trainer, number)
        self.speeds[epoch] = examples / (time.perf_counter() - began)
        scalars, metrics = {"loss": loss, "examples_a_second": self.speeds[epoch]}, None
        if epoch == self.epochs or epoch % self.training.epochs_between_evals == 0:
            metrics = self._judge(network_of(self.settings, trainer.weights()))
            scalars |= {"HR": metrics.hr, "NDCG": metrics.ndcg}
        last = self.judged_on == "test" or self.training.keep == "last"  # never the best on the test
        score = KEEP_LAST if last else metrics.ndcg if metrics else None
        return Epoch({"epoch": epoch, "loss": loss, "metrics": metrics and asdict(metrics)}, score, scalars)

    def _learn(self, trainer: Trainer | Als | EaseSolver, number: int) -> tuple[float, int]:
        """Train the epoch of a number, from 0; its loss, and how many examples it had, of a linear model ratings."""
        source, known = self.source, self.interactions
        if isinstance(trainer, Als | EaseSolver):
            with self.progress.task(f"epoch {number + 1}", trainer.steps, "users and items") as advance:
                return _solved(trainer, advance), len(known.items)
        with self.progress.task(f"epoch {number + 1}", source.steps * source.batch_size, "examples") as advance:
            return trainer.epoch(lambda: source.epoch(number), source.steps, advance), source.examples

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


def _solved(trainer: Als | EaseSolver, advance: Advance) -> float:
    """The loss of a sweep; a SettingsError if its equations have no answer."""
    try:
        with np.errstate(all="ignore"):
            loss = trainer.sweep(advance)
    except np.linalg.LinAlgError:
        loss = math.nan
    if not math.isfinite(loss):
        raise SettingsError(
            "the equations cannot be solved with 32-bit numbers.", expected="a penalty that is neither tiny nor huge",
            do="take another --regularization",
        )  # fmt: skip
    return loss


def made_of(training: NcfTrainSettings, counts: Mapping[str, int]) -> AnySettings:
    """What the model is made of on a split with these counts of users, items and training ratings."""
    users, items = counts["users"], counts["items"]
    if training.kind == "ials":
        return FactorSettings(training.num_factors, n_users=users, n_items=items)
    if training.kind == "ease":
        neighbours = min(training.neighbours, items - 1)
        return EaseSettings(neighbours, counts["train"], n_users=users, n_items=items)
    return NetworkSettings(**asdict(NetworkShape.part_of(training)), n_users=users, n_items=items)
