"""The exported models in versions of LiteRT, each in a virtual environment of its own: right, or what went wrong.

    python benchmarks/clients.py --versions 1.2.0,1.4.0,2.0.2,2.1.5,2.3.0

For each model, version and API (`Interpreter`, and `CompiledModel` where there is one) a client with numpy alone
(tests/litert_client.py) recommends, learns 28 steps, saves twice, restores in a fresh instance and does a step in both.
What it says is held against `OnDeviceModel` here. One row a run goes to results/clients.csv.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import venv
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pocketrec.gru4rec.export import model_bytes
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.runtime import OnDeviceModel

HERE = Path(__file__).parent
CLIENT = HERE.parent / "tests" / "litert_client.py"
RESULTS = HERE / "results" / "clients.csv"
ITEMS = 200
MODELS: dict[str, dict[str, Any]] = {
    "none, Adam": {"embedding": "none"},
    "shared, Adagrad, dropout": {"embedding": "shared", "optimizer": "adagrad", "dropout_hidden": 0.4},
    "separate, SGD": {"embedding": "separate", "optimizer": "sgd"},
    "shared, float16": {"embedding": "shared", "storage": "float16"},
    "shared, int8": {"embedding": "shared", "storage": "int8"},
}


@dataclass(frozen=True)
class Row:
    """One model in one runtime."""

    started: str
    runtime: str
    api: str
    model: str
    verdict: str


def export(folder: Path) -> dict[str, Path]:
    """Small models of every kind."""
    items = Catalogue(tuple(str(1000 + code) for code in range(ITEMS)), np.arange(1, ITEMS + 1))
    paths = {}
    for number, (name, settings) in enumerate(MODELS.items()):
        paths[name] = folder / f"model{number}.tflite"
        paths[name].write_bytes(model_bytes(ModelSpec(n_items=ITEMS, batch_size=4, hidden_size=16, **settings), items))
    return paths


def judge(model: OnDeviceModel, done: subprocess.CompletedProcess[str], saved: Path) -> str:
    """Whether a client got what it should; else what it got."""
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        return f"signal {-done.returncode}" if done.returncode < 0 else last[:160]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    faults = []
    items, _, _ = model.recommend_next(3, model.fresh_state(1))
    if found["items"] != items.tolist():
        faults.append("recommend is wrong")
    if set(found["wrong"]) != {-1}:
        faults.append("a wrong code is not seen")
    if model.settings.trainable:
        state, losses = model.fresh_state(1), []
        for pair in found["clicks"]:
            feat, target = np.array(pair, np.int32)[:, None]
            loss, state = model.train_one(feat, target, state)
            losses.append(loss)
        own = model.save()
        with np.load(saved) as tensors:
            wrong = [name for name in own if not np.allclose(tensors[name], own[name], atol=1e-4)]
        faults += [] if np.allclose(found["losses"], losses, atol=1e-4) else ["train_one is wrong"]
        faults += [f"save is wrong: {', '.join(wrong)}"] if wrong or not found["same"] else []
        faults += [] if found["next"][0] == found["next"][1] else ["the step after restore is another"]
        faults += [] if found["refused"] else ["a wrong code is learned"]
    return "; ".join(faults) or "right"


def main(
    versions: Annotated[str, typer.Option(help="Versions of ai-edge-litert.")] = "1.2.0,1.4.0,2.0.2,2.1.5",
    out: Annotated[Path, typer.Option(help="The CSV that rows are appended to.")] = RESULTS,
) -> None:
    """Try every model in every runtime."""
    with tempfile.TemporaryDirectory() as work:
        paths = export(Path(work))
        rows = []
        for version in versions.split(","):
            home = Path(work) / version
            venv.create(home, with_pip=True)
            python = home / "bin" / "python"
            wanted = [f"ai-edge-litert=={version}", "numpy" if version.startswith("2") else "numpy<2.3"]
            subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
            apis = ["interpreter", *(["compiled"] if version.startswith("2") else [])]
            for api in apis:
                for name, path in paths.items():
                    model = OnDeviceModel(path, trusted=True)
                    plan = path.with_suffix(".json")
                    known = {"settings": asdict(model.settings), "signatures": model.card.signatures}
                    plan.write_text(json.dumps(known, default=asdict))
                    command = [str(python), str(CLIENT), api, str(path), str(plan)]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    verdict = judge(model, done, path.with_suffix(".npz"))
                    rows.append(Row(datetime.now(UTC).isoformat(timespec="seconds"), version, api, name, verdict))
                    typer.echo(f"{version:<8} {api:<12} {name:<26} {verdict}")
        new = not out.exists()
        with out.open("a", newline="") as file:
            writer = csv.DictWriter(file, [one.name for one in fields(Row)])
            if new:
                writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    sys.exit(0)


if __name__ == "__main__":
    typer.run(main)
