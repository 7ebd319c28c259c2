"""`pocketrec batches`: the sets of the split as session-parallel mini-batches, npy and txt, written block by block.

The sets come as sessions in order (`sequences`), made once for all batch sizes; here they are laid into lanes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path

from pocketrec.errors import DatasetError, SettingsError
from pocketrec.ingestion.parts import Parts
from pocketrec.parallel import ahead
from pocketrec.progress import SILENT, Advance, Progress
from pocketrec.sessions.options import BatchSettings
from pocketrec.sessions.sequences import Sets, read_sequences, sequences
from pocketrec.sessions.session_parallel import Arrays, Block, LaneState, lay
from pocketrec.sessions.vocabulary import training_items
from pocketrec.settings import options_for
from pocketrec.storage.files import parents_of
from pocketrec.storage.formats import FORMATS
from pocketrec.storage.item_index import write_items
from pocketrec.storage.layout import SPLITS, Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, Record, drop_claims, drop_record, read_manifest, read_records
from pocketrec.storage.repair import check_files, whole_record
from pocketrec.storage.space import OVERHEAD
from pocketrec.storage.stage import Stage
from pocketrec.storage.writer import Writer

ARRAYS = Arrays._fields
LANES_A_SESSION, MANY_LANES = 100, 10_000
"""With more lanes than both, `--tail pad` writes hardly anything but padding: a size that was mistyped, most likely."""


@dataclass(frozen=True)
class BatchCounts:
    """One set's batches.

    Attributes:
        steps: rows of its arrays.
        transitions: pairs of consecutive clicks in them.
        dropped: pairs that the tail left out.
        padded: it has fewer sessions than lanes, so the other lanes stayed empty, whatever `tail` is.
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
    settings: BatchSettings = BatchSettings(),
    *,
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> BatchesReport:
    """Write feats, targets and masks of train_tr, train_valid and test, and the item index, to DIR/final.

    All batch sizes share the item index, so batches of other sizes that were made from an earlier split are removed.

    Args:
        dataset: a folder that `split` has filled.
        settings: of the batches; every array is int32 of shape (steps, settings.batch_size).
        fresh: do it again even where nothing has changed.
        force: begin even where the disk seems too small for it.
        progress: told about rows read.

    Raises:
        BusyError, SpaceError, FolderError, DatasetError: see "The errors of a stage" in `storage.stage`.
        SettingsError: train_tr has fewer sessions than lanes, and `tail` is "drop"; or there are more than 100 lanes a
            session, and no `force`.
    """
    with hold(dataset, "batches"):
        return _batches(Dataset(Path(dataset)), settings, fresh, force, progress)


def _batches(where: Dataset, settings: BatchSettings, fresh: bool, force: bool, progress: Progress) -> BatchesReport:
    parts = Parts(where)
    roles = _roles(where, parts)
    inputs = {"clicks": parts.record.content, "roles": roles.content}
    recorded = {**asdict(settings), "formats": sorted(set(settings.formats))}
    argv = ("batches", *options_for(settings), "--fresh")
    stage = Stage(where.final, "batches", recorded, inputs, argv, key=f"batches_bs{settings.batch_size}")
    if not fresh and (found := stage.current()):
        return report_of(found, reused=True)
    sizes = roles.counts["sets"]
    sizes = {**sizes, "train_tr": sizes[settings.train_on]}
    check_sessions(settings, sizes["train_tr"]["sessions"], force=force)
    check_files(where.roles.parent, roles)
    index, support = training_items(where, settings.train_on)
    clicks, sessions = (sum(sizes[name][what] for name in SPLITS) for what in ("events", "sessions"))
    made_of = Sets(where, parts, roles, index, settings)
    needed = sequences_bytes(clicks, sessions, settings.session_order)
    with progress.task("sessions", parts.record.counts["rows"], "rows") as advance:
        in_order = sequences(made_of, argv, advance, needed=needed, fresh=fresh, force=force)
    files = product(SPLITS, ARRAYS, settings.formats)
    names = [where.batches(array, settings.batch_size, split=name, form=form).name for name, array, form in files]
    idle = sum(_idle_cells(where, settings, in_order, name) for name in SPLITS)
    needed = batches_bytes(clicks - sessions, len(index), settings.formats, idle)
    with stage.replacing(needed, force=force, names=(*names, where.items.name)) as draft:
        with progress.task("batches", clicks, "clicks") as advance:
            sets: dict[str, BatchCounts] = {}
            blocks = _blocks(where, settings, in_order.counts["unknown"], sets, advance)
            encoded = ahead(partial(_encode, formats=settings.formats), blocks, threads=3)
            draft.files = write_batches(where, encoded, settings, stage)
        write_items(where.items, parts.item_ids(index.ids), support)
        draft.files[where.items.name] = OutputFile.of(where.items, (len(index),))
        draft.counts = {"items": len(index), "sets": {name: asdict(one) for name, one in sets.items()}}
    return report_of(draft.record, reused=False)


def check_sessions(settings: BatchSettings, sessions: int, *, force: bool) -> None:
    """Raise a SettingsError if a set of so many sessions has too few for the lanes, or far too few, without `force`."""
    lanes = settings.batch_size
    if lanes > max(MANY_LANES, LANES_A_SESSION * sessions) and settings.tail == "pad" and not force:
        raise SettingsError(
            f"{settings.train_on} has {sessions:,} sessions, and --batch-size {lanes} asks for {lanes:,} lanes: nearly "
            "all of the files would be padding.",
            expected=f"at most {LANES_A_SESSION} lanes a session, or {MANY_LANES:,}",
            do="a smaller --batch-size; if it is meant, --force",
        )
    if sessions < lanes and settings.tail == "drop":
        raise SettingsError(
            f"{settings.train_on} has {sessions} sessions, fewer than the {lanes} lanes of --batch-size {lanes}.",
            expected="a session for every lane",
            do=f"--batch-size {sessions} or less, or --tail pad to leave lanes empty",
        )


