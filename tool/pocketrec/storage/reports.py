"""reports.json: what commands found that leave no record, kept beside the models for the page of `pocketrec report`.

`train` and `evaluate` print what they found; a stage's record has no place for it. So it is kept here, under a key a run,
together with the contents of what it was found on: a report of a model or of data that has changed since is seen to be old.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketrec.errors import PocketrecError
from pocketrec.storage.files import size_of, write_text
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import MOST_BYTES, claim_for_good, json_digest
from pocketrec.storage.space import room

REPORTS = "reports.json"
FORMAT = 1
MOST = 64
"""Reports that are kept; the oldest go first."""


@dataclass(frozen=True)
class KeptReport:
    """One report.

    Attributes:
        argv: the words behind `pocketrec` of the command, but for `--dataset`.
        of: name of each thing it is about -> its content (XXH3-128): the model file, the sessions, the split.
        report: what the command prints with `--json`.
    """

    argv: tuple[str, ...]
    of: Mapping[str, str]
    report: Mapping[str, Any]


def as_values(report: Any) -> dict[str, Any]:
    """A report, a dataclass, as JSON has it; paths as text."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(report), default=str))
    return found


def keep_report(folder: Path, key: str, argv: Sequence[str], of: Mapping[str, str], report: Any) -> None:
    """Keep a report, a dataclass, in place of an earlier one with the same key; the dataset is held.

    Raises:
        SpaceError, FolderError: the folder is full, cannot be written, or has a file of that name of another origin.
    """
    with room(folder, argv[0]):
        claim_for_good(folder, "reports", [REPORTS], _is_reports)
        kept = read_reports(folder)
        kept.pop(key, None)  # the newest is last
        kept[key] = KeptReport(tuple(argv), dict(of), as_values(report))
        newest = dict(list(kept.items())[-MOST:])
        reports = json.loads(json.dumps({name: asdict(one) for name, one in newest.items()}))
        document = {"format": FORMAT, "reports": reports, "xxh3": json_digest(reports)}
        write_text(folder / REPORTS, json.dumps(document, indent=1) + "\n")


def try_to_keep(home: Path, folder: Path, key: str, argv: Sequence[str], of: Mapping[str, str], report: Any) -> str:
    """`keep_report` for a command that need not write: why it was not kept, such as a folder that another one holds; or "".

    `home` is the folder that is held meanwhile.
    """
    try:
        with hold(home, argv[0]):
            keep_report(folder, key, argv, of, report)
    except PocketrecError as error:
        return str(error).partition("\n")[0]
    return ""


def read_reports(folder: Path) -> dict[str, KeptReport]:
    """The reports of a folder by key, oldest first; none where the file is missing, damaged or of another format."""
    try:
        path = folder / REPORTS
        if (size_of(path) or 0) > MOST_BYTES or not path.is_file():
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["xxh3"] != json_digest(document["reports"]):
            return {}
        return {
            str(key): KeptReport(tuple(map(str, one["argv"])), dict(one["of"]), dict(one["report"]))
            for key, one in document["reports"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_reports(path: Path) -> bool:
    """Whether pocketrec wrote a reports.json."""
    try:
        return "reports" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False
