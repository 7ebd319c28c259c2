"""The batches stage: the sets of the split as session-parallel mini-batches, npy and txt, written block by block.

Parts in order are sessions in order, so each part is read once, sorted inside, and handed to the lanes of the three sets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pocketrec.ahead import ahead
from pocketrec.arrays import open_array
from pocketrec.damage import check_files, rebuild_command
from pocketrec.errors import DatasetError, SettingsError
from pocketrec.files import parents_of, remove_leftovers
from pocketrec.holdout import ROLE_OF
from pocketrec.items import MISSING, ItemCodes, read_items, write_items
from pocketrec.layout import SPLITS, Dataset
from pocketrec.manifest import OutputFile, Record, drop_record, read_records, write_record
from pocketrec.parts import Parts, read_column
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import ITEM, SESSION, TIME, Bool, Int32, Int64
from pocketrec.session_parallel import Block, Blocks, Resets, Tail
from pocketrec.writers import FORMATS, Writer

ARRAYS = ("feats", "targets", "masks")


@dataclass(frozen=True)
class BatchCounts:
    """One set's batches.

    Attributes:
        steps: rows of its arrays.
        transitions: pairs of consecutive clicks in them.
        dropped: pairs that the tail left out.
        padded: it has fewer sessions than lanes, so the lanes beyond were left empty, whatever was asked for.
        unknown: clicks left out because their item is not in train_tr (a test item may be in train_valid only), or
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
    fresh: bool = False,
    progress: Progress = SILENT,
) -> BatchesReport:
    """Write feats, targets and masks of train_tr, train_valid and test, and the item index, to DIR/final.

    Args:
        dataset: a folder that `split` has filled.
        batch_size: lanes, B. Every array is int32 of shape (steps, B).
        formats: "npy", "txt" or both.
        resets: "once": a mask is 0 on the step that starts a session; "repeated": the original's masks, which repeat a
            row on each step until some lane ends and so reset states that should live on.
        tail: "drop": stop when a lane finds no session, as the original; "pad": go on until all lanes are done.
        fresh: do it again even where nothing has changed.
        progress: told about rows read.

    Raises:
        DatasetError: nothing was split, or a part is damaged.
        SettingsError: train_tr has fewer sessions than lanes, and `tail` is "drop".
    """
    where = Dataset(Path(dataset))
    check_batch_settings(batch_size, formats)
    remove_leftovers(where.final)
    parts = Parts(where)
    roles = _roles(where, parts)
    forms = sorted(set(formats))
    settings = {"batch_size": batch_size, "formats": forms, "resets": resets, "tail": tail}
    inputs = {"clicks": parts.record.content, "roles": roles.content}
    key = f"batches_bs{batch_size}"
    found = read_records(where.final).get(key)
    if found and not fresh and found.is_current(where.final, settings, inputs):
        return _report(found, reused=True)
    _check_sessions(roles.counts["sets"]["train_tr"]["sessions"], batch_size, tail)
    check_files(where.roles.parent, roles)
    sets = {name: SetBatches(Blocks(batch_size, resets=resets, tail=tail)) for name in SPLITS}
    files, items = _write(where, parts, sets, batch_size, forms, key, inputs, progress)
    counts = {name: asdict(one.counts()) for name, one in sets.items()}
    record = Record("batches", settings, inputs, files, {"items": items, "sets": counts})
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


def _check_sessions(sessions: int, batch_size: int, tail: Tail) -> None:
    if sessions < batch_size and tail == "drop":
        raise SettingsError(
            f"train_tr has {sessions} sessions, fewer than the {batch_size} lanes of --batch-size {batch_size}.",
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
    parts: Parts,
    sets: Mapping[str, SetBatches],
    batch_size: int,
    formats: Sequence[str],
    key: str,
    inputs: Mapping[str, str],
    progress: Progress,
) -> tuple[dict[str, OutputFile], int]:
    """Write all files of all sets, and only when all are whole give them their names."""
    vocabulary = read_items(where.roles / "items.parquet", ("item_id", "support"))
    index = ItemCodes(vocabulary["item_id"].to_numpy())
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
        with progress.task("batches", parts.record.counts["rows"], "rows") as advance:
            blocks = _blocks(where, parts, sets, index, advance)
            for name, steps, texts in ahead(partial(_encode, formats=formats), blocks):
                for (array, form), text in texts.items():
                    writers[name, array, form].write_bytes(text, steps)
        _forget(where, key, inputs)
        files = {writer.path.name: writer.commit() for writer in writers.values()}
    write_items(where.items, index.ids, vocabulary["support"].to_numpy())
    return files | {where.items.name: OutputFile.of(where.items, (len(index),))}, len(index)


def _forget(where: Dataset, key: str, inputs: Mapping[str, str]) -> None:
    """Drop the records of what is about to be replaced: this one's files, and the item index, which all batch sizes share.

    Records of other sizes made from the same split keep the same index; those from another split would not be true.
    """
    for other, record in read_records(where.final).items():
        if other == key or record.inputs.get("roles") != inputs["roles"]:
            drop_record(where.final, other)


