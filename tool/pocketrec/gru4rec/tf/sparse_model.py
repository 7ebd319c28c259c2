"""A GRU4Rec that trains in TensorFlow: the model that `export` converts, but an update touches only the rows that change.

LiteRT can only read and assign whole variables (see `updates`). TensorFlow can gather rows of a variable and scatter rows
into it, which takes time in proportion to the rows of a step, not to the number of items. Many steps are one call, a loop
in the graph, because a call from Python takes time, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pocketrec.gru4rec.candidates import NEVER, Candidates, Finder
from pocketrec.gru4rec.tf.dropout import keep_shares_of, layers_of
from pocketrec.gru4rec.tf.guard import Amounts, Guarded
from pocketrec.gru4rec.tf.losses import lanes_of, log_sum, with_one
from pocketrec.gru4rec.tf.model import Gru4Rec, input_rows
from pocketrec.gru4rec.tf.optimizers import Rule, make_rule
from pocketrec.gru4rec.tf.updates import Gradients, Rows
from pocketrec.lite.contract import ModelSpec
from pocketrec.schema import Float32, Int32, Int64
from pocketrec.storage.tensors import Tensors

Tensor = Any

FEW_LANES = 64
"""Up to so many lanes, TensorFlow is fastest with a single thread for each operation."""


class Steps(NamedTuple):
    """Several steps, as `train_block` takes them; made by `prepare`.

    Attributes:
        feats: current items, int32 (steps, B).
        targets: next items, -1 for none, int32 (steps, B).
        masks: 0 where the state of a lane is reset before the step, else 1; int32 (steps, B).
        drawn: drawn items, int32 (steps, S); (steps, 0) if there are candidates.
        dropout: dropout factors by layer, float32 (steps, B, units); only for the cross-entropy.
        candidates: the candidates of the steps; only for the cross-entropy, else ().
    """

    feats: Int32
    targets: Int32
    masks: Int32
    drawn: Int32
    dropout: Mapping[str, Float32]
    candidates: Candidates | tuple[()]


@dataclass(frozen=True)
class DistinctRows(Rows):
    """The gradient of rows that are all different.

    Attributes:
        now: the weights of these rows, (n, columns).
        slots: their slots by name, (n, columns) each.
    """

    now: Tensor
    slots: Mapping[str, Tensor]


class SparseGru4Rec(Gru4Rec):
    """Has the same arguments, weights, formulas and dropout masks as `Gru4Rec`."""

    def __init__(
        self, settings: ModelSpec, weights: Mapping[str, Float32] | None = None, support: Int64 | None = None
    ) -> None:
        super().__init__(settings, weights, support)
        counts = np.ones(settings.n_items, np.int64) if support is None else support
        self._finder = Finder(counts, settings.sample_alpha, settings.logq)
        self._train_block = tf.function(self._block, input_signature=self._specs(), autograph=False)

    def prepare(self, feats: Int32, targets: Int32, masks: Int32, drawn: Int32, *, done: int) -> Steps:
        """Compute all that needs no weights, so that another thread can do it in advance.

        The arrays are those of `Steps`; `done` is the model's count of steps before them.
        """
        if self.settings.loss != "cross-entropy":
            return Steps(feats, targets, masks, drawn, {}, ())
        # Rows of inputs change with those of candidates if inputs are looked up in the output layer, and only then.
        inputs = feats if "output" in self.settings.tables else feats[:, :0]
        dropout = keep_shares_of(done, len(feats), self.settings, self.settings.batch_size)
        return Steps(feats, targets, masks, drawn[:, :0], dropout, self._finder.find(targets, inputs, drawn))

    def train_block(self, steps: Steps, state: Float32) -> tuple[Float32, Float32]:
        """Do steps of `train_sampled`, beginning with `state`, (B, H): the losses, (steps,), and the state after them."""
        losses, after = self._train_block(steps, state)
        return losses.numpy(), after.numpy()

    def _specs(self) -> list[Any]:
        """What `_block` takes: any number of steps, so that only one graph is made."""
        settings, lanes = self.settings, self.settings.batch_size

        def codes(*shape: int) -> Any:
            return tf.TensorSpec((None, *shape), tf.int32)

        rows, drawn, dropout = codes(lanes), codes(settings.negatives), {}
        candidates: Candidates | tuple[()] = ()
        if settings.loss == "cross-entropy":
            drawn, inputs = codes(0), rows if "output" in settings.tables else codes(0)
            dropout = {name: tf.TensorSpec((None, *shape)) for name, (shape, _) in layers_of(settings, lanes).items()}
            candidates = Candidates(codes(), tf.TensorSpec((None,)), codes(3), rows, inputs)
        return [Steps(rows, rows, rows, drawn, dropout, candidates), tf.TensorSpec((lanes, settings.hidden_size))]

    def _block(self, steps: Steps, state: Tensor) -> Any:
        count, resets = tf.shape(steps.feats)[0], tf.cast(steps.masks, tf.float32)

        def step(i: Tensor, state: Tensor, losses: Tensor) -> Any:
            feat, target = tf.gather(steps.feats, i), tf.gather(steps.targets, i)
            before = state * tf.gather(resets, i)[:, None]
            if steps.candidates:
                dropout = {layer: tf.gather(factors, i) for layer, factors in steps.dropout.items()}
                found = self._train_on(feat, target, before, dropout, i, steps.candidates)
            else:
                found = self.train_sampled(feat, target, before, tf.gather(steps.drawn, i))
            return i + 1, found["state"], losses.write(i, found["loss"])

        start = (tf.constant(0), state, tf.TensorArray(tf.float32, count))
        _, state, losses = tf.while_loop(lambda i, *_: i < count, step, start, parallel_iterations=1)
        return losses.stack(), state

    def _train_on(
        self, feat: Tensor, target: Tensor, initstate: Tensor, dropout: Mapping[str, Tensor], i: Tensor, some: Candidates
    ) -> dict[str, Tensor]:
        """`train_sampled` with the cross-entropy, on the distinct candidates of step i.

        The two halves of the candidates are joined like the chunks in `losses.full_softmax`. They do not need each other,
        so each can have its own thread.
        """
        output = self._table("output")
        step, lanes = self._forward(feat, initstate, output, dropout), lanes_of(target)
        known = with_one(step.known)  # (B, H + 1)
        places, looked_up = tf.gather(some.targets, i), tf.gather(some.inputs, i)
        begin, cut, end = tf.split(tf.gather(some.bounds, i), 3)
        halves = ((begin, cut), (cut, end))
        items = [tf.strided_slice(some.items, *half) for half in halves]  # (U,)
        rows = [tf.gather(output, codes) for codes in items]  # (U, H + 1)
        log_weights = [tf.strided_slice(some.log_weights, *half) for half in halves]
        scores = [tf.matmul(known, r, transpose_b=True) + log for r, log in zip(rows, log_weights, strict=True)]  # (B, U)
        shares = [tf.nn.softmax(one) for one in scores]
        log_sums = [log_sum(one, share) for one, share in zip(scores, shares, strict=True)]
        log_sums[1] = tf.where(tf.size(items[1]) > 0, log_sums[1], NEVER)  # this half may be empty
        sums = tf.stack(log_sums, axis=1)  # (B, 2)
        joint = tf.nn.softmax(sums)
        weights = tf.split(joint, 2, axis=1)
        own = tf.gather(rows[0], places)
        score = tf.reduce_sum(known * own, axis=1) - self.settings.logq * tf.gather(self.log_support, lanes.item)
        loss = tf.reduce_sum((log_sum(sums, joint) - score) * lanes.share)
        mean = tf.add_n([tf.matmul(share, r) * weight for share, r, weight in zip(shares, rows, weights, strict=True)])
        d_known = ((mean - own) * lanes.share[:, None])[:, :-1]
        gradients = self._inner_gradients(step, d_known)
        weighed = known * lanes.share[:, None]
        parts = [tf.matmul(s, weighed * weight, transpose_a=True) for s, weight in zip(shares, weights, strict=True)]
        parts[0] = tf.tensor_scatter_nd_sub(parts[0], places[:, None], weighed)
        for of_input in input_rows(gradients):
            parts[0] = tf.tensor_scatter_nd_add(parts[0], looked_up[:, None], of_input.parts)
        slots = [self._slot_rows("output", codes) for codes in items]
        gradients["output"] = lambda: [DistinctRows(*half) for half in zip(items, parts, rows, slots, strict=True)]
        self._apply(gradients, {}, after=[], sparse=True)
        return {"loss": loss, "state": step.cell.state}

    def tensors(self) -> Tensors:
        """Copies of the weights, slots and step, by name."""
        return {name: variable.numpy() for name, variable in self._state().items()}

    def _table(self, name: str) -> Tensor:
        return self.weights[name]

    def _guard(
        self,
        feat: Tensor,
        initstate: Tensor,
        target: Tensor | None = None,
        negatives: Tensor | None = None,
        amounts: Amounts | None = None,  # noqa: ARG002
    ) -> Guarded:
        """What trains here are batches whose codes were checked, and states that it computed itself."""
        fine = tf.constant(True), tf.constant(1.0), tf.constant(0.0)
        return Guarded(feat, target, negatives, initstate, initstate, *fine)

    def _apply(
        self,
        gradients: Gradients,
        held: Mapping[str, Tensor],  # noqa: ARG002
        after: list[Tensor],  # noqa: ARG002
        given: Guarded | None = None,  # noqa: ARG002
        *,
        sparse: bool,
    ) -> None:
        """See `Trainable`. Here a tf.function keeps reads and changes of a variable in the order of this code."""
        step = self.step.read_value() + 1
        rule = make_rule(self.settings, step)
        # All gradients before the first change, since a gradient of a table reads weights that would have changed.
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
                change, moved = rule(dense, self._slots_of(name))
                for slot, value in moved.items():
                    self.slots[f"{name}_{slot}"].assign(value)
                self.weights[name].assign_sub(change)

    def _distinct(self, name: str, rows: Rows) -> DistinctRows:
        """Add up the gradients of a row that is there several times."""
        items, place = tf.unique(rows.items)
        parts = tf.math.unsorted_segment_sum(rows.parts, place, tf.size(items))
        return DistinctRows(items, parts, tf.gather(self.weights[name], items), self._slot_rows(name, items))

    def _slot_rows(self, name: str, items: Tensor) -> dict[str, Tensor]:
        return {slot: tf.gather(self.slots[f"{name}_{slot}"], items) for slot in self.settings.slots}

    def _scatter_rows(self, name: str, rows: DistinctRows, rule: Rule) -> None:
        change, moved = rule(rows.parts, rows.slots)
        for slot, value in moved.items():
            self.slots[f"{name}_{slot}"].scatter_update(tf.IndexedSlices(value, rows.items))
        # scatter_sub would need no `now`, but is ten times as slow.
        self.weights[name].scatter_update(tf.IndexedSlices(rows.now - change, rows.items))


def use_threads(batch_size: int) -> None:
    """For few lanes, set two threads that each compute whole operations: to split short ones costs more than it saves.

    Measured at 32 lanes on 2 cores: 48,000 events a second; 33,000 with one thread, 20,000 with two threads for each
    operation. Does nothing if TensorFlow was already used in this process.
    """
    if batch_size <= FEW_LANES:
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(2)


@tf.function(autograph=False)  # type: ignore[untyped-decorator]
def score(model: SparseGru4Rec, feat: Tensor, mask: Tensor, state: Tensor) -> Any:
    """Scores of all items after one step, (lanes, n_items), and the new state; see `Scorer.scores`."""
    return model._scores(model._guard(feat, state * tf.cast(mask, tf.float32)[:, None]))
