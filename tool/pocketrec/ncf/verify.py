"""Judge an exported network on plain LiteRT against numpy and the weights of training, rung by rung.

| rung | what holds |
|---|---|
| file | the flatbuffer is whole |
| operators | TensorFlow Lite builtins only |
| signatures | score and recommend, with names, ranks and dtypes |
| card | it is for this split and these weights' settings |
| load | LiteRT runs it, in a process of its own, which survives |
| scores | they equal numpy's, for users and items all over the tables |
| top | recommend gives the best unseen items, and never one that was seen |
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pocketrec
from pocketrec.lite.contract import TensorSpec
from pocketrec.lite.flatbuffer import ModelFile, read_model
from pocketrec.lite.ladder import Check, Fault, Rung, climb
from pocketrec.ncf.contract import ANY, SIGNATURES
from pocketrec.ncf.interactions import Interactions
from pocketrec.ncf.network import NetworkFile
from pocketrec.ncf.runtime import NcfModel

USERS, ITEMS, TOP = 24, 512, 20
TOLERANCE = 2e-5
"""Of a logit, beside its own size: float32 sums of a few hundred terms in another order."""
SECONDS = 120
_RUN = (
    "import sys, numpy as np; from pocketrec.ncf.runtime import NcfModel; model = NcfModel(sys.argv[1]); "
    "one = np.array([0], np.int32); model.score(0, one); model.recommend(0, one, 1)"
)


@dataclass
class Case:
    """One exported network on trial.

    Attributes:
        path: the file.
        trained: what it was exported from.
        interactions: the split.
        file: what the flatbuffer says; set by the rung `file`.
    """

    path: Path
    trained: NetworkFile
    interactions: Interactions
    file: ModelFile | None = None

    def read(self) -> ModelFile:
        """The flatbuffer, once the rung `file` has read it."""
        if self.file is None:
            raise Fault("the file was not read")
        return self.file

    def users(self) -> list[int]:
        """Some users, the first and the last among them."""
        last = self.trained.network.settings.n_users - 1
        return [int(user) for user in np.unique(np.linspace(0, last, USERS).astype(int))]


def verify_export(path: Path, trained: NetworkFile, interactions: Interactions) -> tuple[Rung, ...]:
    """Climb the ladder."""
    return tuple(climb(LADDER, Case(path, trained, interactions)))


def _check_file(case: Case) -> str:
    case.file = read_model(case.path)
    return f"{case.file.size:,} bytes"


def _check_operators(case: Case) -> str:
    model = case.read()
    if model.foreign_operators:
        raise Fault(", ".join(model.foreign_operators))
    return f"{len(model.operators)} kinds of builtin operators"


def _check_signatures(case: Case) -> str:
    found, faults = case.read().signatures, []
    for name, sides in SIGNATURES.items():
        if name not in found:
            faults.append(f"no signature {name!r}")
            continue
        for side, needed, has in zip(("input", "output"), sides, (found[name].inputs, found[name].outputs), strict=True):
            if set(needed) != set(has):
                faults.append(f"{name}: {side}s are {', '.join(sorted(has))}, not {', '.join(sorted(needed))}")
            faults += [
                f"{name}: {side} {tensor} is {has[tensor]}, not {spec}"
                for tensor, spec in needed.items()
                if tensor in has and not _fits(spec, str(has[tensor]))
            ]
    if faults:
        raise Fault("\n".join(faults))
    return ", ".join(SIGNATURES)


def _fits(spec: TensorSpec, found: str) -> bool:
    """Whether a tensor is as it should be; the flatbuffer writes a length that may be any as 1 or -1."""
    forms = {str(spec)} | ({f"{spec.dtype}[1]", f"{spec.dtype}[-1]", f"{spec.dtype}[]"} if ANY in spec.shape else set())
    return found in forms


def _check_card(case: Case) -> str:
    card = NcfModel(case.path).card
    if card.settings != case.trained.network.settings or card.split != case.trained.split:
        raise Fault(
            f"it is of {card.settings}, split {card.split}, not of {case.trained.network.settings}, {case.trained.split}"
        )
    return f"{card.settings.n_users:,} users, {card.settings.n_items:,} items, {card.settings.kind}"


def _check_load(case: Case) -> str:
    paths = os.pathsep.join(filter(None, [str(Path(pocketrec.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-c", _RUN, str(case.path.absolute())]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, "PYTHONPATH": paths}
        )
    except subprocess.TimeoutExpired as error:
        raise Fault(f"the process that ran the model took more than {SECONDS} s") from error
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
        raise Fault(f"the process that ran the model ended with status {done.returncode}: {last}")
    return "in a process of its own"


def _check_scores(case: Case) -> str:
    model, network, worst = NcfModel(case.path), case.trained.network, 0.0
    items = np.unique(np.linspace(0, network.settings.n_items - 1, ITEMS).astype(np.int32))
    for user in case.users():
        expected = network.pairs(np.full(len(items), user, np.int32), items)
        for some in (items, items[::-1], items[:1]):
            found = model.score(user, some)
            wanted = expected if some is items else expected[::-1] if len(some) > 1 or len(items) == 1 else expected[:1]
            worst = max(worst, _difference(f"user {user}", found, wanted))
    return (
        f"{len(case.users())} users with {len(items)} items each; largest difference {worst:.1e} (allowed {TOLERANCE:.0e})"
    )


def _check_top(case: Case) -> str:
    model, network = NcfModel(case.path), case.trained.network
    for user in case.users():
        seen = case.interactions.of(user) if len(case.interactions.of(user)) else np.array([0], np.int32)
        left = network.all_items(np.array([user], np.int32))[0]
        left[seen] = -np.inf
        top = min(TOP, network.settings.n_items - len(np.unique(seen)))
        items, scores = model.recommend(user, seen, top)
        if len(items) != top or set(items.tolist()) & set(seen.tolist()) or len(set(items.tolist())) != top:
            raise Fault(f"user {user}: {items.tolist()} are not {top} different unseen items")
        _difference(f"user {user}", scores, np.sort(left)[::-1][:top])  # equal scores may come in any order
        _difference(f"user {user}", scores, left[items])
    return f"the best {TOP} unseen items of {len(case.users())} users"


def _difference(what: str, found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the size of a score where that is above 1."""
    if found.shape != expected.shape:
        raise Fault(f"{what}: {found.shape} scores, not {expected.shape}")
    worst = float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))
    if not worst <= TOLERANCE:
        raise Fault(f"{what}: scores differ by {worst:.1e} (allowed {TOLERANCE:.0e})")
    return worst


LADDER: tuple[Check[Case], ...] = (
    Check("file", _check_file),
    Check("operators", _check_operators, needs=("file",)),
    Check("signatures", _check_signatures, needs=("file",)),
    Check("card", _check_card, needs=("file",)),
    Check("load", _check_load, needs=("operators", "signatures", "card")),
    Check("scores", _check_scores, needs=("load",)),
    Check("top", _check_top, needs=("load",)),
)
