"""What workers saw in the splits of a log, put together in the order of the log."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import Any

from pocketrec.ingestion.intake import check_kept, stopped_by
from pocketrec.sources.lines import BadLine
from pocketrec.spark import lines
from pocketrec.spark.lines import Reading


@dataclass(frozen=True)
class Seen:
    """What all splits of a log said, as messages and the record want it (`intake.LogSeen`)."""

    name: str
    expected: str
    lines: int
    rows: int
    kept: int
    left_out: int
    set_aside: int
    header: bool
    text: frozenset[str]
    remarks: tuple[str, ...]
    seen: dict[str, set[str]]
    first: BadLine | None
    first_name: str
    lines_before: dict[int, int]
    rows_before: dict[int, tuple[int, int]]
    blank_rejects: tuple[tuple[int, int, bytes], ...]

    @classmethod
    def of(cls, notes: list[dict[str, Any]], of: Reading, name: str) -> Seen:
        """From the notes of the splits, in any order; in tables rows have their numbers in the file already."""
        notes = sorted(notes, key=lambda one: (one["rank"], one["start"]))
        last = {one["rank"]: one["start"] for one in notes}
        lines_of = {one["rank"]: int(one["header"]) for one in notes if one["start"] == 0}
        lines_before, rows_before, blank_rejects = dict[int, int](), dict[int, tuple[int, int]](), []
        first, first_rank, rows, kept, set_aside, counted = None, 0, 0, 0, 0, 0
        for one in notes:
            rank, start = one["rank"], one["start"]
            key = (rank << lines.IN_A_FILE) + start
            lines_before[key] = 0 if of.files[rank].table else lines_of.get(rank, 0)
            rows_before[key] = rows, kept
            # Blank lines at the end of a split are lines of the log only if the file goes on.
            blanks = 0 if start == last[rank] else one["blanks"]
            bad = lines.bad_line(one["first"] or (one["blank_first"] if blanks else None), lines_before[key])
            if bad and first is None:
                first, first_rank = bad, rank
            if blanks:
                blank_rejects.append((key, one["lines"], base64.b64decode(one["blank_rejects"])))
            rows, kept = rows + one["rows"], kept + one["kept"]
            set_aside, counted = set_aside + one["set_aside"] + blanks, counted + one["counted"] + blanks
            lines_of[rank] = lines_before[key] + one["lines"] + one["blanks"]
        columns = {column for one in notes for column in one["seen"]}
        return cls(
            name=name,
            expected=notes[0]["expected"] if notes else "",
            lines=counted,
            rows=rows,
            kept=kept,
            left_out=sum(one["left_out"] for one in notes),
            set_aside=set_aside,
            header=any(one["header"] for one in notes),
            text=frozenset(column for one in notes for column in one["text"]),
            remarks=tuple(dict.fromkeys(remark for one in notes for remark in one["remarks"])),
            seen={column: {value for one in notes for value in one["seen"].get(column, ())} for column in columns},
            first=first,
            first_name=of.files[first_rank].name,
            lines_before=lines_before,
            rows_before=rows_before,
            blank_rejects=tuple(blank_rejects),
        )

    def check(self, *, set_aside: bool) -> None:
        """Raise a LogError if a line is not a click and must be one, or if nothing is left."""
        if self.first and not set_aside:
            raise stopped_by(self.first, replace(self, name=self.first_name))
        check_kept(self, self.kept, self.rows, self.left_out, self.first)
