"""Which command of `pocketrec ncf` writes the files of a record again, for messages about files that are damaged."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketrec.manifest import Record

_SAID_BY_THE_SPLIT = {"n_users", "n_items"}


def is_ncf(record: Record) -> bool:
    """Whether a record is of a stage of NCF: its own, or an ingest of ratings."""
    return record.stage.startswith("ncf_") or record.settings.get("kind") == "ratings"


def rebuild_ncf(home: Path, record: Record) -> str:
    """The command, with the settings of the record.

    Args:
        home: DIR/ncf, the folder that the record's manifest is somewhere below.
        record: `is_ncf`.
    """
    stage = "prep" if record.stage == "ingest" else record.stage.removeprefix("ncf_")
    words = ["pocketrec", "ncf", stage]
    if stage == "prep":
        words.append(str(record.counts.get("log", "RATINGS")))
    words += ["--dataset", str(home.parent)]
    if stage != "export":
        for name, value in record.settings.items():
            words += _option(name, value, stage)
    words += {"prep": ["--fresh"], "batches": ["--fresh"], "train": ["--clean"]}.get(stage, [])
    return shlex.join(words)


def _option(name: str, value: Any, stage: str) -> list[str]:
    if name in _SAID_BY_THE_SPLIT or (name == "kind" and stage != "train") or value in ("", [], False):
        return []
    flag = "--model" if name == "kind" else f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    if isinstance(value, Mapping):
        return [flag, ",".join(f"{'user' if one == 'session' else one}={own}" for one, own in value.items())]
    if isinstance(value, list | tuple):
        return [flag, ",".join(map(str, value))]
    return [flag, str(value)]
