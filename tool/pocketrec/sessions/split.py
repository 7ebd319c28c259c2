"""`pocketrec split`: runs the passes of `holdout` over the parts, then has `rsc15` write the txt files.

It leaves, besides the four txt files, DIR/parquet/roles: for each part one byte a row that says which sets the row is in,
and the vocabulary of train_tr with its support. Batches are made from that; nobody reads the text.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pocketrec.durations import round_duration
from pocketrec.errors import SettingsError
from pocketrec.ingestion.parts import Parts, read_column, read_lines
from pocketrec.parallel import ahead
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import MS, SESSION
from pocketrec.sessions import holdout
from pocketrec.sessions.holdout import ROLE_OF, Tally
from pocketrec.sessions.options import SplitSettings
from pocketrec.sessions.rsc15 import Part, write_sets
from pocketrec.sessions.vocabulary import ITEMS_OF
from pocketrec.settings import options_for
from pocketrec.storage.files import parents_of
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, Record, check_strangers
from pocketrec.storage.repair import check_files
from pocketrec.storage.space import OVERHEAD, room
from pocketrec.storage.stage import Draft, Stage
from pocketrec.storage.writer import Writer

TITLES = {"train_full": "Full train set", "test": "Test set", "train_tr": "Train set", "train_valid": "Validation set"}

ROLES_PER_ROW = 7
"""Bytes; measured 6: one of roles, and 5 of temporary files that are removed before the txt files are written."""


@dataclass(frozen=True)
class SetSize:
    """Size of one set."""

    events: int
    sessions: int
    items: int


@dataclass(frozen=True)
class SplitReport:
    """Sizes of the four sets by name, and whether they were there already."""

    sets: Mapping[str, SetSize]
    reused: bool

    def block(self) -> str:
        """The counts as text, character for character as the original prints them, for people to compare."""
        lines = []
        for name, title in TITLES.items():
            size = self.sets[name]
            lines += [title, f"\tEvents: {size.events}", f"\tSessions: {size.sessions}", f"\tItems: {size.items}"]
        return "\n".join(lines)


def split(
    dataset: Path | str = "dataset",
    settings: SplitSettings = SplitSettings(),
    *,
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> SplitReport:
    """Filter the ingested log, hold out its last sessions twice, and write the four rsc15 txt files.

    Args:
        dataset: a folder that `ingest` has filled.
        settings: of the protocol; the hold-out is in seconds.
        fresh: do it again even where nothing has changed.
        force: begin even where the disk seems too small for it.
        progress: told about rows written.

    Raises:
        BusyError, SpaceError, FolderError, DatasetError: see "The errors of a stage" in `storage.stage`.
        SettingsError: no session is left to train on; nothing is written then.
    """
    with hold(dataset, "split"):
        return _split(Dataset(Path(dataset)), settings, fresh, force, progress)


def _split(where: Dataset, rules: SplitSettings, fresh: bool, force: bool, progress: Progress) -> SplitReport:
    parts = Parts(where)
    clicks, argv = {"clicks": parts.record.content}, ("split", *options_for(rules), "--fresh")
    making_roles = Stage(where.roles.parent, "roles", asdict(rules), clicks, argv)
    roles = None if fresh else making_roles.current()
    if roles and (found := _texts(where, rules, clicks, roles, argv).current()):
        return _report(found, reused=True)
    counts = parts.record.counts
    check_strangers(where.rsc15, [where.split_txt(name).name for name in ROLE_OF])
    needed = txt_bytes(counts["text_bytes"], counts["rows"]) + (0 if roles else roles_bytes(counts["rows"]))
    with room(where.rsc15, "split", needed, force=force), _txt_files(where) as writers:
        if roles:
            check_files(where.roles.parent, roles)
            for path in parts.folders:  # where roles are made, the parts are checked on the way
                parts.check(path)
            _write_txt(parts, where.roles, roles.counts["lines"], writers, progress)
        else:
            # Roles and text replace the earlier ones together: only when all of both is on the disk.
            with making_roles.replacing(into=where.roles, force=True) as draft:
                _fill_roles(parts, rules, draft)
                _write_txt(parts, draft.folder, draft.counts["lines"], writers, progress)
            roles = draft.record
        stage = _texts(where, rules, clicks, roles, argv)
        with stage.replacing(force=True) as draft:
            stage.claim(*(writer.path.name for writer in writers.values()))
            draft.files = {writer.path.name: writer.commit() for writer in writers.values()}
            draft.counts = dict(roles.counts["sets"])
    return _report(draft.record, reused=False)


def _texts(where: Dataset, rules: SplitSettings, clicks: Mapping[str, str], roles: Record, argv: Sequence[str]) -> Stage:
    return Stage(where.rsc15, "split", asdict(rules), {**clicks, "roles": roles.content}, argv)


def _fill_roles(parts: Parts, rules: SplitSettings, draft: Draft) -> None:
    """The three passes. Counted are the sizes of the sets, what each filter left, and for each part its rows and lines."""
    items = holdout.count(parts, rules).at_least(rules.min_item_support)
    scratch = draft.folder / "scratch"
    scratch.mkdir()
    found = holdout.survey(parts, rules, items, scratch)
    cut = holdout.cuts(parts, rules, found)

    def assign(path: Path) -> tuple[Tally, str, list[int]]:
        name = path.name
        codes, _ = holdout.session_codes(read_column(path, SESSION))
        kept, ends = (np.load(scratch / f"{what}_{name}.npy", allow_pickle=False) for what in ("kept", "ends"))
        members = holdout.assign(kept, ends, codes, found.first_end, cut, rules)
        np.save(draft.folder / f"{name}.npy", holdout.roles(members))
        row = read_lines(path, len(kept))
        tally = holdout.tally(members, kept, codes, len(ends), row, len(items))
        return tally, name, [len(row), int(row[0]), int(row[-1])]

    total = Tally.empty(len(items))
    ranges: dict[str, list[int]] = {}
    for tally, name, lines in ahead(assign, parts.folders, threads=3):
        total.add(tally)
        ranges[name] = lines
    shutil.rmtree(scratch)
    check_sizes(total.sets["train_tr"].sessions, int(found.left[-1]), parts.record.counts, rules)
    for name, trained in total.trained.items():
        index = trained.index()
        frame = pl.DataFrame({"item_id": items.ids[index], "support": trained.support[index]})
        frame.write_parquet(draft.folder / ITEMS_OF[name])
    draft.files = {path.name: OutputFile.of(path) for path in sorted(draft.folder.iterdir())}
    sets = {name: asdict(SetSize(size.events, size.sessions, size.items)) for name, size in total.sets.items()}
    left = dict(zip(("rows", "long_sessions", "frequent_items", "left"), found.left.tolist(), strict=True))
    draft.counts = {"sets": sets, "lines": ranges, "filters": left}


def check_sizes(sessions: int, left: int, counts: Mapping[str, Any], rules: SplitSettings) -> None:
    """Raise a SettingsError if train_tr has no sessions; `left` rows passed the filters, `counts` are the ingest's."""
    if sessions:
        return
    if not left:
        raise SettingsError(
            "no click passes the support filters, so there is nothing to train on.",
            expected=f"sessions of {rules.min_session_length} clicks on items of {rules.min_item_support} clicks",
            do="lower --min-item-support",
        )
    span = (counts["last_ms"] - counts["first_ms"]) / MS
    raise SettingsError(
        f"a hold-out of {rules.holdout:g} s leaves no training session: the log spans {span / 3600:.1f} hours, and it "
        "is taken off its end twice, for test and for validation.",
        expected="a hold-out well below half of the log's span",
        do=f"a shorter one, such as --holdout {round_duration(span / 8)}",
    )


