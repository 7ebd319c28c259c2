"""Files that are not what a stage wrote: how they are noticed, and which command makes them again.

A file's record says everything that is needed: its size and hash, the stage, and the settings to run it with. `--fresh` is
part of every command, because a file of the right size looks up to date.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pocketrec.errors import DatasetError
from pocketrec.storage.layout import SIDES, Side
from pocketrec.storage.manifest import Record, read_records

_FLAGS = {"storage": "weights"}
"""Settings whose options have another name."""


def rebuild_command(root: Path, record: Record) -> str:
    """The command that writes the files of a record again, with the settings they were made with.

    Args:
        root: the dataset folder.
        record: of any stage.
    """
    if side_of(record):
        return rebuild_of_side(root, record)
    words = ["pocketrec", {"roles": "split", "sequences": "batches"}.get(record.stage, record.stage)]
    if record.stage == "ingest":
        words.append(str(record.counts.get("log", "CLICKS")))
    words += ["--dataset", str(root)]
    for name, value in record.settings.items():
        if name != "n_items":  # a model's, from the item index
            words += [f"--{_FLAGS.get(name, name).replace('_', '-')}", _option(name, value)]
    if record.counts.get("from"):
        words += ["--from", record.counts["from"]]
    return shlex.join(words if record.stage == "export" else [*words, "--fresh"])


def _option(name: str, value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={one}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    return f"{number}s" if name == "holdout" else str(number)


def rebuild_command_of(path: Path) -> str:
    """The command that writes a file or a folder of them again, by the records above it; "" where none has it.

    Raises:
        DatasetError: a manifest on the way is damaged.
    """
    for folder in path.parents[:3]:
        for record in read_records(folder).values():
            if any((folder / name).is_relative_to(path) for name in record.files):
                return rebuild_command(folder.parent, record)
    return ""


def unreadable(path: Path, why: object, *, expected: str, do: str = "") -> DatasetError:
    """The error for a file that is there and cannot be read; `do` is said where no record knows better."""
    return DatasetError(f"{path} cannot be read ({why}).", expected=expected, do=rebuild_command_of(path) or do)


def check_files(folder: Path, record: Record, names: Iterable[str] | None = None) -> None:
    """Read files of a record and compare them with what was written: what is wrong in one spoils all that is made of it.

    Args:
        folder: that of the record's manifest.
        record: describes the files.
        names: which of its files; all if None.

    Raises:
        DatasetError: one is missing, cut or changed. Names the file and the command that makes it again.
    """
    for name in record.files if names is None else names:
        if fault := record.files[name].fault(folder / name):
            raise DatasetError(
                f"{folder / name} {fault}.",
                expected=f"the file that `pocketrec {record.stage}` wrote"
                if record.stage != "roles"
                else "what split wrote",
                do=rebuild_command(folder.parent, record),
            )


_OF_KIND = {"ratings": "ncf", "rated": "dnn"}
"""Kind of an ingest -> the side that it is for."""


_SAID_BY_THE_SPLIT = {"n_users", "n_items"}


def side_of(record: Record) -> str:
    """The side that a record is of: one of its own stages, or its ingest; "" for a record of clicks."""
    side, _, stage = record.stage.partition("_")
    return side if stage and side in SIDES else _OF_KIND.get(str(record.settings.get("kind")), "")


def rebuild_of_side(home: Path, record: Record) -> str:
    """The command that writes the files of a record again, with its settings.

    Args:
        home: DIR/ncf or DIR/dnn, the folder that the record's manifest is somewhere below.
        record: with a `side_of`.
    """
    side = side_of(record)
    stage = "prep" if record.stage == "ingest" else record.stage.removeprefix(f"{side}_")
    words = ["pocketrec", side, stage]
    if stage == "prep":
        words.append(str(record.counts.get("log", "RATINGS")))
    words += ["--dataset", str(home.parent)]
    if stage != "export":
        for name, value in record.settings.items():
            words += _side_option(name, value, stage)
    words += {"prep": ["--fresh"], "batches": ["--fresh"], "train": ["--clean"]}.get(stage, [])
    return shlex.join(words)


def _side_option(name: str, value: Any, stage: str) -> list[str]:
    if name in _SAID_BY_THE_SPLIT or (name == "kind" and stage != "train") or value is False or value in ("", []):
        return []
    flag = "--model" if name == "kind" else f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    if isinstance(value, Mapping):
        return [flag, ",".join(f"{'user' if one == 'session' else one}={own}" for one, own in value.items())]
    if isinstance(value, list | tuple):
        return [flag, ",".join(map(str, value))]
    return [flag, str(value)]


def prepared(place: Side, folder: Path) -> Record:
    """What prep of a side says it wrote into a folder of DIR/.../final.

    Raises:
        DatasetError: nothing is there, or a file is missing or cut.
    """
    record = read_records(place.final).get(f"{place.name}_prep")
    if record is None or (gone := record.missing(place.final)):
        what = f"{folder} has no split ratings" if record is None else f"{gone[0]} is missing or cut"
        raise DatasetError(f"{what}.", do=f"pocketrec {place.name} prep RATINGS --dataset {place.root}")
    return record
