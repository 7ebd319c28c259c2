"""Trains a network of `neumf` on batches that arrive as they are made, with Keras' fit or with a loop of its own.

The loss is softmax over [0, z], which is sigmoid cross-entropy: the sum over valid rows by the batch size, and L2. Adam
moves every row of a table by its momentum, whether the batch has it or not, as Keras' does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pocketrec.models.adam import Adam
from pocketrec.models.neumf import build, set_weights, weights_of
from pocketrec.ncf.epochs import Examples
from pocketrec.ncf.network import NetworkSettings, Weights
from pocketrec.ncf.training import Training

Arrays = dict[str, np.ndarray[Any, Any]]
EXAMPLES_A_CALL = 1 << 16
"""Small batches are trained on several at a time, so that Python is not what takes the time."""
_POLICIES = {"fp32": "float32", "fp16": "mixed_float16", "bf16": "mixed_bfloat16"}


class Trainer:
    """A model and its optimizer, epoch by epoch."""

    def __init__(self, settings: NetworkSettings, training: Training) -> None:
        self.settings, self.training = settings, training
        keras.utils.set_random_seed(training.seed)
        tf.config.experimental.enable_op_determinism()
        mirrored = training.distribution_strategy == "mirrored"
        self.strategy = tf.distribute.MirroredStrategy() if mirrored else tf.distribute.get_strategy()
        with self.strategy.scope(), _policy(_POLICIES[training.dtype]):
            self.model = build(settings, training.mf_regularization, training.mlp_regularization)
            self.optimizer = self._optimizer()
            self.loss = keras.losses.BinaryCrossentropy(from_logits=True)  # weighted sum / B: Keras' "sum_over_batch_size"
            self.model.compile(
                self.optimizer,
                self.loss,
                jit_compile=False,
                auto_scale_loss=False,
                # Several steps in one call end quietly where the data ends, but not on several devices.
                steps_per_execution=1 if mirrored else max(1, EXAMPLES_A_CALL // training.batch_size),
            )
            self.optimizer.build(self.model.trainable_variables)
            if training.enable_xla:  # Keras leaves jit_compile out where operators are to be deterministic
                self.model.train_step = tf.function(self.model.train_step, jit_compile=True)
        self._step = tf.function(self._one_step, jit_compile=training.enable_xla)

    def _optimizer(self) -> Any:
        t = self.training
        adam = Adam(
            t.loss_scale if t.dtype == "fp16" else 0.0, t.learning_rate, beta_1=t.beta1, beta_2=t.beta2, epsilon=t.epsilon
        )
        dynamic = t.dtype == "fp16" and not t.loss_scale
        return keras.optimizers.LossScaleOptimizer(adam) if dynamic else adam

    def epoch(self, blocks: Callable[[], Iterable[Examples]], steps: int, advance: Callable[[int], None]) -> float:
        """Train on every batch once.

        Args:
            blocks: makes some batches at a time; a strategy may begin an epoch more than once.
            steps: how many batches there are.
            advance: told about examples.

        Returns:
            The mean loss.
        """
        batches = self._dataset(blocks)
        if self.training.keras_use_ctl:
            return self._own_loop(batches, advance)
        told = _Told(advance, self.training.batch_size, steps)
        history = self.model.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[told], shuffle=False)
        return float(history.history["loss"][0])

    def _dataset(self, blocks: Callable[[], Iterable[Examples]]) -> Any:
        size = self.training.batch_size
        codes, label = tf.TensorSpec((size,), tf.int32), tf.TensorSpec((size, 1), tf.float32)
        signature = ({"user": codes, "item": codes}, label, tf.TensorSpec((size,), tf.float32))

        def batches() -> Iterator[Any]:
            for block in blocks():
                labels, valid = block.labels.astype(np.float32)[:, None], block.valid.astype(np.float32)
                for first in range(0, len(block), size):
                    part = slice(first, first + size)
                    yield {"user": block.users[part], "item": block.items[part]}, labels[part], valid[part]

        made = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(4)
        options = tf.data.Options()
        # The batches come from a generator: there is no file that could be dealt out to devices.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return made.with_options(options)

    def _own_loop(self, batches: Any, advance: Callable[[int], None]) -> float:
        losses = []
        for x, label, valid in self.strategy.experimental_distribute_dataset(batches):
            found = self.strategy.run(self._step, args=(x, label, valid))
            losses.append(self.strategy.reduce(tf.distribute.ReduceOp.SUM, found, axis=None))
            advance(self.training.batch_size)
        return float(np.mean([float(loss) for loss in losses]))

    def _one_step(self, x: Any, label: Any, valid: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = self.model(x, training=True)
            loss = self.loss(label, logits, sample_weight=valid)
            loss = tf.add_n([loss, *self.model.losses]) / self.strategy.num_replicas_in_sync
            scaled = self.optimizer.scale_loss(loss)
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        return loss

    def weights(self) -> Weights:
        """As they are now."""
        return weights_of(self.model, self.settings)

    def state(self) -> Arrays:
        """Everything that training goes on from: the weights, and the optimizer's variables in its order."""
        optimizer = {f"optimizer_{number}": np.asarray(v) for number, v in enumerate(self.optimizer.variables)}
        return {**self.weights(), **optimizer}

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        set_weights(self.model, self.settings, state)
        for number, variable in enumerate(self.optimizer.variables):
            variable.assign(state[f"optimizer_{number}"])


class Summaries:
    """Numbers of each epoch, for TensorBoard, which need not be installed here: `tf.summary.scalar` would ask for it."""

    def __init__(self, folder: str) -> None:
        self._writer = tf.summary.create_file_writer(folder)
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        self._metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)

    def write(self, epoch: int, values: dict[str, float]) -> None:
        """Write and flush those of one epoch."""
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), step=epoch, metadata=self._metadata)
        self._writer.flush()


class _Told(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells how many examples were trained on."""

    def __init__(self, advance: Callable[[int], None], batch_size: int, steps: int) -> None:
        super().__init__()
        self.advance, self.batch_size, self.last, self.done = advance, batch_size, steps - 1, -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        batch = min(batch, self.last)  # Keras counts a call of several steps as whole
        self.advance((batch - self.done) * self.batch_size)
        self.done = batch


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    """A policy for layers that are made in the body, and no others."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
