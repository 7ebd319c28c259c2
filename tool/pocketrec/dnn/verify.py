"""Judge an exported rating DNN on plain LiteRT against numpy and the weights of training, rung by rung.

After the rungs of `lite.plain_checks`:

| rung | what holds |
|---|---|
| ratings | they equal numpy's, for users and items all over the tables, code 0 among them, in any order and number |
| range | they are within the ratings that are given; probabilities add up to 1 |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocketrec.dnn.network import Network
from pocketrec.dnn.runtime import DnnModel, signatures_of
from pocketrec.lite.judge.frozen_checks import FIRST_RUNGS, TOLERANCE, PlainCase, difference
from pocketrec.lite.judge.ladder import Check, Fault, Rung, climb
from pocketrec.schema import Int32
from pocketrec.storage.networks import NetworkFile

USERS, ITEMS = 24, 512
_RUN = (
    "import sys, numpy as np; from pocketrec.dnn.runtime import DnnModel; "
    "DnnModel(sys.argv[1]).predict(0, np.array([0], np.int32))"
)
Case = PlainCase[Network]


def verify_export(path: Path, trained: NetworkFile[Network]) -> tuple[Rung, ...]:
    """Climb the ladder."""
    case = Case(path, trained, signatures_of(trained.network.settings), lambda path: DnnModel(path).card, _RUN)
    return tuple(climb(LADDER, case))


def _some(case: Case) -> tuple[list[int], Int32]:
    """Users and items all over the tables, the first and the last among them."""
    settings = case.trained.network.settings
    users = np.unique(np.linspace(0, settings.n_users - 1, USERS).astype(int))
    return users.tolist(), np.unique(np.linspace(0, settings.n_items - 1, ITEMS).astype(np.int32))


def _check_ratings(case: Case) -> str:
    model, network, worst = DnnModel(case.path), case.trained.network, 0.0
    users, items = _some(case)
    for user in users:
        expected = network.ratings(np.full(len(items), user, np.int32), items)
        for part in (slice(None), slice(None, None, -1), slice(0, 1)):
            found, _ = model.predict(user, items[part].copy())
            worst = max(worst, difference(f"user {user}", found, expected[part]))
    return f"{len(users)} users with {len(items)} items each; largest difference {worst:.1e} (allowed {TOLERANCE:.0e})"


def _check_range(case: Case) -> str:
    model, settings = DnnModel(case.path), case.trained.network.settings
    users, items = _some(case)
    for user in users:
        ratings, odds = model.predict(user, items)
        if not (np.isfinite(ratings).all() and settings.lowest <= ratings.min() and ratings.max() <= settings.highest):
            raise Fault(f"user {user}: ratings from {ratings.min()} to {ratings.max()}")
        if odds is not None:
            difference(f"user {user}, probabilities", odds.sum(axis=1), np.ones(len(items), np.float32))
    return f"within {settings.lowest} and {settings.highest}"


LADDER: tuple[Check[Case], ...] = (
    *FIRST_RUNGS,
    Check("ratings", _check_ratings, needs=("load",)),
    Check("range", _check_range, needs=("load",)),
)
