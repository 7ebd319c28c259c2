"""An exported NCF network at work, with LiteRT and numpy alone: the calls an app makes, in Python."""

from __future__ import annotations

import numpy as np

from pocketrec.lite.contract import ANY, Signatures, TensorSpec
from pocketrec.lite.frozen import FrozenModel
from pocketrec.ncf.network import AnySettings, settings_of
from pocketrec.ncf.options import NcfExportSettings
from pocketrec.schema import Float32, Int32
from pocketrec.storage.tensors import Tensors

KIND = "ncf"
RECOMMEND_FIXED, SCORE_FIXED = "recommend_fixed", "score_fixed"
LOWEST = float(np.finfo(np.float32).min)
"""The score of a place for which no item is left; the converter would make this of -inf, too."""
_ONE, _MANY, _SCALAR = TensorSpec((1,), "int32"), TensorSpec((ANY,), "int32"), TensorSpec((), "int32")


def signatures_of(settings: AnySettings, fixed: NcfExportSettings | None) -> Signatures:
    """Signature name -> (inputs, outputs) by name; `fixed` is None for a file that has no fixed lengths."""
    flexible: Signatures = {
        "score": ({"user": _ONE, "items": _MANY}, {"scores": TensorSpec((ANY,))}),
        "recommend": ({"user": _ONE, "seen": _MANY, "top": _SCALAR}, {"items": _MANY, "scores": TensorSpec((ANY,))}),
    }
    if fixed is None:
        return flexible
    seen, items = TensorSpec((fixed.fixed_seen,), "int32"), TensorSpec((fixed.fixed_items,), "int32")
    best = (min(fixed.top_k, settings.n_items),)
    return {
        RECOMMEND_FIXED: ({"user": _ONE, "seen": seen}, {"items": TensorSpec(best, "int32"), "scores": TensorSpec(best)}),
        SCORE_FIXED: ({"user": _ONE, "items": items}, {"scores": TensorSpec(items.shape)}),
        **flexible,
    }


class NcfModel(FrozenModel[AnySettings, NcfExportSettings]):
    """A model file, loaded."""

    kind, made_of, fixed_by = KIND, staticmethod(settings_of), NcfExportSettings

    def signatures(self) -> Signatures:
        return signatures_of(self.card.settings, self.card.fixed)

    def score(self, user: int, items: Int32) -> Float32:
        """Scores of some items for a user, (n,): logits, but for ials and ease."""
        scores: Float32 = self.run("score", user=self.user_input(user), items=self.items_input(items))["scores"]
        return scores

    def recommend(self, user: int, seen: Int32, top: int) -> tuple[Int32, Float32]:
        """The best `top` items that are not among those seen, and their scores, best first; fewer if fewer are left."""
        return self._left(self.run("recommend", user=self.user_input(user), seen=self.seen_input(seen), top=np.int32(top)))

    def score_fixed(self, user: int, items: Int32) -> Float32:
        """`score` as runtimes do it that cannot change a shape: so many items a call as are fixed."""
        scores: Float32 = self.in_blocks(SCORE_FIXED, user, items)["scores"]
        return scores

    def recommend_fixed(self, user: int, seen: Int32) -> tuple[Int32, Float32]:
        """`recommend` as runtimes do it that cannot change a shape: as many items, seen and best, as are fixed."""
        given = self.filled(self.seen_input(seen), self.fixed.fixed_seen)
        return self._left(self.run(RECOMMEND_FIXED, user=self.user_input(user), seen=given))

    def seen_input(self, seen: Int32) -> Int32:
        """Codes of items as an input, as they are; there may be none."""
        return self.items_input(seen) if len(seen) else np.empty(0, np.int32)

    def _left(self, found: Tensors) -> tuple[Int32, Float32]:
        """Items and scores of the places for which an item was left."""
        there = found["scores"] > LOWEST
        items: Int32 = found["items"][there]
        return (self.items_input(items) if len(items) else items), found["scores"][there]
