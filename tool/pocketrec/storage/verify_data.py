"""Whether a dataset is still what the stages wrote: every file of every record is read and compared with its hash.

`inspect` looks at sizes and says what would be done again; this reads all bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pocketrec.errors import DatasetError
from pocketrec.progress import SILENT, Advance, Progress
from pocketrec.storage.layout import Dataset, homes_in
from pocketrec.storage.manifest import MANIFEST, Record, read_records
from pocketrec.storage.repair import rebuild_command


@dataclass(frozen=True)
class DamagedFile:
    """A file that is not what was written, and what is wrong with it."""

    path: Path
    fault: str


@dataclass(frozen=True)
class StageFiles:
    """The files of one finished stage run.

    Attributes:
        key: stage and, where there are several, batch size, as in `inspect`; the path of a manifest that is damaged.
        files: how many the record names.
        bytes: their size when they were written.
        damaged: those that are missing, cut or changed, in the order of their names.
        rebuild: what to do to have them again, a command; "" where nothing is damaged.
    """

    key: str
    files: int
    bytes: int
    damaged: tuple[DamagedFile, ...]
    rebuild: str


@dataclass(frozen=True)
class VerifyDataReport:
    """What `verify_data` found, stages in the order they run; `passed` if nothing is damaged."""

    dataset: Path
    stages: tuple[StageFiles, ...]
    passed: bool


def verify_data(dataset: Path | str = "dataset", *, progress: Progress = SILENT) -> VerifyDataReport:
    """Read every file that a finished stage wrote; compare its size and XXH3-128 with the manifest.

    Files that no record names (those of a run that was killed, or put there by someone else) are not looked at. Checkpoints
    have their hash in themselves; it is checked when one is read.

    Args:
        dataset: the dataset folder.
        progress: told about bytes read.

    Raises:
        DatasetError: the folder does not exist. Damage is not an error but what the report is about.
    """
    homes = homes_in(dataset)
    found = [(home, *one) for home in homes for one in _runs(home)]
    total = sum(one.bytes for *_, one in found if isinstance(one, Record))
    with progress.task("verify", total) as advance:
        stages = tuple(
            _stage(home, folder, key, one, advance) if isinstance(one, Record) else one for home, folder, key, one in found
        )
    return VerifyDataReport(homes[0].root, stages, not any(stage.damaged for stage in stages))


def _runs(home: Dataset) -> Iterator[tuple[Path, str, Record | StageFiles]]:
    """Folder, key and record of each stage run; in place of the records of a damaged manifest what is known of it."""
    for folder in home.homes:
        try:
            for key, record in read_records(folder).items():
                yield folder, key, record
        except DatasetError as error:
            path = folder / MANIFEST
            damaged = DamagedFile(path, error.wrong.removeprefix(f"{path} ").removesuffix("."))
            key = str(path.relative_to(home.root))
            yield folder, key, StageFiles(key, 1, 0, (damaged,), error.do)


def _stage(home: Dataset, folder: Path, key: str, record: Record, advance: Advance) -> StageFiles:
    faults = ((folder / name, file.fault(folder / name, advance)) for name, file in sorted(record.files.items()))
    damaged = tuple(DamagedFile(path, fault) for path, fault in faults if fault)
    return StageFiles(key, len(record.files), record.bytes, damaged, rebuild_command(home.root, record) if damaged else "")
