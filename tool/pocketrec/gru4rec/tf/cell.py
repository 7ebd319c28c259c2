"""One step of a GRU with reset_after, as in Keras, and its gradients written out.

    z = sigmoid(xz + yz);  r = sigmoid(xr + yr);  c = tanh(xh + r * yh);  state = z * before + (1 - z) * c

x is what the input adds to the gates, y what the state adds, biases included; columns are in the order z, r, h. No gradient
flows into `before`, since the state is an input of the model, as in the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

Tensor = Any


@dataclass(frozen=True)
class CellStep:
    """A step, and what its gradients need; all tensors are (B, H)."""

    before: Tensor
    z: Tensor
    r: Tensor
    candidate: Tensor
    inner: Tensor
    state: Tensor


def run_cell(x: list[Tensor], y: Tensor, before: Tensor) -> CellStep:
    """Compute one step; x is three tensors (B, H), y is (B, 3H), `before` is the state before the step, (B, H)."""
    yz, yr, yh = tf.split(y, 3, axis=1)
    z, r = tf.sigmoid(x[0] + yz), tf.sigmoid(x[1] + yr)
    candidate = tf.tanh(x[2] + r * yh)
    return CellStep(before, z, r, candidate, yh, z * before + (1 - z) * candidate)


def cell_gradients(step: CellStep, d_state: Tensor) -> tuple[list[Tensor], Tensor]:
    """d(loss)/dx as three tensors (B, H), and d(loss)/dy as (B, 3H)."""
    d_candidate = d_state * (1 - step.z) * (1 - tf.square(step.candidate))
    d_z = d_state * (step.before - step.candidate) * step.z * (1 - step.z)
    d_r = d_candidate * step.inner * step.r * (1 - step.r)
    return [d_z, d_r, d_candidate], tf.concat([d_z, d_r, d_candidate * step.r], axis=1)
