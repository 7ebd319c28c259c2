"""A GRU4Rec that trains on TensorFlow: the model that `export` lowers, with updates that touch only the rows they change.

LiteRT can only read and assign whole variables (`updates`); TensorFlow gathers rows from a variable and scatters rows into
it, which takes time by the rows of a step, not by the items there are. Many steps are one call, a loop in the graph, so
that Python has its say once in a few hundred of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pocketrec.gru4rec.candidates import NEVER, Candidates, Finder
from pocketrec.gru4rec.tf.dropout import keep_shares_of, layers_of
from pocketrec.gru4rec.tf.losses import lanes_of, log_sum, with_one
from pocketrec.gru4rec.tf.model import Gru4Rec
from pocketrec.gru4rec.tf.optimizers import Rule, make_rule
from pocketrec.gru4rec.tf.updates import Gradients, Rows
from pocketrec.lite.contract import ModelSpec

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
        dropout: of a cross-entropy: what layers are multiplied with, by name; float32 (steps, B, units).
        candidates: of a cross-entropy.
    """

    feats: Codes
    targets: Codes
    masks: Codes
    drawn: Codes
    dropout: Mapping[str, Floats] = field(default_factory=dict)
    candidates: Candidates | None = None


@dataclass(frozen=True)
class DistinctRows(Rows):
    """Rows of items that are all different.

    Attributes:
        now: what the weights of these rows are.
        slots: what their slots are.
    """

    now: Tensor
    slots: Mapping[str, Tensor]


@dataclass(frozen=True)
class Half:
    """Some of the candidates, scored; halves know nothing of each other, so that each may have a thread.

    Attributes:
        items: (U,).
        rows: of the output layer, (U, H + 1).
        slots: the optimizer's of these rows.
        shares: softmax of the half alone, (B, U).
        log_sum: of its scores, (B,).
        mean: the rows by their shares, (B, H + 1).
    """

    items: Tensor
    rows: Tensor
    slots: Mapping[str, Tensor]
    shares: Tensor
    log_sum: Tensor
    mean: Tensor


