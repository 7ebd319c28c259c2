"""`pocketrec land`: what a cluster has prepared into a dataset folder of this machine, every file compared with its hash.

The folder is then as `prep` would have left it: `batches`, `train` and `evaluate` go on from there. Only the parts are
others, and so are the numbers of sessions that have codes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from pocketrec.errors import DatasetError
from pocketrec.ingestion.ids import ITEM_IDS
from pocketrec.ingestion.parts import Parts
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions import rsc15
from pocketrec.sessions.batches import Encoded, write_batches
from pocketrec.sessions.holdout import ROLE_OF
from pocketrec.sessions.options import BatchSettings
from pocketrec.sessions.sequences import SetFiles
from pocketrec.sessions.split import roles_bytes
from pocketrec.sessions.vocabulary import ITEMS_OF, training_items
from pocketrec.sources.lines import REJECTS_HEADER
from pocketrec.spark.session import open_session
from pocketrec.spark.split import parts_in, roles_of, rules_of
from pocketrec.spark.store import STAGE_OF, Store, part_of
from pocketrec.storage.files import commit, parents_of, remove_written
from pocketrec.storage.item_index import write_items
from pocketrec.storage.layout import SPLITS, Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OUTSIDE, OutputFile, Record, read_records
from pocketrec.storage.stage import Stage
from pocketrec.storage.writer import Writer

SCRATCH = "scan.incomplete"
"""A folder that a later run removes if this one is killed."""
_ORDER = ("of", "split", "place", "at")
"""Columns that the rows of a part are in the order of, where it has them."""


@dataclass(frozen=True)
class LandReport:
    """What was brought from a cluster.

    Attributes:
        dataset: the folder on this machine.
        uri: where it came from.
        stages: what was brought: "ingest", "roles", "sequences", "split" (the txt files), "batches_bs512".
        bytes: of the files that are there now.
        reused: whether all of it was there already.
    """

    dataset: Path
    uri: str
    stages: tuple[str, ...]
    bytes: int
    reused: bool


def land(
    uri: str, dataset: Path | str = "dataset", *, fresh: bool = False, force: bool = False, progress: Progress = SILENT
) -> LandReport:
    """Copy a dataset from a cluster.

    Args:
        uri: what `prep --engine spark --dataset` was given.
        dataset: a folder on this machine; made if need be.
        fresh: copy again what is there.
        force: begin even where the disk seems too small.
        progress: told about files.

    Raises:
        BusyError, SpaceError, FolderError: see "The errors of a stage" in `storage.stage`.
        DatasetError: there is no prepared log, or a file is not what its stage wrote.
        MissingExtraError, ClusterError: as of `prep_on_spark`.
    """
    store = Store(open_session(), uri)
    records = store.manifest().records
    missing = [name for name in ("ingest", "roles", "sequences") if name not in records]
    if missing:
        raise DatasetError(
            f"{uri} has no {' and no '.join(missing)}.",
            expected="a dataset that Spark has prepared to its end",
            do=f"pocketrec prep LOG --engine spark --dataset {uri}",
        )
    with hold(dataset, "land"):
        where = Dataset(Path(dataset))
        scratch = where.clicks.parent / SCRATCH
        try:
            with parents_of(scratch):
                scratch.mkdir()
            landing = _Landing(store, records, where, scratch, fresh, force, progress)
            ran = [landing.bring(key, records[key]) for key in sorted(records, key=_rank)]
        finally:
            remove_written(scratch)
    found = landing.records.values()
    return LandReport(Path(dataset), uri, tuple(records), sum(one.bytes for one in found), not any(ran))


def _rank(key: str) -> int:
    """Stages in the order in which each finds what it is made of."""
    return ["ingest", "roles", "sequences"].index(key) if key in ("ingest", "roles", "sequences") else 3


@dataclass
class _Landing:
    """One run of `land`; `records` are those of the stages that are on this machine now."""

    store: Store
    theirs: dict[str, Record]
    where: Dataset
    scratch: Path
    fresh: bool
    force: bool
    progress: Progress
    records: dict[str, Record] = field(default_factory=dict)

    def bring(self, key: str, theirs: Record) -> bool:
        """Bring what a stage made, unless it is there; whether it was not."""
        inputs = {name: self.records[STAGE_OF[name]].content for name in theirs.inputs if name in STAGE_OF} or theirs.inputs
        if key.startswith("batches"):
            inputs = {"clicks": self.records["ingest"].content, "roles": self.records["roles"].content}
        home = {"txt": self.where.rsc15}.get(
            key, self.where.final if key.startswith("batches") else self.where.clicks.parent
        )
        name = "split" if key == "txt" else key
        stage = Stage(home, theirs.stage, theirs.settings, inputs, ("land", self.store.root, "--fresh"), key=name)
        found = read_records(home).get(name)
        if found and not self.fresh and found.counts.get("landed") == theirs.content and not found.missing(home):
            self.records[key] = found
            return False
        bring = {"ingest": self._clicks, "roles": self._roles, "sequences": self._sequences, "txt": self._texts}
        self.records[key] = bring.get(key, self._batches)(theirs, stage)
        return True

    def _copied(self, names: Sequence[str], theirs: Record) -> Iterator[tuple[str, Path]]:
        """Files of a stage, one after the other, each as it was written; it is removed when the next one is asked for."""
        with self.progress.task("land", sum(theirs.files[name].bytes for name in names)) as advance:
            for name, path in self.store.copies(names, self.scratch):
                if fault := theirs.files[name].fault(path):
                    raise DatasetError(
                        f"{self.store.at(name)} {fault}.",
                        expected="the file that its stage wrote",
                        do=f"prepare it again: the command that made {self.store.root}, with --fresh",
                    )
                yield name, path
                path.unlink(missing_ok=True)
                advance(theirs.files[name].bytes)

    def _parts(self, theirs: Record) -> Iterator[tuple[int, pl.DataFrame]]:
        """The parts of a table in order: number and rows."""
        for name, path in self._copied(sorted(name for name in theirs.files if "/part=" in name), theirs):
            frame = pl.read_parquet(path, hive_partitioning=False, glob=False)
            yield part_of(name), frame.sort([column for column in _ORDER if column in frame.columns])

    def _clicks(self, theirs: Record, stage: Stage) -> Record:
        rejects = self.where.rejects.name
        with stage.replacing(theirs.bytes, force=self.force, into=self.where.clicks, names=(OUTSIDE, ITEM_IDS)) as draft:
            for name, path in self._copied(parts_in(theirs), theirs):
                home = draft.folder / f"part={part_of(name):05d}" / "clicks-000-000.parquet"
                home.parent.mkdir()
                path.rename(home)
                draft.files[str(home.relative_to(draft.folder))] = theirs.files[name]
            ids = [name for name in theirs.files if name.endswith(f"/{ITEM_IDS}")]
            for name, path in self._copied(ids, theirs):
                path.rename(draft.folder / ITEM_IDS)
                draft.beside[ITEM_IDS] = theirs.files[name]
            if theirs.counts["set_aside"]:
                with (draft.folder / rejects).open("wb") as file:
                    file.write(REJECTS_HEADER)
                    aside = replace(
                        theirs, files={name: one for name, one in theirs.files.items() if name.startswith("rejects-")}
                    )
                    for _, frame in self._parts(aside):
                        file.writelines(frame["rejects"].to_list())
                draft.beside[OUTSIDE] = OutputFile.of(draft.folder / rejects, (theirs.counts["set_aside"], 3))
            draft.counts = {**theirs.counts, "landed": theirs.content}
            stage.claim(OUTSIDE, ITEM_IDS)
            for path in (self.where.rejects, self.where.item_ids):
                if (draft.folder / path.name).exists():
                    commit(draft.folder / path.name, path)
                else:
                    path.unlink(missing_ok=True)
        return draft.record

    def _roles(self, theirs: Record, stage: Stage) -> Record:
        """The index, and the roles of the rows that are here, which follow from the rules."""
        rules, clicks = rules_of(self.store, theirs), Parts(self.where)
        needed = theirs.bytes + roles_bytes(self.records["ingest"].counts["rows"])
        ranges = dict[str, tuple[int, int, int]]()
        with (
            stage.replacing(needed, force=self.force, into=self.where.roles) as draft,
            self.progress.task("land", len(clicks.folders), "parts") as advance,
        ):
            for folder in clicks.folders:
                clicks.check(folder)
                [(path, _)] = clicks.files(folder)
                rows, roles = roles_of(pa.py_buffer(path.read_bytes()), rules)
                ranges[folder.name] = len(rows.row), int(rows.row[0]), int(rows.row[-1])
                np.save(draft.folder / f"{folder.name}.npy", roles, allow_pickle=False)
                advance(1)
            indices = [name for name in theirs.files if name.rsplit("/", 1)[-1] in ITEMS_OF.values()]
            for name, path in self._copied(indices, theirs):
                path.rename(draft.folder / name.rsplit("/", 1)[-1])
            draft.files = {path.name: OutputFile.of(path) for path in sorted(draft.folder.iterdir())}
            draft.counts = {**theirs.counts, "lines": ranges, "landed": theirs.content}
        return draft.record

    def _sequences(self, theirs: Record, stage: Stage) -> Record:
        with (
            stage.replacing(theirs.bytes, force=self.force, into=self.where.sequences) as draft,
            contextlib.ExitStack() as stack,
        ):
            writers = {name: SetFiles.opened(draft.folder, name, stack) for name in SPLITS}
            for _, frame in self._parts(theirs):
                for of, lengths, items in frame.select("of", "lengths", "items").iter_rows():
                    writers[of].write(np.frombuffer(items, "<i4"), np.frombuffer(lengths, "<i4"))
            draft.files = {path: file for writer in writers.values() for path, file in writer.commit().items()}
            draft.counts = {"unknown": theirs.counts["unknown"], "landed": theirs.content}
        return draft.record

    def _texts(self, theirs: Record, stage: Stage) -> Record:
        with stage.replacing(theirs.bytes, force=self.force) as draft, contextlib.ExitStack() as stack:
            writers = {name: stack.enter_context(Writer(self.where.split_txt(name))) for name in ROLE_OF}
            for writer in writers.values():
                writer.write_bytes(rsc15.HEADER, 0)
            for _, frame in self._parts(theirs):
                for of, text in frame.select("of", "text").iter_rows():
                    writers[of].write_bytes(text, text.count(b"\n"))
            for writer in writers.values():
                writer.finish()
            stage.claim(*(writer.path.name for writer in writers.values()))
            draft.files = {writer.path.name: writer.commit() for writer in writers.values()}
            draft.counts = {**theirs.counts, "landed": theirs.content}
        return draft.record

    def _batches(self, theirs: Record, stage: Stage) -> Record:
        settings = BatchSettings(**{**theirs.settings, "formats": tuple(theirs.settings["formats"])})
        index, support = training_items(self.where, settings.train_on)

        def encoded() -> Iterator[Encoded]:
            for _, frame in self._parts(theirs):
                for of, array, form, steps, content in frame.select("of", "array", "form", "steps", "content").iter_rows():
                    yield of, steps, {(array, form): content}

        with stage.replacing(theirs.bytes, force=self.force) as draft:
            draft.files = write_batches(self.where, encoded(), settings, stage)
            write_items(self.where.items, Parts(self.where).item_ids(index.ids), support)
            draft.files[self.where.items.name] = OutputFile.of(self.where.items, (len(index),))
            draft.counts = {"items": len(index), "sets": theirs.counts["sets"], "landed": theirs.content}
        return draft.record
