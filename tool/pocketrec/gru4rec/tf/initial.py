"""Random initial weights of a GRU4Rec.

With embedding "none" they are drawn as in Keras and in the original: glorot uniform, orthogonal, zeros. With an embedding
they are drawn as in the official GRU4Rec: each weight of the cell is three square matrices, uniform within +-sqrt(6 / (rows
+ columns)).
"""

from __future__ import annotations

import math

import numpy as np

from pocketrec.lite.contract import ModelSpec, Shape
from pocketrec.schema import Float32


def initial_weights(settings: ModelSpec) -> dict[str, Float32]:
    """All weights of `ModelSpec.weights` by name; the same seed gives the same numbers."""
    rng = np.random.default_rng(settings.seed)
    return {name: _draw(rng, name, shape, settings) for name, shape in settings.weights.items()}


def _draw(rng: np.random.Generator, name: str, shape: Shape, settings: ModelSpec) -> Float32:
    hidden = settings.hidden_size
    if name == "bias":
        return np.zeros(shape, np.float32)
    if name in ("input", "recurrent") and settings.embedding != "none":
        return np.concatenate([_glorot_uniform(rng, (hidden, hidden)) for _ in range(3)], axis=1)
    if name == "recurrent":
        return _orthogonal(rng, shape)
    if name == "output":
        vectors = _glorot_uniform(rng, (shape[0], hidden))
        return np.concatenate([vectors, np.zeros((shape[0], 1), np.float32)], axis=1)
    # A kernel is a third of a matrix (n_items, 3H); as in the original, the limit is that of the whole matrix.
    return _glorot_uniform(rng, shape, 3 if name.startswith("kernel") else 1)


def _glorot_uniform(rng: np.random.Generator, shape: Shape, parts: int = 1) -> Float32:
    limit = np.float32(math.sqrt(6 / (shape[0] + shape[1] * parts)))
    return rng.random(shape, dtype=np.float32) * (2 * limit) - limit


def _orthogonal(rng: np.random.Generator, shape: Shape) -> Float32:
    rows, columns = shape  # rows < columns: orthonormal rows
    q, r = np.linalg.qr(rng.standard_normal((columns, rows)))
    return np.ascontiguousarray((q * np.sign(np.diag(r))).T, dtype=np.float32)
