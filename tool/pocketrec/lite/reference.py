"""GRU4Rec once more, in numpy, as the textbook has it: what the judge holds a .tflite against.

Written from the formulas, not from `models/gru4rec.py`: the target really is subtracted as a one-hot row, each gate really
has its columns, items are really added one by one. It is meant to be read and to be right; float64 in gives float64 out,
which is how the tests hold its gradients against finite differences.

Sources: Keras' GRUCell with reset_after (keras/src/layers/rnn/gru.py), Keras' Adam (keras/src/optimizers/adam.py), the
official GRU4Rec's Adagrad (hidasib/GRU4Rec, `adagrad`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.lite.contract import OPTIMIZERS, STEP, ModelSettings

Floats = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Forward:
    """Everything the backward pass needs; arrays (B, H), `scores` (B, n_items)."""

    before: Floats
    z: Floats
    r: Floats
    candidate: Floats
    inner: Floats
    state: Floats
    scores: Floats


def forward(tensors: Mapping[str, Floats], feat: Codes, state: Floats) -> Forward:
    """One GRU step and the scores (logits) of every item."""
    h = state.shape[1]
    x = tensors["kernel"][feat] + tensors["bias"][0]  # (B, 3H): z, r, h
    y = state @ tensors["recurrent"] + tensors["bias"][1]
    z = _sigmoid(x[:, :h] + y[:, :h])
    r = _sigmoid(x[:, h : 2 * h] + y[:, h : 2 * h])
    candidate = np.tanh(x[:, 2 * h :] + r * y[:, 2 * h :])
    after = z * state + (1 - z) * candidate
    scores = after @ tensors["dense"] + tensors["dense_bias"]
    return Forward(state, z, r, candidate, y[:, 2 * h :], after, scores)


def softmax(scores: Floats) -> Floats:
    """Probabilities, row by row."""
    shares: Floats = scores - scores.max(axis=1, keepdims=True)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def loss_of(scores: Floats, target: Codes) -> float:
    """Mean cross-entropy over the lanes with a target, in nats; 0 without any."""
    losses = [_cross_entropy(row.astype(np.float64), item) for row, item in zip(scores, target, strict=True) if item >= 0]
    return float(np.mean(losses)) if losses else 0.0


def _cross_entropy(scores: Floats, item: int) -> float:
    top = scores.max()
    return float(top + np.log(np.exp(scores - top).sum()) - scores[item])


def gradients(tensors: Mapping[str, Floats], step: Forward, feat: Codes, target: Codes) -> dict[str, Floats]:
    """d(loss)/d(weight) for every weight, in its shape. No gradient flows into the state that came in."""
    errors = softmax(step.scores)  # (B, n_items); becomes d(loss)/d(scores)
    lanes = np.flatnonzero(target >= 0)
    errors[lanes, target[lanes]] -= 1
    errors *= ((target >= 0) / max(1, len(lanes)))[:, None].astype(errors.dtype)
    d_state = errors @ tensors["dense"].T
    d_candidate = d_state * (1 - step.z) * (1 - step.candidate**2)
    d_z = d_state * (step.before - step.candidate) * step.z * (1 - step.z)
    d_r = d_candidate * step.inner * step.r * (1 - step.r)
    d_x = np.concatenate([d_z, d_r, d_candidate], axis=1)
    d_y = np.concatenate([d_z, d_r, d_candidate * step.r], axis=1)
    d_kernel = np.zeros_like(tensors["kernel"])
    np.add.at(d_kernel, feat, d_x)
    return {
        "kernel": d_kernel,
        "recurrent": step.before.T @ d_y,
        "bias": np.stack([d_x.sum(axis=0), d_y.sum(axis=0)]),
        "dense": step.state.T @ errors,
        "dense_bias": errors.sum(axis=0),
    }


class Reference:
    """The same interface as `OnDeviceModel`, from the tensors that `save` handed out (which are copied).

    Args:
        settings: of the model.
        tensors: weights, slots and step, by name.
    """

    def __init__(self, settings: ModelSettings, tensors: dict[str, npt.NDArray[Any]]) -> None:
        self.settings = settings
        self.step = int(tensors[STEP])
        self.tensors: dict[str, Floats] = {name: np.array(value) for name, value in tensors.items() if name != STEP}

    def train(self, feat: Codes, target: Codes, state: Floats) -> tuple[float, Floats]:
        """One step of the optimizer: the loss before it, and the state after the items."""
        found = forward(self.tensors, feat, state)
        loss = loss_of(found.scores, target)
        self.step += 1
        for name, gradient in gradients(self.tensors, found, feat, target).items():
            slots = {slot: self.tensors[f"{name}_{slot}"] for slot in OPTIMIZERS[self.settings.optimizer]}
            self._update(self.tensors[name], gradient, **slots)
        return loss, found.state

    def _update(self, weight: Floats, gradient: Floats, **slots: Floats) -> None:
        rate = self.settings.learning_rate
        if self.settings.optimizer == "adam":
            _adam(weight, gradient, rate, self.step, **slots)
        elif self.settings.optimizer == "adagrad":
            _adagrad(weight, gradient, rate, **slots)
        else:
            weight -= rate * gradient

    def ranks(self, feat: Codes, target: Codes, state: Floats, slack: float) -> tuple[Codes, Codes, float]:
        """The lowest and the highest rank each target may have, lanes with a target only; and the loss.

        rank = items that score at least the target's score, the target itself among them.

        Args:
            feat: items.
            target: next items, -1 for none.
            state: before the items.
            slack: how far off scores may be, as a share of the largest (or of 1); with 0 both ranks are the exact one.
        """
        scores = forward(self.tensors, feat, state).scores
        lanes = np.flatnonzero(target >= 0)
        rows = scores[lanes]
        own = rows[np.arange(len(lanes)), target[lanes]][:, None]
        slack *= max(1.0, float(np.abs(scores).max()))
        low = (rows >= own + slack).sum(axis=1) + (slack > 0)  # with slack, the target does not reach its own bar
        high = (rows >= own - slack).sum(axis=1)
        return low.astype(np.int32), high.astype(np.int32), loss_of(scores, target)


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def _adam(weight: Floats, gradient: Floats, rate: float, step: int, *, m: Floats, v: Floats) -> None:
    """Kingma and Ba with the bias corrections in the rate, epsilon 1e-7 beside the root."""
    m += 0.1 * (gradient - m)
    v += 0.001 * (gradient**2 - v)
    weight -= rate * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)


def _adagrad(weight: Floats, gradient: Floats, rate: float, *, acc: Floats) -> None:
    acc += gradient**2
    weight -= rate * gradient / np.sqrt(acc + 1e-6)
