"""The table of measurements: one row each, in a CSV, and the rule that a wrong result is no result."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pocketrec.storage.files import staged_file

BASELINE = "pandas_baseline"
OURS = "pocketrec"


@dataclass(frozen=True)
class Measurement:
    """One run of one tool.

    Attributes:
        started: UTC, ISO 8601.
        machine: cores, memory, architecture.
        job: what the tool makes: "txt" (four files) or "txt+batches".
        order: of the rows of the log.
        clicks: rows of the log.
        events: rows of the four txt files together.
        steps: steps of the training batches; None where the tool makes none.
        seconds: on the clock; None when the run failed or its result is wrong.
        cpu_seconds: user and system, all threads.
        peak_bytes: largest resident set.
        read_bytes: from storage.
        written_bytes: to storage, temporary files included.
        log: XXH3-128 of the log.
        txt: XXH3-128 of the four txt files.
        batches: XXH3-128 of feats, targets and masks as txt and npy.
        ok: the run succeeded and its result is not known to be wrong.
    """

    started: str
    machine: str
    tool: str
    version: str
    job: str
    order: str
    clicks: int
    batch_size: int
    events: int | None
    steps: int | None
    seconds: float | None
    cpu_seconds: float | None
    peak_bytes: int | None
    read_bytes: int | None
    written_bytes: int | None
    log: str
    txt: str
    batches: str
    ok: bool
    note: str


COLUMNS = [field.name for field in fields(Measurement)]


def read_table(path: Path) -> list[Measurement]:
    """All rows; none when there is no table yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_parse(row) for row in csv.DictReader(file)]


def _parse(row: dict[str, str]) -> Measurement:
    values: dict[str, Any] = dict(row)
    for name in ("clicks", "batch_size", "events", "steps", "peak_bytes", "read_bytes", "written_bytes"):
        values[name] = int(row[name]) if row[name] else None
    for name in ("seconds", "cpu_seconds"):
        values[name] = float(row[name]) if row[name] else None
    return Measurement(**(values | {"ok": row["ok"] == "True"}))


def append(path: Path, measurement: Measurement) -> Measurement:
    """Add a row, judge the whole table again, write it; return the row as it was judged."""
    rows = judge([*read_table(path), measurement])
    with staged_file(path) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    return rows[-1]


def judge(rows: Iterable[Measurement]) -> list[Measurement]:
    """Take the time from every run whose files differ from what they should be for its log."""
    judged = list(rows)
    for number, row in enumerate(judged):
        wrong = []
        if row.txt and row.txt != right_txt(judged, row):
            wrong.append("txt files")
        if row.batches and row.batches != right_batches(judged, row):
            wrong.append("batches")
        if wrong:
            judged[number] = replace(row, seconds=None, ok=False, note=f"wrong {' and '.join(wrong)}: number removed")
    return judged


def right_txt(rows: list[Measurement], row: Measurement) -> str:
    """The right checksum of the txt files for the log of `row`."""
    return _verdict([(other.tool, other.txt) for other in rows if other.log == row.log and other.txt])


def right_batches(rows: list[Measurement], row: Measurement) -> str:
    """The right checksum of the batches for the log and the batch size of `row`."""
    key = (row.log, row.batch_size)
    return _verdict(
        [(other.tool, other.batches) for other in rows if (other.log, other.batch_size) == key and other.batches]
    )


def _verdict(results: list[tuple[str, str]]) -> str:
    """What the baseline says; without it, what most tools say (each result of a tool counts once), ours in a tie."""
    baseline = [(tool, checksum) for tool, checksum in results if tool == BASELINE]
    votes = Counter(checksum for _, checksum in baseline or sorted(set(results)))
    most = max(votes.values())
    winners = [checksum for checksum, count in votes.items() if count == most]
    ours = [checksum for tool, checksum in results if tool == OURS and checksum in winners]
    return (ours or winners)[0]
