"""Small models and datasets for the tests of export, verify and runtime; made once a session, then copied."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.layout import Dataset

HERE = Path(__file__).parent
ITEMS, STEPS = 40, 24


def make_dataset(root: Path, n_items: int = ITEMS, lanes: tuple[int, ...] = (4, 1)) -> Dataset:
    """A dataset folder with an item index and train batches."""
    dataset, rng = Dataset(root), np.random.default_rng(7)
    dataset.final.mkdir(parents=True, exist_ok=True)
    codes = np.arange(n_items)
    columns = {"item_id": codes * 3 + 100, "item_idx": codes.astype(np.int32), "support": np.full(n_items, 5)}
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
    """A folder of exported datasets (adam, adagrad, sgd; wider has 41 items) and odd models, NAME.tflite. Only read it."""
    folder = Path(tempfile.mkdtemp(prefix="pocketrec-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("adam", "adagrad", "sgd"):
        make_dataset(folder / name)
    make_dataset(folder / "wider", ITEMS + 1)
    command = [sys.executable, str(HERE / "lite_models.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


def fresh(tmp_path: Path, name: str = "adam") -> Dataset:
    """A copy of one of the exported datasets, to be damaged."""
    root = tmp_path / name
    shutil.copytree(models() / name, root)
    return Dataset(root)
