"""Trains a network of `keras_model` on batches that arrive as they are made, with Keras' fit or with a loop of its own.

The loss is softmax over [0, z], which is sigmoid cross-entropy: the sum over valid rows by the batch size, and L2. Adam
moves every row of a table by its momentum, whether the batch has it or not, as Keras' does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pocketrec.ncf.network import NetworkSettings
from pocketrec.ncf.options import NcfTrainSettings
from pocketrec.ncf.producer import Examples
from pocketrec.ncf.tf.adam import Adam
from pocketrec.ncf.tf.keras_model import build, weights_of
from pocketrec.storage.tensors import Tensors
from pocketrec.training.tf import fitting

_POLICIES = {"fp32": "float32", "fp16": "mixed_float16", "bf16": "mixed_bfloat16"}


class Trainer(fitting.Fitted):
    """A model and its optimizer, epoch by epoch."""

    def __init__(self, settings: NetworkSettings, training: NcfTrainSettings) -> None:
        self.settings, self.training = settings, training
        fitting.begin(training.seed)
        mirrored = training.distribution_strategy == "mirrored"
        self.strategy = tf.distribute.MirroredStrategy() if mirrored else tf.distribute.get_strategy()
        with self.strategy.scope(), fitting.policy(_POLICIES[training.dtype]):
            model = build(settings, training.mf_regularization, training.mlp_regularization)
            self.optimizer = self._optimizer()
            self.loss = keras.losses.BinaryCrossentropy(from_logits=True)  # weighted sum / B: Keras' "sum_over_batch_size"
            model.compile(
                self.optimizer,
                self.loss,
                jit_compile=False,
                auto_scale_loss=False,
                # Several steps in one call end quietly where the data ends, but not on several devices.
                steps_per_execution=1 if mirrored else fitting.steps_per_call(training.batch_size),
            )
            super().__init__(model, training.batch_size)
            if training.enable_xla:  # Keras leaves jit_compile out where operators are to be deterministic
                model.train_step = tf.function(model.train_step, jit_compile=True)
        self._step = tf.function(self._one_step, jit_compile=training.enable_xla)

    def _optimizer(self) -> Any:
        t = self.training
        adam = Adam(
            t.loss_scale if t.dtype == "fp16" else 0.0, t.learning_rate, beta_1=t.beta1, beta_2=t.beta2, epsilon=t.epsilon
        )
        dynamic = t.dtype == "fp16" and not t.loss_scale
        return keras.optimizers.LossScaleOptimizer(adam) if dynamic else adam

    def epoch(self, blocks: Callable[[], Iterable[Examples]], steps: int, advance: Callable[[int], None]) -> float:
        """Train on each of `steps` batches once and return the mean loss.

        `blocks` makes some batches at a time; a strategy may begin an epoch more than once. `advance` is told of examples.
        """
        batches = self._dataset(blocks)
        if self.training.keras_use_ctl:
            return self._own_loop(batches, advance)
        return self.fit(batches, steps, advance)["loss"]

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

        return fitting.dataset_of(batches, signature)

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

    def weights(self) -> Tensors:
        """Those of the network, as they are now."""
        return weights_of(self.model, self.settings)
