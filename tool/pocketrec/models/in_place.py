"""A GRU4Rec that trains on TensorFlow: the model that `export` lowers, with updates that touch only the rows they change.

LiteRT can only read and assign whole variables (`updates`); TensorFlow gathers rows from a variable and scatters rows into
it, which takes time by the rows of a step, not by the items there are. Many steps are one call, a loop in the graph, so
that Python has its say once in a few hundred of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pocketrec.models.gru4rec import Gru4Rec
from pocketrec.models.losses import Lanes, lanes_of, log_sum, targets_part, with_one
from pocketrec.models.optimizers import Rule, make_rule
from pocketrec.models.updates import Gradients, Rows

Tensor = Any
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]

EVALUATED_LANES = 256
FEW_LANES = 64

_NONE = -1e9
"""Added to the score of an item that is no candidate."""


class DistinctRows(Rows):
    """Rows of items that are all different."""


class InPlaceGru4Rec(Gru4Rec):
    """The same weights, formulas and dropout masks as `Gru4Rec`; see there for the arguments."""

    def train_block(
        self, feats: Codes, targets: Codes, masks: Codes, negatives: Codes, state: Floats
    ) -> tuple[Floats, Floats]:
        """Steps of `train_sampled`, one after the other.

        Args:
            feats: int32 (steps, B).
            targets: int32 (steps, B), -1 for none.
            masks: int32 (steps, B), 0 where a lane's state is reset before the step.
            negatives: int32 (steps, S).
            state: float32 (B, H), before the first step.

        Returns:
            The losses of the steps, (steps,), and the state after them.
        """
        losses, after = self._train_block(feats, targets, masks, negatives, state)
        return losses.numpy(), after.numpy()

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def _train_block(self, feats: Tensor, targets: Tensor, masks: Tensor, negatives: Tensor, state: Tensor) -> Any:
        lanes, drawn = self.settings.batch_size, self.settings.negatives
        steps, resets = tf.shape(feats)[0], tf.cast(masks, tf.float32)

        def step(i: Tensor, state: Tensor, losses: Tensor) -> Any:
            feat, target = (tf.ensure_shape(rows[i], (lanes,)) for rows in (feats, targets))
            found = self.train_sampled(feat, target, state * resets[i][:, None], tf.ensure_shape(negatives[i], (drawn,)))
            return i + 1, found["state"], losses.write(i, found["loss"])

        start = (
            tf.constant(0),
            tf.ensure_shape(state, (lanes, self.settings.hidden_size)),
            tf.TensorArray(tf.float32, steps),
        )
        _, state, losses = tf.while_loop(lambda i, *_: i < steps, step, start, parallel_iterations=1)
        return losses.stack(), state

    def train_sampled(self, feat: Tensor, target: Tensor, initstate: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """As in `Gru4Rec`, cross-entropy over distinct candidates.

        Popular items are drawn many times in a step. In the softmax an item that is there n times is one with n times the
        weight, so it is gathered, scored and updated once, its score raised by the logarithm of its weight:

            weight = sum over its places of support ** -logq as a target, of support ** -(alpha logq) as a drawn item
        """
        if self.settings.loss != "cross-entropy":
            return dict(super().train_sampled(feat, target, initstate, negatives))
        output, batch = self._output(), self.settings.batch_size
        step, lanes = self._forward(feat, initstate, output, training=True), lanes_of(target)
        # Inputs are among the rows that change where they are looked up in the output layer, and only there.
        inputs = feat if "output" in self.settings.tables else feat[:0]
        items, place = tf.unique(tf.concat([lanes.item, inputs, negatives], axis=0))
        weights = self._log_weights(lanes, inputs, negatives, place, tf.size(items))
        rows, known = tf.gather(output, items), with_one(step.known)  # (U, H + 1), (B, H + 1)
        scores = tf.matmul(known, rows, transpose_b=True) + weights
        own_rows = tf.gather(rows, place[:batch])
        own = tf.reduce_sum(known * own_rows, axis=1) - self.settings.logq * tf.gather(self.log_support, lanes.item)
        shares = tf.nn.softmax(scores)
        loss = tf.reduce_sum((log_sum(scores, shares) - own) * lanes.share)
        d_scores = shares * lanes.share[:, None]  # without the targets' own part
        d_known = (tf.matmul(d_scores, rows) - own_rows * lanes.share[:, None])[:, :-1]
        gradients = self._inner_gradients(step, d_known)
        parts = [Rows(lanes.item, targets_part(step.known, lanes)), *self._row_gradients(gradients, "output")]
        there = tf.concat([place[i * batch : (i + 1) * batch] for i in range(len(parts))], axis=0)
        few = tf.concat([part.parts for part in parts], axis=0)
        gradient = tf.tensor_scatter_nd_add(tf.matmul(d_scores, known, transpose_a=True), there[:, None], few)
        gradients["output"] = lambda: DistinctRows(items, gradient)
        self._apply(gradients, {"output": output}, after=[loss, step.cell.state, d_known], sparse=True)
        return {"loss": loss, "state": step.cell.state}

    def _log_weights(self, lanes: Lanes, inputs: Tensor, negatives: Tensor, place: Tensor, count: Tensor) -> Tensor:
        """Of each distinct item, (U,); very negative for one that is in the step as an input alone."""
        settings, support = self.settings, np.exp(self.log_support)
        target, drawn = (tf.constant(support ** -(settings.logq * power)) for power in (1, settings.sample_alpha))
        parts = [
            tf.gather(target, lanes.item) * lanes.counted,
            tf.zeros_like(inputs, tf.float32),
            tf.gather(drawn, negatives),
        ]
        weights = tf.math.unsorted_segment_sum(tf.concat(parts, axis=0), place, count)
        return tf.where(weights > 0, tf.math.log(weights), _NONE)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Weights, slots and step by name, as copies."""
        return {name: variable.numpy() for name, variable in self._state().items()}

    def _output(self) -> Tensor:
        return self.weights["output"]

    def _table(self, name: str) -> Tensor:
        return self.weights[name]

    def _apply(self, gradients: Gradients, held: Mapping[str, Tensor], after: list[Tensor], *, sparse: bool) -> None:  # noqa: ARG002
        """See `Trainable`; what it reads as a whole is small here."""
        step = self.step.read_value() + 1
        rule = make_rule(self.settings, step)
        # All gradients before the first change: a gradient of the tables reads weights that others would have moved.
        found = {name: gradient() for name, gradient in gradients.items()}
        with tf.control_dependencies([*after, *tf.nest.flatten([_parts(one) for one in found.values()])]):
            self.step.assign(step)
            for name, gradient in found.items():
                rows = gradient if isinstance(gradient, Rows) else None
                if rows and sparse:
                    self._scatter_rows(name, rows, rule)
                else:
                    self._change(name, self._scatter(name, [rows]) if rows else gradient, rule)

    def _scatter_rows(self, name: str, rows: Rows, rule: Rule) -> None:
        items, gradient = rows.items, rows.parts
        if not isinstance(rows, DistinctRows):
            items, place = tf.unique(rows.items)
            gradient = tf.math.unsorted_segment_sum(rows.parts, place, tf.size(items))
        slots = {slot: self.slots[f"{name}_{slot}"] for slot in self.settings.slots}
        change, moved = rule(gradient, {slot: tf.gather(variable, items) for slot, variable in slots.items()})
        for slot, value in moved.items():
            slots[slot].scatter_update(tf.IndexedSlices(value, items))
        self.weights[name].scatter_sub(tf.IndexedSlices(change, items))

    def _change(self, name: str, gradient: Tensor, rule: Rule) -> None:
        change, moved = rule(gradient, self._slots_of(name))
        for slot, value in moved.items():
            self.slots[f"{name}_{slot}"].assign(value)
        self.weights[name].assign_sub(change)


