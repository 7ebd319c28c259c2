"""`pocketrec ncf batches`: epochs and the evaluation set on the disk, as npy shards with a manifest.

    DIR/ncf/final/epochs/epoch=0000/{user,item,label,valid_point_mask}-00000.npy      (batches, B) each
    DIR/ncf/final/epochs/evaluation/{user,item,duplicate_mask}-00000.npy              (batches, evaluation batch) each

user and item are int32, the rest bool; a shard has about `EXAMPLES_A_SHARD` rows, the last of a folder what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.errors import DatasetError, SettingsError
from pocketrec.ncf.interactions import prepared, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.negatives import Negatives
from pocketrec.ncf.options import Training
from pocketrec.ncf.producer import EvaluationRows, Examples, Producer, check_evaluation_batch, check_producer
from pocketrec.progress import SILENT, Advance, Progress
from pocketrec.storage.files import staged_folder
from pocketrec.storage.formats import Npy
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, Record, drop_record, read_records, write_record
from pocketrec.storage.npy import open_array
from pocketrec.storage.space import OVERHEAD, room
from pocketrec.storage.writer import Writer

STAGE = "ncf_batches"
EXAMPLES_A_SHARD = 1 << 24
TRAIN = {"user": "int32", "item": "int32", "label": "bool", "valid_point_mask": "bool"}
EVALUATION = {"user": "int32", "item": "int32", "duplicate_mask": "bool"}
USERS_A_BATCH = 100


@dataclass(frozen=True)
class NcfBatchesReport:
    """What is in DIR/ncf/final/epochs.

    Attributes:
        folder: it.
        epochs: training epochs.
        steps: batches of each.
        examples: of each, without those that fill the last batch.
        evaluation_batches: of the evaluation set.
        bytes: of all files.
        reused: they were there already.
    """

    folder: Path
    epochs: int
    steps: int
    examples: int
    evaluation_batches: int
    bytes: int
    reused: bool


def batches(
    dataset: Path | str = "dataset",
    *,
    batch_size: int = 1024,
    train_epochs: int = 20,
    num_neg: int = 4,
    eval_negatives: int = 999,
    eval_batch_size: int | None = None,
    seed: int = 42,
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> NcfBatchesReport:
    """Write the epochs and the evaluation set of a run.

    Args:
        dataset: the dataset folder.
        batch_size: B.
        train_epochs: how many.
        num_neg: negatives a positive.
        eval_negatives: negatives a test positive.
        eval_batch_size: rows of an evaluation batch, a multiple of a positive and its negatives; None for 100 users.
        seed: the same seed gives the bytes of the original.
        fresh: write again what is there.
        force: begin even where the disk seems too small.
        progress: told about examples.

    Raises:
        DatasetError: there is no split.
        SettingsError: a setting that cannot be.
        BusyError, SpaceError, FolderError: the folder is in use, the disk too small or full, or it cannot be written.
    """
    place = NcfDataset(Path(dataset))
    check_producer(batch_size, train_epochs, num_neg, eval_negatives)
    size = USERS_A_BATCH * (eval_negatives + 1) if eval_batch_size is None else eval_batch_size
    check_evaluation_batch(size, eval_negatives)
    settings = {
        "batch_size": batch_size, "train_epochs": train_epochs, "num_neg": num_neg, "eval_negatives": eval_negatives,
        "eval_batch_size": size, "seed": seed,
    }  # fmt: skip
    with hold(place.home, "ncf batches"):
        inputs = {"split": prepared(place).content}
        found = read_records(place.final).get(STAGE)
        if found and not fresh and found.is_current(place.final, settings, inputs):
            return _report(place, found, reused=True)
        interactions = read_interactions(place)
        producer = Producer(
            interactions, batch_size=batch_size, epochs=train_epochs, num_neg=num_neg, eval_negatives=eval_negatives,
            rng=np.random.RandomState(seed),
        )  # fmt: skip
        needed = 10 * producer.steps * batch_size * train_epochs + 9 * (len(interactions.test) + USERS_A_BATCH) * (
            eval_negatives + 1
        )
        with room(place.final, "ncf batches", OVERHEAD + needed, force=force), staged_folder(place.epochs) as staged:
            files = _write(producer, staged, size, progress)
            drop_record(place.final, STAGE)
        counts = {"steps": producer.steps, "examples": producer.examples, "evaluation_rows": len(interactions.test)}
        named = {f"{place.epochs.name}/{name}": file for name, file in files.items()}
        record = Record(STAGE, settings, inputs, named, counts)
        write_record(place.final, STAGE, record)
    return _report(place, record, reused=False)


def _report(place: NcfDataset, record: Record, *, reused: bool) -> NcfBatchesReport:
    settings, counts = record.settings, record.counts
    users = settings["eval_batch_size"] // (settings["eval_negatives"] + 1)
    size = sum(file.bytes for file in record.files.values())
    evaluation = -(-counts["evaluation_rows"] // users)
    return NcfBatchesReport(
        place.epochs, settings["train_epochs"], counts["steps"], counts["examples"], evaluation, size, reused
    )


def _write(producer: Producer, folder: Path, eval_batch_size: int, progress: Progress) -> dict[str, OutputFile]:
    files: dict[str, OutputFile] = {}
    for number in range(producer.epochs):
        arrays = ((one.users, one.items, one.labels, one.valid) for one in producer.epoch(number))
        total = producer.steps * producer.batch_size
        with progress.task(f"epoch {number}", total, "examples") as advance:
            files |= _write_shards(folder, _epoch_folder(number), TRAIN, producer.batch_size, arrays, advance)
    rows = ((one.users, one.items, one.duplicates) for one in producer.evaluation_batches(eval_batch_size))
    total = len(producer.interactions.test) * (producer.eval_negatives + 1)
    with progress.task("evaluation", total, "rows") as advance:
        return files | _write_shards(folder, "evaluation", EVALUATION, eval_batch_size, rows, advance)


def _epoch_folder(number: int) -> str:
    return f"epoch={number:04d}"


def _write_shards(
    folder: Path, name: str, columns: dict[str, str], width: int, blocks: Iterator[Any], advance: Advance
) -> dict[str, OutputFile]:
    """Blocks of arrays, column by column, into shards."""
    files: dict[str, OutputFile] = {}
    rows_a_shard = max(1, EXAMPLES_A_SHARD // width)
    left = next(blocks, None)
    shard = 0
    while left is not None:
        paths = {column: f"{name}/{column}-{shard:05d}.npy" for column in columns}
        with ExitStack() as stack:
            writers = [
                stack.enter_context(Writer(folder / paths[column], Npy(width, dtype))) for column, dtype in columns.items()
            ]
            while left is not None and writers[0].rows < rows_a_shard:
                rows = [array.reshape(-1, width) for array in left]
                room_for = rows_a_shard - writers[0].rows
                for writer, array in zip(writers, rows, strict=True):
                    writer.write(array[:room_for])
                advance(len(rows[0][:room_for]) * width)
                left = [array[room_for:] for array in rows] if len(rows[0]) > room_for else next(blocks, None)
            files |= {path: writer.commit() for path, writer in zip(paths.values(), writers, strict=True)}
        shard += 1
    return files


class Shards:
    """Epochs and an evaluation set that were written, with the interface of a `Producer`."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder, self.record = folder, record
        self.batch_size, self.steps = int(record.settings["batch_size"]), int(record.counts["steps"])
        self.examples, self.eval_negatives = int(record.counts["examples"]), int(record.settings["eval_negatives"])
        self._negatives: Negatives | None = None

    @property
    def negatives(self) -> Negatives:
        """For validation positives, which are not on the disk."""
        if self._negatives is None:
            self._negatives = Negatives(read_interactions(NcfDataset(self.folder.parents[2])))
        return self._negatives

    def epoch(self, number: int) -> Iterator[Examples]:
        """The batches of an epoch in order, a few at a time."""
        width = self.batch_size
        for user, item, label, valid in self._shards(_epoch_folder(number), TRAIN, width):
            step = max(1, (1 << 19) // width)
            for first in range(0, len(user), step):
                part = slice(first, first + step)
                yield Examples(*(np.array(one[part]).reshape(-1) for one in (user, item, label, valid)))

    def evaluation(self) -> Iterator[EvaluationRows]:
        """The test positives with their negatives, without what fills the last batch."""
        width, row = int(self.record.settings["eval_batch_size"]), self.eval_negatives + 1
        left = int(self.record.counts["evaluation_rows"])
        for user, item, duplicate in self._shards("evaluation", EVALUATION, width):
            for batch in range(len(user)):
                users, items, mask = (np.array(one[batch]).reshape(-1, row)[:left] for one in (user, item, duplicate))
                left -= len(users)
                yield EvaluationRows(users[:, 0], items, mask)

    def _shards(self, name: str, columns: dict[str, str], width: int) -> Iterator[list[Any]]:
        count = sum(one.startswith(f"{self.folder.name}/{name}/user-") for one in self.record.files)
        for shard in range(count):
            yield [
                open_array(
                    self.folder / name / f"{column}-{shard:05d}.npy",
                    dtype=dtype,
                    shape=(None, width),
                    do="pocketrec ncf batches",
                )
                for column, dtype in columns.items()
            ]


def read_shards(folder: Path, split: str, training: Training) -> Shards:
    """Epochs on the disk, for a run.

    Args:
        folder: what `batches` wrote.
        split: content of the split they must be of.
        training: what the run asks for.

    Raises:
        DatasetError: there are none, a file is missing, or they are of another split.
        SettingsError: they were made for another run.
    """
    do = "pocketrec ncf batches"
    record = read_records(folder.parent).get(STAGE)
    if record is None or (gone := record.missing(folder.parent)):
        what = f"{folder} has no epochs" if record is None else f"{gone[0]} is missing or cut"
        raise DatasetError(f"{what}.", expected="what `ncf batches` wrote", do=do)
    if record.inputs["split"] != split:
        raise DatasetError(f"the epochs in {folder} are of another split.", expected="the split that is there now", do=do)
    for name in ("batch_size", "train_epochs", "num_neg", "eval_negatives", "seed"):
        if (has := record.settings[name]) != (asked := getattr(training, name)):
            raise SettingsError(
                f"the epochs in {folder} were made with {name} {has}, asked for is {asked}.",
                expected="the same",
                do=f"--{name.replace('_', '-')} {has}, or {do} --{name.replace('_', '-')} {asked}",
            )
    return Shards(folder, record)
