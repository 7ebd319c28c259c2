"""GRU4Rec in numpy, with which the judge compares a .tflite. It shares no code with `gru4rec/tf/`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pocketrec.lite.contract import SHARPNESS, STEP, ModelSpec
from pocketrec.lite.judge import formulas
from pocketrec.lite.judge.formulas import Floats, Forward
from pocketrec.schema import Int32
from pocketrec.storage.tensors import Tensors


class Reference:
    """Computes what an `OnDeviceModel` should compute; the methods have the same names.

    Args:
        settings: the settings of the model.
        tensors: what its `save` returned, which is copied; the weights in it are those that `learn_one` pulls to.
        log_support: `Catalogue.log_support` of its items, for the logQ correction.
    """

    def __init__(self, settings: ModelSpec, tensors: Tensors, log_support: Floats) -> None:
        self.settings, self.log_support = settings, log_support
        self.step = int(tensors[STEP])
        self.tensors: dict[str, Floats] = {name: np.array(value) for name, value in tensors.items() if name != STEP}
        self.shipped = {name: tensors[name] for name in settings.weights}

    def save(self) -> Tensors:
        """Weights, slots and step by name, not copied."""
        return {STEP: np.array(self.step), **self.tensors}

    def train(self, feat: Int32, target: Int32, state: Floats) -> tuple[float, Floats]:
        """One training step on all items: the loss before it, and the new state."""
        found = self._forward(feat, state, training=True)
        loss, gradients = self._full_gradients(found, feat, target)
        self._update(gradients, {}, self.settings.learning_rate)
        return loss, found.state

    def learn_one(
        self, feat: Int32, target: Int32, state: Floats, *, rate: float, share: float, pull: float
    ) -> tuple[float, Floats]:
        """One step on all items with a share of its gradient, then all weights a share of their way back."""
        found = self._forward(feat, state)
        loss, gradients = self._full_gradients(found, feat, target)
        self._update({name: share * gradient for name, gradient in gradients.items()}, {}, rate)
        for name, shipped in self.shipped.items():
            self.tensors[name] = (1 - pull) * self.tensors[name] + pull * shipped
        return loss, found.state

    def _full_gradients(self, found: Forward, feat: Int32, target: Int32) -> tuple[float, dict[str, Floats]]:
        """The cross-entropy over all items, and its gradients by the weights."""
        loss, errors = formulas.cross_entropy(formulas.scores_of(found.known, self.tensors["output"]), target)
        gradients = formulas.inner_gradients(
            self.tensors, found, feat, errors @ self.tensors["output"][:, :-1], self.settings
        )
        gradients["output"] = gradients.get("output", 0) + formulas.output_gradient(found.known, errors)
        return loss, gradients

    def train_sampled(self, feat: Int32, target: Int32, state: Floats, negatives: Int32) -> tuple[float, Floats]:
        """One training step on the batch's targets and the drawn items; only rows of items in the step change."""
        found = self._forward(feat, state, training=True)
        candidates = np.concatenate([np.maximum(target, 0), negatives])
        absent = np.concatenate([target < 0, np.zeros(len(negatives), bool)])
        rows = self.tensors["output"][candidates]
        scores, place = formulas.scores_of(found.known, rows), np.where(target >= 0, np.arange(len(target)), -1)
        settings = self.settings
        if settings.loss == "cross-entropy":
            power = np.where(np.arange(len(candidates)) < len(target), 1, settings.sample_alpha)
            scores = scores - settings.logq * (power * self.log_support[candidates]).astype(scores.dtype)
        scores[:, absent] = -np.inf
        with np.errstate(invalid="ignore"):
            if settings.loss == "cross-entropy":
                loss, errors = formulas.cross_entropy(scores, place)
            else:
                loss, errors = formulas.bpr_max(scores, place, settings.bpreg, settings.elu)
        errors = np.nan_to_num(errors)  # NaN in lanes without a target, if there are no candidates at all
        gradients = formulas.inner_gradients(self.tensors, found, feat, errors @ rows[:, :-1], settings)
        gradients["output"] = np.zeros_like(self.tensors["output"]) + gradients.get("output", 0)
        np.add.at(gradients["output"], candidates, formulas.output_gradient(found.known, errors))
        touched = {name: np.unique(feat) for name in settings.tables}
        touched["output"] = np.unique(np.concatenate([candidates, *([feat] if settings.embedding == "shared" else [])]))
        self._update(gradients, touched, settings.learning_rate)
        return loss, found.state

    def recommend(self, feat: Int32, state: Floats) -> tuple[Floats, Floats]:
        """The scores of all items for one session after one more item, (n_items,), and its new state, (1, H)."""
        found = self._forward(feat, state)
        return formulas.scores_of(found.state, self.tensors["output"])[0], found.state

    def recommend_user(
        self, feat: Int32, state: Floats, states: Floats, items: Int32, share: float, hide: Int32
    ) -> tuple[Floats, Floats]:
        """`recommend` with a state cache of `states` and `items` that has a share, and minus infinity for hidden items."""
        scores, after = self.recommend(feat, state)
        weights = np.zeros(len(items))
        for row in np.flatnonzero(items >= 0):
            lengths = np.linalg.norm(states[row]) * np.linalg.norm(after[0])
            cosine = float(states[row] @ after[0]) / lengths if lengths else 0.0
            weights[row] = np.exp(SHARPNESS * (cosine - 1))
        scores = scores.astype(np.float64)
        level = scores.max() + np.log(np.exp(scores - scores.max()).sum())
        shares = np.exp(scores - level)
        if weights.sum():
            shares *= 1 - share
            for item, weight in zip(items, share * weights / weights.sum(), strict=True):
                shares[item] += weight if item >= 0 else 0
        shares[hide[hide >= 0]] = 0
        with np.errstate(divide="ignore"):
            return np.log(shares) + level, after

    def _forward(self, feat: Int32, state: Floats, *, training: bool = False) -> Forward:
        masks = (
            formulas.dropout_masks(self.settings, len(feat), self.step)
            if training
            else formulas.no_masks(self.settings, len(feat))
        )
        return formulas.forward(self.tensors, feat, state, masks, self.settings)

    def _update(self, gradients: Mapping[str, Floats], touched: Mapping[str, Int32], rate: float) -> None:
        """Update all weights; of the tables in `touched` only the rows given there."""
        self.step += 1
        for name, gradient in gradients.items():
            rows = touched.get(name, slice(None))
            slots = {slot: self.tensors[f"{name}_{slot}"][rows] for slot in self.settings.slots}
            weight = self.tensors[name][rows]
            self._move(weight, gradient[rows], rate, **slots)
            self.tensors[name][rows] = weight
            for slot, value in slots.items():
                self.tensors[f"{name}_{slot}"][rows] = value

    def _move(self, weight: Floats, gradient: Floats, rate: float, **slots: Floats) -> None:
        if self.settings.optimizer == "adam":
            formulas.adam(weight, gradient, rate, self.step, **slots)
        elif self.settings.optimizer == "adagrad":
            formulas.adagrad(weight, gradient, rate, self.settings.momentum, **slots)
        else:
            weight -= rate * gradient

    def infer(self, feat: Int32, state: Floats) -> tuple[Floats, Floats]:
        """Probabilities of the next item, (B, n_items), and the new state, (B, H)."""
        found = self._forward(feat, state)
        return formulas.softmax(formulas.scores_of(found.state, self.tensors["output"])), found.state

    def ranks(self, feat: Int32, target: Int32, state: Floats, slack: float) -> tuple[Int32, Int32, float]:
        """The best and the worst rank that each target can have, for lanes with a target only; and the loss.

        Rank = number of items that score at least as high as the target, itself included.

        `slack` says how much a score may be wrong, as a share of the largest score (or of 1); 0 gives the exact rank twice.
        """
        scores = formulas.scores_of(self._forward(feat, state).state, self.tensors["output"])
        lanes = np.flatnonzero(target >= 0)
        rows = scores[lanes]
        own = rows[np.arange(len(lanes)), target[lanes]][:, None]
        slack *= max(1.0, float(np.abs(scores).max()))
        low = (rows >= own + slack).sum(axis=1) + (slack > 0)  # with slack, the target itself is not counted by >=
        high = (rows >= own - slack).sum(axis=1)
        return low.astype(np.int32), high.astype(np.int32), formulas.loss_of(scores, target)
