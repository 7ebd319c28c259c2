"""Variables and their optimizer: how gradients, of whole tensors or of some rows, change weights and slots on LiteRT.

LiteRT reads and assigns whole variables; no operator writes only some rows. An update of rows is therefore computed for
these rows and scattered into zeros that are added to the table. Updates run one after the other, so that the memory of one
is free before the next begins: three kernels at once would need 0.2 GB more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pocketrec.gru4rec.tf.guard import Guarded
from pocketrec.gru4rec.tf.optimizers import Rule, make_rule
from pocketrec.lite.contract import STEP, ModelSpec

Tensor = Any


@dataclass(frozen=True)
class Rows:
    """The gradient of some rows of a table.

    Attributes:
        items: numbers of the rows, int32 (n,); the gradient of a row that is there twice is the sum.
        parts: the gradients, (n, columns).
    """

    items: Tensor
    parts: Tensor


Gradients = dict[str, Callable[[], Tensor | Rows]]
"""Weight name -> function that computes its gradient; called one after the other, so that they share memory."""


class Trainable(tf.Module):  # type: ignore[misc]
    """Variables for the weights, the optimizer's slots and the count of steps; `weights` are the initial values."""

    def __init__(self, settings: ModelSpec, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        super().__init__(name="model")
        self.settings = settings
        self.weights = {name: tf.Variable(value, name=name) for name, value in weights.items()}
        self.slots = {
            f"{name}_{slot}": tf.Variable(np.zeros_like(value), name=f"{name}_{slot}")
            for name, value in weights.items()
            for slot in settings.slots
        }
        self.step = tf.Variable(np.int32(0), name=STEP)
        self.shipped: dict[str, Tensor] = {}  # weight name -> what `learn` pulls it to

    def load(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Set the weights, slots and step from tensors by name."""
        for name, variable in self._state().items():
            variable.assign(tensors[name])

    def _state(self) -> dict[str, Tensor]:
        return {**self.weights, **self.slots, STEP: self.step}

    def _scatter(self, name: str, rows: list[Rows]) -> Tensor:
        items = tf.concat([part.items for part in rows], axis=0)
        return tf.scatter_nd(items[:, None], tf.concat([part.parts for part in rows], axis=0), self.weights[name].shape)

    def _apply(
        self,
        gradients: Gradients,
        held: Mapping[str, Tensor],
        after: list[Tensor],
        given: Guarded | None = None,
        *,
        sparse: bool,
    ) -> None:
        """Update all weights, one after the other.

        Args:
            gradients: the gradients.
            held: weights that were read already, by name.
            after: tensors that must be computed before any weight changes.
            given: the inputs; with a `fine` of 0 nothing may change, and all gradients are 0.
            sparse: do not change rows without a gradient, even if the optimizer would.
        """
        before, fine, amounts = self.step.read_value(), given and given.fine, given and given.amounts
        step = before + (1 if fine is None else tf.cast(fine, tf.int32))
        rule = make_rule(self.settings, step, fine, amounts and amounts.rate)
        pull = amounts and amounts.pull
        done = [*after, self.step.assign(step, read_value=False)]
        for name, gradient in gradients.items():
            with tf.control_dependencies(done):
                found = gradient()
                weight = held[name] if name in held else self.weights[name].read_value()
                if isinstance(found, Rows) and sparse:
                    done = self._update_rows(name, weight, found, rule, pull)
                else:
                    dense = self._scatter(name, [found]) if isinstance(found, Rows) else found
                    change, slots = rule(tf.identity(dense), self._slots_of(name))
                    done = self._assign(name, weight - change, slots, pull)

    def _update_rows(self, name: str, weight: Tensor, rows: Rows, rule: Rule, pull: Tensor | None) -> list[Tensor]:
        """Apply the rule to some rows only.

        SCATTER_ND adds up the values of a row that is there n times, and LiteRT has no other way to write into a table. So
        the change of such a row is computed n times from the sum of its gradients, and each time an nth of it is added.
        """
        slots, items = self._slots_of(name), rows.items
        counts = tf.scatter_nd(items[:, None], tf.ones_like(items, tf.float32), (self.settings.n_items,))
        share = 1 / tf.gather(counts, items)[:, None]
        before = {slot: tf.gather(value, items) for slot, value in slots.items()}
        change, after = rule(tf.gather(self._scatter(name, [rows]), items), before)
        moved = {
            slot: slots[slot] + self._scatter(name, [Rows(items, (after[slot] - before[slot]) * share)]) for slot in after
        }
        return self._assign(name, weight - self._scatter(name, [Rows(items, change * share)]), moved, pull)

    def _slots_of(self, name: str) -> dict[str, Tensor]:
        return {slot: self.slots[f"{name}_{slot}"].read_value() for slot in self.settings.slots}

    def _assign(self, name: str, value: Tensor, slots: Mapping[str, Tensor], pull: Tensor | None) -> list[Tensor]:
        if pull is not None:
            value -= pull * (value - self.shipped[name].read_value())
        done = [self.slots[f"{name}_{slot}"].assign(one, read_value=False) for slot, one in slots.items()]
        return [*done, self.weights[name].assign(value, read_value=False)]
