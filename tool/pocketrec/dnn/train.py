"""`pocketrec dnn train`: epochs over the split of `dnn prep`, each followed by a look at the validation set.

TensorFlow is loaded when `train` is called. The best epoch is kept, as weights (dnn.safetensors), as a whole Keras model
(dnn.keras) and in a picture. Checkpoints stay: a run with more epochs goes on from the newest.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.metrics import Accuracy, measure
from pocketrec.dnn.network import DnnSettings, Network
from pocketrec.dnn.options import DnnTrainSettings, NetworkShape
from pocketrec.dnn.sets import RatingSets, read_sets
from pocketrec.errors import ModelError, require
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.progress import SILENT, Progress
from pocketrec.settings import options_for
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import json_values
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.space import OVERHEAD
from pocketrec.storage.stage import Stage
from pocketrec.training.epoch_runs import KEEP_LAST, Checkpoints, Epoch, History, run_epochs
from pocketrec.training.network_stage import Learned, train_network

if TYPE_CHECKING:
    from pocketrec.dnn.tf.trainer import Trainer


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch.

    Attributes:
        epoch: from 1.
        train: the loss (with L2) and metrics over the epoch, dropout at work: rmse and mae, or cross_entropy and accuracy.
        valid: on the validation set; None where it is empty.
    """

    epoch: int
    train: dict[str, float]
    valid: Accuracy | None


@dataclass(frozen=True)
class DnnTrainReport:
    """A finished training.

    Attributes:
        path: the weights.
        keras: the whole model.
        picture: of the losses and the predictions; None where matplotlib is not installed.
        task: rate or classify.
        parameters: trained numbers.
        epochs: what each came to.
        kept: the epoch whose weights were kept: the best on the validation set, or the last where that is empty.
        stopped: whether it ended before its last epoch, since the validation set had not been predicted better for a while.
        resumed: epochs that were in a checkpoint.
        reused: the same network was there already.
        seconds: wall time.
    """

    path: Path
    keras: Path
    picture: Path | None
    task: str
    parameters: int
    epochs: tuple[EpochReport, ...]
    kept: int
    stopped: bool
    resumed: int
    reused: bool
    seconds: float


