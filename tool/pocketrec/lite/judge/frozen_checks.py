"""The rungs that all frozen models (`lite.frozen`) have to pass, and what is known of a model on trial.

| rung | what holds |
|---|---|
| file | the flatbuffer is whole |
| operators | TensorFlow Lite builtins only |
| signatures | those of the contract, with names, ranks and dtypes |
| card | it is for this split and these weights' settings |
| load | LiteRT runs it, in a process of its own, which survives |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import numpy as np

from pocketrec.lite.flatbuffer import ModelFile, read_model
from pocketrec.lite.frozen import FrozenModel, Signatures, frozen_faults
from pocketrec.lite.judge.ladder import Check, Fault, settle
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
        signatures: that it must have.
        open: opens such a file with LiteRT.
        once: a Python program that runs the file of its first argument once.
        file: what the flatbuffer says; set by the rung `file`.
    """

    path: Path
    trained: NetworkFile[NetworkT]
    signatures: Signatures
    open: Callable[[Path], FrozenModel[Any]]
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
    if card.settings != settings or card.split != case.trained.split:
        raise Fault(f"it is of {card.settings}, split {card.split}, not of {settings}, {case.trained.split}")
    return f"codes of {settings.n_users:,} users and {settings.n_items:,} items, split {card.split}"


def _check_load(case: FrozenCase[Any]) -> str:
    if ending := run_python(["-c", case.once, str(case.path.absolute())], SECONDS):
        raise Fault(f"the process that ran the model {ending}")
    return "in a process of its own"


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
    Check("load", _check_load, needs=("operators", "signatures", "card")),
)
