"""`pocketrec ncf batches`: epochs and the evaluation set on the disk, as npy shards with a manifest.

    DIR/ncf/final/epochs/epoch=0000/{user,item,label,valid_point_mask}-00000.npy      (batches, B) each
    DIR/ncf/final/epochs/evaluation/{user,item,duplicate_mask}-00000.npy              (batches, evaluation batch) each

user and item are int32, the rest bool; a shard has about `EXAMPLES_PER_SHARD` rows, the last of a folder what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.errors import DatasetError, SettingsError
from pocketrec.ncf.interactions import read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.negatives import Negatives
from pocketrec.ncf.options import USERS_PER_BATCH, NcfMakeSettings
from pocketrec.ncf.producer import EvaluationRows, Examples, Producer
from pocketrec.progress import SILENT, Advance, Progress
from pocketrec.settings import options_for
from pocketrec.storage.formats import Npy
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, Record, read_records
from pocketrec.storage.npy import open_array
from pocketrec.storage.repair import command_line, rebuild_command
from pocketrec.storage.space import OVERHEAD
from pocketrec.storage.stage import Stage
from pocketrec.storage.writer import Writer

STAGE = "ncf_batches"
EXAMPLES_PER_SHARD = 1 << 24
TRAIN = {"user": "int32", "item": "int32", "label": "bool", "valid_point_mask": "bool"}
EVALUATION = {"user": "int32", "item": "int32", "duplicate_mask": "bool"}


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
    settings: NcfMakeSettings = NcfMakeSettings(),
    *,
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> NcfBatchesReport:
    """Write the epochs and the evaluation set of a run.

    Args:
        dataset: the dataset folder.
        settings: of the run; the same seed gives the bytes of the original.
        fresh: write again what is there.
        force: begin even where the disk seems too small.
        progress: told about examples.

    Raises:
        DatasetError: there is no split.
        SettingsError: a user has rated every item, or there are too many examples.
        BusyError, SpaceError, FolderError: the folder is in use, the disk too small or full, or it cannot be written.
    """
    place, argv = NcfDataset(Path(dataset)), ("ncf", "batches", *options_for(settings), "--fresh")
    with hold(place.home, "ncf batches"):
        recorded = {**asdict(settings), "eval_batch_size": settings.evaluation_batch}
        stage = Stage(place.final, STAGE, recorded, {"split": place.prepared().content}, argv)
        if not fresh and (found := stage.current()):
            return _report(place, found, reused=True)
        interactions = read_interactions(place)
        producer, rows = Producer(interactions, settings), len(interactions.test)
        with stage.replacing(_bytes(producer, rows), force=force, into=place.epochs) as draft:
            draft.files = _write(producer, draft.folder, settings.evaluation_batch, progress)
            draft.counts = {"steps": producer.steps, "examples": producer.examples, "evaluation_rows": rows}
    return _report(place, draft.record, reused=False)


def _bytes(producer: Producer, rows: int) -> int:
    """What the files take, about: 10 bytes for an example, 9 for a row of the evaluation set."""
    evaluation = 9 * (rows + USERS_PER_BATCH) * (producer.eval_negatives + 1)
    return OVERHEAD + 10 * producer.steps * producer.batch_size * producer.epochs + evaluation


def _report(place: NcfDataset, record: Record, *, reused: bool) -> NcfBatchesReport:
    settings, counts = record.settings, record.counts
    users = settings["eval_batch_size"] // (settings["eval_negatives"] + 1)
    epochs, evaluation = settings["train_epochs"], -(-counts["evaluation_rows"] // users)
    return NcfBatchesReport(place.epochs, epochs, counts["steps"], counts["examples"], evaluation, record.bytes, reused)


def _write(producer: Producer, folder: Path, eval_batch_size: int, progress: Progress) -> dict[str, OutputFile]:
    files: dict[str, OutputFile] = {}
    for number in range(producer.epochs):
        arrays = ((one.users, one.items, one.labels, one.valid) for one in producer.epoch(number))
        total = producer.steps * producer.batch_size
        with progress.task(f"epoch {number}", total, "examples") as advance:
            files |= _write_shards(folder, f"epoch={number:04d}", TRAIN, producer.batch_size, arrays, advance)
    rows = producer.evaluation_batches(eval_batch_size)
    total = len(producer.interactions.test) * (producer.eval_negatives + 1)
    with progress.task("evaluation", total, "rows") as advance:
        return files | _write_shards(folder, "evaluation", EVALUATION, eval_batch_size, rows, advance)


def _write_shards(
    folder: Path, name: str, columns: dict[str, str], width: int, blocks: Iterator[Any], advance: Advance
) -> dict[str, OutputFile]:
    """Blocks of arrays, column by column, into shards."""
    files: dict[str, OutputFile] = {}
    rows_per_shard, shard = max(1, EXAMPLES_PER_SHARD // width), 0
    left = next(blocks, None)
    while left is not None:
        paths = [f"{name}/{column}-{shard:05d}.npy" for column in columns]
        with ExitStack() as stack:
            made = (Writer(folder / path, Npy(width, dtype)) for path, dtype in zip(paths, columns.values(), strict=True))
            writers = [stack.enter_context(writer) for writer in made]
            while left is not None and writers[0].rows < rows_per_shard:
                rows = [array.reshape(-1, width) for array in left]
                room_for = rows_per_shard - writers[0].rows
                for writer, array in zip(writers, rows, strict=True):
                    writer.write(array[:room_for])
                advance(len(rows[0][:room_for]) * width)
                left = [array[room_for:] for array in rows] if len(rows[0]) > room_for else next(blocks, None)
            files |= {path: writer.commit() for path, writer in zip(paths, writers, strict=True)}
        shard += 1
    return files


class Shards:
    """Epochs and an evaluation set that were written, to be read as a `Producer` makes them."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder, self.record = folder, record
        self.batch_size, self.steps = int(record.settings["batch_size"]), int(record.counts["steps"])
        self.examples, self.eval_negatives = int(record.counts["examples"]), int(record.settings["eval_negatives"])

    @cached_property
    def negatives(self) -> Negatives:
        """For validation positives, which are not on the disk."""
        return Negatives(read_interactions(NcfDataset(self.folder.parents[2])))

    def epoch(self, number: int) -> Iterator[Examples]:
        """The batches of an epoch in order, a few at a time."""
        width = self.batch_size
        for user, item, label, valid in self._shards(f"epoch={number:04d}", TRAIN, width):
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
        folder, do = self.folder / name, "pocketrec ncf batches"
        count = sum(one.startswith(f"{self.folder.name}/{name}/user-") for one in self.record.files)
        for shard in range(count):
            yield [
                open_array(folder / f"{column}-{shard:05d}.npy", dtype=dtype, shape=(None, width), do=do)
                for column, dtype in columns.items()
            ]


