"""An exported network at work, with LiteRT and numpy alone: the calls an app makes, in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocketrec.errors import ModelError
from pocketrec.lite.contract import TensorSpec
from pocketrec.lite.frozen import PlainModel
from pocketrec.lite.judge.frozen_checks import ANY
from pocketrec.ncf.network import Floats, NetworkSettings
from pocketrec.schema import Int32


class NcfModel(PlainModel[NetworkSettings]):
    """A model file, loaded."""

    def __init__(self, path: Path | str, threads: int = 2, *, split: str | None = None) -> None:
        """See `PlainModel`."""
        super().__init__(path, KIND, NetworkSettings, threads, split)

    def score(self, user: int, items: Int32) -> Floats:
        """Logits of some items for a user, (n,)."""
        self._check(items=items)
        scores: Floats = self.run("score", user=self._user(user), items=items)["scores"]
        return scores

    def recommend(self, user: int, seen: Int32, top: int) -> tuple[Int32, Floats]:
        """The best `top` items that are not among those seen, and their logits, best first."""
        self._check(items=seen)
        found = self.run("recommend", user=self._user(user), seen=seen, top=np.int32(top))
        return found["items"], found["scores"]

    def _user(self, user: int) -> Int32:
        if not 0 <= user < self.card.settings.n_users:
            raise ModelError(f"user code {user} is none.", expected=f"0 to {self.card.settings.n_users - 1}")
        return np.array([user], np.int32)

    def _check(self, items: Int32) -> None:
        last = self.card.settings.n_items - 1
        if not len(items) or items.min() < 0 or items.max() > last:
            raise ModelError("some item codes are none, or there are no items.", expected=f"one or more of 0 to {last}")


KIND = "ncf"


_ONE, _MANY, _SCALAR = TensorSpec((1,), "int32"), TensorSpec((ANY,), "int32"), TensorSpec((), "int32")


SIGNATURES = {
    "score": ({"user": _ONE, "items": _MANY}, {"scores": TensorSpec((ANY,))}),
    "recommend": (
        {"user": _ONE, "seen": _MANY, "top": _SCALAR},
        {"items": _MANY, "scores": TensorSpec((ANY,))},
    ),
}
