"""Optimizers as rules that say how a gradient changes a weight and its slots, as whole tensors or some of their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from pocketrec.lite.contract import ModelSpec

Tensor = Any
Slots = dict[str, Tensor]
Rule = Callable[[Tensor, Mapping[str, Tensor]], tuple[Tensor, Slots]]
"""(gradient, slots) -> (what to subtract from the weight, new slots)."""


def make_rule(settings: ModelSpec, step: Tensor, fine: Tensor | None = None, rate: Tensor | None = None) -> Rule:
    """The rule of the model's optimizer at step `step`, an int32 scalar that is 1 at the first step.

    With a `fine` of 0, where all gradients are 0, it changes neither weights nor slots. `rate` is a learning rate in place
    of the model's.
    """
    learning_rate = settings.learning_rate if rate is None else rate
    if settings.optimizer == "adam":
        return adam(learning_rate, step, fine)
    if settings.optimizer == "adagrad":
        return adagrad(learning_rate, settings.momentum, fine)
    return lambda gradient, _: (learning_rate * gradient, {})  # sgd


def rests(settings: ModelSpec) -> bool:
    """Whether a gradient of 0 changes neither weight nor slots, so that rows without a gradient need no update."""
    return settings.optimizer == "sgd" or (settings.optimizer == "adagrad" and not settings.momentum)


def adam(learning_rate: float | Tensor, step: Tensor, fine: Tensor | None = None) -> Rule:
    """Keras' Adam, beta 0.9 and 0.999, epsilon 1e-7 outside the root (keras/src/optimizers/adam.py, `update_step`).

    m += 0.1 (g - m);  v += 0.001 (g^2 - v);  w -= lr sqrt(1 - 0.999^t) / (1 - 0.9^t) m / (sqrt(v) + 1e-7)
    """
    t = tf.cast(step, tf.float32)
    rate = learning_rate * tf.sqrt(1 - tf.pow(0.999, t)) / (1 - tf.pow(0.9, t))
    keep_m, keep_v = 0.9, 0.999
    if fine is not None:
        rate, keep_m, keep_v = (tf.where(fine > 0, *pair) for pair in ((rate, 0.0), (keep_m, 1.0), (keep_v, 1.0)))

    def rule(gradient: Tensor, slots: Mapping[str, Tensor]) -> tuple[Tensor, Slots]:
        m = keep_m * slots["m"] + 0.1 * gradient
        v = keep_v * slots["v"] + 0.001 * tf.square(gradient)
        return rate * m / (tf.sqrt(v) + 1e-7), {"m": m, "v": v}

    return rule


def adagrad(learning_rate: float | Tensor, momentum: float, fine: Tensor | None = None) -> Rule:
    """The official GRU4Rec's Adagrad with classical momentum; acc and mom start at 0 (hidasib/GRU4Rec, `adagrad`).

    acc += g^2;  change = lr g / sqrt(acc + 1e-6);  mom = momentum mom + change;  w -= mom
    """

    def rule(gradient: Tensor, slots: Mapping[str, Tensor]) -> tuple[Tensor, Slots]:
        acc = slots["acc"] + tf.square(gradient)
        change = learning_rate * gradient / tf.sqrt(acc + 1e-6)
        if not momentum:
            return change, {"acc": acc}
        if fine is None:
            mom = momentum * slots["mom"] + change
            return mom, {"acc": acc, "mom": mom}
        mom = tf.where(fine > 0, momentum, 1.0) * slots["mom"] + change
        return fine * mom, {"acc": acc, "mom": mom}

    return rule
