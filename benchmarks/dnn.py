"""Test RMSE and MAE of the rating DNN beside three anchors, on the same random splits in the same run.

    python benchmarks/dnn.py RATINGS [--seeds 1,2,3,4,5] [--results benchmarks/results/dnn.csv]

For each seed: `pocketrec dnn prep RATINGS --seed S` (80 % and a test of 20 %; of the 80 % an eighth is for validation),
`dnn train --seed S` and `dnn evaluate`, all with their defaults. The anchors are the global mean and the biases of users
and items, as `dnn evaluate` has them, and the biased matrix factorisation of the package cornac (`pip install cornac`), by
SGD: its settings are chosen from `GRID` by its RMSE on the validation set after learning from the train set; then it
learns from both. So the anchors learn from 80 % of the ratings, and the DNN from 70 %: it needs the rest to know when to
stop.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

GRID = [
    {"k": k, "learning_rate": rate, "lambda_reg": strength, "max_iter": sweeps}
    for k, rate, strength, sweeps in itertools.product((64, 128, 256), (0.005, 0.01), (0.04, 0.06, 0.08), (50, 100, 200))
]
COLUMNS = ["seed", "model", "rmse", "mae", "settings"]
Array = npt.NDArray[Any]
Set = tuple[Array, Array]
"""Pairs of codes, (n, 2), and ratings, (n,)."""


def main() -> None:
    """Measure, print a table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--seeds", default="1,2,3,4,5", help="comma separated")
    parser.add_argument("--results", type=Path, help="a csv to write; rows of other seeds stay")
    parser.add_argument("--work", type=Path, help="keep the data sets here")
    arguments = parser.parse_args()
    rows = kept(arguments.results, set(arguments.seeds.split(",")))
    with tempfile.TemporaryDirectory() as temporary:
        for seed in map(int, arguments.seeds.split(",")):
            folder = (arguments.work or Path(temporary)) / f"seed-{seed}"
            found = [*ours(arguments.ratings, folder, seed), factorisation(folder, seed)]
            rows += [{"seed": seed, **one} for one in found]
            print(
                *(f"{seed}  {one['model']:<18} {one['rmse']:.4f}  {one['mae']:.4f}" for one in found), sep="\n", flush=True
            )
    print(table(rows))
    if arguments.results:
        with arguments.results.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def kept(results: Path | None, seeds: set[str]) -> list[dict[str, Any]]:
    """Rows of seeds that are not measured now."""
    if results is None or not results.exists():
        return []
    with results.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["seed"] not in seeds]
    return [{**row, "rmse": float(row["rmse"]), "mae": float(row["mae"])} for row in rows]


def ours(ratings: Path, folder: Path, seed: int) -> list[dict[str, Any]]:
    """The DNN and its two anchors, by the commands."""
    call("prep", str(ratings), "--dataset", str(folder), "--seed", str(seed))
    trained = call("train", "--dataset", str(folder), "--seed", str(seed))
    found = call("evaluate", "--dataset", str(folder))["models"]
    settings = {"dnn": f"defaults; epoch {trained['kept']} of {len(trained['epochs'])}"}
    return [
        {"model": name, "rmse": one["rmse"], "mae": one["mae"], "settings": settings.get(name, "")}
        for name, one in found.items()
    ]


def call(command: str, *words: str) -> dict[str, Any]:
    """What a command prints with --json."""
    done = subprocess.run(["pocketrec", "dnn", command, *words, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def factorisation(folder: Path, seed: int) -> dict[str, Any]:
    """Cornac's, its settings chosen on the validation set."""
    train, valid, test = (read(folder, name) for name in ("train", "valid", "test"))
    best = min(GRID, key=lambda settings: errors(learned(train, seed, settings), valid)[0])
    both = np.concatenate([train[0], valid[0]]), np.concatenate([train[1], valid[1]])
    rmse, mae = errors(learned(both, seed, best), test)
    name = f"cornac {importlib.metadata.version('cornac')} MF"
    return {"model": name, "rmse": rmse, "mae": mae, "settings": json.dumps(best)}


def read(folder: Path, name: str) -> Set:
    """A set as `dnn prep` wrote it. Unknown users and items have code 0, which cornac shall not learn from."""
    home = folder / "dnn" / "final" / "ratings"
    return np.load(home / f"{name}_pairs.npy"), np.load(home / f"{name}_ratings.npy")


def learned(rows: Set, seed: int, settings: dict[str, Any]) -> tuple[float, Array, Array, Array, Array]:
    """Mean, biases of users and of items, factors of users and of items, by code; zeros where nothing was learned."""
    from cornac.data import Dataset
    from cornac.models import MF

    pairs, ratings = rows
    data = Dataset.from_uir(list(zip(pairs[:, 0].tolist(), pairs[:, 1].tolist(), ratings.tolist(), strict=True)), seed=seed)
    model = MF(seed=seed, use_bias=True, early_stop=False, verbose=False, **settings)
    model.fit(data)
    sides = []
    for places, biases, factors in (
        (data.uid_map, model.u_biases, model.u_factors),
        (data.iid_map, model.i_biases, model.i_factors),
    ):
        codes, rows_of = np.array(list(places.keys())), np.array(list(places.values()))
        bias, factor = np.zeros(1 << 20), np.zeros((1 << 20, factors.shape[1]))
        bias[codes], factor[codes] = biases[rows_of], factors[rows_of]
        bias[0], factor[0] = 0, 0
        sides.append((bias[: codes.max() + 1], factor[: codes.max() + 1]))
    (user_bias, users), (item_bias, items) = sides
    return float(model.global_mean), user_bias, item_bias, users, items


def errors(model: tuple[float, Array, Array, Array, Array], rows: Set) -> tuple[float, float]:
    """RMSE and MAE of predictions within half a star and five."""
    mean, user_bias, item_bias, users, items = model
    (pairs, ratings), found = rows, np.full(len(rows[1]), mean)
    user, item = pairs[:, 0], pairs[:, 1]
    who, what = user < len(user_bias), item < len(item_bias)
    found[who] += user_bias[user[who]]
    found[what] += item_bias[item[what]]
    both = who & what
    found[both] += (users[user[both]] * items[item[both]]).sum(axis=1)
    error = np.clip(found, 0.5, 5) - ratings
    return float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error)))


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, a line each."""
    lines = ["| | RMSE | MAE |", "|---|---|---|"]
    for name in dict.fromkeys(row["model"] for row in rows):
        cells = []
        for measure in ("rmse", "mae"):
            values = [row[measure] for row in rows if row["model"] == name]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.4f} ± {spread:.4f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
