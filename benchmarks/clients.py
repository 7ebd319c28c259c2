"""The exported models in versions of LiteRT, each in a virtual environment of its own: right, or what went wrong.

    python benchmarks/clients.py --versions 1.2.0,1.4.0,2.0.2,2.1.5,2.3.0 --web-versions 2.5.2,2.5.3

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
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from browser import Browser, LiteRtJs
from litert_client import use
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
    """Whether a client in a process got what it should; else what it got."""
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        return f"signal {-done.returncode}" if done.returncode < 0 else last[:160]
    return verdict(model, json.loads(done.stdout.strip().splitlines()[-1]), saved)


def verdict(model: OnDeviceModel, found: dict[str, Any], saved: Path) -> str:
    """Whether what a client found (`litert_client.use`) and saved is right; else what is wrong."""
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


def plan_of(model: OnDeviceModel) -> dict[str, Any]:
    """What a client must know of a model: `litert_client.Plan`."""
    known = {"settings": asdict(model.settings), "signatures": model.card.signatures}
    plan: dict[str, Any] = json.loads(json.dumps(known, default=asdict))
    return plan


def in_python(version: str, paths: dict[str, Path], home: Path) -> Iterator[Row]:
    """Every model in a version of ai-edge-litert, in a virtual environment in the folder `home`."""
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    wanted = [f"ai-edge-litert=={version}", "numpy" if version.startswith("2") else "numpy<2.3"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    for api in ["interpreter", *(["compiled"] if version.startswith("2") else [])]:
        for name, path in paths.items():
            model, plan = OnDeviceModel(path, trusted=True), path.with_suffix(".json")
            plan.write_text(json.dumps(plan_of(model)))
            command = [str(python), str(CLIENT), api, str(path), str(plan)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            yield Row(_now(), version, api, name, judge(model, done, path.with_suffix(".npz")))


def in_chromium(version: str, paths: dict[str, Path], home: Path) -> Iterator[Row]:
    """Every model in a version of @litertjs/core, in Debian's Chromium; npm installs it in the folder `home`."""
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(["npm", "install", "--prefix", str(home), *options, f"@litertjs/core@{version}"], check=True)
    with closing(Browser()) as browser:
        for name, path in paths.items():
            model, found = OnDeviceModel(path, trusted=True), ""
            try:
                with closing(LiteRtJs(browser, home / "node_modules")) as runtime:
                    found = verdict(model, use(runtime.client, path, plan_of(model)), path.with_suffix(".npz"))
            except (AssertionError, RuntimeError) as error:
                found = str(error).splitlines()[0][:160]
            yield Row(_now(), version, "@litertjs/core", name, found)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main(
    versions: Annotated[str, typer.Option(help="Versions of ai-edge-litert.")] = "1.2.0,1.4.0,2.0.2,2.1.5",
    web_versions: Annotated[str, typer.Option(help="Versions of @litertjs/core, in Chromium.")] = "",
    out: Annotated[Path, typer.Option(help="The CSV that rows are appended to.")] = RESULTS,
) -> None:
    """Try every model in every runtime."""
    with tempfile.TemporaryDirectory() as work:
        paths, rows = export(Path(work)), []
        for kind, names in ((in_python, versions), (in_chromium, web_versions)):
            for version in filter(None, names.split(",")):
                for row in kind(version, paths, Path(work) / f"{kind.__name__}-{version}"):
                    rows.append(row)
                    typer.echo(f"{row.runtime:<8} {row.api:<14} {row.model:<26} {row.verdict}")
        new = not out.exists()
        with out.open("a", newline="") as file:
            writer = csv.DictWriter(file, [one.name for one in fields(Row)])
            if new:
                writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    typer.run(main)
