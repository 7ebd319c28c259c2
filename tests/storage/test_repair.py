"""Any file of a dataset damaged in any way: every command ends in its result or in one message, and nothing is run.

POCKETREC_DAMAGES sets how many times (forty without it), POCKETREC_DAMAGES_SEED which:

    POCKETREC_DAMAGES=10000 pytest tests/storage/test_repair.py
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketrec
from conftest import call
from ncf_support import Rating, write_dat
from pocketrec.ncf.batches import batches as ncf_batches
from pocketrec.ncf.options import NcfMakeSettings, NcfPrepSettings
from pocketrec.ncf.prep import prep as ncf_prep
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.files import content_hash
from pocketrec.storage.manifest import MANIFEST

DAMAGES = int(os.environ.get("POCKETREC_DAMAGES", "40"))
SEED = int(os.environ.get("POCKETREC_DAMAGES_SEED", "1"))
COMMANDS = (
    ("inspect",),
    ("verify-data",),
    ("prep", "LOG", "--batch-size", "16", "--holdout", "2d"),
    ("split", "--holdout", "2d"),
    ("split", "--holdout", "1d"),
    ("batches", "--batch-size", "16", "--fresh"),
    ("batches", "--batch-size", "8", "--formats", "npy"),
    ("ncf", "prep", "RATINGS", "--min-ratings", "2"),
    ("ncf", "prep", "RATINGS", "--min-ratings", "3"),
    ("ncf", "batches", "--train-epochs", "1", "--eval-negatives", "9"),
)
ODD: tuple[Any, ...] = (None, True, -1, 2**70, 1.5, float("nan"), "", "x", "../../up", [], ["a"], {}, {"a": {}}, [[[]]])


class Ran:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    synth(root / "LOG", SynthSettings(clicks=20_000, seed=3))
    write_dat(
        root / "RATINGS", (Rating(user, 3 * item + user % 3, 10**9 + item) for user in range(60) for item in range(9))
    )
    pocketrec.prep(
        root / "LOG", root / "d", batching=BatchSettings(batch_size=16), splitting=SplitSettings(holdout=2 * 86400.0)
    )
    ncf_prep(root / "RATINGS", root / "d", NcfPrepSettings(min_ratings=2))
    ncf_batches(root / "d", NcfMakeSettings(train_epochs=1, eval_negatives=9))
    return root


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a JSON document with a key or place in it."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def change_json(path: Path, chance: random.Random) -> str:
    """A value of another kind, or none, anywhere."""
    document = json.loads(path.read_text())
    holder, key = chance.choice(places(document))
    if chance.random() < 0.3:
        del holder[key]
        told = f"without {key!r}"
    else:
        holder[key] = chance.choice(ODD)
        told = f"{key!r} is {holder[key]!r}"
    path.write_text(json.dumps(document))
    return told


def damage(path: Path, chance: random.Random, mark: Path) -> str:
    """Damage a file in some way; returns what was done."""
    data, kind = bytearray(path.read_bytes()), chance.randrange(9)
    at = chance.randrange(len(data))
    if path.name == MANIFEST and kind < 6:
        return change_json(path, chance)
    if path.name == MANIFEST and kind == 6:
        path.write_bytes(b'{"format": 1, "records": ' + b"[" * 100_000)
        return "deep"
    if path.suffix == ".npy" and kind < 2:
        np.save(path, np.array([Ran(mark)], dtype=object), allow_pickle=True)
        return "pickled"
    if path.suffix == ".npy" and kind == 2:
        path.write_bytes(pickle.dumps(Ran(mark)))
        return "a pickle"
    if kind in (3, 4):
        for place in [at, *(chance.randrange(len(data)) for _ in range(chance.randrange(9)))]:
            data[place] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        return f"changed at {at}"
    path.unlink()
    if kind == 5:
        path.mkdir()
        return "a folder"
    if kind == 6:
        return "gone"
    path.write_bytes(chance.randbytes(len(data)) if kind == 7 else data[:at])
    return "random" if kind == 7 else f"cut at {at}"


@pytest.mark.parametrize("trial", range(DAMAGES))
def test_every_command_has_one_message(made: Path, tmp_path: Path, trial: int) -> None:
    chance, home, mark = random.Random(f"{SEED} {trial}"), tmp_path / "d", tmp_path / "it was run"
    shutil.copytree(made / "d", home)
    files = sorted(path for path in home.rglob("*") if path.is_file())
    path = chance.choice([one for one in files if one.name == MANIFEST] if chance.random() < 0.5 else files)
    before = content_hash(path)
    told = f"{path.relative_to(home)}: {damage(path, chance, mark)}"
    print(told)
    changed = not path.is_file() or content_hash(path) != before
    if path.name != MANIFEST:
        assert pocketrec.verify_data(home).passed != changed, told
    commands = list(COMMANDS)
    chance.shuffle(commands)
    for command in [("inspect",), ("verify-data",), *commands[:3]]:
        words = [made / word if word in ("LOG", "RATINGS") else word for word in command]
        code, _, err = call(*words, "--dataset", home)
        assert code in (0, 1), (told, command, err)
        if code and command[0] != "verify-data":
            assert err.startswith("Error: "), (told, command, err)
    assert not mark.exists(), told
