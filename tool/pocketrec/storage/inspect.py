"""What is in a dataset folder, and what the next run would do again; what is in a model. It reads manifests, not data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pocketrec.errors import DatasetError
from pocketrec.storage.files import STAGED_SUFFIX, content_hash
from pocketrec.storage.layout import SIDES, Dataset
from pocketrec.storage.manifest import Record, read_records, same_log

State = Literal["current", "out of date", "damaged"]


@dataclass(frozen=True)
class StageState:
    """One finished stage run.

    Attributes:
        key: stage and, where there are several, batch size: ingest, roles, sequences, split, batches_bs512, export_bs512.
        state: current; out of date: what it was made from has changed; damaged: a file is missing or has another size.
        why: the reason for any state but current.
        bytes: size of its files.
        settings: what it was made with.
        counts: what it counted.
    """

    key: str
    state: State
    why: str
    bytes: int
    settings: Mapping[str, Any]
    counts: Mapping[str, Any]


@dataclass(frozen=True)
class InspectReport:
    """A dataset folder: its stages in the order they run, and what killed runs left behind."""

    dataset: Path
    stages: tuple[StageState, ...]
    leftovers: tuple[Path, ...]


def inspect(dataset: Path | str = "dataset") -> InspectReport:
    """Look at a dataset folder.

    Raises:
        DatasetError: the folder does not exist, or a manifest is damaged.
    """
    where = Dataset(Path(dataset))
    if not where.root.is_dir():
        raise DatasetError(
            f"{where.root} is not a folder.",
            expected="a dataset folder",
            do=f"pocketrec prep CLICKS --dataset {where.root}",
        )
    folders = dict.fromkeys(("ingest", "roles", "sequences"), where.clicks.parent) | {"split": where.rsc15}
    records = {key: (folder, read_records(folder)[key]) for key, folder in folders.items() if key in read_records(folder)}
    for folder in (where.final, where.model):
        records |= {key: (folder, record) for key, record in read_records(folder).items()}
    contents = {"clicks": _content(records, "ingest"), "roles": _content(records, "roles"), "items": _hash(where.items)}
    contents |= {"ratings": _content(records, "ingest")}  # where this is a side of a dataset
    contents |= {"split": _content(records, "ncf_prep") or _content(records, "dnn_prep")}
    contents |= {"network": _hash(where.model / "neumf.safetensors") or _hash(where.model / "dnn.safetensors")}
    stages: list[StageState] = []
    for key, (folder, record) in records.items():
        state, why = _state(folder, record, contents)
        if state != "current" and record.stage in ("ingest", "roles"):
            contents[{"ingest": "clicks", "roles": "roles"}[record.stage]] = ""
        size = sum(file.bytes for file in record.files.values())
        stages.append(StageState(key, state, why, size, record.settings, record.counts))
    for home in (where.root / name for name in SIDES):
        stages += inspect(home).stages if home.is_dir() else ()
    leftovers = tuple(sorted(where.root.rglob(f"*{STAGED_SUFFIX}")))
    return InspectReport(where.root, tuple(stages), leftovers)


def _content(records: Mapping[str, tuple[Path, Record]], key: str) -> str:
    return records[key][1].content if key in records else ""


def _hash(path: Path) -> str:
    return content_hash(path) if path.exists() else ""


def _state(folder: Path, record: Record, contents: Mapping[str, str]) -> tuple[State, str]:
    if missing := record.missing(folder):
        return "damaged", f"{missing[0]} is missing or has another size"
    if record.stage == "ingest":
        return _log_state(record)
    for name, content in record.inputs.items():
        if contents.get(name, content) != content:  # what came along with the ratings is not looked for again
            made_by = {"clicks": "the ingested log", "roles": "the split", "items": "the item index"}.get(name, name)
            return "out of date", f"{made_by} has changed since"
    return "current", ""


def _log_state(record: Record) -> tuple[State, str]:
    """Whether the log is still the one ingested. One that is gone was read once and is not needed any more."""
    log = Path(record.counts["log"])
    if not log.exists() or same_log(log, record):
        return "current", ""
    return "out of date", f"{log} has changed since"
