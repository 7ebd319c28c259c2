"""Judge an exported rating DNN on plain LiteRT against numpy and the weights of training, rung by rung.

After the rungs of `lite.judge.frozen_checks`:

| rung | what holds |
|---|---|
| ratings | they equal numpy's, for users and items from all over the tables, code 0 among them, in any order and blocks |
| range | they are within the ratings that are given; probabilities add up to 1 |
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from pocketrec.dnn.network import Network
from pocketrec.dnn.options import DnnExportSettings
from pocketrec.dnn.runtime import DnnModel, signatures_of
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.judge.frozen_checks import FIRST_RUNGS, FrozenCase, difference
from pocketrec.lite.judge.ladder import Check, Fault, Rung, climb
from pocketrec.storage.networks import NetworkFile

_RUN = (
    "import sys, numpy as np; from pocketrec.dnn.runtime import DnnModel; "
    "DnnModel(sys.argv[1]).predict(0, np.array([0], np.int32))"
)
Case = FrozenCase[Network]


def verify_export(path: Path, trained: NetworkFile[Network], ids: Catalogue, fixed: DnnExportSettings) -> tuple[Rung, ...]:
    """The verdicts on a .tflite, rung by rung, beside the network that it was made from and its ids."""
    case = Case(path, trained, ids, fixed, signatures_of(trained.network.settings, fixed), DnnModel, _RUN)
    return tuple(climb(LADDER, case))


def _check_ratings(case: Case) -> str:
    model = DnnModel(case.path)
    case.compare(lambda user, items: model.predict_fixed(user, items)[0], case.trained.network.ratings)
    return case.compare(lambda user, items: model.predict(user, items)[0], case.trained.network.ratings)


def _check_range(case: Case) -> str:
    model, settings = DnnModel(case.path), case.trained.network.settings
    users, items = case.users(), case.items()
    for user, ask in product(users, (model.predict, model.predict_fixed)):
        ratings, odds = ask(user, items)
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
