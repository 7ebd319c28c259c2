"""A trained network as the functions of a .tflite; `ncf.runtime` has their signatures.

The user's and the item's half of the first dense layer are multiplied apart, as in `ncf.network`: that of the items once
and for all at export, so that a phone does a fraction of the work for a list of all items.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pocketrec.lite.frozen import NONE
from pocketrec.ncf.network import NetworkSettings
from pocketrec.ncf.options import NcfExportSettings
from pocketrec.ncf.runtime import LOWEST
from pocketrec.storage.tensors import Tensors
from pocketrec.training.tf.codes import inside, inside_or_none, poison

Tensor = Any


class LiteNetwork(tf.Module):  # type: ignore[misc]
    """The functions, with the weights as constants."""

    def __init__(self, settings: NetworkSettings, weights: Tensors, fixed: NcfExportSettings) -> None:
        super().__init__()
        self.settings, self._fixed = settings, fixed
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

    def score(self, user: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Logits of some items for one user; NaN for what is not an item, and for all items if that is not a user."""
        (known, is_user), (codes, is_item) = inside(user, self.settings.n_users), inside(items, self.settings.n_items)
        scores = self._scores(known, *(tf.gather(table, codes) for table in self._items))
        return {"scores": scores + poison(is_item & is_user)}

    score_fixed = score

    def recommend(self, user: Tensor, seen: Tensor, top: Tensor) -> dict[str, Tensor]:
        """The best items that are not among those seen; an item may be named there more than once, -1 is none.

        A place for which no item is left has item -1 and score `LOWEST`; with a wrong code all have -1 and NaN.
        """
        n_items = self.settings.n_items
        (known, is_user), (codes, is_item) = inside(user, self.settings.n_users), inside_or_none(seen, n_items)
        marks = tf.scatter_nd(tf.maximum(codes, 0)[:, None], tf.cast(codes >= 0, tf.float32), tf.constant([n_items]))
        scores = tf.where(marks > 0, LOWEST, self._scores(known, *self._items))
        best = tf.math.top_k(scores, tf.minimum(tf.maximum(top, 0), n_items))
        values = best.values + poison(tf.reduce_all(tf.concat([is_item, is_user], axis=0)))
        return {"items": tf.where(values > LOWEST, best.indices, NONE), "scores": values}

    def recommend_fixed(self, user: Tensor, seen: Tensor) -> dict[str, Tensor]:
        """`recommend` of a number of items that is fixed in the file."""
        return self.recommend(user, seen, self._fixed.top_k)

    def _scores(self, user: Tensor, factors: Tensor, theirs: Tensor) -> Tensor:
        mf = self.settings.mf_dim
        own = tf.gather(self._user, user)  # (1, mf + half)
        parts = [own[:, :mf] * factors] if mf else []
        if self.settings.mlp_dim:
            mine = own[:, mf:]
            if self._first is not None:
                hidden = tf.nn.relu(tf.matmul(mine, self._first) + theirs)
            else:
                hidden = tf.concat([mine + tf.zeros_like(theirs), theirs], axis=1)
            for number in range(2, len(self.settings.dense) + 1):
                hidden = tf.nn.relu(tf.matmul(hidden, self._rest[f"kernel_{number}"]) + self._rest[f"bias_{number}"])
            parts.append(hidden)
        joined = tf.concat(parts, axis=1)
        return tf.reshape(tf.matmul(joined, self._rest["kernel_out"]) + self._rest["bias_out"], [-1])
