"""A GRU4Rec that trains on TensorFlow: the model that `export` lowers, with updates that touch only the rows they change.

LiteRT can only read and assign whole variables (`updates`); TensorFlow gathers rows from a variable and scatters rows into
it, which takes time by the rows of a step, not by the items there are. Many steps are one call, a loop in the graph, so
that Python has its say once in a few hundred of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pocketrec.candidates import Candidates, Finder
from pocketrec.lite.contract import ModelSettings
from pocketrec.models.gru4rec import Gru4Rec
from pocketrec.models.losses import lanes_of, log_sum, with_one
from pocketrec.models.optimizers import Rule, make_rule
from pocketrec.models.updates import Gradients, Rows

Tensor = Any
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]

EVALUATED_LANES = 256
FEW_LANES = 64


@dataclass(frozen=True)
class Steps:
    """Some steps as `train_block` takes them, one after the other.

    Attributes:
        feats: int32 (steps, B).
        targets: int32 (steps, B), -1 for none.
        masks: int32 (steps, B), 0 where a lane's state is reset before the step.
        drawn: int32 (steps, S); no longer needed where there are candidates.
        candidates: of a cross-entropy.
    """

    feats: Codes
    targets: Codes
    masks: Codes
    drawn: Codes
    candidates: Candidates | None = None


@dataclass(frozen=True)
class DistinctRows(Rows):
    """Rows of items that are all different. Attributes: now: what the weights of these rows are."""

    now: Tensor


class InPlaceGru4Rec(Gru4Rec):
    """The same weights, formulas and dropout masks as `Gru4Rec`; see there for the arguments."""

    def __init__(
        self,
        settings: ModelSettings,
        weights: Mapping[str, Floats] | None = None,
        support: npt.NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(settings, weights, support)
        counts = np.ones(settings.n_items, np.int64) if support is None else support
        self._finder = Finder(counts, settings.sample_alpha, settings.logq)

    def prepare(self, feats: Codes, targets: Codes, masks: Codes, drawn: Codes) -> Steps:
        """What can be done for steps before their turn comes, in another thread; see `Steps` for the shapes."""
        if self.settings.loss != "cross-entropy":
            return Steps(feats, targets, masks, drawn)
        # Inputs are among the rows that change where they are looked up in the output layer, and only there.
        inputs = feats if "output" in self.settings.tables else feats[:, :0]
        return Steps(feats, targets, masks, drawn[:, :0], self._finder.find(targets, inputs, drawn))

    def train_block(self, steps: Steps, state: Floats) -> tuple[Floats, Floats]:
        """Steps of `train_sampled`, one after the other.

        Args:
            steps: of `prepare`.
            state: float32 (B, H), before the first step.

        Returns:
            The losses of the steps, (steps,), and the state after them.
        """
        some = steps.candidates
        more = (some.items, some.log_weights, some.begins, some.targets, some.inputs) if some else (steps.drawn,)
        losses, after = self._train_block(steps.feats, steps.targets, steps.masks, state, *more)
        return losses.numpy(), after.numpy()

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def _train_block(self, feats: Tensor, targets: Tensor, masks: Tensor, state: Tensor, *more: Tensor) -> Any:
        lanes = self.settings.batch_size
        steps, resets = tf.shape(feats)[0], tf.cast(masks, tf.float32)

        def step(i: Tensor, state: Tensor, losses: Tensor) -> Any:
            feat, target = (tf.ensure_shape(rows[i], (lanes,)) for rows in (feats, targets))
            before = state * resets[i][:, None]
            if len(more) == 1:
                drawn = tf.ensure_shape(more[0][i], (self.settings.negatives,))
                found = self.train_sampled(feat, target, before, drawn)
            else:
                found = self._train_on(feat, target, before, _candidates_of(i, *more))
            return i + 1, found["state"], losses.write(i, found["loss"])

        start = (
            tf.constant(0),
            tf.ensure_shape(state, (lanes, self.settings.hidden_size)),
            tf.TensorArray(tf.float32, steps),
        )
        _, state, losses = tf.while_loop(lambda i, *_: i < steps, step, start, parallel_iterations=1)
        return losses.stack(), state

    def _train_on(self, feat: Tensor, target: Tensor, initstate: Tensor, found: Candidates) -> dict[str, Tensor]:
        """`train_sampled` with the cross-entropy, on distinct candidates."""
        output = self._output()
        step, lanes = self._forward(feat, initstate, output, training=True), lanes_of(target)
        rows, known = tf.gather(output, found.items), with_one(step.known)  # (U, H + 1), (B, H + 1)
        # The transposed product is that much faster that turning its result around pays.
        scores = tf.transpose(tf.matmul(rows, known, transpose_b=True)) + found.log_weights
        shares, places = tf.nn.softmax(scores), tf.stack([tf.range(target.shape[0]), found.targets], axis=1)
        own = tf.gather_nd(scores, places) - tf.gather(found.log_weights, found.targets)
        own -= self.settings.logq * tf.gather(self.log_support, lanes.item)
        loss = tf.reduce_sum((log_sum(scores, shares) - own) * lanes.share)
        errors = tf.tensor_scatter_nd_sub(shares, places, tf.ones(target.shape))
        d_known = (tf.matmul(errors, rows) * lanes.share[:, None])[:, :-1]
        gradients = self._inner_gradients(step, d_known)
        gradient = tf.matmul(errors, known * lanes.share[:, None], transpose_a=True)
        for part in self._row_gradients(gradients, "output"):
            gradient = tf.tensor_scatter_nd_add(gradient, found.inputs[:, None], part.parts)
        gradients["output"] = lambda: DistinctRows(found.items, gradient, rows)
        self._apply(gradients, {"output": output}, after=[loss, step.cell.state, d_known], sparse=True)
        return {"loss": loss, "state": step.cell.state}

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
        weight, slots = self.weights[name], {slot: self.slots[f"{name}_{slot}"] for slot in self.settings.slots}
        if not isinstance(rows, DistinctRows):
            items, place = tf.unique(rows.items)
            parts = tf.math.unsorted_segment_sum(rows.parts, place, tf.size(items))
            rows = DistinctRows(items, parts, tf.gather(weight, items))
        change, moved = rule(rows.parts, {slot: tf.gather(variable, rows.items) for slot, variable in slots.items()})
        for slot, value in moved.items():
            slots[slot].scatter_update(tf.IndexedSlices(value, rows.items))
        weight.scatter_update(tf.IndexedSlices(rows.now - change, rows.items))  # scatter_sub is ten times as slow

    def _change(self, name: str, gradient: Tensor, rule: Rule) -> None:
        change, moved = rule(gradient, self._slots_of(name))
        for slot, value in moved.items():
            self.slots[f"{name}_{slot}"].assign(value)
        self.weights[name].assign_sub(change)


def _candidates_of(
    i: Tensor, items: Tensor, log_weights: Tensor, begins: Tensor, targets: Tensor, inputs: Tensor
) -> Candidates:
    """Those of step i, as tensors."""
    here = slice(begins[i], begins[i + 1])
    return Candidates(items[here], log_weights[here], begins, targets[i], inputs[i])


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
