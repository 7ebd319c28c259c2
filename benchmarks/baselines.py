"""Methods without training on three logs: Recall@20, MRR@20, and the settings that were chosen on train_valid.

    python benchmarks/baselines.py diginetica-sample.csv tmall-sessions.csv.xz accuracy-clicks.dat.xz

Which log a file is, its name says. Each is prepared with the protocol of `LOGS`, and `pocketrec evaluate --tune N` measures
test, with everything but test as what is known. Tmall has no clock: its sessions are put in a random order, a minute apart,
its clicks a second apart. Each measurement is a row of `results/baselines.csv`; an own column has 0 where the items of a
session were better left out. `standard_error` is that of Recall@20.
"""

from __future__ import annotations

import json
import lzma
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from measure import linux_only, run
from rows import put

RESULTS = Path(__file__).parent / "results" / "baselines.csv"
LAYOUT = "--batch-size 32 --formats npy --tail pad --session-order time --train-on train_full"
LOGS = {
    "diginetica": "--holdout 30d --min-item-support 1",
    "tmall": "--holdout 350607s --columns session=session,item=item,time=time",
    "accuracy": "--holdout 5d",
}
"""Beginning of a file's name -> options of prep, beside `LAYOUT`. 350,607 s are 5 % of the made-up clock of Tmall."""


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


def with_a_clock(packed: Path, out: Path) -> Path:
    """Tmall's sessions, a user a line, as a csv with times."""
    sessions = []
    with lzma.open(packed, "rt") as file:
        next(file)
        for line in file:
            sessions += [session.split(":") for session in line.rstrip("\n").split(",", 1)[1].split("@")]
    random.Random(0).shuffle(sessions)
    with out.open("w") as file:
        file.write("session,item,time\n")
        for number, session in enumerate(sessions):
            for place, item in enumerate(session):
                file.write(f"{number + 1},{item},{1_600_000_000 + 60 * number + place}\n")
    return out


def measured(log: Path, tries: int, seed: int, work: Path) -> Iterator[Row]:
    """Rows of all methods on a log."""
    name = next(one for one in LOGS if log.name.startswith(one))
    source = with_a_clock(log, work / "tmall.csv") if name == "tmall" else log
    dataset, messages = work / name, work / "messages.txt"
    tuned = ("--tune", str(tries), "--seed", str(seed), "--cutoffs", "20")
    for words in (("prep", str(source), *LOGS[name].split(), *LAYOUT.split()), ("evaluate", *tuned)):
        cost = run([sys.executable, "-m", "pocketrec.cli", *words, "--dataset", str(dataset), "--json"], messages)
        text = messages.read_text()
        if cost.exit_code:
            sys.exit(text)
    found = json.loads(text[text.index("{") :])
    print(f"{name}: {cost.cpu_seconds:.0f} s of processor, {cost.peak_bytes / 1e6:.0f} MB at most")
    for one in found["models"]:
        chosen, recall = one["settings"], one["recall"]["20"]
        error = (recall * (1 - recall) / found["events"]) ** 0.5
        words_of = " ".join(f"{key}={value}" for key, value in chosen.items() if key != "own")
        what = one["name"].removesuffix(", own items left out")
        counts = (tries, seed, found["events"])
        own = int(chosen.get("own", True))
        yield Row(name, what, *counts, round(recall, 4), round(one["mrr"]["20"], 4), round(error, 4), own, words_of)


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
