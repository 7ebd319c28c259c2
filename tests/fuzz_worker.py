"""Reads files that were changed at random, each in a fork of this process: `python tests/fuzz_worker.py FOLDER`.

For each line `WHAT PATH` on stdin it prints what became of it, as JSON: the outcome, the peak memory of the process (and of
those that it began), and the message. It is a program of its own, since a fork of a process with many threads may hang.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pocketrec.dnn.runtime import DnnModel
from pocketrec.errors import PocketrecError
from pocketrec.gru4rec.checkpoints import read_checkpoint
from pocketrec.lite.inspect_model import inspect_model
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.ncf.runtime import NcfModel
from pocketrec.storage.inspect import inspect
from pocketrec.storage.layout import Dataset
from pocketrec.storage.stage import Stage
from pocketrec.storage.tensors import Tensors, read_tensors
from pocketrec.storage.verify_data import verify_data
from pocketrec.training.epoch_runs import Checkpoints

SECONDS = 120
"""Longer than that is a hang."""
SESSION = ("100", "103", "130", "217", "100")
IDENTITY = {"named": {"seed": 3}}


class Trainer:
    """Holds what it was last restored to."""

    def __init__(self) -> None:
        self.held: Tensors = {"model_0": np.zeros(1)}

    def weights(self) -> Tensors:
        return self.held

    def state(self) -> Tensors:
        return self.held

    def restore(self, state: Tensors) -> None:
        self.held = {"model_0": state["model_0"]}


def model(path: Path) -> None:
    """What `recommend` and `evaluate` do, and what an app does."""
    device = OnDeviceModel(path, 1)
    device.recommend(SESSION)
    device.observe(SESSION)
    device.learn()
    state = device.fresh_state()
    for code in range(len(device.items.ids)):
        _, state = device.infer(np.full(device.settings.batch_size, code, np.int32), state)
    device.recommend(SESSION)


def frozen(path: Path) -> None:
    network = NcfModel(path, 1)
    for user in range(network.card.settings.n_users):
        network.score(user, np.arange(network.card.settings.n_items, dtype=np.int32))
        network.recommend(user, np.array([0, 3], np.int32), 3)


def rating(path: Path) -> None:
    network = DnnModel(path, 1)
    for user in range(network.card.settings.n_users):
        network.predict(user, np.arange(network.card.settings.n_items, dtype=np.int32))


def manifest(path: Path) -> None:
    """What the commands do that read all manifests of a dataset, and what export does before it writes."""
    dataset = Dataset(path.parents[1])
    inspect(dataset.root)
    verify_data(dataset.root)
    Stage(dataset.model, "export", {}, {}, ("export",), key="export_bs4").current(intact=True)


def epoch(path: Path) -> None:
    """The newest checkpoint is changed: the run goes on from it as it was, or from the one before."""
    trainer = Trainer()
    history = Checkpoints(path.parent, IDENTITY).resume(trainer, 9)
    number = len(history.epochs)
    assert number in (1, 2), number
    assert trainer.held["model_0"].tolist() == [number]


READERS: dict[str, Callable[[Path], object]] = {
    "model": model,
    "archive": inspect_model,
    "frozen": frozen,
    "rating": rating,
    "manifest": manifest,
    "checkpoint": read_checkpoint,
    "learned": lambda path: OnDeviceModel(path.with_name("whole.tflite"), 1, trusted=True).restore_from(path),
    "network": lambda path: read_tensors(path, "network", what="a network", do="train"),
    "epoch": epoch,
}


def attempt(what: str, path: Path, told: int) -> None:
    """In the fork: read the file, say what became of it, and end."""
    signal.alarm(SECONDS)
    outcome, message = "read", ""
    try:
        with contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
            READERS[what](path)
    except PocketrecError as error:
        outcome, message = "refused", str(error)
    except BaseException:
        outcome, message = "traceback", traceback.format_exc()
    os.write(told, json.dumps([outcome, message[-2000:]]).encode())
    os._exit(0)


def attempts(lines: Iterator[str]) -> Iterator[dict[str, object]]:
    for line in lines:
        what, _, path = line.rstrip("\n").partition(" ")
        hears, told = os.pipe()
        if not (child := os.fork()):
            attempt(what, Path(path), told)
        os.close(told)
        with os.fdopen(hears, "rb") as pipe:
            said = pipe.read()
        _, status, used = os.wait4(child, 0)
        outcome, message = json.loads(said) if said else ("nothing", "")
        if os.WIFSIGNALED(status):
            outcome = signal.Signals(os.WTERMSIG(status)).name
        yield {"outcome": outcome, "message": message, "peak": used.ru_maxrss * 1024}


if __name__ == "__main__":
    for found in attempts(iter(sys.stdin.readline, "")):
        print(json.dumps(found), flush=True)
