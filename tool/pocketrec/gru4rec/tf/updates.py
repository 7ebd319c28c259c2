"""Variables with an optimizer: how gradients, of whole tensors or of some rows, move weights and slots on LiteRT.

LiteRT reads and assigns a variable as a whole; there is no operator that writes some of its rows. An update of rows is
therefore computed on those rows alone and scattered into zeros that are added to the table. Updates are chained one after
the other, so that what one needs is gone before the next begins: three gates of a kernel at once would be 0.2 GB more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pocketrec.gru4rec.tf.optimizers import Rule, make_rule
from pocketrec.lite.contract import STEP, ModelSpec

Tensor = Any


@dataclass(frozen=True)
class Rows:
    """A gradient that only some rows of a table have.

    Attributes:
        items: int32 (rows,); one that is there twice gets the sum.
        parts: (rows, columns).
    """

    items: Tensor
    parts: Tensor


Gradients = dict[str, Callable[[], Tensor | Rows]]
"""Of each weight; called when its turn comes, so that not all of them are there at once."""


class Trainable(tf.Module):  # type: ignore[misc]
    """Weights, the optimizer's slots and the count of its steps.

    Args:
        settings: optimizer and shapes.
        weights: their initial values.
    """

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

    def load(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from weights, slots and step by name."""
        for name, variable in self._state().items():
            variable.assign(tensors[name])

    def _state(self) -> dict[str, Tensor]:
        return {**self.weights, **self.slots, STEP: self.step}

    def _scatter(self, name: str, rows: list[Rows]) -> Tensor:
        items = tf.concat([part.items for part in rows], axis=0)
        return tf.scatter_nd(items[:, None], tf.concat([part.parts for part in rows], axis=0), self.weights[name].shape)

    def _apply(self, gradients: Gradients, held: Mapping[str, Tensor], after: list[Tensor], *, sparse: bool) -> None:
        """Update every weight, one after the other: what one needs is gone before the next begins.

        Args:
            gradients: by weight.
            held: weights that were read already.
            after: what must have been computed from the weights as they are.
            sparse: leave rows without a gradient as they are, whatever the optimizer would do to them.
        """
        step = self.step.read_value() + 1
        rule = make_rule(self.settings, step)
        done = [*after, self.step.assign(step, read_value=False)]
        for name, gradient in gradients.items():
            with tf.control_dependencies(done):
                found = gradient()
                weight = held[name] if name in held else self.weights[name].read_value()
                if isinstance(found, Rows) and sparse:
                    done = self._update_rows(name, weight, found, rule)
                else:
                    dense = self._scatter(name, [found]) if isinstance(found, Rows) else found
                    change, slots = rule(tf.identity(dense), self._slots_of(name))
                    done = self._assign(name, weight - change, slots)

    def _update_rows(self, name: str, weight: Tensor, rows: Rows, rule: Rule) -> list[Tensor]:
        """Apply the rule to the rows of the items alone.

        An item that is there n times is computed n times, from the sum of its parts, and each adds an nth: SCATTER_ND adds
        what it finds twice, and LiteRT has no other way to write into a table.
        """
        slots, items = self._slots_of(name), rows.items
        counts = tf.scatter_nd(items[:, None], tf.ones_like(items, tf.float32), (self.settings.n_items,))
        share = 1 / tf.gather(counts, items)[:, None]
        before = {slot: tf.gather(value, items) for slot, value in slots.items()}
        change, after = rule(tf.gather(self._scatter(name, [rows]), items), before)
        moved = {
            slot: slots[slot] + self._scatter(name, [Rows(items, (after[slot] - before[slot]) * share)]) for slot in after
        }
        return self._assign(name, weight - self._scatter(name, [Rows(items, change * share)]), moved)

    def _slots_of(self, name: str) -> dict[str, Tensor]:
        return {slot: self.slots[f"{name}_{slot}"].read_value() for slot in self.settings.slots}

    def _assign(self, name: str, value: Tensor, slots: Mapping[str, Tensor]) -> list[Tensor]:
        done = [self.slots[f"{name}_{slot}"].assign(one, read_value=False) for slot, one in slots.items()]
        return [*done, self.weights[name].assign(value, read_value=False)]
