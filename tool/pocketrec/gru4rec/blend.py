"""A network and sessions like the current one, blended (`lite.blend`), with a weight chosen on train_valid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pocketrec.gru4rec.ranking import JUDGED_AT, Ranking
from pocketrec.gru4rec.scoring import Clicks, Scorer, SessionScorer, steps
from pocketrec.lite.blend import blended
from pocketrec.lite.neighbours import WeighedNeighbours
from pocketrec.schema import Float32, Int32, Int64

WEIGHTS = tuple(np.round(np.arange(0, 1.01, 0.1), 1).tolist())
"""Weights that are tried."""


@dataclass(frozen=True)
class BlendChoice:
    """The weight of the sessions, and whether the session's own items may be expected again."""

    weight: float
    own: bool


class Blend:
    """A `Scorer` of a network and of neighbours; `weight` is that of the neighbours."""

    def __init__(self, network: Scorer, name: str, neighbours: WeighedNeighbours, weight: float) -> None:
        self.name, self.lanes = f"{network.name} + {name}", network.lanes
        self._network, self._sessions = network, SessionScorer(name, neighbours, network.lanes)
        self._weight = weight

    def scores(self, feat: Int32, mask: Int32) -> Float32:
        """See `Scorer`."""
        return blended(self._network.scores(feat, mask), self._sessions.scores(feat, mask), self._weight)


def choose_weight(network: Scorer, neighbours: WeighedNeighbours, sessions: Iterable[tuple[Int32, Int64]]) -> BlendChoice:
    """The weight of `WEIGHTS` with the best MRR@20; of equal ones the smaller, and with own items.

    The network must not have been trained on these sessions, or it would seem better than it is.
    """
    kept, clicks = SessionScorer("", neighbours, network.lanes), Clicks(network.lanes)
    rankings = {BlendChoice(weight, own): Ranking((JUDGED_AT,)) for weight in WEIGHTS for own in (True, False)}
    for feat, target, mask in steps(network.lanes, sessions):
        clicks.add(feat, mask)
        both = network.scores(feat, mask), kept.scores(feat, mask)
        for weight in WEIGHTS:
            scores = blended(*both, weight)
            rankings[BlendChoice(weight, True)].add(scores, target)
            rankings[BlendChoice(weight, False)].add(clicks.own_last(scores), target)
    return max(rankings, key=lambda choice: rankings[choice].accuracy("").mrr[JUDGED_AT])