def train(
    dataset: Path | str = "dataset",
    settings: DnnTrainSettings = DnnTrainSettings(),
    *,
    clean: bool = False,
    progress: Progress = SILENT,
) -> DnnTrainReport:
    """Train a network on the split of `dnn prep`.

    Args:
        dataset: the dataset folder.
        settings: of the network, and how it learns.
        clean: forget an earlier network and its checkpoints.
        progress: told about ratings.

    Raises:
        DatasetError: there is no split.
        SettingsError: the ratings have no classes, and the task is `classify`.
        ModelError: the loss is NaN or infinite.
        MissingExtraError: TensorFlow is not installed.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written.
    """
    place = DnnDataset(Path(dataset))
    require("train a network", "tensorflow")
    with hold(place.home, "dnn train"):
        run = _Run(place, settings, progress)
        needed = OVERHEAD + 16 * run.settings.parameters * (settings.epochs // settings.checkpoint_every + 2)
        counts, resumed, reused = train_network(place, run.stage, run.checkpoints, needed, run.learn, clean=clean)
        return run.report(counts, resumed=resumed, reused=reused)


def settings_of(sets: RatingSets, shape: NetworkShape) -> DnnSettings:
    """The network of a shape for a split."""
    (n_users, user_columns), (n_items, item_columns) = sets.user_features.shape, sets.item_features.shape
    counts = sets.record.counts
    return DnnSettings(
        **asdict(NetworkShape.part_of(shape)),
        n_users=n_users,
        n_items=n_items,
        user_columns=user_columns,
        item_columns=item_columns,
        lowest=counts["lowest"],
        highest=counts["highest"],
        values=counts["values"] if shape.task == "classify" else (),
    )


class _Run:
    """One training."""

    def __init__(self, place: DnnDataset, training: DnnTrainSettings, progress: Progress) -> None:
        self.place, self.training, self.progress = place, training, progress
        self.sets = read_sets(place)
        self.settings, self.split = settings_of(self.sets, training), self.sets.record.content
        self.began, self.judged = time.perf_counter(), len(self.sets.sets["valid"]) > 0
        same = {"named": training.learning, "split": self.split}  # a run with more epochs goes on from its checkpoints
        self.checkpoints = Checkpoints(place.checkpoints, same, every=training.checkpoint_every)
        self.named = json_values({**training.learning, "epochs": training.epochs})
        argv = ("dnn", "train", *options_for(training), "--clean")
        self.stage = Stage(place.model, "dnn_train", self.named, {"split": self.split}, argv)

    def learn(self) -> Learned:
        """Train the epochs that no checkpoint has."""
        with native_stderr_closed():
            from pocketrec.dnn.tf.trainer import Trainer
            from pocketrec.training.tf.tensorboard import Curves

            trainer = Trainer(self.settings, self.training, self.sets)
        history, resumed = run_epochs(
            trainer,
            self.checkpoints,
            self.training.epochs,
            lambda number: self._epoch(trainer, number),
            self._enough,
            Curves(self.place.model / "summaries"),
        )
        stopped = len(history.epochs) < self.training.epochs
        counts = {"epochs": history.epochs, "kept": history.kept, "stopped": stopped}
        network = Network(self.settings, history.weights)

        def save() -> list[Path]:
            trainer.save(self.place.keras, history.weights)
            self._draw(network, history)
            return [self.place.keras]  # a picture is not the same on every machine

        return Learned(NetworkFile(network, self.split, self.named, history.kept), counts, resumed, save)

    def _epoch(self, trainer: Trainer, number: int) -> Epoch:
        with self.progress.task(f"epoch {number + 1}", len(self.sets.sets["train"]), "ratings") as advance:
            learned = trainer.epoch(number, advance)
        if not math.isfinite(learned["loss"]):
            raise ModelError(
                f"In epoch {number + 1} the loss is {learned['loss']}.",
                expected="a loss that falls",
                do="train again with a lower --learning-rate",
            )
        if not self.judged:
            return Epoch(asdict(EpochReport(number + 1, learned, None)), KEEP_LAST, learned)
        network = Network(self.settings, trainer.weights())
        valid = measure(self.settings, self.sets.sets["valid"], network.outputs)
        scalars = {f"valid_{name}": value for name, value in asdict(valid).items() if value is not None}
        score = -valid.rmse if valid.cross_entropy is None else -valid.cross_entropy
        return Epoch(asdict(EpochReport(number + 1, learned, valid)), score, {**learned, **scalars})

    def _enough(self, history: History) -> bool:
        """Whether the validation set has not been predicted better for as many epochs as `patience` allows."""
        patience = self.training.patience
        return bool(self.judged and patience and len(history.epochs) - history.kept >= patience and history.kept)

    def _draw(self, network: Network, history: History) -> None:
        if importlib.util.find_spec("matplotlib"):
            from pocketrec.dnn.picture import draw

            on = "valid" if self.judged else "train"
            draw(self.place.picture, self.settings, history.epochs, history.kept, self.sets.sets[on], on, network.ratings)

    def report(self, counts: Mapping[str, Any], *, resumed: int, reused: bool) -> DnnTrainReport:
        """What a record's counts say of a training."""
        return DnnTrainReport(
            path=self.place.network,
            keras=self.place.keras,
            picture=self.place.picture if self.place.picture.is_file() else None,
            task=self.settings.task,
            parameters=self.settings.parameters,
            epochs=tuple(_epoch_report(one) for one in counts["epochs"]),
            kept=counts["kept"],
            stopped=counts["stopped"],
            resumed=resumed,
            reused=reused,
            seconds=time.perf_counter() - self.began,
        )


def _epoch_report(values: Mapping[str, Any]) -> EpochReport:
    return EpochReport(values["epoch"], values["train"], Accuracy(**values["valid"]) if values["valid"] else None)
