"""An exported NCF network at work, with LiteRT and numpy alone: the calls an app makes, in Python."""

from __future__ import annotations

import numpy as np

from pocketrec.lite.contract import TensorSpec
from pocketrec.lite.frozen import ANY, FrozenModel, Signatures
from pocketrec.ncf.network import NetworkSettings
from pocketrec.schema import Float32, Int32

KIND = "ncf"
_ONE, _MANY, _SCALAR = TensorSpec((1,), "int32"), TensorSpec((ANY,), "int32"), TensorSpec((), "int32")
SIGNATURES: Signatures = {
    "score": ({"user": _ONE, "items": _MANY}, {"scores": TensorSpec((ANY,))}),
    "recommend": ({"user": _ONE, "seen": _MANY, "top": _SCALAR}, {"items": _MANY, "scores": TensorSpec((ANY,))}),
}


class NcfModel(FrozenModel[NetworkSettings]):
    """A model file, loaded."""

    kind, made_of = KIND, NetworkSettings

    def signatures(self) -> Signatures:
        return SIGNATURES

    def score(self, user: int, items: Int32) -> Float32:
        """Logits of some items for a user, (n,)."""
        scores: Float32 = self.run("score", user=self.user_input(user), items=self.items_input(items))["scores"]
        return scores

    def recommend(self, user: int, seen: Int32, top: int) -> tuple[Int32, Float32]:
        """The best `top` items that are not among those seen, and their logits, best first."""
        seen = self.items_input(seen)
        found = self.run("recommend", user=self.user_input(user), seen=seen, top=np.int32(top))
        return found["items"], found["scores"]
