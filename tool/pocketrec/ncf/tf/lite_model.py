"""A trained model as the functions of a .tflite; `ncf.runtime` has their signatures.

Of a network, the user's and the item's half of the first dense layer are multiplied apart, as in `ncf.network`: that of the
items once and for all at export, so that a phone does a fraction of the work for a list of all items. An iALS is a product
of factors. An EASE has the train items of all users in the file, and adds up the weights that those of one have for other
items, in a window as long as the longest list, so that its shapes are known before it runs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import tensorflow as tf

from pocketrec.lite.frozen import NONE
from pocketrec.ncf.linear import Ease, EaseSettings, Factors
from pocketrec.ncf.network import AnyNetwork, AnySettings, NetworkSettings
from pocketrec.ncf.options import NcfExportSettings
from pocketrec.ncf.runtime import LOWEST
from pocketrec.storage.tensors import Tensors
from pocketrec.training.tf.codes import inside, inside_or_none, poison

Tensor = Any


class LiteModel(tf.Module):  # type: ignore[misc]
    """The functions, with the weights as constants, for any way to score."""

    def __init__(self, settings: AnySettings, fixed: NcfExportSettings) -> None:
        super().__init__()
        self.settings, self._fixed = settings, fixed

    @abstractmethod
    def _all(self, user: Tensor) -> Tensor:
        """Scores of every item for a user, int32 (1,): float32 (I,)."""

    @abstractmethod
    def _some(self, user: Tensor, items: Tensor) -> Tensor:
        """Scores of items, int32 (n,), for a user: float32 (n,)."""

    def score(self, user: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Scores of some items for one user; NaN for what is not an item, and for all items if that is not a user."""
        (known, is_user), (codes, is_item) = inside(user, self.settings.n_users), inside(items, self.settings.n_items)
        return {"scores": self._some(known, codes) + poison(is_item & is_user)}

    score_fixed = score

    def recommend(self, user: Tensor, seen: Tensor, top: Tensor) -> dict[str, Tensor]:
        """The best items that are not among those seen; an item may be named there more than once, -1 is none.

        A place for which no item is left has item -1 and score `LOWEST`; with a wrong code all have -1 and NaN.
        """
        n_items = self.settings.n_items
        (known, is_user), (codes, is_item) = inside(user, self.settings.n_users), inside_or_none(seen, n_items)
        marks = tf.scatter_nd(tf.maximum(codes, 0)[:, None], tf.cast(codes >= 0, tf.float32), tf.constant([n_items]))
        scores = tf.where(marks > 0, LOWEST, self._all(known))
        best = tf.math.top_k(scores, tf.minimum(tf.maximum(top, 0), n_items))
        values = best.values + poison(tf.reduce_all(tf.concat([is_item, is_user], axis=0)))
        return {"items": tf.where(values > LOWEST, best.indices, NONE), "scores": values}

    def recommend_fixed(self, user: Tensor, seen: Tensor) -> dict[str, Tensor]:
        """`recommend` of a number of items that is fixed in the file."""
        return self.recommend(user, seen, self._fixed.top_k)


class LiteNetwork(LiteModel):
    """NeuMF or one of its halves."""

    def __init__(self, settings: NetworkSettings, weights: Tensors, fixed: NcfExportSettings) -> None:
        super().__init__(settings, fixed)
        self._mf, self._mlp, self._dense = settings.mf_dim, settings.mlp_dim, len(settings.dense)
        mf, half = settings.mf_dim, settings.mlp_dim
        self._user = tf.constant(weights["user"])
        self._rest = {
            name: tf.constant(array) for name, array in weights.items() if name not in ("user", "item", "kernel_1")
        }
        items, self._first = weights["item"][:, mf:], None
        if settings.dense:
            kernel = weights["kernel_1"]
            self._first, items = tf.constant(kernel[:half]), items @ kernel[half:] + weights["bias_1"]
        # GMF's factors, (I, mf), and what the item adds to the first layer: a part of one table would be stored once more
        self._items = tf.constant(weights["item"][:, :mf]), tf.constant(items)

    def _all(self, user: Tensor) -> Tensor:
        return self._scores(user, *self._items)

    def _some(self, user: Tensor, items: Tensor) -> Tensor:
        return self._scores(user, *(tf.gather(table, items) for table in self._items))

    def _scores(self, user: Tensor, factors: Tensor, theirs: Tensor) -> Tensor:
        mf = self._mf
        own = tf.gather(self._user, user)  # (1, mf + half)
        parts = [own[:, :mf] * factors] if mf else []
        if self._mlp:
            mine = own[:, mf:]
            if self._first is not None:
                hidden = tf.nn.relu(tf.matmul(mine, self._first) + theirs)
            else:
                hidden = tf.concat([mine + tf.zeros_like(theirs), theirs], axis=1)
            for number in range(2, self._dense + 1):
                hidden = tf.nn.relu(tf.matmul(hidden, self._rest[f"kernel_{number}"]) + self._rest[f"bias_{number}"])
            parts.append(hidden)
        joined = tf.concat(parts, axis=1)
        return tf.reshape(tf.matmul(joined, self._rest["kernel_out"]) + self._rest["bias_out"], [-1])


class LiteFactors(LiteModel):
    """iALS."""

    def __init__(self, settings: AnySettings, weights: Tensors, fixed: NcfExportSettings) -> None:
        super().__init__(settings, fixed)
        self._user, self._item = tf.constant(weights["user"]), tf.constant(weights["item"])

    def _all(self, user: Tensor) -> Tensor:
        return self._product(user, self._item)

    def _some(self, user: Tensor, items: Tensor) -> Tensor:
        return self._product(user, tf.gather(self._item, items))

    def _product(self, user: Tensor, factors: Tensor) -> Tensor:
        return tf.reshape(tf.matmul(factors, tf.gather(self._user, user), transpose_b=True), [-1])


class LiteEase(LiteModel):
    """EASE."""

    def __init__(self, settings: EaseSettings, weights: Tensors, fixed: NcfExportSettings) -> None:
        super().__init__(settings, fixed)
        starts = weights["user_starts"]
        self._starts, self._counts = tf.constant(starts[:-1]), tf.constant(np.diff(starts))
        self._window, self._last = tf.range(int(np.diff(starts).max())), settings.ratings - 1
        self._items = tf.constant(weights["user_items"])
        self._neighbours, self._weights = tf.constant(weights["neighbours"]), tf.constant(weights["weights"])

    def _all(self, user: Tensor) -> Tensor:
        places = tf.minimum(tf.gather(self._starts, user) + self._window, self._last)
        own = tf.gather(self._items, places)  # those of later users behind this user's, which count as 0
        counted = tf.cast(self._window < tf.gather(self._counts, user), tf.float32)
        weights = tf.gather(self._weights, own) * counted[:, None]
        codes = tf.gather(self._neighbours, own)
        return tf.scatter_nd(tf.reshape(codes, [-1, 1]), tf.reshape(weights, [-1]), tf.constant([self.settings.n_items]))

    def _some(self, user: Tensor, items: Tensor) -> Tensor:
        return tf.gather(self._all(user), items)


def lite_model(network: AnyNetwork, fixed: NcfExportSettings) -> LiteModel:
    """The functions of any model."""
    if isinstance(network, Factors):
        return LiteFactors(network.settings, network.weights, fixed)
    if isinstance(network, Ease):
        return LiteEase(network.settings, network.weights, fixed)
    return LiteNetwork(network.settings, network.weights, fixed)