def _encode(one: tuple[str, Block], formats: Sequence[str]) -> tuple[str, int, dict[tuple[str, str], bytes | memoryview]]:
    """A block's set, its steps, and the bytes of its arrays in every format."""
    name, block = one
    arrays = {array: getattr(block, array) for array in ARRAYS}
    steps, width = block.masks.shape
    forms = {form: FORMATS[form](width) for form in formats}
    return name, steps, {(array, form): forms[form].encode(arrays[array]) for array in ARRAYS for form in formats}


def _blocks(
    where: Dataset, parts: Parts, sets: Mapping[str, SetBatches], index: ItemCodes, advance: Callable[[int], None]
) -> Iterator[tuple[str, Block]]:
    """Blocks of all sets as the parts complete them."""

    def read(path: Path) -> tuple[int, dict[str, Sessions]]:
        parts.check(path)
        role = open_array(where.roles_of(path), dtype=np.uint8, shape=(None,))
        rows_of = {name: np.flatnonzero(role & ROLE_OF[name]) for name in sets}
        session, time, item = ({name: values[rows] for name, rows in rows_of.items()}
                               for values in (read_column(path, column) for column in (SESSION, TIME, ITEM)))  # fmt: skip
        return len(role), {name: whole_sessions(session[name], time[name], index.of(item[name])) for name in sets}

    for rows, found in ahead(read, parts.folders, threads=1):
        for name, sessions in found.items():
            for block in sets[name].add(sessions):
                yield name, block
        advance(rows)
    for name, one in sets.items():
        for block in one.blocks.finish():
            yield name, block


@dataclass(frozen=True)
class Sessions:
    """Whole sessions in ascending order: their items, one session after the other, and their lengths.

    unknown: clicks that were left out because of their item, or because that left their session with a single click.
    """

    items: Int32
    lengths: Int64
    unknown: int


@dataclass
class SetBatches:
    """One set on its way into blocks."""

    blocks: Blocks
    unknown: int = 0

    def add(self, sessions: Sessions) -> Iterator[Block]:
        """Take the set's sessions of one part."""
        self.unknown += sessions.unknown
        if len(sessions.lengths):
            yield from self.blocks.add(sessions.items, sessions.lengths)

    def counts(self) -> BatchCounts:
        """What was written."""
        blocks = self.blocks
        return BatchCounts(blocks.steps, blocks.transitions, blocks.dropped, blocks.padded, self.unknown)


def whole_sessions(session: Int64, time: Int64, codes: Int32) -> Sessions:
    """The sessions of some rows of one part in log order, without items that have no code."""
    rows = len(codes)
    if (codes == MISSING).any():
        known = np.flatnonzero(codes != MISSING)
        left = known[_has_company(session[known])]
        session, time, codes = session[left], time[left], codes[left]
    if not len(codes):
        return Sessions(codes, np.empty(0, np.int64), rows)
    return Sessions(*in_session_order(session, time, codes), rows - len(codes))


def _has_company(session: Int64) -> Bool:
    """For each row, whether its session has another."""
    _, codes, lengths = np.unique(session, return_inverse=True, return_counts=True)
    more: Bool = (lengths > 1)[codes]
    return more


def in_session_order(session: Int64, time: Int64, items: Int32) -> tuple[Int32, Int64]:
    """Items of whole sessions, ascending by session, then time, equal times as they came; and each session's length."""
    if (np.diff(session) < 0).any():
        order = np.lexsort((time, session))
        session, time, items = session[order], time[order], items[order]
    heads = np.flatnonzero(np.diff(session, prepend=session[0] - 1))
    lengths = np.diff(heads, append=len(session))
    return _in_time_order(time, items, heads, lengths), lengths


def _in_time_order(time: Int64, items: Int32, heads: Int64, lengths: Int64) -> Int32:
    """Sort each session by time. In a real log a few sessions are out of order, and only those are touched."""
    backwards = np.flatnonzero(np.diff(time) < 0) + 1
    sessions = np.searchsorted(heads, backwards, side="right") - 1
    sessions = np.unique(sessions[heads[sessions] != backwards])  # going back in time at a head is a new session
    if not len(sessions):
        return items
    mixed = np.zeros(len(heads), bool)
    mixed[sessions] = True
    rows = np.flatnonzero(np.repeat(mixed, lengths))
    owner = np.repeat(np.arange(len(sessions)), lengths[sessions])
    items = items.copy()
    items[rows] = items[rows[np.lexsort((time[rows], owner))]]
    return items


def _report(record: Record, *, reused: bool) -> BatchesReport:
    sets = {name: BatchCounts(**record.counts["sets"][name]) for name in SPLITS}
    return BatchesReport(record.settings["batch_size"], record.counts["items"], sets, reused)
