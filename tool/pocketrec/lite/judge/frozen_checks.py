"""The rungs that all frozen models (`lite.frozen`) have to pass, and what is known of a model on trial.

| rung | what holds |
|---|---|
| file | the flatbuffer is whole |
| operators | TensorFlow Lite builtins only |
| signatures | those of the contract, with names, ranks and dtypes |
| card | it is for this split, these weights' settings and these lengths |
| clients | runtimes that cannot change a shape can call it; no operator is newer than the file says |
| ids | the ids in the file are those of the split, in the order of the codes |
| load | LiteRT runs it, in a process of its own, which survives |
| hostile | codes of no user and no item give NaN and items -1, and change no later answer |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import numpy as np

from pocketrec.lite.catalogue import Catalogue, read_catalogue
from pocketrec.lite.contract import ANY, Signatures
from pocketrec.lite.flatbuffer import ModelFile, read_model
from pocketrec.lite.frozen import NONE, FrozenModel, frozen_faults, is_fixed
from pocketrec.lite.judge.file_checks import client_faults
from pocketrec.lite.judge.ladder import Check, Fault, settle
from pocketrec.lite.options import FixedSettings
from pocketrec.lite.processes import run_python
from pocketrec.schema import Float32, Int32
from pocketrec.storage.networks import NetworkFile, NetworkT

TOLERANCE = 2e-5
"""Of a number, beside its own size: float32 sums of a few hundred terms in another order."""
SECONDS = 120
"""That the process of the rung `load` may take."""
USERS, ITEMS = 24, 512
"""How many of each the answers are compared for, at the most."""


@dataclass
class FrozenCase(Generic[NetworkT]):
    """One exported network on trial.

    Attributes:
        path: the file.
        trained: what it was exported from.
        ids: of its codes.
        fixed: the lengths that are fixed in it.
        signatures: that it must have.
        open: opens such a file with LiteRT.
        once: a Python program that runs the file of its first argument once.
        file: what the flatbuffer says; set by the rung `file`.
    """

    path: Path
    trained: NetworkFile[NetworkT]
    ids: Catalogue
    fixed: FixedSettings
    signatures: Signatures
    open: Callable[[Path], FrozenModel[Any, Any]]
    once: str
    file: ModelFile = field(init=False)

    def users(self) -> list[int]:
        """Codes of some users from all over the table, the first and the last among them."""
        return list(map(int, _some(self.trained.network.settings.n_users, USERS)))

    def items(self) -> Int32:
        """Codes of some items from all over the table, the first and the last among them, int32 (n,)."""
        return _some(self.trained.network.settings.n_items, ITEMS)

    def compare(self, ask: Callable[[int, Int32], Float32], expected: Callable[[Int32, Int32], Float32]) -> str:
        """Compare the model's answers with numpy's for users and items from all over the tables, in any order and number.

        `ask` is the model: answers for a user and items, (n,). `expected` is numpy: those for users and items side by side.
        What was compared is returned in words.

        Raises:
            Fault: an answer is not within the tolerance.
        """
        users, items, worst = self.users(), self.items(), 0.0
        for user in users:
            wanted = expected(np.full(len(items), user, np.int32), items)
            for part in (slice(None), slice(None, None, -1), slice(0, 1)):
                worst = max(worst, difference(f"user {user}", ask(user, items[part].copy()), wanted[part]))
        compared = f"{len(users)} users with {len(items)} items each"
        return f"{compared}; largest difference {worst:.1e} (allowed {TOLERANCE:.0e})"


def _some(codes: int, most: int) -> Int32:
    return np.unique(np.linspace(0, codes - 1, most).astype(np.int32))


def _check_file(case: FrozenCase[Any]) -> str:
    case.file = read_model(case.path)
    return f"{case.file.size:,} bytes"


def _check_operators(case: FrozenCase[Any]) -> str:
    model = case.file
    if model.foreign_operators:
        raise Fault(", ".join(model.foreign_operators))
    return f"{len(model.operators)} kinds of builtin operators"


def _check_signatures(case: FrozenCase[Any]) -> str:
    settle(frozen_faults(case.signatures, case.file.signatures))
    return ", ".join(case.signatures)


def _check_card(case: FrozenCase[Any]) -> str:
    card, settings = case.open(case.path).card, case.trained.network.settings
    if (card.settings, card.split, card.fixed) != (settings, case.trained.split, case.fixed):
        found = f"{card.settings}, split {card.split}, {card.fixed}"
        raise Fault(f"it is of {found}, not of {settings}, {case.trained.split}, {case.fixed}")
    return f"codes of {settings.n_users:,} users and {settings.n_items:,} items, split {card.split}"


def _check_clients(case: FrozenCase[Any]) -> str:
    fixed = [name for name, signature in case.signatures.items() if is_fixed(signature)]
    settle(client_faults(case.file, fixed, next(iter(case.signatures))))
    return f"TensorFlow Lite {case.open(case.path).card.runtime} or later; fixed shapes: {', '.join(fixed)}"


def _check_ids(case: FrozenCase[Any]) -> str:
    found = read_catalogue(case.path)
    if (found.ids, found.users) != (case.ids.ids, case.ids.users):
        raise Fault(f"the ids in the file have the hashes {found.hash} and {found.users_hash}, not those of the split")
    return f"{len(found.ids):,} items, XXH3-128 {found.hash}; {len(found.users):,} users, {found.users_hash}"


def _check_load(case: FrozenCase[Any]) -> str:
    if ending := run_python(["-c", case.once, str(case.path.absolute())], SECONDS):
        raise Fault(f"the process that ran the model {ending}")
    return "in a process of its own"


def _check_hostile(case: FrozenCase[Any]) -> str:
    """Codes of no user and no item are seen in each answer, and change no later one."""
    model, made, asked = case.open(case.path), case.trained.network.settings, 0
    for name, (specs, _) in case.signatures.items():
        inputs: dict[str, Any] = {"user": np.array([0], np.int32), "top": np.int32(1)}
        for key in specs.keys() - inputs:
            inputs[key] = np.zeros([2 if one == ANY else one for one in specs[key].shape], np.int32)
        inputs = {key: inputs[key] for key in specs}
        before = model.run(name, **inputs)
        for key, end in (("user", made.n_users), ("items", made.n_items), ("seen", made.n_items)):
            for code in (-2, NONE, end, 2**31 - 1, -(2**31)) if key in specs else ():
                if (key, code) == ("seen", NONE):
                    continue  # it stands for none
                wrong = inputs[key].copy()
                wrong[-1] = code
                answer, asked = model.run(name, **{**inputs, key: wrong}), asked + 1
                # A wrong item spoils its own place; a wrong user, and a wrong item among those seen, all places.
                whole = key != "items"
                settle(
                    [
                        f"{name}: {key} {code} gives {tensor} {value.tolist()}"
                        for tensor, value in answer.items()
                        if not ((value == NONE) if tensor == "items" else np.isnan(value))[... if whole else -1].all()
                    ]
                )
        after = model.run(name, **inputs)
        settle(
            [f"{name}: {key} is another one afterwards" for key in before if before[key].tobytes() != after[key].tobytes()]
        )
    return f"{asked} wrong codes are seen, and change nothing"


def difference(what: str, found: Float32, expected: Float32) -> float:
    """The largest difference, as a share of the size of a number where that is above 1.

    Raises:
        Fault: it is above the tolerance.
    """
    if found.shape != expected.shape:
        raise Fault(f"{what}: {found.shape} numbers, not {expected.shape}")
    worst = float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))
    if not worst <= TOLERANCE:
        raise Fault(f"{what}: they differ by {worst:.1e} (allowed {TOLERANCE:.0e})")
    return worst


FIRST_RUNGS: tuple[Check[Any], ...] = (
    Check("file", _check_file),
    Check("operators", _check_operators, needs=("file",)),
    Check("signatures", _check_signatures, needs=("file",)),
    Check("card", _check_card, needs=("file",)),
    Check("clients", _check_clients, needs=("signatures", "card")),
    Check("ids", _check_ids, needs=("file",)),
    Check("load", _check_load, needs=("operators", "signatures", "card")),
    Check("hostile", _check_hostile, needs=("load",)),
)
