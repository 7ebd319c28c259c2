"""GRU4Rec once more, in numpy: what the judge holds a .tflite against. It shares no line with `models/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.lite.contract import STEP, ModelSpec
from pocketrec.lite.judge.formulas import (
    Codes,
    Floats,
    Forward,
    adagrad,
    adam,
    bpr_max,
    cross_entropy,
    dropout_masks,
    forward,
    inner_gradients,
    loss_of,
    no_masks,
    output_gradient,
    scores_of,
    softmax,
)


class Reference:
    """The same interface as `OnDeviceModel`, from the tensors that `save` handed out (which are copied).

    Args:
        settings: of the model.
        tensors: weights, slots and step, by name.
        log_support: of the items, for the logQ correction.
    """

    def __init__(self, settings: ModelSpec, tensors: dict[str, npt.NDArray[Any]], log_support: Floats) -> None:
        self.settings, self.log_support = settings, log_support
        self.step = int(tensors[STEP])
        self.tensors: dict[str, Floats] = {name: np.array(value) for name, value in tensors.items() if name != STEP}

    def train(self, feat: Codes, target: Codes, state: Floats) -> tuple[float, Floats]:
        """One step of the optimizer on all items: the loss before it, and the state after the items."""
        found = self._forward(feat, state, training=True)
        loss, errors = cross_entropy(scores_of(found.known, self.tensors["output"]), target)
        gradients = inner_gradients(self.tensors, found, feat, errors @ self.tensors["output"][:, :-1], self.settings)
        gradients["output"] = gradients.get("output", 0) + output_gradient(found.known, errors)
        self._update(gradients, {})
        return loss, found.state

    def train_sampled(self, feat: Codes, target: Codes, state: Floats, negatives: Codes) -> tuple[float, Floats]:
        """One step on the batch's targets and the extra items as candidates; only rows of items in it change."""
        found = self._forward(feat, state, training=True)
        candidates = np.concatenate([np.maximum(target, 0), negatives])
        absent = np.concatenate([target < 0, np.zeros(len(negatives), bool)])
        rows = self.tensors["output"][candidates]
        scores, place = scores_of(found.known, rows), np.where(target >= 0, np.arange(len(target)), -1)
        settings = self.settings
        if settings.loss == "cross-entropy":
            power = np.where(np.arange(len(candidates)) < len(target), 1, settings.sample_alpha)
            scores = scores - settings.logq * (power * self.log_support[candidates]).astype(scores.dtype)
        scores[:, absent] = -np.inf
        with np.errstate(invalid="ignore"):
            loss, errors = (
                cross_entropy(scores, place)
                if settings.loss == "cross-entropy"
                else bpr_max(scores, place, settings.bpreg, settings.elu)
            )
        errors = np.nan_to_num(errors)  # of lanes without a target, when no candidate is left
        gradients = inner_gradients(self.tensors, found, feat, errors @ rows[:, :-1], settings)
        gradients["output"] = np.zeros_like(self.tensors["output"]) + gradients.get("output", 0)
        np.add.at(gradients["output"], candidates, output_gradient(found.known, errors))
        touched = {name: np.unique(feat) for name in settings.tables}
        touched["output"] = np.unique(np.concatenate([candidates, *([feat] if settings.embedding == "shared" else [])]))
        self._update(gradients, touched)
        return loss, found.state

    def recommend(self, feat: Codes, state: Floats) -> tuple[Floats, Floats]:
        """The scores of all items for one session after one more item, and its state."""
        found = self._forward(feat, state)
        return scores_of(found.state, self.tensors["output"])[0], found.state

    def _forward(self, feat: Codes, state: Floats, *, training: bool = False) -> Forward:
        masks = dropout_masks(self.settings, len(feat), self.step) if training else no_masks(self.settings, len(feat))
        return forward(self.tensors, feat, state, masks, self.settings)

    def _update(self, gradients: Mapping[str, Floats], touched: Mapping[str, Codes]) -> None:
        """Move every weight; of the tables in `touched` those rows alone."""
        self.step += 1
        for name, gradient in gradients.items():
            rows = touched.get(name, slice(None))
            slots = {slot: self.tensors[f"{name}_{slot}"][rows] for slot in self.settings.slots}
            weight = self.tensors[name][rows]
            self._move(weight, gradient[rows], **slots)
            self.tensors[name][rows] = weight
            for slot, value in slots.items():
                self.tensors[f"{name}_{slot}"][rows] = value

    def _move(self, weight: Floats, gradient: Floats, **slots: Floats) -> None:
        rate = self.settings.learning_rate
        if self.settings.optimizer == "adam":
            adam(weight, gradient, rate, self.step, **slots)
        elif self.settings.optimizer == "adagrad":
            adagrad(weight, gradient, rate, self.settings.momentum, **slots)
        else:
            weight -= rate * gradient

    def infer(self, feat: Codes, state: Floats) -> tuple[Floats, Floats]:
        """Probabilities of the next item, and the state."""
        found = self._forward(feat, state)
        return softmax(scores_of(found.state, self.tensors["output"])), found.state

    def ranks(self, feat: Codes, target: Codes, state: Floats, slack: float) -> tuple[Codes, Codes, float]:
        """The lowest and the highest rank each target may have, lanes with a target only; and the loss.

        rank = items that score at least the target's score, the target itself among them.

        Args:
            feat: items.
            target: next items, -1 for none.
            state: before the items.
            slack: how far off scores may be, as a share of the largest (or of 1); with 0 both ranks are the exact one.
        """
        scores = scores_of(self._forward(feat, state).state, self.tensors["output"])
        lanes = np.flatnonzero(target >= 0)
        rows = scores[lanes]
        own = rows[np.arange(len(lanes)), target[lanes]][:, None]
        slack *= max(1.0, float(np.abs(scores).max()))
        low = (rows >= own + slack).sum(axis=1) + (slack > 0)  # with slack, the target does not reach its own bar
        high = (rows >= own - slack).sum(axis=1)
        return low.astype(np.int32), high.astype(np.int32), loss_of(scores, target)
