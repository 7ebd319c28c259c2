"""A trained network as the functions of a .tflite; `ncf.runtime` has their signatures.

The user's and the item's half of the first dense layer are multiplied apart, as in `ncf.network`: that of the items once
and for all at export, so that a phone does a fraction of the work for a list of all items.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pocketrec.ncf.network import NetworkSettings
from pocketrec.storage.tensors import Tensors

Tensor = Any


class LiteNetwork(tf.Module):  # type: ignore[misc]
    """The functions, with the weights as constants."""

    def __init__(self, settings: NetworkSettings, weights: Tensors) -> None:
        super().__init__()
        self.settings = settings
        mf, half = settings.mf_dim, settings.mlp_dim
        self._user = tf.constant(weights["user"])
        self._rest = {
            name: tf.constant(array) for name, array in weights.items() if name not in ("user", "item", "kernel_1")
        }
        items, self._first = weights["item"][:, mf:], None
        if settings.dense:
            kernel = weights["kernel_1"]
            self._first, items = tf.constant(kernel[:half]), items @ kernel[half:] + weights["bias_1"]
        # (I, mf + width of the first layer): GMF's factors, and what the item adds to the first layer
        self._item = tf.concat([weights["item"][:, :mf], items], axis=1)

    def score(self, user: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Logits of some items for one user."""
        return {"scores": self._scores(user, tf.gather(self._item, items))}

    def recommend(self, user: Tensor, seen: Tensor, top: Tensor) -> dict[str, Tensor]:
        """The best items that are not among those seen; an item may be named there more than once."""
        marks = tf.scatter_nd(seen[:, None], tf.ones_like(seen, tf.float32), tf.constant([self.settings.n_items]))
        scores = tf.where(marks > 0, -float("inf"), self._scores(user, self._item))
        best = tf.math.top_k(scores, top)
        return {"items": best.indices, "scores": best.values}

    def _scores(self, user: Tensor, items: Tensor) -> Tensor:
        mf = self.settings.mf_dim
        own = tf.gather(self._user, user)  # (1, mf + half)
        parts = [own[:, :mf] * items[:, :mf]] if mf else []
        if self.settings.mlp_dim:
            theirs, mine = items[:, mf:], own[:, mf:]
            if self._first is not None:
                hidden = tf.nn.relu(tf.matmul(mine, self._first) + theirs)
            else:
                hidden = tf.concat([mine + tf.zeros_like(theirs), theirs], axis=1)
            for number in range(2, len(self.settings.dense) + 1):
                hidden = tf.nn.relu(tf.matmul(hidden, self._rest[f"kernel_{number}"]) + self._rest[f"bias_{number}"])
            parts.append(hidden)
        joined = tf.concat(parts, axis=1)
        return tf.reshape(tf.matmul(joined, self._rest["kernel_out"]) + self._rest["bias_out"], [-1])
