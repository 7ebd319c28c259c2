"""The mean of a model's weights over its latest steps, which predicts better than the weights after the last one.

Each step pulls the weights to the sessions in it. A mean over many steps has what they agree on. Training goes on from the
weights themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from pocketrec.gru4rec.checkpoints import MEAN
from pocketrec.schema import Float32
from pocketrec.storage.tensors import Tensors


class RunningMean:
    """An exponential mean: a step counts e times less for each `window` steps since.

    The mean begins at zero; `weights` divides by what is missing therefore, so that all counts have the sum 1.
    """

    def __init__(self, variables: Mapping[str, Any], window: float) -> None:
        self._variables, self._window = variables, window
        self._means = {name: tf.Variable(tf.zeros_like(one)) for name, one in variables.items()}
        self._add = tf.function(self._added, input_signature=[tf.TensorSpec(())], autograph=False)

    def add(self, steps: int) -> None:
        """Let the weights as they are now count for the last `steps` steps."""
        self._add(tf.constant(self._share(steps), tf.float32))

    def _added(self, share: Any) -> None:
        for name, mean in self._means.items():
            mean.assign_add(share * (self._variables[name] - mean))

    def _share(self, steps: int) -> float:
        return -math.expm1(-steps / self._window)

    def weights(self, steps: int) -> dict[str, Float32]:
        """The mean by name, after so many steps in all."""
        return {name: mean.numpy() / self._share(steps) for name, mean in self._means.items()}

    def tensors(self) -> Tensors:
        """What a checkpoint keeps of it."""
        return {MEAN + name: mean.numpy() for name, mean in self._means.items()}

    def load(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what `tensors` gave."""
        for name, mean in self._means.items():
            mean.assign(tensors[MEAN + name])
