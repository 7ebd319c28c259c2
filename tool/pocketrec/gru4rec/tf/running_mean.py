"""The mean of a model's weights over its latest steps, which predicts better than the weights after the last one.

Each step pulls the weights to the sessions in it. A mean over many steps has what they agree on. Training goes on from the
weights themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from pocketrec.gru4rec.checkpoints import MEAN
from pocketrec.storage.tensors import Tensors


class RunningMean:
    """A mean that reaches back as far as the training is long, by a share of all steps so far (Shamir & Zhang 2013).

    After t steps the first s of them count (s / t)^(1 / share): with .06 half of the mean is of the last 4 %, and 83 % of
    the last 10 %. So it never lags behind weights that still move fast.
    """

    def __init__(self, variables: Mapping[str, Any], share: float) -> None:
        self._variables, self._share = variables, share
        self._means = {name: tf.Variable(tf.zeros_like(one)) for name, one in variables.items()}
        self._add = tf.function(self._added, input_signature=[tf.TensorSpec(())], autograph=False)

    def add(self, before: int, now: int) -> None:
        """Let the weights as they are after `now` steps count for all steps since `before`."""
        self._add(tf.constant(1 - (before / now) ** (1 / self._share), tf.float32))

    def _added(self, amount: Any) -> None:
        for name, mean in self._means.items():
            mean.assign_add(amount * (self._variables[name] - mean))

    def weights(self) -> Tensors:
        """The mean by name."""
        return {name: mean.numpy() for name, mean in self._means.items()}

    def tensors(self) -> Tensors:
        """What a checkpoint keeps of it."""
        return {MEAN + name: mean for name, mean in self.weights().items()}

    def load(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what `tensors` gave."""
        for name, mean in self._means.items():
            mean.assign(tensors[MEAN + name])
