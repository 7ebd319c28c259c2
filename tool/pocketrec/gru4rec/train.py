"""`pocketrec train`: train a GRU4Rec on the batches of a dataset.

The files of batches are mapped; a few hundred steps are in memory at a time. The drawn items and the dropout masks depend
only on the seed and on the number of the step. So a training that was killed continues from its last checkpoint, and ends
with the same weights as one that was not. What is measured and kept is a running mean of the weights (`tf.running_mean`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pocketrec.errors import DatasetError, ModelError, SettingsError, require
from pocketrec.gru4rec.checkpoints import (
    STATE,
    Checkpoint,
    Position,
    claim_checkpoints,
    last_checkpoint,
    read_weights,
    write_checkpoint,
)
from pocketrec.gru4rec.options import TrainSettings
from pocketrec.gru4rec.ranking import JUDGED_AT, Accuracy, Ranking
from pocketrec.gru4rec.scoring import rank
from pocketrec.lite.contract import STEP, ModelSpec
from pocketrec.lite.inputs import check_codes, open_batches, read_item_list
from pocketrec.lite.options import Gru4RecSettings
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.lite.sampling import Sampler
from pocketrec.parallel import ahead
from pocketrec.progress import SILENT, Progress
from pocketrec.settings import option_of, options_for, rules_of
from pocketrec.storage.files import content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import Record, read_records
from pocketrec.storage.repair import check_files
from pocketrec.storage.reports import keep_report
from pocketrec.storage.space import room

if TYPE_CHECKING:
    from pocketrec.gru4rec.tf.sparse_model import Steps

STEPS_PER_BLOCK = 256
"""Steps that are in memory, and that TensorFlow runs in one call."""
MEANS_AN_EPOCH = 32
"""At most so often the weights are added to their mean in an epoch, which takes time in proportion to the items."""
SECONDS_PER_CHECKPOINT = 60.0
FEW_TRANSITIONS = 20_000
"""With fewer to train on, methods without training are likely better (benchmarks/ACCURACY.md)."""


@dataclass(frozen=True)
class TrainReport:
    """The result of a training.

    Attributes:
        checkpoint: the file with the weights that are kept.
        epochs: epochs done, including those of earlier runs.
        losses: mean loss of a transition in each epoch, in nats.
        validation: MRR@20 on train_valid after each epoch; empty if train_valid is in the training data.
        kept: the epoch whose weights are kept, counted from 1.
        accuracy: accuracy on train_valid after the last epoch of this run; None if it was not measured.
        events: transitions trained on in this run.
        seconds: time for these, without validation.
        events_per_second: events / seconds.
        resumed: whether it continued from a checkpoint.
        passed_over: why a checkpoint that was there was not continued from, or nothing was measured, a sentence for each.
        transitions: transitions in an epoch.
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
    passed_over: tuple[str, ...] = ()
    transitions: int = 0


def train(
    dataset: Path | str = "dataset",
    settings: TrainSettings = TrainSettings(),
    *,
    source: Path | str | None = None,
    fresh: bool = False,
    tensorboard: Path | None = None,
    progress: Progress = SILENT,
) -> TrainReport:
    """Train on the npy batches of a dataset, or continue an unfinished training with the same settings.

    After each epoch the model is measured on train_valid, and the weights with the best MRR@20 are kept. If the batches are
    made from train_full, which includes train_valid, the last weights are kept.

    Args:
        dataset: a dataset folder in which `batches` was run.
        settings: the settings of the network and of its training.
        source: a checkpoint of `train` or a file from a device, to begin from its weights, slots and count of steps
            (fine-tuning). Its settings are used, except for the batch size, the epochs, and those in which `settings`
            differs from `TrainSettings()`.
        fresh: begin anew, and replace the checkpoint that is there, of the same training or of another one.
        tensorboard: a folder for TensorBoard's event files; TensorBoard itself need not be installed.
        progress: is told about the transitions trained on.

    Raises:
        DatasetError: the batches are missing or damaged.
        SettingsError: a setting does not fit the weights of `source`; or the checkpoint that is there is of another
            training, and `fresh` is not set.
        ModelError: the loss is NaN, infinite or far too high; or the source cannot be read, or is made for other items.
        MissingExtraError: TensorFlow is not installed.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written.
    """
    require("train a model", "tensorflow")
    where = Dataset(Path(dataset))
    with hold(dataset, "train"), room(where.model, "train"):
        job = Training(where, settings, None if source is None else Path(source))
        with _tensorboard(tensorboard) as log:
            return job.run(settings.epochs, fresh, log, progress)


