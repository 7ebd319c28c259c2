"""What is in a dataset folder, and what the next run would do again. It reads manifests and sizes of files, not data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pocketrec.storage.files import content_hash, leftovers
from pocketrec.storage.layout import OWN, Dataset, homes_in
from pocketrec.storage.manifest import Record, changed_one, logs_of, read_records, same_log

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
    homes = homes_in(dataset)
    left = tuple(path for home in homes for place in home.homes for path in leftovers(place, OWN))
    return InspectReport(homes[0].root, tuple(stage for home in homes for stage in stages_of(home)), left)


def stages_of(home: Dataset, *, logs: bool = True) -> Iterator[StageState]:
    """The stages of a dataset folder or of a side of it; without `logs` as if the log were still as it was read."""
    records = {key: (folder, record) for folder in home.homes for key, record in read_records(folder).items()}
    contents = {key: record.content for key, (_, record) in records.items()}
    now = {
        "clicks": contents.get("ingest", ""),
        "ratings": contents.get("ingest", ""),  # where this is a side of a dataset
        "roles": contents.get("roles", ""),
        "items": _hash(home.items),
        "split": contents.get("ncf_prep") or contents.get("dnn_prep", ""),
        "network": _hash(home.model / "neumf.safetensors") or _hash(home.model / "dnn.safetensors"),
    }
    for key, (folder, record) in records.items():
        state, why = _state(folder, record, now, logs=logs)
        if state != "current" and record.stage in ("ingest", "roles"):  # then what is made of it is out of date, too
            now["clicks" if record.stage == "ingest" else "roles"] = ""
        yield StageState(key, state, why, record.bytes, record.settings, record.counts)


def _hash(path: Path) -> str:
    return content_hash(path) if path.exists() else ""


def _state(folder: Path, record: Record, now: Mapping[str, str], *, logs: bool) -> tuple[State, str]:
    """The state of a stage run and the reason; `now` has the content of each possible input, "" for one that is gone."""
    if missing := record.missing(folder):
        return "damaged", f"{missing[0]} is missing or has another size"
    if record.stage == "ingest":  # a log that is gone was read once and is not needed any more
        paths = [Path(log) for log in logs_of(record)]
        stays = not logs or not all(path.exists() for path in paths) or same_log(paths, record)
        return ("current", "") if stays else ("out of date", f"{changed_one(paths)} has changed since")
    for name, content in record.inputs.items():
        if now.get(name, content) != content:  # what came along with the ratings is not looked for again
            made_by = {"clicks": "the ingested log", "roles": "the split", "items": "the item index"}.get(name, name)
            return "out of date", f"{made_by} has changed since"
    return "current", ""
