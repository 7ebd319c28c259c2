"""The batches stage: the sets of the split as session-parallel mini-batches, npy and txt, written block by block.

The sets come as sessions in order (`sequences`), made once for all batch sizes; here they are laid into lanes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pocketrec.errors import DatasetError, SettingsError
from pocketrec.ingestion.parts import Parts
from pocketrec.parallel import ahead
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.sequences import Choice, SessionOrder, TrainOn, read_sequences, sequences
from pocketrec.sessions.session_parallel import Block, Blocks, Resets, Tail
from pocketrec.sessions.vocabulary import training_items
from pocketrec.storage.files import parents_of
from pocketrec.storage.formats import FORMATS
from pocketrec.storage.item_index import write_items
from pocketrec.storage.layout import SPLITS, Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, Record, drop_record, read_records, write_record
from pocketrec.storage.repair import check_files, rebuild_command
from pocketrec.storage.space import OVERHEAD, room
from pocketrec.storage.writer import Writer

ARRAYS = ("feats", "targets", "masks")
BATCH_FILE = re.compile(rf"({'|'.join(ARRAYS)})(_valid|_test)?_bs[0-9]+\.(npy|txt)")


@dataclass(frozen=True)
class BatchCounts:
    """One set's batches.

    Attributes:
        steps: rows of its arrays.
        transitions: pairs of consecutive clicks in them.
        dropped: pairs that the tail left out.
        padded: it has fewer sessions than lanes, so the lanes beyond were left empty, whatever was asked for.
        unknown: clicks left out because their item is not trained on (a test item may be in train_valid only), or
            because that left their session with a single click.
    """

    steps: int
    transitions: int
    dropped: int
    padded: bool
    unknown: int


@dataclass(frozen=True)
class BatchesReport:
    """What was written for each set of `layout.SPLITS`, the number of items, and whether all was there already."""

    batch_size: int
    items: int
    sets: Mapping[str, BatchCounts]
    reused: bool


def batches(
    dataset: Path | str = "dataset",
    *,
    batch_size: int = 512,
    formats: Sequence[str] = ("txt", "npy"),
    resets: Resets = "once",
    tail: Tail = "drop",
    session_order: SessionOrder = "id",
    train_on: TrainOn = "train_tr",
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> BatchesReport:
    """Write feats, targets and masks of train_tr, train_valid and test, and the item index, to DIR/final.

    All batch sizes share the item index, so batches of other sizes that were made from an earlier split are removed.

    Args:
        dataset: a folder that `split` has filled.
        batch_size: lanes, B. Every array is int32 of shape (steps, B).
        formats: "npy", "txt" or both.
        resets: "once": a mask is 0 on the step that starts a session; "repeated": the original's masks, which repeat a
            row on each step until some lane ends and so reset states that should live on.
        tail: "drop": stop when a lane finds no session, as the original; "pad": go on until all lanes are done.
        session_order: "id", as the original; "time": by their first click, as the official GRU4Rec.
        train_on: "train_full": the train batches and the item index are those of train_full, under the same names, and
            train_valid is no longer held out.
        fresh: do it again even where nothing has changed.
        force: begin even where the disk seems too small for it.
        progress: told about rows read.

    Raises:
        BusyError: another process is at work in the dataset folder.
        SpaceError: the disk is too small. What was there before is as it was.
        FolderError: the dataset folder cannot be written.
        DatasetError: nothing was split, or a part is damaged.
        SettingsError: train_tr has fewer sessions than lanes, and `tail` is "drop".
    """
    where = Dataset(Path(dataset))
    check_batch_settings(batch_size, formats)
    settings = {
        "batch_size": batch_size,
        "formats": sorted(set(formats)),
        "resets": resets,
        "tail": tail,
        "session_order": session_order,
        "train_on": train_on,
    }
    with hold(dataset, "batches"):
        return _batches(where, settings, fresh, force, progress)


def _batches(where: Dataset, settings: dict[str, Any], fresh: bool, force: bool, progress: Progress) -> BatchesReport:
    batch_size, forms, tail = settings["batch_size"], settings["formats"], settings["tail"]
    choice = Choice(settings["train_on"], settings["session_order"])
    parts = Parts(where)
    roles = _roles(where, parts)
    inputs = {"clicks": parts.record.content, "roles": roles.content}
    key = f"batches_bs{batch_size}"
    found = read_records(where.final).get(key)
    if found and not fresh and found.is_current(where.final, settings, inputs):
        return _report(found, reused=True)
    sizes = roles.counts["sets"]
    sizes = {**sizes, "train_tr": sizes[choice.train_on]}
    _check_sessions(choice.train_on, sizes["train_tr"]["sessions"], batch_size, tail)
    check_files(where.roles.parent, roles)
    index, support = training_items(where, parts, choice.train_on)
    clicks, sessions = (sum(sizes[name][what] for name in SPLITS) for what in ("events", "sessions"))
    with (
        room(where.sequences, "batches", sequences_bytes(clicks, sessions, choice.session_order), force=force),
        progress.task("sessions", parts.record.counts["rows"], "rows") as advance,
    ):
        unknown = sequences(where, parts, roles, index, choice, advance, fresh=fresh).counts["unknown"]
    sets = {name: Blocks(batch_size, resets=settings["resets"], tail=tail) for name in SPLITS}
    with room(where.final, "batches", batches_bytes(clicks - sessions, len(index), forms), force=force):
        with progress.task("batches", clicks, "clicks") as advance:
            files = _write(where, sets, settings, key, inputs, advance)
        write_items(where.items, parts.item_ids(index.ids), support)
        files[where.items.name] = OutputFile.of(where.items, (len(index),))
        counts = {
            name: asdict(BatchCounts(one.steps, one.transitions, one.dropped, one.padded, unknown[name]))
            for name, one in sets.items()
        }
        record = Record("batches", settings, inputs, files, {"items": len(index), "sets": counts})
        write_record(where.final, key, record)
    return _report(record, reused=False)


def check_batch_settings(batch_size: int, formats: Sequence[str]) -> None:
    """Refuse settings that no dataset can satisfy.

    Raises:
        SettingsError: they are such.
    """
    if batch_size < 1:
        raise SettingsError(f"a batch size of {batch_size} has no lanes.", expected="--batch-size 1 or more")
    if not formats or not set(formats) <= set(FORMATS):
        raise SettingsError(f"unknown batch formats {','.join(formats)!r}.", expected=f"some of {', '.join(FORMATS)}")


def _check_sessions(name: str, sessions: int, batch_size: int, tail: Tail) -> None:
    if sessions < batch_size and tail == "drop":
        raise SettingsError(
            f"{name} has {sessions} sessions, fewer than the {batch_size} lanes of --batch-size {batch_size}.",
            expected="a session for every lane",
            do=f"--batch-size {sessions} or less, or --tail pad to leave lanes empty",
        )


def _roles(where: Dataset, parts: Parts) -> Record:
    folder = where.roles.parent
    record = read_records(folder).get("roles")
    do = f"pocketrec split --dataset {where.root}"
    if record is None:
        raise DatasetError(f"{where.root} has no split.", do=do)
    if record.inputs["clicks"] != parts.record.content:
        raise DatasetError(f"the split in {where.root} was made from another log than the one ingested now.", do=do)
    if missing := record.missing(folder):
        raise DatasetError(f"{missing[0]} is missing or cut.", do=rebuild_command(where.root, record))
    return record


def _write(
    where: Dataset,
    sets: Mapping[str, Blocks],
    settings: Mapping[str, Any],
    key: str,
    inputs: Mapping[str, str],
    advance: Callable[[int], None],
) -> dict[str, OutputFile]:
    """Write all files of all sets, and only when all are whole give them their names."""
    batch_size, formats = settings["batch_size"], settings["formats"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(parents_of(where.items))
        writers = {
            (name, array, form): stack.enter_context(
                Writer(where.batches(array, batch_size, split=name, form=form), FORMATS[form](batch_size))
            )
            for name in sets
            for array in ARRAYS
            for form in formats
        }
        for name, steps, texts in ahead(partial(_encode, formats=formats), _blocks(where, sets, advance), threads=3):
            for (array, form), text in texts.items():
                writers[name, array, form].write_bytes(text, steps)
        for _ in ahead(Writer.finish, writers.values()):
            pass
        _forget(where, key, inputs, settings["train_on"])
        return {writer.path.name: writer.commit() for writer in writers.values()}


def _forget(where: Dataset, key: str, inputs: Mapping[str, str], train_on: str) -> None:
    """Drop the record of what is about to be replaced, and the batches of other sizes whose item index goes with it.

    Records of other sizes made from the same set keep the same index. The codes in those from another set would mean other
    items, and nobody could see it: their files are removed, also where an earlier run dropped the record and died.
    """
    for other, record in read_records(where.final).items():
        same_items = record.inputs.get("roles") == inputs["roles"] and record.settings.get("train_on") == train_on
        if other == key or not same_items:
            drop_record(where.final, other)
    described = {name for record in read_records(where.final).values() for name in record.files}
    for path in where.final.glob("*_bs*"):
        if path.name not in described and BATCH_FILE.fullmatch(path.name):
            path.unlink()


def _encode(one: tuple[str, Block], formats: Sequence[str]) -> tuple[str, int, dict[tuple[str, str], bytes | memoryview]]:
    """A block's set, its steps, and the bytes of its arrays in every format."""
    name, block = one
    arrays = {array: getattr(block, array) for array in ARRAYS}
    steps, width = block.masks.shape
    forms = {form: FORMATS[form](width) for form in formats}
    return name, steps, {(array, form): forms[form].encode(arrays[array]) for array in ARRAYS for form in formats}


