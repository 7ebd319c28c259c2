"""Small models and datasets for the tests of export, verify and runtime; made once a session, then copied.

Without more, the models have every pair of an embedding, an optimizer and a kind of weights. With POCKETREC_MATRIX=all
`pytest tests/lite/judge/test_verify.py` has a model for each of their combinations, which takes some minutes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from filelock import FileLock

from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.neighbour_model import KnownSessions
from pocketrec.lite.neighbours import METHODS, SessionIndex
from pocketrec.storage.layout import Dataset

HERE = Path(__file__).parent
ITEMS, STEPS = 40, 24
MOMENTUM = {"optimizer": "adagrad", "learning_rate": 0.05, "momentum": 0.3}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adagrad": {"optimizer": "adagrad", "learning_rate": 0.05},
    "momentum": MOMENTUM,
    "sgd": {"optimizer": "sgd", "learning_rate": 0.5},
}
BEGIN = "exports begin"
"""What the process that makes the models says on stderr before the first; behind it must be nothing."""
MATRIX: dict[str, dict[str, Any]] = {
    **{name: OPTIMIZERS[name] for name in ("adam", "sgd")},
    "adagrad": {**OPTIMIZERS["adagrad"], "loss": "bpr-max"},
    "separate": {"embedding": "separate", "dropout_embedding": 0.1, "dropout_hidden": 0.1, "storage": "float16"},
    "shared": {"embedding": "shared", **MOMENTUM, "loss": "bpr-max"},
    "answers": {"embedding": "shared", "storage": "int8"},
    "none-momentum-float16": {**MOMENTUM, "storage": "float16", "dropout_embedding": 0.1},
    "none-int8": {"storage": "int8"},
    "separate-adagrad": {"embedding": "separate", **OPTIMIZERS["adagrad"], "dropout_embedding": 0.1},
    "separate-sgd": {"embedding": "separate", **OPTIMIZERS["sgd"], "loss": "bpr-max", "dropout_hidden": 0.25},
    "separate-int8": {"embedding": "separate", "storage": "int8"},
    "shared-adam-float16": {"embedding": "shared", "storage": "float16", "dropout_embedding": 0.25},
    "shared-sgd": {"embedding": "shared", **OPTIMIZERS["sgd"], "loss": "bpr-max", "dropout_embedding": 0.25},
}
"""The datasets' models: settings of `export`. All learn in `train` and `train_sampled`, but those of int8."""
if os.environ.get("POCKETREC_MATRIX") == "all":
    for embedding, optimizer, storage in product(
        ("none", "separate", "shared"), OPTIMIZERS, ("float32", "float16", "int8")
    ):
        MATRIX[f"all-{embedding}-{optimizer}-{storage}"] = {
            "embedding": embedding, **OPTIMIZERS[optimizer], "storage": storage,
        }  # fmt: skip


def make_dataset(root: Path, n_items: int = ITEMS, lanes: tuple[int, ...] = (4, 1)) -> Dataset:
    """A dataset folder with an item index and train batches."""
    dataset, rng = Dataset(root), np.random.default_rng(7)
    dataset.final.mkdir(parents=True, exist_ok=True)
    codes = np.arange(n_items)
    columns = {"item_id": codes * 3 + 100, "item_idx": codes.astype(np.int32), "support": 5 + codes % 7 * codes}
    pl.DataFrame(columns).write_parquet(dataset.items)
    for b in lanes:
        arrays = {
            "feats": rng.integers(0, n_items, (STEPS, b)),
            "targets": rng.integers(0, n_items, (STEPS, b)),
            "masks": np.vstack([np.ones((1, b)), rng.random((STEPS - 1, b)) > 0.3]),
        }
        for name, array in arrays.items():
            np.save(dataset.batches(name, b), array.astype(np.int32))
    return dataset


@functools.cache
def models() -> Path:
    """A folder of exported datasets (see MATRIX; wider has 41 items) and odd models, NAME.tflite. Only read it.

    Made once a test run, by the first worker that asks; the last one to leave removes it.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone{os.getpid()}")
    folder = Path(tempfile.gettempdir()) / f"pocketrec-models-{run}"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "stderr.txt").exists():
            _make_models(folder)
        (folder / f"user{os.getpid()}").touch()
    atexit.register(_leave, folder)
    return folder


def begin() -> None:
    """Have the models made beside the first tests; one that asks for them meanwhile waits."""

    def make() -> None:
        with contextlib.suppress(AssertionError, OSError, UserWarning):  # the test that asks for them says it
            models()

    threading.Thread(target=make, daemon=True).start()


def _leave(folder: Path) -> None:
    (folder / f"user{os.getpid()}").unlink(missing_ok=True)
    if not list(folder.glob("user*")):
        shutil.rmtree(folder, ignore_errors=True)


def _make_models(folder: Path) -> None:
    for name in MATRIX:
        make_dataset(folder / name)
    make_dataset(folder / "wider", ITEMS + 1)
    make_dataset(folder / "one", 1)
    command = [sys.executable, str(HERE / "lite_models.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "stderr.txt").write_text(done.stderr)


def fresh(tmp_path: Path, name: str = "adam") -> Dataset:
    """A copy of one of the exported datasets, to be damaged."""
    root = tmp_path / name
    shutil.copytree(models() / name, root)
    return Dataset(root)


def error_without(package: str, stage: str, dataset: Path) -> str:
    """What `export` or `verify` says, in a process of its own, where a package is not installed."""
    code = (
        f"import sys, importlib.util as u; find = u.find_spec;"
        f"u.find_spec = lambda name, *a: None if name == {package!r} else find(name, *a);"
        f"from pocketrec import {stage}; from pocketrec.errors import MissingExtraError\n"
        f"try: {stage}(sys.argv[1])\nexcept MissingExtraError as error: print(error)"
    )
    return subprocess.run([sys.executable, "-c", code, str(dataset)], capture_output=True, text=True, check=True).stdout


def shrink_slots(content: bytes) -> bytes:
    """The same model; the FILL operators that make the optimizer's slots make them with 0 rows."""
    from ai_edge_litert import schema_py_generated as schema

    data = bytearray(content)
    model = schema.Model.GetRootAs(data, 0)
    fill = [model.OperatorCodes(n).BuiltinCode() for n in range(model.OperatorCodesLength())].index(
        schema.BuiltinOperator.FILL
    )
    for graph in (model.Subgraphs(n) for n in range(model.SubgraphsLength())):
        for operator in (graph.Operators(n) for n in range(graph.OperatorsLength())):
            if operator.OpcodeIndex() == fill:
                shape = model.Buffers(graph.Tensors(operator.Inputs(0)).Buffer()).DataAsNumpy()
                shape[:4] = 0
    return bytes(data)


def kept(path: Path, items: Catalogue) -> Path:
    """A file of three sessions of some items."""
    sessions = np.array([[0, 5, 9], [0, 9, 7], [5, 3, 1]], np.int32)
    index = SessionIndex.of(sessions.ravel(), np.array([3, 3, 3]), np.arange(3), len(items.ids))
    KnownSessions("VSTAN", METHODS["VSTAN"], True, items, index, {}).write(path)
    return path
