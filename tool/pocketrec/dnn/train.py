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
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.lock import hold
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.space import OVERHEAD
from pocketrec.training.epoch_runs import KEEP_LAST, Checkpoints, Epoch, History
from pocketrec.training.network_stage import NetworkRun

if TYPE_CHECKING:
    from pocketrec.dnn.tf.trainer import Trainer
    from pocketrec.training.tf.tensorboard import Curves


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
        counts, resumed, reused = run.run(settings.epochs, needed, clean=clean)
        return DnnTrainReport(
            path=place.network,
            keras=place.keras,
            picture=place.picture if place.picture.is_file() else None,
            task=settings.task,
            parameters=run.settings.parameters,
            epochs=tuple(_epoch_report(**one) for one in counts["epochs"]),
            kept=counts["kept"],
            stopped=counts["stopped"],
            resumed=resumed,
            reused=reused,
            seconds=time.perf_counter() - run.began,
        )


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


class _Run(NetworkRun):
    """One training."""

    place: DnnDataset

    def __init__(self, place: DnnDataset, training: DnnTrainSettings, progress: Progress) -> None:
        self.training, self.progress, self.sets = training, progress, read_sets(place)
        self.settings, split = settings_of(self.sets, training), self.sets.record.content
        self.judged = len(self.sets.sets["valid"]) > 0
        same = {"named": training.learning, "split": split}  # a run with more epochs goes on from its checkpoints
        checkpoints = Checkpoints(place.checkpoints, same, every=training.checkpoint_every)
        super().__init__(place, training, {**training.learning, "epochs": training.epochs}, split, checkpoints)
        self.others = (place.keras, place.picture)

    def begin(self) -> tuple[Trainer, Curves]:
        from pocketrec.dnn.tf.trainer import Trainer
        from pocketrec.training.tf.tensorboard import Curves

        return Trainer(self.settings, self.training, self.sets), Curves(self.place.model / "summaries")

    def network(self, history: History) -> NetworkFile[Network]:
        return NetworkFile(Network(self.settings, history.weights), self.split, self.named, history.kept)

    def counts(self, history: History) -> dict[str, Any]:
        return {"stopped": len(history.epochs) < self.training.epochs}

    def save(self, trainer: Trainer, history: History) -> list[Path]:
        trainer.save(self.place.keras, history.weights)
        if importlib.util.find_spec("matplotlib"):
            from pocketrec.dnn.picture import draw

            on, network = "valid" if self.judged else "train", self.network(history).network
            draw(self.place.picture, network, history.epochs, history.kept, self.sets.sets[on], on)
        return [self.place.keras]  # a picture is not the same on every machine

    def epoch(self, trainer: Trainer, number: int) -> Epoch:
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

    def enough(self, history: History) -> bool:
        """Whether the validation set has not been predicted better for as many epochs as `patience` allows."""
        patience = self.training.patience
        return bool(self.judged and patience and len(history.epochs) - history.kept >= patience and history.kept)


def _epoch_report(epoch: int, train: dict[str, float], valid: Mapping[str, Any] | None) -> EpochReport:
    return EpochReport(epoch, train, Accuracy(**valid) if valid else None)