def _blocks(where: Dataset, sets: Mapping[str, Blocks], advance: Callable[[int], None]) -> Iterator[tuple[str, Block]]:
    """All blocks of one set after the other."""
    for name, blocks in sets.items():
        for items, lengths in read_sequences(where, name):
            for block in blocks.add(items, lengths):
                yield name, block
            advance(len(items))
        for block in blocks.finish():
            yield name, block


def _report(record: Record, *, reused: bool) -> BatchesReport:
    sets = {name: BatchCounts(**record.counts["sets"][name]) for name in SPLITS}
    return BatchesReport(record.settings["batch_size"], record.counts["items"], sets, reused)


def sequences_bytes(clicks: int, sessions: int, session_order: str = "id") -> int:
    """What the sets as sessions in order take: an int32 a click, and one a session; twice while order of time is made."""
    return OVERHEAD + 4 * (clicks + sessions) * (1 if session_order == "id" else 2)


def batches_bytes(transitions: int, items: int, formats: Sequence[str]) -> int:
    """What batches of so many pairs of clicks take; each pair is a cell of feats, targets and masks.

    What `--tail pad` adds to the last rows is not counted.
    """
    numbers, mask = 2 * (len(str(items)) + 1), 2  # digits and the comma
    a_cell = {"npy": 3 * 4, "txt": numbers + mask}
    return OVERHEAD + transitions * sum(a_cell[form] for form in formats) + 24 * items
