"""What a stage wrote, from what, with which settings: one manifest.json a folder, one record a stage run.

A record is written after the files it describes and removed before they are replaced, so a record that is there is true.
What is neither in a record nor claimed was not made by pocketrec, and is never replaced.
The manifest has a hash of its own records, so that a changed number in it is damage and not a fact.
A stage is up to date when its record names the same settings and the same inputs; inputs are named by content, so the
chain from the log to the model can be followed by comparing strings.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from pocketrec.errors import DatasetError, FolderError
from pocketrec.storage.files import content_hash, size_of, write_text
from pocketrec.version import __version__

MANIFEST = "manifest.json"
OUTSIDE = "../rejects.csv"
"""The one file that is described in a folder and lies beside it."""
MOST_BYTES = 1 << 26
"""Of a manifest. A log in 4,096 parts has one of about 2 MB."""
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
            if (size := size_of(path)) is None:
                return "is missing, or not a file"
            if size != self.bytes:
                return f"has {size:,} bytes, not {self.bytes:,}"
            return "" if content_hash(path, advance) == self.xxh3 else "has changed: its XXH3-128 is another"
        except OSError as error:
            return f"cannot be read ({error.strerror})"


def described(content: bytes, shape: tuple[int, ...] = ()) -> OutputFile:
    """A file by what will be written to it."""
    return OutputFile(len(content), xxhash.xxh3_128(content).hexdigest(), shape)


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
        return [folder / name for name, file in self.files.items() if size_of(folder / name) != file.bytes]


SAMPLES, SAMPLE_BYTES = 256, 1 << 14


def fingerprint(logs: Sequence[Path]) -> dict[str, Any]:
    """What tells a log of one or several files from another at little cost: paths, size, times of change, and samples.

    The samples are `SAMPLES` pieces from all over large files (4 MB), and the whole of what is not larger.
    """
    digest, states = xxhash.xxh3_128(), [log.stat() for log in logs]
    each = max(1, SAMPLES // len(logs))
    for log, state in zip(logs, states, strict=True):
        number = each if state.st_size > each * SAMPLE_BYTES else 1
        length = SAMPLE_BYTES if number > 1 else each * SAMPLE_BYTES
        with log.open("rb") as file:
            for place in range(number):
                file.seek((state.st_size - length) * place // (number - 1) if number > 1 else 0)
                digest.update(file.read(length))
    paths, times = [os.path.realpath(log) for log in logs], [state.st_mtime_ns for state in states]
    one = len(logs) == 1
    return {
        "log_path": paths[0] if one else paths,
        "log_bytes": sum(state.st_size for state in states),
        "log_mtime_ns": times[0] if one else times,
        "log_samples": digest.hexdigest(),
    }


def same_log(logs: Sequence[Path], ingested: Record) -> bool:
    """Whether a log is the one that an ingest record was made from: never for standard input, which cannot be read twice.

    The log is read whole only where its path, its time of change or a sample is another.
    """
    if not all(log.is_file() for log in logs):
        return False
    if sum(log.stat().st_size for log in logs) != ingested.counts["log_bytes"]:
        return False
    if all(ingested.counts.get(name) == value for name, value in fingerprint(logs).items()):
        return True
    return hash_of_log(logs) == ingested.inputs["log"]


def logs_of(ingested: Record) -> list[str]:
    """The files that an ingest read, as they were named; none where the record is not of an ingest."""
    found = ingested.counts.get("log", [])
    return [found] if isinstance(found, str) else list(found)


def changed_one(logs: Sequence[Path]) -> str:
    """What to call the file of a log that has changed: which of several it is, is not recorded."""
    return str(logs[0]) if len(logs) == 1 else f"one of the {len(logs):,} files of the log"


def hash_of_log(logs: Sequence[Path]) -> str:
    """The hash of a log's bytes; of several files, that of their hashes in their order."""
    hashes = [content_hash(log) for log in logs]
    return hashes[0] if len(hashes) == 1 else xxhash.xxh3_128(" ".join(hashes).encode()).hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """The versions of some packages and of pocketrec, which a stage's bytes depend on; "" for one not installed."""
    found = {"pocketrec": __version__, **dict.fromkeys(packages, "")}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as a record has them once it was written and read: JSON has no tuples."""
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def json_digest(value: Any) -> str:
    """XXH3-128 of a value as JSON."""
    return xxhash.xxh3_128(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes:
        records: of finished stage runs by key, in the order of the keys.
        claims: names of files that have no record, by a key: that of the record that a run was about to write when it was
            stopped, or is writing now; or another one for files that never get a record (`claim_for_good`).
    """

    records: dict[str, Record] = field(default_factory=dict)
    claims: dict[str, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """Of all files that pocketrec made, or may have made."""
        return {name for record in self.records.values() for name in record.files}.union(*self.claims.values())


def read_records(folder: Path) -> dict[str, Record]:
    """The records of a folder by key; for the errors see `read_manifest`."""
    return read_manifest(folder).records


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; empty when nothing was finished there.

    It raises a DatasetError if it is damaged or of another format, a FolderError if it is no file or cannot be read.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return Manifest()
    try:
        size = size_of(path)
        if size is None:
            raise OSError(None, os.strerror(errno.EISDIR) if path.is_dir() else "it is a link or a pipe")
        if size > MOST_BYTES:
            raise OSError(None, f"it has {size:,} bytes")
        return manifest_in(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise FolderError(
            f"{path} cannot be read ({error.strerror}).",
            expected="the file that pocketrec wrote there",
            do="move it away; the stage that wrote it will run again",
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(str(path), error) from error


def manifest_in(text: str, name: str) -> Manifest:
    """The manifest that a text holds; `name` is what to call the file in messages. A DatasetError if it is none."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise _other_format(name, document["format"])
        if document.get("xxh3", digest := json_digest(document["records"])) != digest:  # an older pocketrec wrote none
            raise ValueError("its XXH3-128 is another")
        records = {key: _record(entry) for key, entry in document["records"].items()}
        claims = {key: list(map(_safe, names)) for key, names in document.get("claims", {}).items()}
        return Manifest(records, claims)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"{name} is damaged ({error.__class__.__name__}: {error}).",
        expected="the JSON that pocketrec wrote there",
        do="move the file away; the stage that wrote it will run again",
    )


def _safe(name: str) -> str:
    """The name, or a ValueError if it leads out of the manifest's folder; the lines set aside alone lie beside that."""
    path = PurePosixPath(name)
    if name != OUTSIDE and (path.is_absolute() or ".." in path.parts or not path.parts):
        raise ValueError(f"it names {name!r}, which leads out of the folder")
    return name


def _other_format(path: str, found: object) -> DatasetError:
    newer = isinstance(found, int) and found > FORMAT
    cure = "install a newer pocketrec" if newer else "use the pocketrec that wrote it"
    return DatasetError(
        f"{path} is of format {found!r}, which {'a newer' if newer else 'another'} pocketrec wrote. Nothing was touched.",
        expected=f"format {FORMAT}, the one that pocketrec {__version__} reads and writes",
        do=f"{cure}, or name another folder with --dataset",
    )


def _record(entry: dict[str, Any]) -> Record:
    files = {
        _safe(name): OutputFile(file["bytes"], file["xxh3"], tuple(file["shape"]), file["dtype"])
        for name, file in entry["files"].items()
    }
    argv = tuple(map(str, entry.get("argv", ())))
    return Record(entry["stage"], entry["settings"], entry["inputs"], files, entry["counts"], argv)


def write_record(folder: Path, key: str, record: Record) -> None:
    """Add or replace one record. Call it last, when every file of the record has its final name."""
    found = read_manifest(folder)
    found.records[key] = record
    found.claims.pop(key, None)
    _write(folder, found)


def drop_record(folder: Path, key: str) -> None:
    """Forget a record before its files are replaced or removed; their names stay claimed."""
    if key in read_records(folder):
        claim(folder, key, ())


def claim(folder: Path, key: str, names: Iterable[str], new: Iterable[str] = ()) -> None:
    """Drop a record, and say which files are written next: `names`, relative to the manifest's folder, as `check_strangers`
    allows; and `new`, those in a folder that takes the place of another, which has been looked through before.
    """
    names, found = list(names), read_manifest(folder)
    _check_strangers(folder, names, found)
    record = found.records.pop(key, None)
    found.claims[key] = sorted({*found.claims.get(key, ()), *names, *new, *(record.files if record else ())})
    _write(folder, found)


def claim_for_good(folder: Path, key: str, names: Iterable[str], is_ours: Callable[[Path], bool]) -> None:
    """Claim files that never get a record, since each run changes them: checkpoints, verdicts. Their claims stay.

    pocketrec 0.1 claimed none of them. So what is already there under a name that is not claimed is judged by its content.

    Args:
        folder: the manifest's folder.
        key: of the claims; no record has it.
        names: of the files, relative to the folder.
        is_ours: whether pocketrec wrote a file that is there.

    Raises:
        FolderError: something of another origin has one of the names.
    """
    known = read_manifest(folder).names
    unclaimed = [name for name in names if name not in known]
    ours = [name for name in unclaimed if (folder / name).is_file() and is_ours(folder / name)]
    if unclaimed:
        claim(folder, key, [name for name in unclaimed if name not in ours], new=ours)


def drop_claims(folder: Path, keys: Iterable[str]) -> None:
    """Forget what was claimed for some records, when the files are gone."""
    found = read_manifest(folder)
    if found.claims.keys() & set(keys):
        left = {key: names for key, names in found.claims.items() if key not in keys}
        _write(folder, Manifest(found.records, left))


def check_strangers(folder: Path, names: Iterable[str]) -> None:
    """Raise a FolderError if a folder, or what pocketrec did not make, has one of the names, relative to `folder`."""
    _check_strangers(folder, names, read_manifest(folder))


def _check_strangers(folder: Path, names: Iterable[str], manifest: Manifest) -> None:
    known = manifest.names
    for name in names:
        path = folder / name
        if os.path.lexists(path) and (name not in known or (path.is_dir() and not path.is_symlink())):
            raise FolderError(
                f"{os.path.normpath(path)} is in the way: no manifest says that pocketrec made it.",
                expected="a free name, or a file that a manifest lists",
                do="move it away, or name another folder with --dataset",
            )


def _write(folder: Path, manifest: Manifest) -> None:
    write_text(folder / MANIFEST, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    """A manifest as it is written."""
    described = {key: asdict(manifest.records[key]) for key in sorted(manifest.records)}
    document = {"format": FORMAT, "records": described, "xxh3": json_digest(described)}
    if manifest.claims:
        document["claims"] = manifest.claims
    return json.dumps(document, indent=1, sort_keys=True) + "\n"
