"""What a stage wrote, from what, with which settings: one manifest.json a folder, one record a stage run.

A record is written after the files it describes and removed before they are replaced, so a record that is there is true.
The manifest has a hash of its own records, so that a changed number in it is damage and not a fact.
A stage is up to date when its record names the same settings and the same inputs; inputs are named by content, so the
chain from the log to the model can be followed by comparing strings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import xxhash

from pocketrec.errors import DatasetError, FolderError
from pocketrec.storage.files import content_hash, write_text
from pocketrec.version import __version__

MANIFEST = "manifest.json"
FORMAT = 1
"""The only format that is read. It is raised when a record can no longer be trusted to mean the same."""


@dataclass(frozen=True)
class OutputFile:
    """One file a stage wrote: its size in bytes, XXH3-128 of its bytes, and its shape as (rows, ...)."""

    bytes: int
    xxh3: str
    shape: tuple[int, ...] = ()
    dtype: str = ""

    @classmethod
    def of(cls, path: Path, shape: tuple[int, ...] = (), dtype: str = "") -> OutputFile:
        """Describe a file by reading it once."""
        return cls(path.stat().st_size, content_hash(path), shape, dtype)

    def fault(self, path: Path, advance: Callable[[int], None] | None = None) -> str:
        """What is wrong with the file at `path`, which should be this one; "" if nothing is. Reads it if the size fits."""
        try:
            if not path.is_file():
                return "is missing"
            if (size := path.stat().st_size) != self.bytes:
                return f"has {size:,} bytes, not {self.bytes:,}"
            return "" if content_hash(path, advance) == self.xxh3 else "has changed: its XXH3-128 is another"
        except OSError as error:
            return f"cannot be read ({error.strerror})"


@dataclass(frozen=True)
class Record:
    """One finished run of a stage.

    Attributes:
        stage: the stage's name, e.g. "split".
        settings: every choice that changes the bytes written.
        inputs: name of each input -> its content (a file's hash, or the `content` of another record).
        files: path relative to the manifest's folder -> what was written there.
        counts: whatever the stage counted: rows, sessions, steps.
        argv: the words behind `pocketrec` that make the same files again, but for `--dataset`, since a folder may be moved;
            none in a record that pocketrec 0.1 wrote.
    """

    stage: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, OutputFile]
    counts: Mapping[str, Any] = field(default_factory=dict)
    argv: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """XXH3-128 over the hashes of the files written: equal for equal output, whatever made it."""
        return json_digest({name: file.xxh3 for name, file in self.files.items()})

    @property
    def bytes(self) -> int:
        """Size of the files written."""
        return sum(file.bytes for file in self.files.values())

    def is_current(self, folder: Path, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
        """Whether a run with these settings and inputs would write what is already there."""
        return dict(self.settings) == dict(settings) and dict(self.inputs) == dict(inputs) and not self.missing(folder)

    def missing(self, folder: Path) -> list[Path]:
        """The files of this record that are gone or have another size (a cheap check; it reads no contents)."""
        paths = ((folder / name, file.bytes) for name, file in self.files.items())
        return [path for path, size in paths if not path.is_file() or path.stat().st_size != size]


def same_log(log: Path, ingested: Record) -> bool:
    """Whether a log is the one that an ingest record was made from: never for standard input, which cannot be read twice.

    The log is read only if its time of change is another.
    """
    if not log.is_file():
        return False
    stat = log.stat()
    if stat.st_size != ingested.counts["log_bytes"]:
        return False
    return stat.st_mtime_ns == ingested.counts["log_mtime_ns"] or content_hash(log) == ingested.inputs["log"]


def versions(*packages: str) -> dict[str, str]:
    """The versions of some packages and of pocketrec, which a stage's bytes depend on; "" for one not installed."""
    return {"pocketrec": __version__, **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as a record has them once it was written and read: JSON has no tuples."""
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def json_digest(value: Any) -> str:
    """XXH3-128 of a value as JSON."""
    return xxhash.xxh3_128(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_records(folder: Path) -> dict[str, Record]:
    """All records of a folder by key, in the order of the keys; empty when nothing was finished there.

    Raises:
        DatasetError: the manifest is damaged, or of another format.
        FolderError: it is a folder, or cannot be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise _other_format(path, document["format"])
        if document.get("xxh3", digest := json_digest(document["records"])) != digest:  # an older pocketrec wrote none
            raise ValueError("its XXH3-128 is another")
        return {key: _record(entry) for key, entry in document["records"].items()}
    except OSError as error:
        raise FolderError(
            f"{path} cannot be read ({error.strerror}).",
            expected="the file that pocketrec wrote there",
            do="move it away; the stage that wrote it will run again",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"{path} is damaged ({error.__class__.__name__}: {error}).",
            expected="the JSON that pocketrec wrote there",
            do="remove the file; the stage that wrote it will run again",
        ) from error


def _other_format(path: Path, found: object) -> DatasetError:
    newer = isinstance(found, int) and found > FORMAT
    cure = "install a newer pocketrec" if newer else "use the pocketrec that wrote it"
    return DatasetError(
        f"{path} is of format {found!r}, which {'a newer' if newer else 'another'} pocketrec wrote. Nothing was touched.",
        expected=f"format {FORMAT}, the one that pocketrec {__version__} reads and writes",
        do=f"{cure}, or name another folder with --dataset",
    )


def current_record(folder: Path, key: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> Record | None:
    """The record of that key, if a run with these settings and inputs would write what is already there."""
    found = read_records(folder).get(key)
    return found if found and found.is_current(folder, settings, inputs) else None


def intact_record(folder: Path, key: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> Record | None:
    """The same, if besides the contents of all files are what was written: for few files, since it reads them."""
    found = current_record(folder, key, settings, inputs)
    return None if found and any(file.fault(folder / name) for name, file in found.files.items()) else found


def _record(entry: dict[str, Any]) -> Record:
    files = {
        name: OutputFile(file["bytes"], file["xxh3"], tuple(file["shape"]), file["dtype"])
        for name, file in entry["files"].items()
    }
    argv = tuple(map(str, entry.get("argv", ())))
    return Record(entry["stage"], entry["settings"], entry["inputs"], files, entry["counts"], argv)


def write_record(folder: Path, key: str, record: Record) -> None:
    """Add or replace one record. Call it last, when every file of the record has its final name."""
    records = read_records(folder)
    records[key] = record
    _write(folder, records)


def drop_record(folder: Path, key: str) -> None:
    """Forget a record before its files are replaced."""
    records = read_records(folder)
    if records.pop(key, None) is not None:
        _write(folder, records)


def _write(folder: Path, records: dict[str, Record]) -> None:
    described = {key: asdict(records[key]) for key in sorted(records)}
    document = {"format": FORMAT, "records": described, "xxh3": json_digest(described)}
    write_text(folder / MANIFEST, json.dumps(document, indent=1, sort_keys=True) + "\n")
