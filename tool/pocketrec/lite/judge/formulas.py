"""The formulas of GRU4Rec in numpy, in their textbook form: `Reference` computes with them.

Written from the formulas, not from `gru4rec/tf/`, to be easy to read and correct rather than fast: the target is subtracted
as a one-hot row, items are added one by one, BPR-max goes lane by lane. float64 inputs give float64 results, so that tests
can compare the gradients with finite differences.

Sources: Keras' GRUCell with reset_after (keras/src/layers/rnn/gru.py), Keras' Adam (keras/src/optimizers/adam.py), the
official GRU4Rec's losses, logQ correction and Adagrad (hidasib/GRU4Rec), MurmurHash3's finaliser (Appleby).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.lite.contract import SALTS, ModelSpec
from pocketrec.schema import Int32

Floats = npt.NDArray[np.floating[Any]]
"""float32 or float64."""


@dataclass(frozen=True)
class Forward:
    """Everything that the backward pass needs: (B, H) each; `vectors` and `kept` are (B, 3H) with embedding "none"."""

    vectors: Floats
    kept: Floats
    before: Floats
    z: Floats
    r: Floats
    candidate: Floats
    inner: Floats
    state: Floats
    kept_state: Floats

    @property
    def known(self) -> Floats:
        """The input of the output layer, (B, H)."""
        return self.state * self.kept_state


@dataclass(frozen=True)
class Masks:
    """Dropout: the factors of the looked-up numbers and of the state; all 1 without dropout."""

    vectors: Floats
    state: Floats


def no_masks(settings: ModelSpec, lanes: int) -> Masks:
    """Factors of 1: no dropout."""
    width = settings.hidden_size * len(settings.tables)
    return Masks(np.ones((lanes, width), np.float32), np.ones((lanes, settings.hidden_size), np.float32))


def dropout_masks(settings: ModelSpec, lanes: int, step: int) -> Masks:
    """The factors of the training step that comes after `step` others."""
    ones = no_masks(settings, lanes)
    return Masks(
        _mask(settings.seed, "input", step, ones.vectors.shape, settings.dropout_embedding),
        _mask(settings.seed, "hidden", step, ones.state.shape, settings.dropout_hidden),
    )


def _mask(seed: int, layer: str, step: int, shape: tuple[int, ...], rate: float) -> Floats:
    mask = np.empty(shape, np.float32)
    for lane in range(shape[0]):
        key = _mix(_mix(_mix((seed ^ seed >> 32 ^ SALTS[layer]) % 2**32) ^ step) ^ lane * 0x9E3779B1 % 2**32)
        for unit in range(shape[1]) if rate else ():
            mask[lane, unit] = (_mix(key ^ unit * 0x85EBCA77 % 2**32) >> 8) >= rate * 2**24
    return mask / np.float32(1 - rate) if rate else np.ones(shape, np.float32)


def _mix(x: int) -> int:
    x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
    x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
    return x ^ x >> 16


def forward(tensors: Mapping[str, Floats], feat: Int32, state: Floats, masks: Masks, settings: ModelSpec) -> Forward:
    """One GRU step; feat is (B,), state (B, H)."""
    h = state.shape[1]
    vectors = np.concatenate([tensors[name][feat, :h] for name in settings.tables], axis=1) * masks.vectors
    x = (vectors if settings.embedding == "none" else vectors @ tensors["input"]) + tensors["bias"][0]  # (B, 3H): z, r, h
    y = state @ tensors["recurrent"] + tensors["bias"][1]
    z = sigmoid(x[:, :h] + y[:, :h])
    r = sigmoid(x[:, h : 2 * h] + y[:, h : 2 * h])
    candidate = np.tanh(x[:, 2 * h :] + r * y[:, 2 * h :])
    after = z * state + (1 - z) * candidate
    return Forward(vectors, masks.vectors, state, z, r, candidate, y[:, 2 * h :], after, masks.state)


def scores_of(known: Floats, rows: Floats) -> Floats:
    """Scores (logits), (B, n), of n items, given their rows of the output layer, (n, H + 1)."""
    scores: Floats = known @ rows[:, :-1].T + rows[:, -1]
    return scores


def softmax(scores: Floats) -> Floats:
    """Softmax of each row."""
    shares: Floats = scores - scores.max(axis=1, keepdims=True)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def loss_of(scores: Floats, target: Int32) -> float:
    """Mean cross-entropy over the lanes with a target, in nats; 0 without any."""
    losses = [_cross_entropy(row.astype(np.float64), item) for row, item in zip(scores, target, strict=True) if item >= 0]
    return float(np.mean(losses)) if losses else 0.0


def _cross_entropy(scores: Floats, item: int) -> float:
    top = scores.max()
    return float(top + np.log(np.exp(scores - top).sum()) - scores[item])


def cross_entropy(scores: Floats, target: Int32) -> tuple[float, Floats]:
    """Cross-entropy: its sum over the lanes with a target (a column of `scores`) divided by B; its gradient by `scores`."""
    errors = softmax(scores)
    lanes = np.flatnonzero(target >= 0)
    errors[lanes, target[lanes]] -= 1
    errors *= ((target >= 0) / len(target))[:, None].astype(errors.dtype)
    return loss_of(scores, target) * len(lanes) / len(target), errors


def bpr_max(scores: Floats, target: Int32, bpreg: float, elu: float) -> tuple[float, Floats]:
    """BPR-max, arguments and results as in `cross_entropy`; a score of -inf stands for an item that is no candidate."""
    gradient, losses = np.zeros_like(scores), []
    lanes = np.flatnonzero(target >= 0)
    present = np.isfinite(scores[0])
    for lane in lanes:
        i = np.flatnonzero(np.flatnonzero(present) == target[lane])[0]
        s = scores[lane, present]
        o = np.where(s > 0, s, elu * (np.exp(np.minimum(s, 0)) - 1)) if elu else s
        others = np.arange(len(o)) != i
        q = np.zeros_like(o)
        if others.any():
            q[others] = softmax(o[None, others])[0]
        above = sigmoid(o[i] - o)
        a, r = (q * above).sum(), (q * o**2).sum()
        losses.append(-np.log(a + 1e-24) + bpreg * r)
        d_a = q * (above - a) - q * above * (1 - above)
        d_a[i] = (q * above * (1 - above)).sum()
        d_o = -d_a / (a + 1e-24) + bpreg * q * (o**2 - r + 2 * o)
        slope = np.where(s > 0, 1, elu * np.exp(np.minimum(s, 0))) if elu else 1.0
        gradient[lane, present] = d_o * slope / len(target)
    return float(np.sum(losses)) / len(target), gradient


def inner_gradients(
    tensors: Mapping[str, Floats], step: Forward, feat: Int32, d_known: Floats, settings: ModelSpec
) -> dict[str, Floats]:
    """d(loss)/d(weight) for all weights but the output layer; if that is also the input table, its part from the input.

    No gradient flows into the state before the step.
    """
    d_state = d_known * step.kept_state
    d_candidate = d_state * (1 - step.z) * (1 - step.candidate**2)
    d_z = d_state * (step.before - step.candidate) * step.z * (1 - step.z)
    d_r = d_candidate * step.inner * step.r * (1 - step.r)
    d_x = np.concatenate([d_z, d_r, d_candidate], axis=1)
    d_y = np.concatenate([d_z, d_r, d_candidate * step.r], axis=1)
    found = {"recurrent": step.before.T @ d_y, "bias": np.stack([d_x.sum(axis=0), d_y.sum(axis=0)])}
    d_vectors = d_x
    if settings.embedding != "none":
        d_vectors = d_x @ tensors["input"].T
        found["input"] = step.vectors.T @ d_x
    parts = np.split(d_vectors * step.kept, len(settings.tables), axis=1)
    for name, part in zip(settings.tables, parts, strict=True):
        found[name] = np.zeros_like(tensors[name])
        np.add.at(found[name][:, : settings.hidden_size], feat, part)
    return found


def output_gradient(known: Floats, errors: Floats) -> Floats:
    """d(loss)/d(rows of the output layer), (n, H + 1), from `errors` = d(loss)/d(scores), (B, n)."""
    return np.concatenate([errors.T @ known, errors.sum(axis=0)[:, None]], axis=1)


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def adam(weight: Floats, gradient: Floats, rate: float, step: int, *, m: Floats, v: Floats) -> None:
    """Adam (Kingma and Ba), in place; bias corrections are in the rate, epsilon 1e-7 is added to the root."""
    m += 0.1 * (gradient - m)
    v += 0.001 * (gradient**2 - v)
    weight -= rate * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)


def adagrad(
    weight: Floats, gradient: Floats, rate: float, momentum: float, *, acc: Floats, mom: Floats | None = None
) -> None:
    """Adagrad of the official GRU4Rec, with classical momentum, in place."""
    acc += gradient**2
    change = rate * gradient / np.sqrt(acc + 1e-6)
    if mom is not None:
        mom *= momentum
        mom += change
        change = mom
    weight -= change