@contextlib.contextmanager
def _txt_files(where: Dataset) -> Iterator[dict[str, Writer]]:
    """A writer for each set; what is not committed is removed."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(parents_of(where.split_txt("test")))
        yield {name: stack.enter_context(Writer(where.split_txt(name))) for name in ROLE_OF}


def _write_txt(
    parts: Parts, folder: Path, lines: Mapping[str, tuple[int, int, int]], writers: dict[str, Writer], progress: Progress
) -> None:
    """Write all four files and flush them; the caller gives them their names.

    `folder` has the roles of each part, part=NNNN.npy; `lines` for each part its rows, its first and its last line.
    """
    ids = tuple(parts.text_ids)
    with_roles = [Part(parts.files(path), folder / f"{path.name}.npy", *lines[path.name], ids) for path in parts.folders]
    with progress.task("split", sum(part.rows for part in with_roles), "rows") as advance:
        for rows in write_sets(with_roles, writers):
            advance(rows)
    for writer in writers.values():
        writer.finish()


def _report(record: Record, *, reused: bool) -> SplitReport:
    return SplitReport({name: SetSize(**record.counts[name]) for name in ROLE_OF}, reused)


def roles_bytes(rows: int) -> int:
    """Bytes that the roles of so many rows take while they are made."""
    return OVERHEAD + ROLES_PER_ROW * rows


def txt_bytes(log_bytes: int, rows: int) -> int:
    """Bytes of the four txt files of a log.

    A row is in train_full and in train_tr or train_valid, or in test: in two files at the most. A line there is at least
    10 bytes shorter than in the log: 14 digits of time for 24, no category. (2.3 GB for the log measured, which took 2.08.)
    """
    return OVERHEAD + 2 * max(0, log_bytes - 10 * rows)