def _idle_cells(where: Dataset, settings: BatchSettings, in_order: Record, name: str) -> int:
    """At most so many cells of a set's arrays have no transition: the longest session keeps all lanes going at the end."""
    sessions = in_order.files[f"{where.sequences.name}/{name}_lengths.npy"].shape[0]
    if settings.tail == "drop" and sessions >= settings.batch_size:
        return 0
    longest = max((int(lengths.max()) for _, lengths in read_sequences(where, name)), default=0)
    return settings.batch_size * max(0, longest - 1)


def _roles(where: Dataset, parts: Parts) -> Record:
    do = f"pocketrec split --dataset {where.root}"
    record = whole_record(where.roles.parent, "roles", DatasetError(f"{where.root} has no split.", do=do))
    if record.inputs["clicks"] != parts.record.content:
        raise DatasetError(f"the split in {where.root} was made from another log than the one ingested now.", do=do)
    return record


Encoded = tuple[str, int, Mapping[tuple[str, str], bytes | memoryview]]
"""Some steps of a set: its name, how many, and the bytes of each array in each format."""


def write_batches(
    where: Dataset, encoded: Iterable[Encoded], settings: BatchSettings, stage: Stage
) -> dict[str, OutputFile]:
    """Write all files of all sets; they get their names only when all are whole."""
    lanes = settings.batch_size
    formats: tuple[str, ...] = tuple(dict.fromkeys(settings.formats))
    with contextlib.ExitStack() as stack:
        stack.enter_context(parents_of(where.items))
        writers: dict[tuple[str, str, str], Writer] = {}
        for name, array, form in product(SPLITS, ARRAYS, formats):
            path = where.batches(array, lanes, split=name, form=form)
            writers[name, array, form] = stack.enter_context(Writer(path, FORMATS[form](lanes)))
        for name, steps, texts in encoded:
            for (array, form), text in texts.items():
                writers[name, array, form].write_bytes(text, steps)
        for _ in ahead(Writer.finish, writers.values()):
            pass
        _make_way(where, stage, [writer.path.name for writer in writers.values()])
        return {writer.path.name: writer.commit() for writer in writers.values()}


def _make_way(where: Dataset, stage: Stage, names: list[str]) -> None:
    """Claim the files that are about to be written, and remove batches of other sizes whose item index goes with them.

    Records of other sizes made from the same set keep the same index. In batches from another set the same codes would mean
    other items without a sign of it: their files are removed, also where an earlier run was stopped before it had a record.
    So are files of this size in a format that is not asked for any more: no record would name them.
    """
    roles, train_on = stage.inputs["roles"], stage.settings["train_on"]
    for other, record in read_records(where.final).items():
        same_items = record.inputs.get("roles") == roles and record.settings.get("train_on") == train_on
        if other != stage.record_key and not same_items:
            drop_record(where.final, other)
    stage.claim(*names, where.items.name)
    found = read_manifest(where.final)
    kept = {where.items.name, *names}.union(*(record.files for record in found.records.values()))
    for name in (name for names in found.claims.values() for name in names):
        if name not in kept:
            (where.final / name).unlink(missing_ok=True)
    drop_claims(where.final, [key for key in found.claims if key != stage.record_key])


def _encode(one: tuple[str, Block], formats: Sequence[str]) -> Encoded:
    """A block's set, its steps, and the bytes of its arrays in every format."""
    name, block = one
    arrays = zip(ARRAYS, block.arrays(), strict=True)
    forms = {form: FORMATS[form](block.lanes) for form in formats}
    return name, len(block.steps), {(of, form): forms[form].encode(array) for of, array in arrays for form in formats}


def _blocks(
    where: Dataset, settings: BatchSettings, unknown: Mapping[str, int], counts: dict[str, BatchCounts], advance: Advance
) -> Iterator[tuple[str, Block]]:
    """All blocks of one set after the other; each set's `counts` are there when it is through."""
    for name in SPLITS:
        state = LaneState.empty(settings.batch_size)
        parts = read_sequences(where, name)
        for block in lay(state, parts, resets=settings.resets, tail=settings.tail, advance=advance):
            yield name, block
        steps = state.stop(settings.tail)
        dropped = state.left(steps)
        counts[name] = BatchCounts(steps, int(state.free.sum()) - dropped, dropped, state.padded, unknown[name])


def report_of(record: Record, *, reused: bool) -> BatchesReport:
    """The report of batches that a record is of."""
    sets = {name: BatchCounts(**record.counts["sets"][name]) for name in SPLITS}
    return BatchesReport(record.settings["batch_size"], record.counts["items"], sets, reused)


def sequences_bytes(clicks: int, sessions: int, session_order: str = "id") -> int:
    """Bytes of the sets as sessions in order: 4 a click and 4 a session; twice that while the order of time is made."""
    return OVERHEAD + 4 * (clicks + sessions) * (1 if session_order == "id" else 2)


def batches_bytes(transitions: int, items: int, formats: Sequence[str], idle: int = 0) -> int:
    """Bytes of batches of so many pairs of clicks, a cell each, and of cells of lanes that have none."""
    numbers, mask = 2 * (len(str(items)) + 1), 2  # digits and the comma
    a_cell, an_idle_cell = {"npy": 3 * 4, "txt": numbers + mask}, {"npy": 3 * 4, "txt": len("0,-1,0,")}
    cells = sum(transitions * a_cell[form] + idle * an_idle_cell[form] for form in set(formats))
    return OVERHEAD + cells + 24 * items
