"""A stage: the steps that every command takes which writes into a dataset folder.

    with hold(dataset, "split"):                                   # nobody else is at work there
        stage = Stage(folder, "split", settings, inputs, argv)     # what it is made from, by which command
        if found := stage.current(): return ...                    # the same files are there: nothing to do
        with stage.replacing(needed, into=folder / "roles") as draft:
            ... write into draft.folder; set draft.files and draft.counts
        return ... draft.record

Between the first and the last file that gets its final name the folder has no record of the stage, so a record that is
there is true, whenever the process is stopped.

**The errors of a stage**, which every command that runs one can raise:
BusyError: another process, or another thread, is at work in the dataset folder (`lock.hold`).
SpaceError: the disk is too small, or became full; what was there before is as it was.
FolderError: the dataset folder, or a file in it, cannot be written.
DatasetError: the stage before has not run, or a file of it is missing, damaged or of another run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketrec.storage.files import staged_folder
from pocketrec.storage.layout import SIDES
from pocketrec.storage.manifest import OutputFile, Record, check_strangers, claim, json_values, read_records, write_record
from pocketrec.storage.space import room


@dataclass(frozen=True)
class Stage:
    """One run of a stage. Settings, inputs and argv are those of its `Record`.

    Attributes:
        folder: where its manifest is; the names of its files are relative to it.
        name: of the stage, as its record has it: "batches", "ncf_prep".
        key: of its record, where there can be several of one stage in a folder: "batches_bs512".
    """

    folder: Path
    name: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    argv: Sequence[str]
    key: str = ""

    @property
    def record_key(self) -> str:
        """The key of its record in the manifest."""
        return self.key or self.name

    @property
    def command(self) -> str:
        """The command for messages: "batches", "ncf prep"."""
        return " ".join(self.argv[: 2 if self.argv[0] in SIDES else 1])

    def current(self, *, intact: bool = False) -> Record | None:
        """The record, if a run would write what is already there; `intact`, for few files, reads and compares them."""
        found = read_records(self.folder).get(self.record_key)
        if found is None or not found.is_current(self.folder, json_values(self.settings), self.inputs):
            return None
        changed = intact and any(file.fault(self.folder / name) for name, file in found.files.items())
        return None if changed else found

    def claim(self, *names: str, new: Iterable[str] = ()) -> None:
        """Drop the record, since files of these names, relative to the folder, are about to be written.

        A FolderError says if something of another origin has such a name; `new` ones were looked at when the stage began.
        """
        claim(self.folder, self.record_key, names, new)

    @contextlib.contextmanager
    def replacing(
        self, needed: int = 0, *, force: bool | None = None, into: Path | None = None, names: Iterable[str] = ()
    ) -> Iterator[Draft]:
        """Write the files in the `with` block; then the record is written.

        Args:
            needed: about how many bytes will be written; 0 where nobody knows.
            force: begin even where less is free; None where the command has no such option.
            into: a folder that the block fills under a staged name, `Draft.folder`; it takes the place of the earlier one
                when the block is done. Without it the block gives its files their names itself, after `claim`.
            names: of files that the block writes elsewhere than in that folder, relative to the stage's.

        Raises:
            FolderError: besides, where something is in the way that pocketrec did not make; before anything is begun.
        """
        draft = Draft()
        inside = into.rglob("*") if into else ()
        there = (str(path.relative_to(self.folder)) for path in inside if path.is_symlink() or not path.is_dir())
        check_strangers(self.folder, (*names, *there))
        with room(into or self.folder, self.command, needed, force=force):
            if into is None:
                yield draft
            else:
                with staged_folder(into) as draft.folder:
                    yield draft
                    draft.files = {f"{into.relative_to(self.folder)}/{name}": file for name, file in draft.files.items()}
                    claim(self.folder, self.record_key, draft.beside, new=draft.files)
            files, counts = {**draft.files, **draft.beside}, json_values(draft.counts)
            draft.record = Record(
                self.name, json_values(self.settings), draft.inputs or self.inputs, files, counts, tuple(self.argv)
            )
            write_record(self.folder, self.record_key, draft.record)


@dataclass
class Draft:
    """What a stage has written so far.

    Attributes:
        folder: the staged folder, where `Stage.replacing` was given one.
        files: what was written, by name: relative to that folder, or without one to the stage's.
        beside: files written elsewhere, by their name relative to the stage's folder.
        counts: whatever was counted.
        inputs: in place of the stage's, where their contents are known only when they have been read.
        record: the record, once it is written.
    """

    folder: Path = field(default_factory=Path)
    files: dict[str, OutputFile] = field(default_factory=dict)
    beside: dict[str, OutputFile] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    record: Record = field(default_factory=lambda: Record("", {}, {}, {}))