class InPlaceGru4Rec(Gru4Rec):
    """The same weights, formulas and dropout masks as `Gru4Rec`; see there for the arguments."""

    def __init__(
        self,
        settings: ModelSpec,
        weights: Mapping[str, Floats] | None = None,
        support: npt.NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(settings, weights, support)
        counts = np.ones(settings.n_items, np.int64) if support is None else support
        self._finder = Finder(counts, settings.sample_alpha, settings.logq)
        self._train_block = tf.function(self._block, input_signature=self._specs(), autograph=False)

    def prepare(self, feats: Codes, targets: Codes, masks: Codes, drawn: Codes, *, done: int) -> Steps:
        """What can be done for steps before their turn comes, in another thread.

        Args:
            feats: see `Steps`.
            targets: see there.
            masks: see there.
            drawn: see there.
            done: the steps of the model before the first of these.
        """
        if self.settings.loss != "cross-entropy":
            return Steps(feats, targets, masks, drawn)
        # Inputs are among the rows that change where they are looked up in the output layer, and only there.
        inputs = feats if "output" in self.settings.tables else feats[:, :0]
        dropout = keep_shares_of(done, len(feats), self.settings, self.settings.batch_size)
        return Steps(feats, targets, masks, drawn[:, :0], dropout, self._finder.find(targets, inputs, drawn))

    def train_block(self, steps: Steps, state: Floats) -> tuple[Floats, Floats]:
        """Steps of `train_sampled`, one after the other.

        Args:
            steps: of `prepare`.
            state: float32 (B, H), before the first step.

        Returns:
            The losses of the steps, (steps,), and the state after them.
        """
        some = steps.candidates
        more = (some.items, some.log_weights, some.bounds, some.targets, some.inputs) if some else (steps.drawn,)
        losses, after = self._train_block(steps.feats, steps.targets, steps.masks, state, dict(steps.dropout), *more)
        return losses.numpy(), after.numpy()

    def _specs(self) -> list[Any]:
        """What `_block` takes: any number of steps, so that it is made into a graph once."""
        settings, lanes = self.settings, self.settings.batch_size
        rows = tf.TensorSpec((None, lanes), tf.int32)
        common = [rows, rows, rows, tf.TensorSpec((lanes, settings.hidden_size))]
        if settings.loss != "cross-entropy":
            return [*common, {}, tf.TensorSpec((None, settings.negatives), tf.int32)]
        dropout = {name: tf.TensorSpec((None, *shape)) for name, (shape, _) in layers_of(settings, lanes).items()}
        inputs = rows if "output" in settings.tables else tf.TensorSpec((None, 0), tf.int32)
        candidates = [tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None,)), tf.TensorSpec((None, 3), tf.int32)]
        return [*common, dropout, *candidates, rows, inputs]

    def _block(
        self,
        feats: Tensor,
        targets: Tensor,
        masks: Tensor,
        state: Tensor,
        dropout: Mapping[str, Tensor],
        *more: Tensor,
    ) -> Any:
        steps, resets = tf.shape(feats)[0], tf.cast(masks, tf.float32)

        def step(i: Tensor, state: Tensor, losses: Tensor) -> Any:
            feat, target = tf.gather(feats, i), tf.gather(targets, i)
            before = state * tf.gather(resets, i)[:, None]
            if len(more) == 1:
                found = self.train_sampled(feat, target, before, tf.gather(more[0], i))
            else:
                shares = {layer: tf.gather(values, i) for layer, values in dropout.items()}
                found = self._train_on(feat, target, before, shares, i, Candidates(*more))
            return i + 1, found["state"], losses.write(i, found["loss"])

        start = (tf.constant(0), state, tf.TensorArray(tf.float32, steps))
        _, state, losses = tf.while_loop(lambda i, *_: i < steps, step, start, parallel_iterations=1)
        return losses.stack(), state

    def _train_on(
        self,
        feat: Tensor,
        target: Tensor,
        initstate: Tensor,
        dropout: Mapping[str, Tensor],
        i: Tensor,
        some: Candidates,
    ) -> dict[str, Tensor]:
        """`train_sampled` with the cross-entropy, on distinct candidates, those of step i.

        Halves of them join as the chunks of `losses` do.
        """
        output = self._output()
        step, lanes = self._forward(feat, initstate, output, dropout), lanes_of(target)
        known = with_one(step.known)  # (B, H + 1)
        places, looked_up = tf.gather(some.targets, i), tf.gather(some.inputs, i)
        begin, cut, end = tf.split(tf.gather(some.bounds, i), 3)
        halves = [
            self._half(known, *(tf.strided_slice(values, *part) for values in (some.items, some.log_weights)))
            for part in ((begin, cut), (cut, end))
        ]
        sums = tf.stack([half.log_sum for half in halves], axis=1)  # (B, 2)
        joint = tf.nn.softmax(sums)
        weights = tf.split(joint, 2, axis=1)
        own = tf.gather(halves[0].rows, places)
        score = tf.reduce_sum(known * own, axis=1) - self.settings.logq * tf.gather(self.log_support, lanes.item)
        loss = tf.reduce_sum((log_sum(sums, joint) - score) * lanes.share)
        mean = tf.add_n([half.mean * weight for half, weight in zip(halves, weights, strict=True)])
        d_known = ((mean - own) * lanes.share[:, None])[:, :-1]
        gradients = self._inner_gradients(step, d_known)
        weighed = known * lanes.share[:, None]
        parts = [
            tf.matmul(half.shares, weighed * weight, transpose_a=True) for half, weight in zip(halves, weights, strict=True)
        ]
        parts[0] = tf.tensor_scatter_nd_sub(parts[0], places[:, None], weighed)
        for rows in self._row_gradients(gradients, "output"):
            parts[0] = tf.tensor_scatter_nd_add(parts[0], looked_up[:, None], rows.parts)
        gradients["output"] = lambda: [
            DistinctRows(half.items, part, half.rows, half.slots) for half, part in zip(halves, parts, strict=True)
        ]
        self._apply(gradients, {}, after=[], sparse=True)
        return {"loss": loss, "state": step.cell.state}

    def _half(self, known: Tensor, items: Tensor, log_weights: Tensor) -> Half:
        rows = tf.gather(self.weights["output"], items)
        scores = tf.matmul(known, rows, transpose_b=True) + log_weights
        shares = tf.nn.softmax(scores)
        sums = tf.where(tf.size(items) > 0, log_sum(scores, shares), NEVER)
        return Half(items, rows, self._slot_rows("output", items), shares, sums, tf.matmul(shares, rows))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Weights, slots and step by name, as copies."""
        return {name: variable.numpy() for name, variable in self._state().items()}

    def _output(self) -> Tensor:
        return self.weights["output"]

    def _table(self, name: str) -> Tensor:
        return self.weights[name]

    def _apply(self, gradients: Gradients, held: Mapping[str, Tensor], after: list[Tensor], *, sparse: bool) -> None:  # noqa: ARG002
        """See `Trainable`. A tf.function changes a variable after what was told to read it before, and no later."""
        step = self.step.read_value() + 1
        rule = make_rule(self.settings, step)
        # All gradients before the first change: a gradient of the tables reads weights that others would have moved.
        found = {name: gradient() for name, gradient in gradients.items()}
        self.step.assign(step)
        for name, gradient in found.items():
            if isinstance(gradient, list):
                for rows in gradient:
                    self._scatter_rows(name, rows, rule)
            elif isinstance(gradient, Rows) and sparse:
                self._scatter_rows(name, self._distinct(name, gradient), rule)
            else:
                dense = self._scatter(name, [gradient]) if isinstance(gradient, Rows) else gradient
                self._change(name, dense, rule)

    def _distinct(self, name: str, rows: Rows) -> DistinctRows:
        """Add up rows of the same item."""
        items, place = tf.unique(rows.items)
        parts = tf.math.unsorted_segment_sum(rows.parts, place, tf.size(items))
        return DistinctRows(items, parts, tf.gather(self.weights[name], items), self._slot_rows(name, items))

    def _slot_rows(self, name: str, items: Tensor) -> dict[str, Tensor]:
        return {slot: tf.gather(self.slots[f"{name}_{slot}"], items) for slot in self.settings.slots}

    def _scatter_rows(self, name: str, rows: DistinctRows, rule: Rule) -> None:
        change, moved = rule(rows.parts, rows.slots)
        for slot, value in moved.items():
            self.slots[f"{name}_{slot}"].scatter_update(tf.IndexedSlices(value, rows.items))
        self.weights[name].scatter_update(tf.IndexedSlices(rows.now - change, rows.items))  # scatter_sub: ten times as slow

    def _change(self, name: str, gradient: Tensor, rule: Rule) -> None:
        change, moved = rule(gradient, self._slots_of(name))
        for slot, value in moved.items():
            self.slots[f"{name}_{slot}"].assign(value)
        self.weights[name].assign_sub(change)


def use_threads(batch_size: int) -> None:
    """Two threads for steps of few lanes, each for whole operations: halves of one are too short to be handed over.

    Measured at 32 lanes on 2 cores: 48,000 events a second; 33,000 with one thread, 20,000 with two for each operation.
    Does nothing where TensorFlow is at work already in this process.
    """
    if batch_size <= FEW_LANES:
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(2)


@tf.function(autograph=False)  # type: ignore[untyped-decorator]
def score(model: InPlaceGru4Rec, feat: Tensor, mask: Tensor, state: Tensor) -> Any:
    """Scores of all items, and the state, after one step of lanes."""
    return model._scores(feat, state * tf.cast(mask, tf.float32)[:, None])
