"""How far sequential rules look and how fast they fade, chosen on train_valid: MRR@20 and Recall@20 of a grid on each log.

    python benchmarks/rules.py diginetica-sample.csv tmall-sessions.csv.xz accuracy-clicks.dat.xz

Trained on train_tr, measured on at most 2,000 next clicks of train_valid, with own items or without them, as is better.
Each is a row of `results/rules.csv`. Printed are the settings with the best mean of MRR@20 as a share of the log's best.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import typer

from logs import Bench
from pocketrec.gru4rec import baselines
from pocketrec.gru4rec.evaluate import sequences_record, size_of_set
from pocketrec.gru4rec.kept_sessions import kept_sessions
from pocketrec.gru4rec.scoring import rank_with_and_without_own
from pocketrec.gru4rec.search import EvenSessions
from pocketrec.lite.inputs import read_item_list
from pocketrec.sessions.sequences import read_sequences
from pocketrec.storage.layout import Dataset
from rows import put

RESULTS = Path(__file__).parent / "results" / "rules.csv"
NAME = "sequential rules"
GRID = list(product((5, 10, 15), (3, 5, 10), (4, 8, 16, 32)))
"""Next clicks that are counted, last clicks that are looked at, and by how much a click fades with each one since."""


@dataclass(frozen=True)
class Row:
    """One setting on one log."""

    log: str
    reach: int
    looked_at: int
    fading: int
    own: int
    recall_20: float
    mrr_20: float


def measured(bench: Bench) -> Iterator[Row]:
    """Rows of the grid on a log."""
    where = Dataset(bench.place)
    record, n_items = sequences_record(where), len(read_item_list(where).ids)
    judges = EvenSessions(read_sequences(where, "train_valid"), *size_of_set(record, where, "train_valid"))
    known = kept_sessions(where, "train_tr", "train_tr")
    for reach, looked_at, fading in GRID:
        with patch.dict(baselines.RULES, {NAME: (reach, looked_at)}), patch.object(baselines, "FADING", fading):
            found = rank_with_and_without_own(baselines.following(NAME, known.blocks(), n_items), judges, (20,))
        both = [one.accuracy("") for one in found]
        own, best = max(((1, both[0]), (0, both[1])), key=lambda one: one[1].mrr[20])
        yield Row(bench.name, reach, looked_at, fading, own, round(best.recall[20], 4), round(best.mrr[20], 4))


def main(
    logs: Annotated[list[Path], typer.Argument(help="The files.")],
    out: Annotated[Path, typer.Option(help="CSV file; rows of the same log and setting go.")] = RESULTS,
) -> None:
    """Prepare, measure, write the table, and print the best."""
    shares: defaultdict[tuple[int, int, int], float] = defaultdict(float)
    for log in logs:
        with tempfile.TemporaryDirectory() as work:
            rows = list(measured(Bench(log, "train_tr", Path(work))))
        put(out, rows, ("log", "reach", "looked_at", "fading"))
        for row in rows:
            shares[row.reach, row.looked_at, row.fading] += row.mrr_20 / max(one.mrr_20 for one in rows) / len(logs)
    for setting, share in sorted(shares.items(), key=lambda one: -one[1])[:5]:
        print(*setting, f"{share:.4f}")


if __name__ == "__main__":
    typer.run(main)
