"""Dropout without random operators: a mask is a hash of (seed, layer, step, lane, unit) in unsigned 32-bit arithmetic.

LiteRT's random operators have a state that save and restore cannot reach. A hash has no state: a step that is repeated
after a restore drops the same units, and the judge can compute the mask without the model.

    mix(x): x ^= x >> 16;  x *= 0x85EBCA6B;  x ^= x >> 13;  x *= 0xC2B2AE35;  x ^= x >> 16      (modulo 2**32)
    mask = mix(mix(mix(mix(seed ^ salt) ^ step) ^ lane * 0x9E3779B1) ^ unit * 0x85EBCA77) >> 8  >=  rate * 2**24

mix is the finaliser of MurmurHash3 (Austin Appleby, public domain), in which every bit of the input changes every bit of
the output with a probability near one half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pocketrec.lite.contract import SALTS, ModelSpec
from pocketrec.schema import Float32

Tensor = Any
Shape = tuple[int, int]

STEPS_AT_A_TIME = 16
"""Steps whose masks are computed together; with 32 lanes their numbers fit into a core's cache."""


def layers_of(settings: ModelSpec, lanes: int) -> dict[str, tuple[Shape, float]]:
    """Layer -> ((lanes, units), rate), for each layer that has dropout."""
    layers = {
        "input": ((lanes, settings.hidden_size * len(settings.tables)), settings.dropout_embedding),
        "hidden": ((lanes, settings.hidden_size), settings.dropout_hidden),
    }
    return {name: layer for name, layer in layers.items() if layer[1]}


def keep_shares(step: Tensor, settings: ModelSpec, lanes: int) -> dict[str, Tensor]:
    """Layer -> factors of its activations: 0 with probability `rate`, else 1 / (1 - rate); float32 (lanes, units).

    `step` is the number of steps done before this one, an int32 scalar.
    """

    def word(value: Any) -> Tensor:
        return tf.constant(value, tf.uint32)

    found = {}
    for layer, (shape, rate) in layers_of(settings, lanes).items():
        level = _levels(tf.cast(step, tf.uint32), shape, _begin(settings, layer), tf.bitwise, word)
        found[layer] = tf.cast(tf.cast(level, tf.float32) >= rate * 2.0**24, tf.float32) * (1 / (1 - rate))
    return found


def keep_shares_of(begin: int, steps: int, settings: ModelSpec, lanes: int) -> dict[str, Float32]:
    """`keep_shares` of several steps, computed in numpy, (steps, lanes, units); `begin` steps were done before them."""
    found = {}
    for layer, (shape, rate) in layers_of(settings, lanes).items():
        shares = found[layer] = np.empty((steps, *shape), np.float32)
        for first in range(0, steps, STEPS_AT_A_TIME):
            part = shares[first : first + STEPS_AT_A_TIME]
            numbers = np.arange(begin + first, begin + first + len(part), dtype=np.uint32)[:, None, None]
            level = _levels(numbers, shape, _begin(settings, layer), np, np.uint32)
            np.multiply(level >= rate * 2.0**24, np.float32(1 / (1 - rate)), out=part)
    return found


def _begin(settings: ModelSpec, layer: str) -> int:
    """The hash of seed and layer."""
    word = (settings.seed ^ settings.seed >> 32 ^ SALTS[layer]) & 0xFFFFFFFF
    return int(_mix(np.array([word], np.uint32), np, np.uint32)[0])


def _levels(step: Any, shape: Shape, begin: int, bits: Any, word: Callable[[Any], Any]) -> Any:
    """24 random bits for each lane and unit of a step, or of n steps whose numbers are (n, 1, 1), as unsigned words.

    `begin` is the hash of seed and layer. `bits` is the library to compute with, tf.bitwise or numpy, and `word` makes an
    unsigned constant for it.
    """
    lanes, units = (np.arange(count, dtype=np.uint32) for count in shape)
    at_step = _mix(bits.bitwise_xor(step, word(begin)), bits, word)
    at_lane = _mix(bits.bitwise_xor(at_step, word(lanes * np.uint32(0x9E3779B1))[:, None]), bits, word)  # (lanes, 1)
    hashed = _mix(bits.bitwise_xor(at_lane, word(units * np.uint32(0x85EBCA77))[None]), bits, word)  # (lanes, units)
    return bits.right_shift(hashed, word(8))


def _mix(x: Any, bits: Any, word: Callable[[Any], Any]) -> Any:
    x = bits.bitwise_xor(x, bits.right_shift(x, word(16))) * word(0x85EBCA6B)
    x = bits.bitwise_xor(x, bits.right_shift(x, word(13))) * word(0xC2B2AE35)
    return bits.bitwise_xor(x, bits.right_shift(x, word(16)))