def _parts(gradient: Any) -> Tensor:
    return gradient.parts if isinstance(gradient, Rows) else gradient


def use_threads(batch_size: int) -> None:
    """Steps of few lanes are too short to be cut in two: handing them over costs more than it saves (measured at 32).

    Does nothing where TensorFlow is at work already in this process.
    """
    if batch_size <= FEW_LANES:
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)


class ModelScorer:
    """Weights at work on lanes of sessions, for `evaluation`.

    Args:
        model: as it is; it may go on learning between two scorers.
        name: in the report.
    """

    lanes = EVALUATED_LANES

    def __init__(self, model: InPlaceGru4Rec, name: str) -> None:
        self.name, self._model = name, model
        self._state = tf.zeros((self.lanes, model.settings.hidden_size))

    def scores(self, feat: Codes, mask: Codes) -> Floats:
        """Of all items after one more item of each lane, (lanes, n_items)."""
        found, self._state = score(self._model, feat, mask, self._state)
        numbers: Floats = found.numpy()
        return numbers


@tf.function(autograph=False)  # type: ignore[untyped-decorator]
def score(model: InPlaceGru4Rec, feat: Tensor, mask: Tensor, state: Tensor) -> Any:
    """Scores of all items, and the state, after one step of lanes."""
    return model._scores(feat, state * tf.cast(mask, tf.float32)[:, None])
