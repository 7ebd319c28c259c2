"""Dropout without a random operator: a mask is a hash of (seed, layer, step, lane, unit) in unsigned 32-bit arithmetic.

LiteRT's random operators keep a state that neither save nor restore can reach. A counter-based hash has none: a step that
is done again after a restore leaves out the same units, and the judge can compute the mask without the model.

    mix(x): x ^= x >> 16;  x *= 0x85EBCA6B;  x ^= x >> 13;  x *= 0xC2B2AE35;  x ^= x >> 16      (modulo 2**32)
    mask = mix(mix(mix(mix(seed ^ salt) ^ step) ^ lane * 0x9E3779B1) ^ unit * 0x85EBCA77) >> 8  >=  rate * 2**24

mix is the finaliser of MurmurHash3 (Austin Appleby, public domain), in which every bit of the input changes every bit of
the output with a probability near one half.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any

_WORD = 0xFFFFFFFF


def keep_shares(step: Tensor, shape: tuple[int, int], rate: float, *, seed: int, salt: int) -> Tensor:
    """What to multiply activations with: 0 with probability `rate`, else 1 / (1 - rate); float32 (lanes, units).

    Args:
        step: int32 scalar, the steps done before this one.
        shape: lanes and units.
        rate: share of units to leave out.
        seed: of the model.
        salt: of the layer.
    """
    lanes, units = (np.arange(count, dtype=np.uint32) for count in shape)
    begin = _mix_number((seed ^ seed >> 32 ^ salt) & _WORD)
    at_step = _mix(_xor(tf.cast(step, tf.uint32), _constant(begin)))
    at_lane = _mix(_xor(at_step, tf.constant(lanes * np.uint32(0x9E3779B1))[:, None]))  # (lanes, 1)
    hashed = _mix(_xor(at_lane, tf.constant(units * np.uint32(0x85EBCA77))[None]))  # (lanes, units)
    level = tf.cast(_shift(hashed, 8), tf.float32)  # exact: 24 bits
    return tf.cast(level >= rate * 2.0**24, tf.float32) * (1 / (1 - rate))


def _mix(x: Tensor) -> Tensor:
    x = _xor(x, _shift(x, 16)) * _constant(0x85EBCA6B)
    x = _xor(x, _shift(x, 13)) * _constant(0xC2B2AE35)
    return _xor(x, _shift(x, 16))


def _mix_number(x: int) -> int:
    x = ((x ^ x >> 16) * 0x85EBCA6B) & _WORD
    x = ((x ^ x >> 13) * 0xC2B2AE35) & _WORD
    return x ^ x >> 16


def _constant(value: int) -> Tensor:
    return tf.constant(value, tf.uint32)


def _xor(x: Tensor, y: Tensor) -> Tensor:
    return tf.bitwise.bitwise_xor(x, y)


def _shift(x: Tensor, bits: int) -> Tensor:
    return tf.bitwise.right_shift(x, _constant(bits))
