"""Files of pocketrec changed at random, of each kind: read as they were, or one clear error.

Never a traceback, a signal, a hang, or more than 512 MB. POCKETREC_FUZZ sets how many files (60 without it),
POCKETREC_FUZZ_SEED which. A long run, with its figures:

    POCKETREC_FUZZ=20000 pytest tests/test_fuzz_files.py -s
"""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fuzz_worker import IDENTITY, Trainer
from lite_support import models
from pocketrec.gru4rec.checkpoints import MEAN, STATE, Checkpoint, Position, write_checkpoint
from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import MANIFEST
from pocketrec.storage.tensors import write_tensors
from pocketrec.training.epoch_runs import Checkpoints, History

pytest.importorskip("ai_edge_litert")

FILES = int(os.environ.get("POCKETREC_FUZZ", "60"))
SEED = int(os.environ.get("POCKETREC_FUZZ_SEED", "1"))
PEAK = 512_000_000
KINDS = {
    "model": 12, "archive": 14, "frozen": 8, "rating": 8, "checkpoint": 15, "learned": 11, "network": 8, "epoch": 12,
    "manifest": 12,
}  # fmt: skip
"""What is changed, and how often of a hundred times."""


def originals(folder: Path) -> dict[str, Path]:
    """A whole file of each kind, each in a folder of its own."""
    paths = {kind: folder / kind / "a.safetensors" for kind in KINDS}
    for path in paths.values():
        path.parent.mkdir()
    for kind in ("model", "archive"):
        paths[kind] = Path(shutil.copy(Dataset(models() / "adam").tflite(4), folder / kind / "a.tflite"))
    for kind in ("frozen", "rating"):
        paths[kind] = Path(shutil.copy(models() / f"{kind}.tflite", folder / kind / "a.tflite"))
    shutil.copytree(models() / "adam", folder / "manifest" / "d")
    paths["manifest"] = folder / "manifest" / "d" / "model" / MANIFEST
    device = OnDeviceModel(shutil.copy(paths["model"], folder / "learned" / "whole.tflite"), trusted=True)
    device.observe(["100", "103", "130"])
    device.learn(keep="always")
    device.save_to(paths["learned"])
    settings = ModelSpec(n_items=9, batch_size=2, hidden_size=3)
    tensors = {name: np.zeros(spec.shape, spec.dtype) for name, spec in settings.state.items()}
    position = Position(2, 7, (3.5, 1e-05), 0.25, (0.125, 0.5))
    means = {MEAN + name: tensors[name] for name in settings.weights} | {STATE: np.ones((2, 3), np.float32)}
    whole = Checkpoint(settings, "items", "batches", average=0.5, position=position, tensors={**tensors, **means})
    write_checkpoint(paths["checkpoint"], whole)
    write_tensors(paths["network"], "network", {"settings": {"layers": [8, 4]}, "split": "0f"}, tensors)
    checkpoints, trainer = Checkpoints(folder / "epoch", IDENTITY), Trainer()
    for number in (1, 2):
        trainer.held = {"model_0": np.array([float(number)])}
        epochs = [{"loss": 1e-05 * n} for n in range(number)]
        checkpoints.write(History(epochs, 1.0, number, trainer.weights()), trainer)
    paths["epoch"] = checkpoints.path(2)
    return paths


