"""A Keras model that learns from batches as they are made, epoch by epoch, the same way each time with the same seed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from pocketrec.progress import Advance
from pocketrec.storage.tensors import Tensors

EXAMPLES_PER_CALL = 1 << 16
"""Small batches are trained on several at a time, so that Python is not what takes the time."""


def begin(seed: int) -> None:
    """Everything random follows from the seed, and operators give the same sums each time."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


class Fitted:
    """A compiled model with its optimizer. Its state is all that changes: weights, random numbers of layers, slots."""

    def __init__(self, model: Any, batch_size: int) -> None:
        self.model, self.batch_size = model, batch_size
        model.optimizer.build(model.trainable_variables)

    def fit(self, batches: Any, steps: int, advance: Advance) -> dict[str, float]:
        """Train on each of `steps` batches of `dataset_of` once; the loss and the metrics by name.

        `advance` is told about examples.
        """
        told = _Told(advance, self.batch_size, steps)
        history = self.model.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[told], shuffle=False)
        return {name: float(values[0]) for name, values in history.history.items()}

    def state(self) -> Tensors:
        """Everything that training goes on from."""
        return {name: variable.numpy() for name, variable in self._variables()}

    def restore(self, state: Tensors) -> None:
        """Go on from what `state` returned.

        Raises:
            KeyError, ValueError: it is of another model.
        """
        for name, variable in self._variables():
            variable.assign(state[name])

    def _variables(self) -> Iterator[tuple[str, Any]]:
        for what, variables in (("model", self.model.variables), ("optimizer", self.model.optimizer.variables)):
            for number, variable in enumerate(variables):
                yield f"{what}_{number}", variable


def steps_per_call(batch_size: int) -> int:
    """How many steps Keras should make at once; they end quietly where the data ends."""
    return max(1, EXAMPLES_PER_CALL // batch_size)


def dataset_of(batches: Callable[[], Iterable[Any]], signature: Any) -> Any:
    """A tf.data.Dataset of batches that a function makes, each time it is asked, a few of them ahead."""
    made = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(4)
    options = tf.data.Options()
    # The batches come from a generator: there is no file that could be dealt out to devices.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return made.with_options(options)


class _Told(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells how many examples were trained on."""

    def __init__(self, advance: Advance, batch_size: int, steps: int) -> None:
        super().__init__()
        self.advance, self.batch_size, self.last, self.done = advance, batch_size, steps - 1, -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        batch = min(batch, self.last)  # Keras counts a call of several steps as whole
        self.advance((batch - self.done) * self.batch_size)
        self.done = batch


@contextlib.contextmanager
def policy(name: str) -> Iterator[None]:
    """A dtype policy for layers that are made in the body, and no others."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
