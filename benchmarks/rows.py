"""Rows in a CSV, each in place of an earlier one of the same configuration."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pocketrec.storage.files import staged_file


def put(path: Path, rows: Sequence[Any], key: Sequence[str]) -> None:
    """Add rows to a table, which comes into being if it is not there; the others keep their order.

    Args:
        path: the CSV.
        rows: of one dataclass, one or more.
        key: names of the fields that say what was measured; of rows that agree in these the last one stays.
    """
    names = [field.name for field in fields(rows[0])]
    given = [{name: "" if value is None else str(value) for name, value in asdict(row).items()} for row in rows]
    replaced = {tuple(row[name] for name in key): row for row in given}
    new = replaced.values()
    old: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            old = [row for row in csv.DictReader(file) if tuple(row[name] for name in key) not in replaced]
    with staged_file(path) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*old, *new])
