"""The sides of a dataset folder beside the clicks: DIR/ncf and DIR/dnn, each with stages, a model and commands of its own.

What they say of themselves is the same: what prep wrote, and which command writes the files of a record again.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketrec.errors import DatasetError
from pocketrec.layout import SIDES, Side
from pocketrec.manifest import Record, read_records

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
            words += _option(name, value, stage)
    words += {"prep": ["--fresh"], "batches": ["--fresh"], "train": ["--clean"]}.get(stage, [])
    return shlex.join(words)


def _option(name: str, value: Any, stage: str) -> list[str]:
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
