"""Keras' Adam, mended for tables of which a batch looks up the same row more than once."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):  # type: ignore[misc]
    """Gives a row of a table the square of its whole gradient, and divides by a loss scale.

    A table's gradient comes as a part for each place of a batch where a row was looked up. Keras squares the parts and adds
    them up, where Adam, and the Keras of the official NCF, takes the square of their sum; and it cannot divide them.

    Args:
        scale: what the loss is multiplied with and the gradients are divided by; 0 for neither.
        learning_rate: and other numbers as in Keras.
    """

    def __init__(self, scale: float, learning_rate: float, **numbers: float) -> None:
        super().__init__(learning_rate, name="adam", **numbers)
        self._scale = scale

    def scale_loss(self, loss: Any) -> Any:
        """The loss that gradients are taken of."""
        return loss * self._scale if self._scale else loss

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Update the variables."""
        whole = [tf.convert_to_tensor(one) for one in grads]
        return super().apply([one / self._scale for one in whole] if self._scale else whole, trainable_variables)
