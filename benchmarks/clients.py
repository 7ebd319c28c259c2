"""The exported models in versions of LiteRT, each in a virtual environment of its own: right, or what went wrong.

    python benchmarks/clients.py --versions 1.2.0,1.4.0,2.0.2,2.1.5,2.3.0 --web-versions 2.5.2,2.5.3

For each model, version and API (`Interpreter`, and `CompiledModel` where there is one) a client with numpy alone
(tests/litert_client.py) recommends, learns 28 steps and 4 more by `learn`, saves twice, restores in a fresh instance and
does a step in both. What it says is held against `OnDeviceModel` here. One row a run goes to results/clients.csv.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from browser import Browser, LiteRtJs
from litert_client import SEEN, USER, replay, use
from pocketrec.dnn import export as dnn_export
from pocketrec.dnn.network import DnnSettings
from pocketrec.dnn.network import Network as DnnNetwork
from pocketrec.dnn.runtime import DnnModel
from pocketrec.gru4rec.export import model_bytes
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.ncf import export as ncf_export
from pocketrec.ncf.network import Network, NetworkSettings
from pocketrec.ncf.runtime import NcfModel
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.tensors import Tensors

HERE = Path(__file__).parent
CLIENT = HERE.parent / "tests" / "litert_client.py"
RESULTS = HERE / "results" / "clients.csv"
ITEMS, USERS = 200, 20
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


Models = dict[str, Callable[[], Any]]
"""By name, what opens a model: an `OnDeviceModel`, `NcfModel` or `DnnModel`, a new one each time, since it may learn."""


def export(folder: Path) -> Models:
    """Small models of every kind: how each is opened."""
    items = Catalogue(tuple(str(1000 + code) for code in range(ITEMS)), np.arange(1, ITEMS + 1))
    ids = Catalogue.of(items.ids, items.support, range(USERS))
    ncf_settings = NetworkSettings(n_users=USERS, n_items=ITEMS)
    dnn_settings = DnnSettings(
        n_users=USERS, n_items=ITEMS, task="classify", user_columns=2, item_columns=3, lowest=0.5, highest=5.0,
        values=(0.5, 2.5, 5.0),
    )  # fmt: skip
    models: Models = {}
    for number, (name, settings) in enumerate(MODELS.items()):
        path = folder / f"model{number}.tflite"
        path.write_bytes(model_bytes(ModelSpec(n_items=ITEMS, batch_size=4, hidden_size=16, **settings), items))
        models[name] = partial(OnDeviceModel, path, trusted=True)
    ncf, dnn = folder / "ncf.tflite", folder / "dnn.tflite"
    ncf.write_bytes(ncf_export.model_bytes(NetworkFile(Network(ncf_settings, weights_of(ncf_settings)), ""), ids))
    dnn.write_bytes(dnn_export.model_bytes(NetworkFile(DnnNetwork(dnn_settings, weights_of(dnn_settings)), ""), ids))
    models["ncf, NeuMF"] = partial(NcfModel, ncf, trusted=True)
    models["dnn, classify"] = partial(DnnModel, dnn, trusted=True)
    return models


def weights_of(settings: Any) -> Tensors:
    """Random weights of a network."""
    rng = np.random.default_rng(1)
    return {name: rng.normal(scale=0.3, size=shape).astype(np.float32) for name, shape in settings.shapes.items()}


def judge_answers(model: Any, found: dict[str, Any]) -> list[str]:
    """What is wrong with the answers of a model that does not learn."""
    every, seen = np.arange(model.card.settings.n_items, dtype=np.int32), np.array(SEEN, np.int32)
    ncf = isinstance(model, NcfModel)
    wanted = model.score(USER, every) if ncf else model.predict(USER, every)[0]
    faults = [] if np.allclose(found["scores"], wanted, atol=1e-5) else ["scores are wrong"]
    if np.isnan(found["wrong_item"]).tolist() != [False, True, False, True] or not np.isnan(found["wrong_user"]).all():
        faults.append("a wrong code is not seen")
    if ncf and found["items"] != model.recommend(USER, seen, len(found["items"]))[0].tolist():
        faults.append("recommend_fixed is wrong")
    if ncf and set(found["no_user"] + found["no_item"]) != {-1}:
        faults.append("a wrong code is not seen in recommend_fixed")
    return faults


def judge(model: Any, done: subprocess.CompletedProcess[str], saved: Path) -> str:
    """Whether a client in a process got what it should; else what it got."""
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        return f"signal {-done.returncode}" if done.returncode < 0 else last[:160]
    return verdict(model, json.loads(done.stdout.strip().splitlines()[-1]), saved)


def verdict(model: Any, found: dict[str, Any], saved: Path) -> str:
    """Whether what a client found (`litert_client.use`) and saved is right; else what is wrong."""
    if not isinstance(model, OnDeviceModel):
        return "; ".join(judge_answers(model, found)) or "right"
    faults = []
    items, _, _ = model.recommend_next(3, model.fresh_state(1))
    if found["items"] != items.tolist():
        faults.append("recommend is wrong")
    if set(found["wrong"]) != {-1}:
        faults.append("a wrong code is not seen")
    if model.settings.trainable:
        losses, own = replay(model, found), model.save()
        with np.load(saved) as tensors:
            wrong = [name for name in own if not np.allclose(tensors[name], own[name], atol=1e-4)]
        faults += [] if np.allclose(found["losses"], losses, atol=1e-4) else ["train_one or learn is wrong"]
        faults += [f"save is wrong: {', '.join(wrong)}"] if wrong or not found["same"] else []
        faults += [] if found["next"][0] == found["next"][1] else ["the step after restore is another"]
        faults += [] if found["refused"] else ["a wrong code is learned"]
    return "; ".join(faults) or "right"


def plan_of(model: Any) -> dict[str, Any]:
    """What a client must know of a model: `litert_client.Plan`."""
    signatures = model.card.signatures if isinstance(model, OnDeviceModel) else model.signatures()
    known = {"settings": asdict(model.card.settings), "signatures": signatures}
    plan: dict[str, Any] = json.loads(json.dumps(known, default=asdict))
    return plan


def in_python(version: str, models: Models, home: Path) -> Iterator[Row]:
    """Every model in a version of ai-edge-litert, in a virtual environment in the folder `home`."""
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    wanted = [f"ai-edge-litert=={version}", "numpy" if version.startswith("2") else "numpy<2.3"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    for api in ["interpreter", *(["compiled"] if version.startswith("2") else [])]:
        for name, opened in models.items():
            model = opened()
            path, plan = model.path, model.path.with_suffix(".json")
            plan.write_text(json.dumps(plan_of(model)))
            command = [str(python), str(CLIENT), api, str(path), str(plan)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            yield Row(_now(), version, api, name, judge(model, done, path.with_suffix(".npz")))


def in_chromium(version: str, models: Models, home: Path) -> Iterator[Row]:
    """Every model in a version of @litertjs/core, in Debian's Chromium; npm installs it in the folder `home`."""
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(["npm", "install", "--prefix", str(home), *options, f"@litertjs/core@{version}"], check=True)
    with closing(Browser()) as browser:
        for name, opened in models.items():
            model, found = opened(), ""
            try:
                with closing(LiteRtJs(browser, home / "node_modules")) as runtime:
                    found = verdict(model, use(runtime.client, model.path, plan_of(model)), model.path.with_suffix(".npz"))
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
        models, rows = export(Path(work)), []
        for kind, names in ((in_python, versions), (in_chromium, web_versions)):
            for version in filter(None, names.split(",")):
                for row in kind(version, models, Path(work) / f"{kind.__name__}-{version}"):
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