@functools.cache
def tables(whole: bytes) -> list[tuple[int, int]]:
    """(begin, end) of what steers LiteRT: operators, their options, inputs and outputs, shapes, small constants."""
    from ai_edge_litert import schema_py_generated as schema

    def vector(table: Any, field: int, item: int) -> tuple[int, int]:
        place = table.Offset(4 + 2 * field)
        return (table.Vector(place), table.Vector(place) + item * table.VectorLen(place)) if place else (0, 0)

    model = schema.Model.GetRootAs(whole, 0)
    found = [vector(model.Buffers(n)._tab, 0, 1) for n in range(model.BuffersLength())]
    found = [(begin, end) for begin, end in found if end - begin <= 64]
    for graph in (model.Subgraphs(n) for n in range(model.SubgraphsLength())):
        for operator in (graph.Operators(n) for n in range(graph.OperatorsLength())):
            found += [vector(operator._tab, 1, 4), vector(operator._tab, 2, 4)]
            found += [(one.Pos, one.Pos + 16) for one in (operator._tab, operator.BuiltinOptions()) if one]
        for tensor in (graph.Tensors(n) for n in range(graph.TensorsLength())):
            found += [vector(tensor._tab, 0, 4), (tensor._tab.Pos, tensor._tab.Pos + 20)]
    return [(begin, end) for begin, end in found if end > begin]


def changed(kind: str, whole: bytes, chance: random.Random) -> bytes:
    """A file with one to three changes: bits, bytes, cuts, insertions, ranges of zeros or of another place."""
    data = bytearray(whole)
    archive = whole.find(b"PK\x03\x04")
    first, last = (archive, len(data)) if kind == "archive" else (0, archive if kind == "model" else len(data))
    if kind not in ("model", "archive", "frozen", "rating", "manifest") and chance.random() < 0.5:
        last = 8 + int.from_bytes(whole[:8], "little")  # the header, where what is read is described
    if kind in ("model", "frozen", "rating") and chance.random() < 0.6:
        first, last = chance.choice(tables(whole))
        at, number = chance.randrange(first, last), chance.choice((0, 1, 2, 7, 39, 40, 41, 1000, 2**31 - 1, 2**32 - 1))
        if chance.random() < 0.5:
            data[at] ^= 1 << chance.randrange(8)
        else:
            data[at : at + 4] = number.to_bytes(4, "little")
        return bytes(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = min(chance.randrange(first, last), len(data) - 1)
        length = chance.choice((1, 2, 4, 8, 100))
        match chance.randrange(10):
            case 0 | 1 | 2 | 3:
                data[at] ^= 1 << chance.randrange(8)
            case 4 | 5:
                data[at] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
            case 6:
                data[at : at + length] = bytes(len(data[at : at + length]))
            case 7:
                other = chance.randrange(first, last)
                data[at : at + length] = data[other : other + len(data[at : at + length])]
            case 8:
                data[at:at] = chance.randbytes(length)
            case _:
                del data[at : at + length if chance.random() < 0.8 else None]
        if not data:
            break
    return bytes(data)


def test_no_file_is_too_odd(tmp_path: Path) -> None:
    began, outcomes, peaks = time.monotonic(), Counter[str](), Counter[str]()
    paths, kinds = originals(tmp_path), list(KINDS)
    contents = {kind: path.read_bytes() for kind, path in paths.items()}
    worker = Path(__file__).with_name("fuzz_worker.py")
    command = [sys.executable, str(worker)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(FILES):
            chance = random.Random(f"{SEED} {number}")
            kind = chance.choices(kinds, list(KINDS.values()))[0]
            paths[kind].write_bytes(changed(kind, contents[kind], chance))
            print(f"{kind} {paths[kind]}", file=process.stdin, flush=True)
            found = json.loads(process.stdout.readline())
            outcomes[f"{kind}: {found['outcome']}"] += 1
            peaks[kind] = max(peaks[kind], found["peak"])
            if found["outcome"] not in ("read", "refused") or found["peak"] > PEAK or "Traceback" in found["message"]:
                process.stdin.close()
                kept = shutil.copy(paths[kind], tmp_path / "failed")
                pytest.fail(f"file {number} of seed {SEED}, {kind}, {kept}: {found}")
        process.stdin.close()
    seconds = time.monotonic() - began
    print(f"\n{FILES:,} files in {seconds:.0f} s; peak {max(peaks.values(), default=0) / 1e6:.0f} MB")  # for pytest -s
    for outcome, count in sorted(outcomes.items()):
        print(f"  {outcome:<40}{count:>9,}")
    assert sum(outcomes.values()) == FILES
