"""Recall@N and MRR@20 of the next click: trained here, exported, blended, and measured.

    python benchmarks/accuracy.py LOG... --on train_valid     # trained on train_tr: where settings are chosen
    python benchmarks/accuracy.py LOG...                      # trained on train_full, measured on test
    python benchmarks/accuracy.py LOG... --evaluate "" --evaluate "--seen hide"       # own items in, and left out
    python benchmarks/accuracy.py LOG... --train-on train_tr --evaluate "--blend vstan"

Which log a file is, and how it is prepared, `logs.py` says. Each measurement is a row of `results/accuracy.csv`. All next
clicks of all sessions are measured, all items are candidates, ties are conservative, and the state is reset at each
session. Names of `SETTINGS` are options of `pocketrec train`; `tune` is what `pocketrec tune` chooses on train_valid,
`baselines` the methods without training. Each training is a separate process: `peak_bytes` comes from the kernel;
`events_per_second` is what `train` reports, and includes the time to build TensorFlow's graph. In a row `own` is 0 where
the items of a session were left out.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from logs import Bench
from measure import linux_only
from rows import put

RESULTS = Path(__file__).parent / "results" / "accuracy.csv"
CUTOFFS = (1, 5, 10, 20)
LANES = "32"
OFFICIAL = "--average 0 --dropout-embedding .1 --dropout-hidden 0 --sample-alpha .75"
SETTINGS = {
    "official": f"--epochs 5 {OFFICIAL}",
    "official for longer": f"--epochs 7 {OFFICIAL}",
    "more dropout": "--epochs 7 --average 0 --dropout-embedding .3 --dropout-hidden .2 --sample-alpha .75",
    "last weights": "--epochs 7 --average 0",
    "momentum": "--epochs 7 --average 0 --momentum .2",
    "defaults": "",
    "wide": "--hidden-size 192 --dropout-embedding .5 --dropout-hidden .4",
    "small log": "--epochs 14 --learning-rate .07 --dropout-embedding .5 --dropout-hidden .4",
}
KEY = ("log", "train_on", "on", "model", "seed", "own")


@dataclass(frozen=True)
class Row:
    """The accuracy of one model on one set; fields that do not apply are empty."""

    log: str
    train_on: str
    on: str
    model: str
    options: str
    seed: str
    own: int
    events: int
    recall_1: float
    recall_5: float
    recall_10: float
    recall_20: float
    mrr_20: float
    chosen: str = ""
    events_per_second: str = ""
    peak_bytes: str = ""
    file_bytes: str = ""


class Measured:
    """Rows of one log, trained on one set."""

    def __init__(self, log: Path, train_on: str, on: str, evaluations: list[str], work: Path) -> None:
        self.log, self.train_on, self.on, self.work = log, train_on, on, work
        self.evaluations, self.bench = [shlex.split(one) for one in evaluations], Bench(log, train_on, work)

    def evaluated(self, model: str, options: str, seed: str, *words: str, **more: Any) -> Iterator[Row]:
        """Rows of `pocketrec evaluate`: of the model, and of what was measured beside it, which keep their names."""
        cutoffs = ",".join(map(str, CUTOFFS))
        for extra in self.evaluations:
            found, _ = self.bench.command("evaluate", *words, *extra, "--on", self.on, "--cutoffs", cutoffs)
            for one in found["models"]:
                first, chosen = one["name"] == found["model"], one["settings"]
                name = one["name"].removesuffix(", own items left out")
                named = model if first else f"{model} + {name.split(' + ')[1]}" if model else name
                own = int("hide" not in extra) if first else int(chosen.get("own", True))
                recall: dict[str, Any] = {f"recall_{n}": round(one["recall"][str(n)], 4) for n in CUTOFFS}
                words_of = "" if first else " ".join(f"{key}={value}" for key, value in chosen.items() if key != "own")
                yield Row(
                    self.bench.name, self.train_on, self.on, named, options, seed, own, found["events"],
                    **recall, mrr_20=round(one["mrr"]["20"], 4), chosen=words_of, **more,
                )  # fmt: skip

    def trained(self, name: str, options: str, seed: str, storages: list[str]) -> Iterator[Row]:
        """Rows of a training with one seed, and of its .tflite files."""
        words = ("--batch-size", LANES, "--seed", seed, *shlex.split(options))
        report, cost = self.bench.command("train", "--fresh", *words)
        more = {"events_per_second": f"{report['events_per_second']:.0f}", "peak_bytes": str(cost.peak_bytes)}
        yield from self.evaluated(name, options, seed, report["checkpoint"], "--no-anchors", **more)
        for storage in storages:
            options_of = ("--batch-size", LANES, "--from", report["checkpoint"], "--weights", storage)
            made, _ = self.bench.command("export", *options_of)
            what, more = f"{name}, .tflite {storage}", {"file_bytes": str(made["bytes"])}
            yield from self.evaluated(what, options, seed, made["path"], "--no-anchors", **more)

    def tuned(self, words: str) -> str:
        """Options that `pocketrec tune` chooses on train_valid; `words` are options of its own."""
        found, _ = Bench(self.log, "train_tr", self.work).command("tune", "--batch-size", LANES, *shlex.split(words))
        print(f"tune: own items {'stay' if found['own'] else 'are left out'}; {' '.join(found['options'])}")
        options = iter(found["options"])
        return shlex.join(word for pair in zip(options, options, strict=True) if pair[0] != "--batch-size" for word in pair)


def main(
    logs: Annotated[list[Path], typer.Argument(help="The click logs.")],
    on: Annotated[str, typer.Option(help="Set to measure on: test or train_valid.")] = "test",
    train_on: Annotated[str, typer.Option(help="Set to train on; that which fits --on if not given.")] = "",
    names: Annotated[str, typer.Option(help="Names of settings, tune or baselines, separated by commas.")] = "defaults",
    seeds: Annotated[str, typer.Option(help="Seeds of the trainings, separated by commas.")] = "42,43,44",
    evaluate: Annotated[list[str] | None, typer.Option(help="Of an evaluation: --seen hide, --blend vstan.")] = None,
    tune: Annotated[str, typer.Option(help="Options of tune, such as --trials 16 --epochs 14.")] = "",
    storages: Annotated[str, typer.Option(help="Also measure such .tflite files: float32,float16,int8.")] = "",
    work: Annotated[Path | None, typer.Option(help="Folder in which the dataset and the models are kept.")] = None,
    out: Annotated[Path, typer.Option(help="CSV file; rows of the same log, sets, model, seed and own go.")] = RESULTS,
) -> None:
    """Train, measure, and write the table."""
    linux_only()
    train_on = train_on or ("train_full" if on == "test" else "train_tr")
    with tempfile.TemporaryDirectory() as temporary:
        for log in logs:
            measured = Measured(log, train_on, on, evaluate or [""], work or Path(temporary))
            for name in names.split(","):
                if name == "baselines":
                    put(out, list(measured.evaluated("", "", "")), KEY)
                    continue
                options = measured.tuned(tune) if name == "tune" else SETTINGS[name]
                for seed in seeds.split(","):
                    rows = list(measured.trained(name, options, seed, [one for one in storages.split(",") if one]))
                    put(out, rows, KEY)
                    for row in rows:
                        print(
                            row.log,
                            row.model,
                            row.seed,
                            f"own={row.own}",
                            row.recall_20,
                            row.mrr_20,
                            row.chosen,
                            flush=True,
                        )


if __name__ == "__main__":
    typer.run(main)
