"""Methods without training on three logs: Recall@20, MRR@20, and the settings that were chosen on train_valid.

    python benchmarks/baselines.py diginetica-sample.csv tmall-sessions.csv.xz accuracy-clicks.dat.xz

Which log a file is, and how it is prepared, `logs.py` says. `pocketrec evaluate --tune N` measures test, with everything
but test as what is known. Each measurement is a row of `results/baselines.csv`; `own` is 0 where the items of a session
were better left out. `standard_error` is that of Recall@20.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from logs import Bench
from measure import linux_only
from rows import put

RESULTS = Path(__file__).parent / "results" / "baselines.csv"


@dataclass(frozen=True)
class Row:
    """One method on one log."""

    log: str
    method: str
    tries: int
    seed: int
    events: int
    recall_20: float
    mrr_20: float
    standard_error: float
    own: int
    settings: str


def measured(log: Path, tries: int, seed: int, work: Path) -> Iterator[Row]:
    """Rows of all methods on a log."""
    bench = Bench(log, "train_full", work)
    found, cost = bench.command("evaluate", "--tune", str(tries), "--seed", str(seed), "--cutoffs", "20")
    print(f"{bench.name}: {cost.cpu_seconds:.0f} s of processor, {cost.peak_bytes / 1e6:.0f} MB at most")
    for one in found["models"]:
        chosen, recall = one["settings"], one["recall"]["20"]
        error = (recall * (1 - recall) / found["events"]) ** 0.5
        words_of = " ".join(f"{key}={value}" for key, value in chosen.items() if key != "own")
        what = one["name"].removesuffix(", own items left out")
        counts = (tries, seed, found["events"])
        own = int(chosen.get("own", True))
        yield Row(bench.name, what, *counts, round(recall, 4), round(one["mrr"]["20"], 4), round(error, 4), own, words_of)


def main(
    logs: Annotated[list[Path], typer.Argument(help="The files; see above.")],
    tries: Annotated[int, typer.Option(help="Settings tried for each method of neighbours.")] = 30,
    seeds: Annotated[str, typer.Option(help="Seeds of the search, separated by commas.")] = "42",
    out: Annotated[Path, typer.Option(help="CSV file; rows of the same log, method and seed go.")] = RESULTS,
) -> None:
    """Prepare, measure, and write the table."""
    linux_only()
    for log in logs:
        for seed in seeds.split(","):
            with tempfile.TemporaryDirectory() as work:
                put(out, list(measured(log, tries, int(seed), Path(work))), ("log", "method", "tries", "seed"))


if __name__ == "__main__":
    typer.run(main)
