"""Judge an exported network on plain LiteRT against numpy and the weights of training, rung by rung.

After the rungs of `lite.judge.frozen_checks`:

| rung | what holds |
|---|---|
| scores | they equal numpy's, for users and items from all over the tables |
| top | recommend gives the best unseen items, and never one that was seen |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pocketrec.lite.judge.frozen_checks import FIRST_RUNGS, FrozenCase, difference
from pocketrec.lite.judge.ladder import Check, Fault, Rung, climb
from pocketrec.ncf.interactions import Interactions
from pocketrec.ncf.network import Network
from pocketrec.ncf.runtime import SIGNATURES, NcfModel
from pocketrec.storage.networks import NetworkFile

TOP = 20
_RUN = (
    "import sys, numpy as np; from pocketrec.ncf.runtime import NcfModel; model = NcfModel(sys.argv[1]); "
    "one = np.array([0], np.int32); model.score(0, one); model.recommend(0, one, 1)"
)


@dataclass
class Case(FrozenCase[Network]):
    """One exported network on trial, and the split that it was trained on."""

    interactions: Interactions = field(kw_only=True)


def verify_export(path: Path, trained: NetworkFile[Network], interactions: Interactions) -> tuple[Rung, ...]:
    """The verdicts on a .tflite, rung by rung, beside the network that it was made from and that one's split."""
    case = Case(path, trained, SIGNATURES, NcfModel, _RUN, interactions=interactions)
    return tuple(climb(LADDER, case))


def _check_scores(case: Case) -> str:
    return case.compare(NcfModel(case.path).score, case.trained.network.pairs)


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
        difference(f"user {user}", scores, np.sort(left)[::-1][:top])  # equal scores may come in any order
        difference(f"user {user}", scores, left[items])
    return f"the best {TOP} unseen items of {len(case.users())} users"


LADDER: tuple[Check[Case], ...] = (
    *FIRST_RUNGS,
    Check("scores", _check_scores, needs=("load",)),
    Check("top", _check_top, needs=("load",)),
)
