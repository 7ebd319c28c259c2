"""Files that are not what a stage wrote: how they are noticed, and which command makes them again.

A record has the size and the hash of each file, and the command that made it. That command always makes the files again: it
has `--fresh` or `--clean` where a file of the right size would look up to date.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from pocketrec.errors import DatasetError
from pocketrec.storage.layout import SIDES
from pocketrec.storage.manifest import Record, logs_of, read_records


def command_line(root: Path, *words: object) -> str:
    """A command on a dataset folder, as it is typed."""
    return shlex.join(["pocketrec", *map(str, words), "--dataset", str(root)])


def rebuild_command(home: Path, record: Record) -> str:
    """The command that writes the files of a record again, with the settings they were made with.

    `home` is the dataset folder, or the side of it (DIR/ncf, DIR/dnn), that the record's manifest is below.
    """
    side, _, stage = record.stage.rpartition("_")
    root = home.parent if (record.argv[:1] or (side,))[0] in SIDES else home
    if record.argv:
        return command_line(root, *record.argv)
    words = [*([side] if side else []), stage, *logs_of(record)]
    return f"{command_line(root, *words)} (with the settings that `{command_line(root, 'inspect')}` shows)"


def rebuild_command_of(path: Path) -> str:
    """The command that writes a file or a folder again, by the records above it; "" where no record names it."""
    for folder in path.parents[:3]:
        for record in read_records(folder).values():
            if any((folder / name).is_relative_to(path) for name in record.files):
                return rebuild_command(folder.parent, record)
    return ""


def unreadable(path: Path, why: object, *, expected: str, do: str = "") -> DatasetError:
    """The error for a file that is there and cannot be read; `do` is the advice where no record names the file."""
    return DatasetError(f"{path} cannot be read ({why}).", expected=expected, do=rebuild_command_of(path) or do)


def whole_record(folder: Path, key: str, nothing: DatasetError) -> Record:
    """The record of a finished stage in the manifest of `folder`; if there is none, `nothing` is raised.

    It looks at the sizes of its files, not into them: a DatasetError says if one is missing or has another.
    """
    record = read_records(folder).get(key)
    if record is None:
        raise nothing
    if gone := record.missing(folder):
        raise DatasetError(f"{gone[0]} is missing or cut.", do=rebuild_command(folder.parent, record))
    return record


def check_files(folder: Path, record: Record, names: Iterable[str] | None = None) -> None:
    """Read files of a record, all or `names`, before they are used; a DatasetError says which command makes one again."""
    for name in record.files if names is None else names:
        if fault := record.files[name].fault(folder / name):
            do = rebuild_command(folder.parent, record)
            raise DatasetError(f"{folder / name} {fault}.", expected=f"the file that this command wrote: {do}", do=do)