class Training:
    """A training: its inputs, its model, and how far it is."""

    def __init__(self, where: Dataset, settings: TrainSettings, source: Path | None) -> None:
        lanes = settings.batch_size
        self.where, self.record = where, _batches_record(where, lanes)
        self.items, self.batches = read_item_list(where), open_batches(where, lanes)
        check_codes(self.batches, len(self.items.ids), where)
        self.origin = None if source is None else read_weights(source, self.items.hash, where.root)
        chosen = settings if self.origin is None else fine_tuning(settings, self.origin.settings)
        self.settings = ModelSpec.of(chosen, len(self.items.ids))
        self.argv = ("train", *(["--from", str(source.absolute())] if source else []), *options_for(settings))
        origin = "" if source is None else content_hash(source)
        self.now = Checkpoint(self.settings, self.items.hash, self.record.content, origin, settings.average)
        self.kept, self.last = where.checkpoint(lanes), where.checkpoint(lanes, last=True)
        self.transitions = self.record.counts["sets"]["train_tr"]["transitions"]
        valid = self.record.counts["sets"]["train_valid"]
        self.is_empty = not valid["transitions"] + valid["dropped"]
        self.judged = self.record.settings.get("train_on", "train_tr") == "train_tr" and not self.is_empty
        self.accuracy: Accuracy | None = None
        self.events, self.seconds = 0, 0.0

    def run(self, epochs: int, fresh: bool, log: Callable[..., None], progress: Progress) -> TrainReport:
        claim_checkpoints(self.where, self.settings.batch_size)
        found, passed_over = (None, []) if fresh else last_checkpoint(self.where, self.now)
        if self.is_empty:
            passed_over.append("train_valid has no event: no epoch is measured, the last one is kept")
        with native_stderr_closed():
            from pocketrec.gru4rec.tf.running_mean import RunningMean
            from pocketrec.gru4rec.tf.sparse_model import SparseGru4Rec, use_threads

            use_threads(self.settings.batch_size)
            self.model = SparseGru4Rec(self.settings, support=self.items.support)
            self.mean = RunningMean(self.model.weights, self.now.average) if self.now.average else None
        if begin := found or self.origin:
            self.model.load(begin.tensors)
        if found:
            self.now = found
            if self.mean:
                self.mean.load(found.tensors)
        self.steps_before = 0 if self.origin is None else int(self.origin.tensors[STEP])
        for epoch in range(self.now.position.epoch, epochs):
            self._epoch(epoch, progress)
            self._finish_epoch(log)
        position = self.now.position
        kept = 1 + int(np.argmax(position.validation)) if self.judged else position.epoch
        report = TrainReport(
            checkpoint=self.kept,
            epochs=position.epoch,
            losses=position.losses,
            validation=position.validation,
            kept=kept,
            accuracy=self.accuracy,
            events=self.events,
            seconds=self.seconds,
            events_per_second=self.events / self.seconds if self.seconds else 0.0,
            resumed=found is not None,
            passed_over=tuple(passed_over),
            transitions=self.transitions,
        )
        if self.events:  # else there was nothing left to do, and what is kept is of the run that did it
            of = {"checkpoint": content_hash(self.kept), "batches": self.record.content, "items": self.items.hash}
            keep_report(self.where.model, f"train_bs{self.settings.batch_size}", self.argv, of, report)
        return report

    def _epoch(self, epoch: int, progress: Progress) -> None:
        """Train on the remaining steps of an epoch."""
        began = time.perf_counter()
        saved, position = began, self.now.position
        state = self.now.tensors[STATE] if position.step else self._fresh_state()
        title = f"epoch {epoch + 1}" + (f", loss {position.losses[-1]:.3f} before" if position.losses else "")
        with progress.task(title, self.transitions, "events") as advance:
            advance(int((self.batches.targets[: position.step] >= 0).sum()))
            firsts = range(position.step, len(self.batches), STEPS_PER_BLOCK)
            for step, steps in ahead(self._reader(epoch, position.step), firsts, threads=1):
                losses, state = self.model.train_block(steps, state)
                if self.mean and (since := self._counted_since(position.step, step)) is not None:
                    self.mean.add(*(epoch * len(self.batches) + done for done in (since, step)))
                total = float(losses.sum(dtype=np.float64))
                if not np.isfinite(total):
                    raise _diverged(f"In epoch {epoch + 1}, before step {step}, the loss became NaN or infinite.")
                events = int((steps.targets >= 0).sum())
                self.events += events
                position = replace(position, step=step, loss=position.loss + total)
                advance(events)
                self.now = replace(self.now, position=position)
                if time.perf_counter() - saved > SECONDS_PER_CHECKPOINT:
                    self._save_last(state)
                    saved = time.perf_counter()
        self.seconds += time.perf_counter() - began

    def _counted_since(self, first: int, last: int) -> int | None:
        """The step of an epoch since which the weights after steps `first` to `last` count in the mean; None: never."""
        blocks = max(1, len(self.batches) // (STEPS_PER_BLOCK * MEANS_AN_EPOCH))
        every = blocks * STEPS_PER_BLOCK
        is_due = last // every > first // every or last == len(self.batches)
        return first // every * every if is_due else None

    def _finish_epoch(self, log: Callable[..., None]) -> None:
        """Measure the weights that would be kept, keep the best, and count the epoch as done."""
        position = self.now.position
        loss = position.loss * self.settings.batch_size / self.transitions
        if loss > (most := highest_loss(self.settings)):
            raise _diverged(f"In epoch {position.epoch + 1} the mean loss was {loss:,.4g}, above {most:,.4g}.")
        measured: tuple[float, ...] = ()
        trained = self.model.tensors()
        to_keep = {**trained, **self.mean.weights()} if self.mean else trained
        if self.judged:
            self.model.load(to_keep)
            from pocketrec.gru4rec.tf.scorer import ModelScorer

            ranking = rank(ModelScorer(self.model, "valid"), self.where, "train_valid", Ranking((JUDGED_AT,)))
            self.accuracy = ranking.accuracy("valid")
            measured = (self.accuracy.mrr[JUDGED_AT],)
            self.model.load(trained)
        validation = (*position.validation, *measured)
        self.now = replace(
            self.now, position=Position(position.epoch + 1, losses=(*position.losses, loss), validation=validation)
        )
        if not measured or measured[0] > max(position.validation, default=-1.0):
            write_checkpoint(self.kept, replace(self.now, tensors=to_keep))
        self._save_last(self._fresh_state())
        log(position.epoch + 1, loss=loss, **({"mrr": measured[0]} if measured else {}))

    def _save_last(self, state: Any) -> None:
        means = self.mean.tensors() if self.mean else {}
        self.now = replace(self.now, tensors={**self.model.tensors(), **means, STATE: state})
        write_checkpoint(self.last, self.now)

    def _fresh_state(self) -> Any:
        return np.zeros((self.settings.batch_size, self.settings.hidden_size), np.float32)

    def _reader(self, epoch: int, begin: int) -> Callable[[int], tuple[int, Steps]]:
        """A function that reads the block of steps from a given one on, and says where it ends.

        It draws the items of the steps, from a stream of their own in each epoch, so it must be called for one block after
        the other, from step `begin` on. It runs in another thread while the model trains on the block before.
        """
        drawn_per_step, done = self.settings.negatives, self.steps_before + epoch * len(self.batches)
        sampler = Sampler(self.items.support, self.settings.sample_alpha, [self.settings.seed, epoch])
        sampler.skip(begin * drawn_per_step)

        def read(first: int) -> tuple[int, Steps]:
            last = min(first + STEPS_PER_BLOCK, len(self.batches))
            arrays = (self.batches.feats, self.batches.targets, self.batches.masks)
            feats, targets, masks = (np.array(rows[first:last]) for rows in arrays)
            if first == 0:
                masks[0] = 1  # the states are those of new sessions
            drawn = sampler.draw((last - first) * drawn_per_step).reshape(last - first, drawn_per_step)
            return last, self.model.prepare(feats, targets, masks, drawn, done=done + first)

        return read


def highest_loss(settings: ModelSpec) -> float:
    """The mean loss of a transition above which a training has diverged, in nats.

    Knowing nothing costs log(candidates). A model that is sure of something wrong pays the difference of two scores; 100 is
    a probability of e^-100. In bpr-max scores are also squared.
    """
    candidates = settings.negatives + settings.batch_size
    return 10 * math.log(candidates) + 100 + (settings.bpreg * 100**2 if settings.loss == "bpr-max" else 0)


def _diverged(wrong: str) -> ModelError:
    return ModelError(
        f"{wrong} The training has diverged; the checkpoint of earlier epochs was not touched.",
        expected="a loss that falls",
        do="train again with a lower --learning-rate; --fresh replaces what is there",
    )


def fine_tuning(asked: TrainSettings, of_file: ModelSpec) -> Gru4RecSettings:
    """The settings of a training that begins from a file.

    Args:
        asked: the settings that the user gave; except for the batch size, a default value means the value of the file.
        of_file: the settings that the weights in the file were made with.

    Raises:
        SettingsError: another network or another optimizer is asked for than the one in the file.
    """
    default, kept = TrainSettings(), Gru4RecSettings.part_of(of_file)
    chosen = {name: getattr(asked, name) for name in rules_of(Gru4RecSettings)}
    chosen = {name: value for name, value in chosen.items() if value != getattr(default, name)}
    found = replace(kept, **{**chosen, "batch_size": asked.batch_size})
    for name in ("hidden_size", "embedding", "optimizer", "momentum"):
        new, old = getattr(found, name), getattr(kept, name)
        if new != old and not (name == "momentum" and new and old):  # both have the slot of the momentum
            raise SettingsError(
                f"{name} is {new!r}, but the weights were made with {old!r}.",
                expected=f"{name} {old}",
                do=f"leave {option_of(name, rules_of(Gru4RecSettings)[name])} out, or train without --from",
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
