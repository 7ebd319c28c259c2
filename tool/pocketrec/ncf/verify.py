"""Judge an exported network on plain LiteRT against numpy and the weights of training, rung by rung.

After the rungs of `lite.judge.frozen_checks`:

| rung | what holds |
|---|---|
| scores | they equal numpy's, for users and items from all over the tables, in blocks of a fixed length, too |
| top | recommend and recommend_fixed give the best unseen items, and never one that was seen |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.judge.frozen_checks import FIRST_RUNGS, FrozenCase, difference
from pocketrec.lite.judge.ladder import Check, Fault, Rung, climb
from pocketrec.ncf.interactions import Interactions
from pocketrec.ncf.network import AnyNetwork
from pocketrec.ncf.options import NcfExportSettings
from pocketrec.ncf.runtime import NcfModel, signatures_of
from pocketrec.schema import Float32, Int32
from pocketrec.storage.networks import NetworkFile

TOP = 20
_RUN = (
    "import sys, numpy as np; from pocketrec.ncf.runtime import NcfModel; model = NcfModel(sys.argv[1]); "
    "one = np.array([0], np.int32); model.score(0, one); model.recommend(0, one, 1)"
)


@dataclass
class Case(FrozenCase[AnyNetwork]):
    """One exported network on trial, and the split that it was trained on."""

    interactions: Interactions = field(kw_only=True)


def verify_export(
    path: Path, trained: NetworkFile[AnyNetwork], ids: Catalogue, fixed: NcfExportSettings, interactions: Interactions
) -> tuple[Rung, ...]:
    """The verdicts on a .tflite, rung by rung, beside the network that it was made from, its ids and its split."""
    signatures = signatures_of(trained.network.settings, fixed)
    case = Case(path, trained, ids, fixed, signatures, NcfModel, _RUN, interactions=interactions)
    return tuple(climb(LADDER, case))


def _check_scores(case: Case) -> str:
    model, pairs = NcfModel(case.path), case.trained.network.pairs
    case.compare(model.score_fixed, pairs)
    return case.compare(model.score, pairs)


def _check_top(case: Case) -> str:
    model, n_items = NcfModel(case.path), case.trained.network.settings.n_items
    for user in case.users():
        seen = case.interactions.of(user)
        _check_best(case, user, seen, TOP, model.recommend(user, seen, min(TOP, n_items)))
        some = seen[-model.fixed.fixed_seen :]
        _check_best(case, user, some, model.fixed.top_k, model.recommend_fixed(user, some))
    return f"the best {TOP}, and the best {model.fixed.top_k}, unseen items of {len(case.users())} users"


def _check_best(case: Case, user: int, seen: Int32, most: int, found: tuple[Int32, Float32]) -> None:
    """Check that the items found are the best that are not among those seen, as many as there are up to `most`."""
    left = case.trained.network.all_items(np.array([user], np.int32))[0]
    left[seen] = -np.inf
    (items, scores), top = found, min(most, int((left > -np.inf).sum()))
    if len(items) != top or set(items.tolist()) & set(seen.tolist()) or len(set(items.tolist())) != top:
        raise Fault(f"user {user}: {items.tolist()} are not {top} different unseen items")
    if top:
        difference(f"user {user}", scores, np.sort(left)[::-1][:top])  # equal scores may come in any order
        difference(f"user {user}", scores, left[items])


LADDER: tuple[Check[Case], ...] = (
    *FIRST_RUNGS,
    Check("scores", _check_scores, needs=("load",)),
    Check("top", _check_top, needs=("load",)),
)