Source = Producer | Shards
"""Where a run's examples come from: they are made on the way, or `ncf batches` wrote them."""


def read_shards(folder: Path, split: str, settings: NcfMakeSettings) -> Shards:
    """Epochs in a folder that `batches` wrote, for a run with these settings on the split of that content.

    Raises:
        DatasetError: there are none, a file is missing, or they are of another split.
        SettingsError: they were made for another run.
    """
    do = command_line(folder.absolute().parents[2], "ncf", "batches")
    record = read_records(folder.parent).get(STAGE)
    if record is None or (gone := record.missing(folder.parent)):
        what = f"{folder} has no epochs" if record is None else f"{gone[0]} is missing or cut"
        do = do if record is None else rebuild_command(folder.absolute().parents[1], record)
        raise DatasetError(f"{what}.", expected="what `ncf batches` wrote", do=do)
    if record.inputs["split"] != split:
        raise DatasetError(f"the epochs in {folder} are of another split.", expected="the split that is there now", do=do)
    for name in ("batch_size", "train_epochs", "num_neg", "eval_negatives", "seed"):
        if (has := record.settings[name]) != (asked := getattr(settings, name)):
            raise SettingsError(
                f"the epochs in {folder} were made with {name} {has}, asked for is {asked}.",
                expected="the same",
                do=f"--{name.replace('_', '-')} {has}, or {do} --{name.replace('_', '-')} {asked}",
            )
    return Shards(folder, record)
