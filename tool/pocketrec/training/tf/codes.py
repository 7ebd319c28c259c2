"""Codes of no item and no user in the graphs of a model file: nothing is read for them, and the answers to them are NaN.

Runtimes do not check what they look up: they read other memory, or end the process. So each code is drawn into its table,
and the answer to one that had to be is spoiled by adding NaN, which the caller sees without an exception.

Codes are drawn by the remainder, one operator. Two bounds would be two, and where they are 0 and 6, or -1 and 1, the
converter takes them for an activation of floats and fails.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def inside(codes: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Codes drawn into 0 .. end - 1, int32, and whether they were there before, bool; both of the codes' shape."""
    drawn = tf.math.floormod(codes, end)
    return drawn, codes == drawn


def inside_or_none(codes: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """`inside` for codes among which -1 stands for none."""
    drawn, fine = inside(codes + 1, end + 1)
    return drawn - 1, fine


def poison(fine: Tensor) -> Tensor:
    """0, or NaN where `fine`, bool, is not so; float32 of the same shape."""
    return tf.where(fine, 0.0, float("nan"))
