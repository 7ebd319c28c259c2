"""A trained rating DNN as the functions of a .tflite; `dnn.runtime` has their signatures."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pocketrec.dnn.network import DnnSettings
from pocketrec.storage.tensors import Tensors
from pocketrec.training.tf.codes import inside, poison

Tensor = Any


class LiteDnn(tf.Module):  # type: ignore[misc]
    """The functions, with the weights as constants: what belongs to a user is one row of one table, and so for an item."""

    def __init__(self, settings: DnnSettings, weights: Tensors) -> None:
        super().__init__()
        self.settings = settings
        # (codes, embedding + features + outputs)
        self._user, self._item = (
            tf.concat([weights[name], weights[f"{name}_features"], weights[f"{name}_bias"]], axis=1)
            for name in ("user", "item")
        )
        tables = ("user", "item")
        self._dense = {name: tf.constant(array) for name, array in weights.items() if not name.startswith(tables)}
        self._dense["kernel_1"] = tf.constant(weights["kernel_1"][self._order()])

    def _order(self) -> list[int]:
        """Rows of the first kernel in the order of the tables: the user's embedding and features, then the item's."""
        size, columns, rows = self.settings.embedding_size, self.settings.user_columns, list(range(self.settings.inputs))
        user, item, user_features = rows[:size], rows[size : 2 * size], rows[2 * size : 2 * size + columns]
        return user + user_features + item + rows[2 * size + columns :]

    def predict(self, user: Tensor, items: Tensor) -> dict[str, Tensor]:
        """Ratings of some items by one user; NaN for what is not an item, and for all items if that is not a user."""
        settings, size, outputs = self.settings, self.settings.embedding_size, self.settings.outputs
        (known, is_user), (codes, is_item) = inside(user, settings.n_users), inside(items, settings.n_items)
        spoiled = poison(is_item & is_user)
        theirs = tf.gather(self._item, codes)  # (n, ...)
        own = tf.gather(self._user, known) + tf.zeros_like(theirs[:, :1])  # the user's row, once an item
        hidden = tf.concat([own[:, :-outputs], theirs[:, :-outputs]], axis=1)
        for number in range(1, len(settings.layers) + 1):
            hidden = tf.nn.relu(tf.matmul(hidden, self._dense[f"kernel_{number}"]) + self._dense[f"bias_{number}"])
        found = tf.matmul(hidden, self._dense["kernel_out"]) + self._dense["bias_out"]
        found += tf.matmul(own[:, :size] * theirs[:, :size], self._dense["product"])
        found += own[:, -outputs:] + theirs[:, -outputs:]
        if settings.task == "rate":
            return {"ratings": tf.clip_by_value(found[:, 0], settings.lowest, settings.highest) + spoiled}
        odds = tf.nn.softmax(found)
        values = tf.constant(settings.values, tf.float32)[:, None]
        # sums of float32 shares may be off by a bit at the ends
        means = tf.clip_by_value(tf.matmul(odds, values)[:, 0], settings.lowest, settings.highest)
        return {"ratings": means + spoiled, "probabilities": odds + spoiled[:, None]}

    predict_fixed = predict
