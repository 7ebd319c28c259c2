"""Inputs that cannot be: a call with one changes nothing, and its caller sees that without an exception.

A code of no item, a state that is not finite or no state of a GRU (it lies between -1 and 1), a count of steps below 0 or
at its end: runtimes would read other memory, or make every weight NaN for good. So each call goes on with harmless values
in their place, and a factor of 0 for all that it changes. It answers with the loss NaN, the items -1, scores NaN and the
state that it was given. The factor costs some numbers a lane; no table is read or written for its sake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from pocketrec.lite.contract import LAST_STEP

Tensor = Any

LARGEST_STATE = 1000.0
"""A number in a state that is larger than this, or NaN, is none."""


@dataclass(frozen=True)
class Guarded:
    """The inputs of a call, harmless where they cannot be.

    Attributes:
        feat: current items, int32 (B,).
        target: next items, int32 (B,); -1 for none.
        negatives: drawn items, int32 (S,).
        state: states, (B, H).
        given: the states as they came.
        fine: 1 if all inputs can be, else 0; a float32 scalar.
        poison: 0 if all inputs can be, else NaN; a float32 scalar.
    """

    feat: Tensor
    target: Tensor
    negatives: Tensor
    state: Tensor
    given: Tensor
    fine: Tensor
    poison: Tensor

    def state_after(self, state: Tensor) -> Tensor:
        """The new state, or the one that was given."""
        return tf.where(self.fine > 0, state, self.given)


def guard(
    n_items: int, feat: Tensor, state: Tensor, target: Tensor | None = None, negatives: Tensor | None = None,
    step: Tensor | None = None,
) -> Guarded:  # fmt: skip
    """Look at the inputs of a call; `step` is the count of steps, where the call is one that learns."""
    codes = [
        feat,
        tf.zeros(0, tf.int32) if target is None else target,
        tf.zeros(0, tf.int32) if negatives is None else negatives,
    ]
    inside = [tf.clip_by_value(code, least, n_items - 1) for code, least in zip(codes, (0, -1, 0), strict=True)]
    known = tf.abs(state) <= LARGEST_STATE  # not so for NaN
    wrong = tf.reduce_sum(1 - tf.cast(known, tf.float32))
    for code, clipped in zip(codes, inside, strict=True):
        if code.shape[0]:
            wrong += tf.reduce_sum(tf.cast(code != clipped, tf.float32))
    if step is not None:
        wrong += tf.cast(step < 0, tf.float32) + tf.cast(step > LAST_STEP, tf.float32)
    fine = tf.cast(wrong <= 0, tf.float32)
    poison = tf.where(wrong <= 0, 0.0, float("nan"))
    state_inside = tf.where(known, state, tf.zeros_like(state))
    return Guarded(inside[0], inside[1], inside[2], state_inside, state, fine, poison)
