"""Recall@N and MRR@20 of the next click: trained here, exported, and compared with baselines.

    python benchmarks/accuracy.py accuracy-clicks.dat                      # trained on train_full, measured once on test
    python benchmarks/accuracy.py accuracy-clicks.dat --on train_valid     # trained on train_tr: where settings are chosen

Each measurement is a row of `results/accuracy.csv`. All next clicks of all sessions are measured, all items are candidates,
ties are conservative, and the state is reset at each session. Settings are options of `pocketrec train`; those of `tuned`
were chosen on train_valid (see its rows) before anything was measured on test. Each training is a separate process:
`peak_bytes` comes from the kernel; `events_per_second` is what `train` reports, and includes the time to build TensorFlow's
graph.
"""

from __future__ import annotations

import csv
import json
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from measure import linux_only, run
from pocketrec.storage.files import staged_file

RESULTS = Path(__file__).parent / "results" / "accuracy.csv"
CUTOFFS = (1, 5, 10, 20)
HOLDOUT, LANES = "5d", "32"
OFFICIAL = "--dropout-embedding .1 --dropout-hidden 0 --sample-alpha .75"
SETTINGS = {
    "official": f"--epochs 5 {OFFICIAL}",
    "official for longer": f"--epochs 7 {OFFICIAL}",
    "more dropout": "--epochs 7 --dropout-embedding .3 --dropout-hidden .2 --sample-alpha .75",
    "slower": "--epochs 7 --dropout-embedding .3 --dropout-hidden 0 --momentum .3 --learning-rate .05 --sample-alpha .75",
    "tuned": "--epochs 7 --dropout-embedding .4 --dropout-hidden .3 --momentum .2 --sample-alpha .5",
}
MEASURED_ON = {"test": "official,tuned", "train_valid": ",".join(name for name in SETTINGS if name != "official")}
STORAGES = ("float32", "float16", "int8")


@dataclass(frozen=True)
class Row:
    """The accuracy of one model on one set; fields that do not apply are empty."""

    on: str
    model: str
    options: str
    seed: str
    events: int
    recall_1: float
    recall_5: float
    recall_10: float
    recall_20: float
    mrr_20: float
    events_per_second: str = ""
    peak_bytes: str = ""
    file_bytes: str = ""


class Bench:
    """A dataset, and commands that run on it."""

    def __init__(self, log: Path, on: str, work: Path) -> None:
        self.on, self.place = on, work / on
        work.mkdir(parents=True, exist_ok=True)
        self.messages = work / "messages.txt"
        train_on = "train_full" if on == "test" else "train_tr"
        layout = ("--formats", "npy", "--tail", "pad", "--session-order", "time", "--train-on", train_on)
        self.command("prep", str(log), "--holdout", HOLDOUT, "--batch-size", LANES, *layout)

    def command(self, *words: str) -> tuple[dict[str, Any], int]:
        """Run a command of pocketrec: its JSON report, and its peak memory in bytes."""
        whole = [sys.executable, "-m", "pocketrec.cli", *words, "--dataset", str(self.place), "--json"]
        cost = run(whole, self.messages)
        text = self.messages.read_text()
        if cost.exit_code:
            sys.exit(text)
        found: dict[str, Any] = json.loads(text[text.index("{") :])
        return found, cost.peak_bytes

    def measured(self, model: str, options: str, seed: str, *words: str, **more: Any) -> Iterator[Row]:
        """Rows of `pocketrec evaluate`; if `model` is empty, they have the names in the report."""
        found, _ = self.command("evaluate", *words, "--on", self.on, "--cutoffs", ",".join(map(str, CUTOFFS)))
        for one in found["models"]:
            recall: dict[str, Any] = {f"recall_{n}": round(one["recall"][str(n)], 4) for n in CUTOFFS}
            mrr = round(one["mrr"]["20"], 4)
            yield Row(self.on, model or one["name"], options, seed, found["events"], **recall, mrr_20=mrr, **more)

    def train(self, name: str, options: str, seed: str, exported: bool) -> Iterator[Row]:
        """Rows of a training with one seed, and of its .tflite files if `exported`."""
        words = ("--batch-size", LANES, "--seed", seed, *shlex.split(options))
        report, peak = self.command("train", "--fresh", *words)
        speed, kept = f"{report['events_per_second']:.0f}", report["checkpoint"]
        more = {"events_per_second": speed, "peak_bytes": str(peak)}
        yield from self.measured(name, options, seed, kept, "--no-anchors", **more)
        for storage in STORAGES if exported else ():
            made, _ = self.command("export", "--batch-size", LANES, "--from", kept, "--weights", storage)
            more = {"file_bytes": str(made["bytes"])}
            yield from self.measured(f"{name}, .tflite {storage}", options, seed, made["path"], "--no-anchors", **more)


def main(
    log: Annotated[Path, typer.Argument(help="The click log.")],
    on: Annotated[str, typer.Option(help="Set to measure on: test or train_valid.")] = "test",
    names: Annotated[str, typer.Option(help="Names of settings, separated by commas; those of the set if not given.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds of the trainings, separated by commas.")] = "42,43,44",
    work: Annotated[Path | None, typer.Option(help="Folder in which the dataset and the models are kept.")] = None,
    out: Annotated[Path, typer.Option(help="CSV file; rows of the same model, set and seed are replaced.")] = RESULTS,
) -> None:
    """Train, measure, and write the table."""
    linux_only()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(log, on, work or Path(temporary))
        add(out, list(bench.measured("", "", "")))
        for name in (names or MEASURED_ON[on]).split(","):
            for seed in seeds.split(","):
                exported = on == "test" and seed == seeds.split(",")[0]
                add(out, list(bench.train(name, SETTINGS[name], seed, exported)))


def add(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to the table; they replace rows of the same model, set and seed."""
    new = [{name: str(value) for name, value in asdict(row).items()} for row in rows]
    for row in new:
        typer.echo(" ".join(f"{value}" for value in row.values() if value))
    keys = {(row["on"], row["model"], row["seed"]) for row in new}
    old: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            old = [row for row in csv.DictReader(file) if (row["on"], row["model"], row["seed"]) not in keys]
    with staged_file(path) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*old, *new], key=lambda row: (row["on"], row["model"], row["seed"])))


if __name__ == "__main__":
    typer.run(main)
