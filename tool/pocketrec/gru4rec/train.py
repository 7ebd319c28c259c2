"""`pocketrec train`: a GRU4Rec from the batches on disk.

The batches are mapped, some hundred steps are in memory at a time. Everything that happens in a step follows from the seed
and the step's number: the drawn items, the dropout masks. A training that was killed goes on from its last checkpoint and
ends with the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pocketrec.errors import DatasetError, ModelError, SettingsError, require
from pocketrec.gru4rec.checkpoints import STATE, Checkpoint, Position, read_checkpoint, read_weights, write_checkpoint
from pocketrec.gru4rec.options import TrainSettings
from pocketrec.gru4rec.ranking import Accuracy, Ranking
from pocketrec.gru4rec.scoring import rank
from pocketrec.lite.contract import STEP, ModelSpec
from pocketrec.lite.inputs import check_codes, open_batches, read_item_list
from pocketrec.lite.options import Gru4RecSettings
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.lite.sampling import Sampler
from pocketrec.parallel import ahead
from pocketrec.progress import SILENT, Progress
from pocketrec.settings import option_of, rules_of
from pocketrec.storage.files import content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import Record, read_records
from pocketrec.storage.repair import check_files
from pocketrec.storage.space import room

if TYPE_CHECKING:
    from pocketrec.gru4rec.tf.sparse_model import Steps

STEPS_PER_BLOCK = 256
SECONDS_PER_CHECKPOINT = 60.0
JUDGED_AT = 20
"""N of the MRR@N on train_valid that decides which epoch is kept."""


@dataclass(frozen=True)
class TrainReport:
    """A finished training.

    Attributes:
        checkpoint: the weights that are kept.
        epochs: passes done, those before a resume included.
        losses: the mean loss of a transition in each pass, in nats.
        validation: MRR@20 on train_valid after each pass; empty where train_valid is trained on.
        kept: the pass whose weights are kept, from 1.
        accuracy: on train_valid, of the last pass in this run.
        events: transitions trained on in this run.
        seconds: of that, without validation.
        events_per_second: the quotient.
        resumed: whether it went on from a checkpoint.
    """

    checkpoint: Path
    epochs: int
    losses: tuple[float, ...]
    validation: tuple[float, ...]
    kept: int
    accuracy: Accuracy | None
    events: int
    seconds: float
    events_per_second: float
    resumed: bool


def train(
    dataset: Path | str = "dataset",
    settings: TrainSettings = TrainSettings(),
    *,
    source: Path | str | None = None,
    fresh: bool = False,
    tensorboard: Path | None = None,
    progress: Progress = SILENT,
) -> TrainReport:
    """Train on the npy batches of a dataset, or go on with a training of the same settings that is not finished.

    After each epoch the model is measured on train_valid, and the best by MRR@20 is kept; where the batches are of
    train_full, which has train_valid in it, the last is kept.

    Args:
        dataset: a folder that `batches` has filled.
        settings: of the network, and how it learns.
        source: a checkpoint of `train`, or what a device has learned, to begin from (fine-tuning): its weights, the
            optimizer's slots and its count of steps. Its settings hold, but for the batch size, the epochs, and what
            `settings` has other than the usual `TrainSettings()`.
        fresh: begin anew even where a checkpoint of the same training is there.
        tensorboard: a folder for its event files; TensorBoard itself need not be installed.
        progress: who watches.

    Raises:
        DatasetError: the batches are missing or damaged.
        SettingsError: a setting that no model can have, or one that the weights of `source` do not allow.
        ModelError: the loss is NaN or infinite; or the source cannot be read, or is made for other items.
        MissingExtraError: TensorFlow is not installed.
        BusyError, SpaceError, FolderError: the dataset folder cannot be written.
    """
    require("train a model", "tensorflow")
    where = Dataset(Path(dataset))
    with hold(dataset, "train"), room(where.model, "train"), ExitStack() as stack:
        job = _Job(where, settings, None if source is None else Path(source))
        log = stack.enter_context(_tensorboard(tensorboard))
        return job.run(settings.epochs, fresh, log, progress)


class _Block(NamedTuple):
    """Steps of an epoch from `first` to before `last`; the model's count of steps before them; and what draws their
    items.
    """

    first: int
    last: int
    done: int
    sampler: Sampler


class _Job:
    """A training: what it is made of, and how far it is."""

    def __init__(self, where: Dataset, settings: TrainSettings, source: Path | None) -> None:
        lanes = settings.batch_size
        self.where, self.record = where, _batches_record(where, lanes)
        self.items, self.batches = read_item_list(where), open_batches(where, lanes)
        check_codes(self.batches, len(self.items.ids), where)
        self.origin = None if source is None else read_weights(source, self.items.hash, where.root)
        chosen = settings if self.origin is None else fine_tuning(settings, self.origin.settings)
        self.settings = ModelSpec.of(chosen, len(self.items.ids))
        origin = "" if source is None else content_hash(source)
        self.now = Checkpoint(self.settings, self.items.hash, self.record.content, origin)
        self.kept, self.last = where.checkpoint(lanes), where.checkpoint(lanes, last=True)
        self.transitions = self.record.counts["sets"]["train_tr"]["transitions"]
        self.judged = self.record.settings.get("train_on", "train_tr") == "train_tr"
        self.accuracy: Accuracy | None = None
        self.events, self.seconds = 0, 0.0

    def run(self, epochs: int, fresh: bool, log: Callable[..., None], progress: Progress) -> TrainReport:
        with native_stderr_closed():
            from pocketrec.gru4rec.tf.sparse_model import InPlaceGru4Rec, use_threads

            use_threads(self.settings.batch_size)
            self.model = InPlaceGru4Rec(self.settings, support=self.items.support)
        resumed = not fresh and self._resume()
        if not resumed and self.origin:
            self.model.load(self.origin.tensors)
        self.steps_before = 0 if self.origin is None else int(self.origin.tensors[STEP])
        for epoch in range(self.now.position.epoch, epochs):
            self._epoch(epoch, progress)
            self._finish_epoch(log)
        position = self.now.position
        kept = 1 + int(np.argmax(position.validation)) if self.judged else position.epoch
        speed = self.events / self.seconds if self.seconds else 0.0
        return TrainReport(
            checkpoint=self.kept,
            epochs=position.epoch,
            losses=position.losses,
            validation=position.validation,
            kept=kept,
            accuracy=self.accuracy,
            events=self.events,
            seconds=self.seconds,
            events_per_second=speed,
            resumed=resumed,
        )

    def _resume(self) -> bool:
        if not self.last.is_file():
            return False
        found = read_checkpoint(self.last)
        if not found.continues(self.now):
            return False
        self.now = found
        self.model.load(found.tensors)
        return True

    def _epoch(self, epoch: int, progress: Progress) -> None:
        """The rest of one pass."""
        began = time.perf_counter()
        saved, position = began, self.now.position
        state = self.now.tensors[STATE] if position.step else self._fresh_state()
        title = f"epoch {epoch + 1}" + (f", loss {position.losses[-1]:.3f} before" if position.losses else "")
        with progress.task(title, self.transitions, "events") as advance:
            advance(int((self.batches.targets[: position.step] >= 0).sum()))
            for step, steps in ahead(self._read, self._blocks(epoch, position.step), threads=1):
                losses, state = self.model.train_block(steps, state)
                total = float(losses.sum(dtype=np.float64))
                if not np.isfinite(total):
                    raise ModelError(
                        f"In epoch {epoch + 1}, before step {step}, the loss became NaN or infinite.",
                        expected="a loss that falls",
                        do="train again with a lower --learning-rate",
                    )
                events = int((steps.targets >= 0).sum())
                self.events += events
                position = replace(position, step=step, loss=position.loss + total)
                advance(events)
                self.now = replace(self.now, position=position)
                if time.perf_counter() - saved > SECONDS_PER_CHECKPOINT:
                    self._save(self.last, state)
                    saved = time.perf_counter()
        self.seconds += time.perf_counter() - began

    def _finish_epoch(self, log: Callable[..., None]) -> None:
        """Measure, keep the best, and go to the next pass."""
        position = self.now.position
        loss = position.loss * self.settings.batch_size / self.transitions
        measured: tuple[float, ...] = ()
        if self.judged:
            self.accuracy = self._validate()
            measured = (self.accuracy.mrr[JUDGED_AT],)
        validation = (*position.validation, *measured)
        self.now = replace(
            self.now, position=Position(position.epoch + 1, losses=(*position.losses, loss), validation=validation)
        )
        if not measured or measured[0] > max(position.validation, default=-1.0):
            self._save(self.kept, self._fresh_state())
        self._save(self.last, self._fresh_state())
        log(position.epoch + 1, loss=loss, **({"mrr": measured[0]} if measured else {}))

    def _validate(self) -> Accuracy:
        from pocketrec.gru4rec.tf.scorer import ModelScorer

        return rank(ModelScorer(self.model, "valid"), self.where, "train_valid", Ranking((JUDGED_AT,))).accuracy("valid")

    def _save(self, path: Path, state: Any) -> None:
        self.now = replace(self.now, tensors={**self.model.tensors(), STATE: state})
        write_checkpoint(path, self.now)

    def _fresh_state(self) -> Any:
        return np.zeros((self.settings.batch_size, self.settings.hidden_size), np.float32)

    def _blocks(self, epoch: int, begin: int) -> Iterator[_Block]:
        """What is left of an epoch; there is one stream of drawn items an epoch."""
        sampler = Sampler(self.items.support, self.settings.sample_alpha, [self.settings.seed, epoch])
        sampler.skip(begin * self.settings.negatives)
        for first in range(begin, len(self.batches), STEPS_PER_BLOCK):
            last = min(first + STEPS_PER_BLOCK, len(self.batches))
            yield _Block(first, last, self.steps_before + epoch * len(self.batches) + first, sampler)

    def _read(self, block: _Block) -> tuple[int, Steps]:
        """The last step of a block, and it in memory; in another thread, while the one before it is trained on."""
        first, last = block.first, block.last
        feats, targets, masks = (
            np.array(rows[first:last]) for rows in (self.batches.feats, self.batches.targets, self.batches.masks)
        )
        if first == 0:
            masks[0] = 1  # the state is fresh
        drawn = block.sampler.draw((last - first) * self.settings.negatives).reshape(last - first, self.settings.negatives)
        return last, self.model.prepare(feats, targets, masks, drawn, done=block.done)


def fine_tuning(asked: TrainSettings, of_file: ModelSpec) -> Gru4RecSettings:
    """The settings of a training that begins from a file.

    Args:
        asked: what is wanted; a setting that is as in `TrainSettings()` is not taken for a wish, but for the batch size.
        of_file: what the weights were made with.

    Raises:
        SettingsError: another network or another optimizer is wanted than the one in the file.
    """
    usual, kept = TrainSettings(), Gru4RecSettings.part_of(of_file)
    wanted = {
        name: getattr(asked, name) for name in rules_of(Gru4RecSettings) if getattr(asked, name) != getattr(usual, name)
    }
    found = replace(kept, **{**wanted, "batch_size": asked.batch_size})
    for name in ("hidden_size", "embedding", "optimizer"):
        if getattr(found, name) != getattr(kept, name):
            raise SettingsError(
                f"{name} is {getattr(found, name)!r}, but the weights were made with {getattr(kept, name)!r}.",
                expected=f"{name} {getattr(kept, name)}",
                do=f"leave {option_of(name, rules_of(Gru4RecSettings)[name])} out, or train without --from",
            )
    if bool(found.momentum) != bool(kept.momentum):
        raise SettingsError(
            f"momentum is {found.momentum:g}, but the weights were made with {kept.momentum:g}.",
            expected="momentum in both or in neither, since it is kept beside each weight",
        )
    return found


def _batches_record(where: Dataset, batch_size: int) -> Record:
    record = read_records(where.final).get(f"batches_bs{batch_size}")
    do = f"pocketrec batches --dataset {where.root} --batch-size {batch_size} --formats npy"
    if record is None or "npy" not in record.settings["formats"]:
        raise DatasetError(f"{where.final} has no npy batches of {batch_size}.", do=do)
    check_files(where.final, record)
    return record


def _tensorboard(folder: Path | None) -> AbstractContextManager[Callable[..., None]]:
    if folder is None:
        return nullcontext(lambda *_, **__: None)
    from pocketrec.training.tf.tensorboard import Curves

    return Curves(folder)
