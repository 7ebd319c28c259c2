"""`pocketrec dnn train`: epochs over the split of `dnn prep`, each followed by a look at the validation set.

TensorFlow is loaded when `train` is called. The best epoch is kept, as weights (dnn.npz), as a whole Keras model
(dnn.keras) and in a picture. Checkpoints stay: a run with more epochs goes on from the newest.
"""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.metrics import Accuracy, measure
from pocketrec.dnn.network import DnnSettings, Network, Task
from pocketrec.dnn.options import DnnTraining
from pocketrec.dnn.sets import RatingSets, read_sets
from pocketrec.errors import ModelError, SettingsError, require
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, Record, drop_record, json_values, read_records, write_record
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.space import OVERHEAD, room
from pocketrec.training.epoch_runs import Checkpoints, History, run_epochs

STAGE = "dnn_train"


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
    *,
    task: Task = "rate",
    embedding_size: int = 64,
    layers: tuple[int, ...] = (128, 64),
    epochs: int = 50,
    patience: int = 5,
    checkpoint_every: int = 5,
    clean: bool = False,
    progress: Progress = SILENT,
    **options: Any,
) -> DnnTrainReport:
    """Train a network on the split of `dnn prep`.

    Args:
        dataset: the dataset folder.
        task: rate, for the rating; classify, for the probability of each value that a rating can have.
        embedding_size: of users and items.
        layers: widths of the dense layers.
        epochs: at most.
        patience: epochs without a better validation set after which it stops; 0 for never.
        checkpoint_every: so many epochs one is written, and after the last.
        clean: forget earlier checkpoints and the network.
        progress: told about ratings.
        options: those of `DnnTraining`.

    Raises:
        DatasetError: there is no split.
        SettingsError: a setting that cannot be.
        ModelError: the loss is no number any more.
        MissingExtraError: TensorFlow is not installed.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written.
    """
    training, place = DnnTraining(**options), DnnDataset(Path(dataset))
    training.check()
    for name, value, least in (("epochs", epochs, 1), ("patience", patience, 0), ("checkpoint_every", checkpoint_every, 1)):
        if value < least:
            raise SettingsError(f"{name} is {value}.", expected=f"{least} or more")
    require("train a network", "tensorflow")
    with hold(place.home, "dnn train"):
        sets = read_sets(place)
        settings = settings_of(sets, embedding_size, layers, task)
        needed = OVERHEAD + 16 * settings.parameters * (epochs // checkpoint_every + 2)
        with room(place.model, "dnn train", needed):
            return _Run(place, settings, training, sets, progress).go(epochs, patience, checkpoint_every, clean)


def settings_of(sets: RatingSets, embedding_size: int, layers: tuple[int, ...], task: Task) -> DnnSettings:
    """The network for a split."""
    (n_users, user_columns), (n_items, item_columns) = sets.user_features.shape, sets.item_features.shape
    counts = sets.record.counts
    values = tuple(counts["values"]) if task == "classify" else ()
    return DnnSettings(
        n_users,
        n_items,
        user_columns,
        item_columns,
        counts["lowest"],
        counts["highest"],
        embedding_size,
        layers,
        task,
        values,
    )


class _Run:
    """One training."""

    def __init__(
        self, place: DnnDataset, settings: DnnSettings, training: DnnTraining, sets: RatingSets, progress: Progress
    ) -> None:
        self.place, self.settings, self.training, self.sets, self.progress = place, settings, training, sets, progress
        self.began, self.split = time.perf_counter(), sets.record.content
        self.judged = len(sets.sets["valid"]) > 0

    def go(self, epochs: int, patience: int, every: int, clean: bool) -> DnnTrainReport:
        s = self.settings
        named = {"task": s.task, "embedding_size": s.embedding_size, "layers": s.layers, **self.training.settings()}
        named = json_values(named | {"patience": patience})
        checkpoints = Checkpoints(self.place.checkpoints, {"named": named, "split": self.split}, every=every)
        named = named | {"epochs": epochs}  # which its checkpoints do not depend on
        found = read_records(self.place.model).get(STAGE)
        if clean:
            checkpoints.clear()
        elif found and found.is_current(self.place.model, named, {"split": self.split}):
            return self._report(found.counts, resumed=0, reused=True)
        with native_stderr_closed():
            from pocketrec.dnn.tf.trainer import Trainer
            from pocketrec.training.tf.tensorboard import Curves

            trainer = Trainer(s, self.training, self.sets)
        history = checkpoints.resume(trainer, epochs)
        if not (resumed := len(history.epochs)):
            checkpoints.clear()
        with Curves(self.place.model / "summaries") as log:

            def one(number: int) -> tuple[dict[str, Any], float | None]:
                epoch = self._epoch(trainer, number)
                log(number + 1, **_scalars(epoch))
                return asdict(epoch), self._score(epoch)

            run_epochs(trainer, history, checkpoints, epochs, one, lambda now: self._enough(now, patience))
        self._finish(trainer, history, named)
        counts = {"epochs": history.epochs, "kept": history.kept, "stopped": len(history.epochs) < epochs}
        files = {path.name: OutputFile.of(path) for path in (self.place.network, self.place.keras)}
        write_record(self.place.model, STAGE, Record(STAGE, named, {"split": self.split}, files, counts))
        return self._report(counts, resumed=resumed, reused=False)

    def _epoch(self, trainer: Any, number: int) -> EpochReport:
        rows = len(self.sets.sets["train"])
        with self.progress.task(f"epoch {number + 1}", rows, "ratings") as advance:
            learned = trainer.epoch(number, advance)
        if not math.isfinite(learned["loss"]):
            raise ModelError(
                f"In epoch {number + 1} the loss is no number any more.",
                expected="a loss that falls",
                do="train again with a lower --learning-rate",
            )
        if not self.judged:
            return EpochReport(number + 1, learned, None)
        network = Network(self.settings, trainer.weights())
        return EpochReport(number + 1, learned, measure(self.settings, self.sets.sets["valid"], network.outputs))

    def _score(self, epoch: EpochReport) -> float:
        """What epochs are chosen by; infinite where there is nothing to choose by, so that the last is kept."""
        if epoch.valid is None:
            return math.inf
        return -epoch.valid.rmse if epoch.valid.cross_entropy is None else -epoch.valid.cross_entropy

    def _enough(self, history: History, patience: int) -> bool:
        return bool(self.judged and patience and len(history.epochs) - history.kept >= patience and history.kept)

    def _finish(self, trainer: Any, history: History, named: dict[str, Any]) -> None:
        """Write the network in its forms."""
        drop_record(self.place.model, STAGE)
        network = Network(self.settings, history.weights)
        NetworkFile(network, self.split, named, history.kept).write(self.place.network)
        trainer.save(self.place.keras, history.weights)
        if importlib.util.find_spec("matplotlib"):
            from pocketrec.dnn.picture import draw

            on = "valid" if self.judged else "train"
            draw(self.place.picture, self.settings, history.epochs, history.kept, self.sets.sets[on], on, network.ratings)

    def _report(self, counts: Any, *, resumed: int, reused: bool) -> DnnTrainReport:
        return DnnTrainReport(
            path=self.place.network,
            keras=self.place.keras,
            picture=self.place.picture if self.place.picture.is_file() else None,
            task=self.settings.task,
            parameters=self.settings.parameters,
            epochs=tuple(epoch_report(one) for one in counts["epochs"]),
            kept=counts["kept"],
            stopped=counts["stopped"],
            resumed=resumed,
            reused=reused,
            seconds=time.perf_counter() - self.began,
        )


def epoch_report(values: Any) -> EpochReport:
    """An epoch from what JSON made of it."""
    valid = Accuracy(**values["valid"]) if values["valid"] else None
    return EpochReport(values["epoch"], values["train"], valid)


def _scalars(epoch: EpochReport) -> dict[str, float]:
    valid = asdict(epoch.valid) if epoch.valid else {}
    return epoch.train | {f"valid_{name}": value for name, value in valid.items() if value is not None}
