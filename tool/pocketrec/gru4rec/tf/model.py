"""GRU4Rec as a graph of TensorFlow Lite builtins: it trains where there is no TensorFlow.

A GRU over items, a softmax over all of them, and the backward pass written out by hand, since the lowering of a derived one
needs ops that LiteRT does not have. The item comes in one-hot (its rows of three kernels), as a vector of a table of its
own, or as its row of the output layer (`--embedding none`, `separate`, `shared`):

    x = kernel[feat] + bias[0],  or  x = table[feat] @ input + bias[0]           y = initstate @ recurrent + bias[1]
    state = cell(x, y, initstate);   scores = dropout(state) @ output[:, :H].T + output[:, H]

Training drops looked-up numbers and units of the state out; infer, eval and recommend do not. The state that is handed on
is whole. `losses`, `cell`, `dropout` and `optimizers` have the formulas.

Shaped by what LiteRT does fast and small: item tables have a row an item, so that rows are gathered and scattered, and the
kernel is one variable a gate, since variables are read, computed and assigned as whole tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pocketrec.gru4rec.tf import losses
from pocketrec.gru4rec.tf.cell import CellStep, cell_gradients, run_cell
from pocketrec.gru4rec.tf.dropout import keep_shares
from pocketrec.gru4rec.tf.initial import initial_weights
from pocketrec.gru4rec.tf.losses import Lanes, lanes_of, log_sum, product, scores_of, with_one
from pocketrec.gru4rec.tf.optimizers import rests
from pocketrec.gru4rec.tf.updates import Gradients, Rows, Trainable
from pocketrec.lite.contract import STEP, ModelSpec

Array = npt.NDArray[np.float32]
Tensor = Any  # TensorFlow has no types to offer


@dataclass(frozen=True)
class Forward:
    """A forward step.

    Attributes:
        feat: the items.
        vectors: what was looked up, dropped out; (B, H) a table.
        kept: what they were multiplied with, if they were.
        cell: the GRU's step.
        known: what the output layer sees: the state, dropped out.
        kept_state: what it was multiplied with, if it was.
    """

    feat: Tensor
    vectors: list[Tensor]
    kept: list[Tensor] | None
    cell: CellStep
    known: Tensor
    kept_state: Tensor | None


class Gru4Rec(Trainable):
    """The network, its optimizer and its signatures (see `ModelSpec.signatures`).

    Args:
        settings: sizes, optimizer, seed.
        weights: initial values in the shapes of `ModelSpec.weights`; drawn from the seed if not given.
        support: how often each item was clicked, for the logQ correction; all alike if not given.
    """

    def __init__(
        self,
        settings: ModelSpec,
        weights: Mapping[str, Array] | None = None,
        support: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.initial = dict(weights or initial_weights(settings))
        super().__init__(settings, self.initial)
        counts = np.ones(settings.n_items) if support is None else np.maximum(support, 1)
        self.log_support = np.log(counts).astype(np.float32)

    def signatures(self) -> dict[str, Tensor]:
        """The concrete functions by name."""
        functions = {
            "train": self.train,
            "train_sampled": self.train_sampled,
            "train_one": self.train,  # the same with one lane
            "infer": self.infer,
            "eval": self.evaluate,
            "recommend": self.recommend,
            "save": self.save,
        }
        wanted = self.settings.signatures
        concrete = {
            name: tf.function(function).get_concrete_function(**_specs(wanted[name][0]))
            for name, function in functions.items()
            if name in wanted
        }
        if "restore" in wanted:
            concrete["restore"] = self._restore_function()
        return concrete

    def train(self, feat: Tensor, target: Tensor, initstate: Tensor) -> dict[str, Tensor]:
        """One step of the optimizer: the loss before it, and the state after the items."""
        output = self._output()
        step, lanes = self._forward(feat, initstate, output, self._kept(feat.shape[0])), lanes_of(target)
        loss, d_known, d_output = losses.full_softmax(step.known, output, lanes)
        gradients = self._inner_gradients(step, d_known)
        own = Rows(lanes.item, losses.targets_part(step.known, lanes))
        rows = [own, *self._row_gradients(gradients, "output")]
        gradients["output"] = lambda: d_output + self._scatter("output", rows)
        held = {"output": output}
        self._apply(gradients, held, after=[loss, step.cell.state, d_known], sparse=rests(self.settings))
        return {"loss": loss, "state": step.cell.state}

    def train_sampled(self, feat: Tensor, target: Tensor, initstate: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """One step on the batch's own targets and the extra items as candidates; only rows of items in it change."""
        output = self._output()
        step, lanes = self._forward(feat, initstate, output, self._kept(feat.shape[0])), lanes_of(target)
        candidates = tf.concat([lanes.item, negatives], axis=0)
        rows = tf.gather(output, candidates)  # (B + S, H + 1)
        loss, d_known, d_rows = self._sampled_loss(step.known, rows, lanes, candidates)
        gradients = self._inner_gradients(step, d_known)
        parts = [Rows(candidates, d_rows), *self._row_gradients(gradients, "output")]
        gradients["output"] = lambda: Rows(
            tf.concat([part.items for part in parts], axis=0), tf.concat([part.parts for part in parts], axis=0)
        )
        self._apply(gradients, {"output": output}, after=[loss, step.cell.state, d_known], sparse=True)
        return {"loss": loss, "state": step.cell.state}

    def infer(self, feat: Tensor, initstate: Tensor) -> dict[str, Tensor]:
        """Probabilities of the next item, and the state."""
        scores, state = self._scores(feat, initstate)
        return {"output": tf.nn.softmax(scores), "state": state}

    def recommend(self, feat: Tensor, initstate: Tensor) -> dict[str, Tensor]:
        """The items with the highest scores after one more item of one session, best first, and the state."""
        scores, state = self._scores(feat, initstate)
        best, items = tf.math.top_k(scores[0], self.settings.k)
        return {"items": items, "scores": best, "state": state}

    def evaluate(self, feat: Tensor, target: Tensor, initstate: Tensor, top_k: Tensor) -> dict[str, Tensor]:
        """Loss, Recall@k and MRR@k over the lanes with a target; rank = items that score at least the target's score."""
        scores, _ = self._scores(feat, initstate)
        lanes = lanes_of(target)
        share = lanes.counted / tf.maximum(tf.reduce_sum(lanes.counted), 1.0)
        own = tf.gather(scores, lanes.item, batch_dims=1)
        loss = tf.reduce_sum((log_sum(scores, tf.nn.softmax(scores)) - own) * share)
        rank = tf.reduce_sum(tf.cast(scores >= own[:, None], tf.float32), axis=1)  # exact up to 2**24 items
        hit = tf.cast(rank <= tf.cast(top_k, tf.float32), tf.float32) * share
        return {"loss": loss, "recall": tf.reduce_sum(hit), "mrr": tf.reduce_sum(hit / rank)}

    def save(self) -> dict[str, Tensor]:
        """Weights, slots and step as tensors."""
        return {name: variable.read_value() for name, variable in self._state().items()}

    def _restore_function(self) -> Tensor:
        """Takes what `save` returns; LiteRT needs one named argument each, which only a flat list of specs gives."""
        specs, variables = _specs(self.settings.signatures["restore"][0]), self._state()

        def restore(*tensors: Tensor) -> dict[str, Tensor]:
            done = [variables[name].assign(value, read_value=False) for name, value in zip(specs, tensors, strict=True)]
            with tf.control_dependencies(done):
                return {STEP: self.step.read_value()}

        return tf.function(restore, input_signature=list(specs.values())).get_concrete_function()

    def _output(self) -> Tensor:
        return self.weights["output"].read_value()

    def _table(self, name: str) -> Tensor:
        return self.weights[name].read_value()

    def _scores(self, feat: Tensor, initstate: Tensor) -> tuple[Tensor, Tensor]:
        """Of all items, and the state."""
        output = self._output()
        state = self._forward(feat, initstate, output).cell.state
        return scores_of(state, output), state

    def _forward(
        self, feat: Tensor, initstate: Tensor, output: Tensor, dropout: Mapping[str, Tensor] | None = None
    ) -> Forward:
        """One step; `dropout` has what to multiply layers with, by name, in training."""
        dropout = dropout or {}
        hidden = self.settings.hidden_size
        tables = [output if name == "output" else self._table(name) for name in self.settings.tables]
        vectors = [tf.gather(table, feat)[:, :hidden] for table in tables]
        kept = dropout.get("input")
        shares = None if kept is None else tf.split(kept, len(vectors), axis=1)
        if shares:
            vectors = [vector * share for vector, share in zip(vectors, shares, strict=True)]
        bias = self.weights["bias"].read_value()
        x = vectors if len(vectors) == 3 else tf.split(vectors[0] @ self.weights["input"].read_value(), 3, axis=1)
        x = [part + one for part, one in zip(x, tf.split(bias[0], 3), strict=True)]
        cell = run_cell(x, initstate @ self.weights["recurrent"].read_value() + bias[1], initstate)
        kept_state = dropout.get("hidden")
        known = cell.state if kept_state is None else cell.state * kept_state
        return Forward(feat, vectors, shares, cell, known, kept_state)

    def _kept(self, lanes: int) -> dict[str, Tensor]:
        """What dropout multiplies layers with in this step."""
        return keep_shares(self.step.read_value(), self.settings, lanes)

    def _sampled_loss(self, known: Tensor, rows: Tensor, lanes: Lanes, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and its gradients by `known` and by the candidates' rows."""
        settings, batch = self.settings, lanes.item.shape[0]
        absent = losses.absence(lanes, settings.negatives)
        if settings.loss == "bpr-max":
            own, scores = tf.reduce_sum(with_one(known) * rows[:batch], axis=1), scores_of(known, rows)
            loss, d_scores = losses.bpr_max(scores, own, absent, lanes, bpreg=settings.bpreg, elu=settings.elu)
            return loss, product(d_scores, rows)[:, :-1], product(tf.transpose(d_scores), with_one(known))
        if settings.logq:  # of the batch's targets P ~ support, of the drawn items P ~ support ** alpha
            powers = np.repeat([1, settings.sample_alpha], [batch, settings.negatives]) * settings.logq
            absent -= tf.gather(self.log_support, candidates) * powers.astype(np.float32)
        loss, d_state, d_rows = losses.sampled_cross_entropy(known, rows, absent, lanes)
        return loss, d_state[:, :-1], d_rows

    def _inner_gradients(self, step: Forward, d_known: Tensor) -> Gradients:
        """Of everything before the output layer; a table of items gets `Rows`."""
        d_state = d_known if step.kept_state is None else d_known * step.kept_state
        d_x, d_y = cell_gradients(step.cell, d_state)
        d_inputs = tf.concat(d_x, axis=1)
        d_vectors = d_x
        gradients: Gradients = {
            "recurrent": lambda: tf.matmul(step.cell.before, d_y, transpose_a=True),
            "bias": lambda: tf.stack([tf.reduce_sum(d_inputs, axis=0), tf.reduce_sum(d_y, axis=0)]),
        }
        if "input" in self.weights:
            d_vectors = [tf.matmul(d_inputs, self.weights["input"].read_value(), transpose_b=True)]
            gradients["input"] = lambda: tf.matmul(step.vectors[0], d_inputs, transpose_a=True)
        if step.kept:
            d_vectors = [part * kept for part, kept in zip(d_vectors, step.kept, strict=True)]
        for name, part in zip(self.settings.tables, d_vectors, strict=True):
            gradients[name] = _rows(step.feat, part)
        return gradients

    def _row_gradients(self, gradients: Gradients, name: str) -> list[Rows]:
        """What a table that the input is looked up in has of it already, one column wider: nothing for the bias."""
        if name not in gradients:
            return []
        rows = gradients.pop(name)()
        return [Rows(rows.items, tf.pad(rows.parts, [[0, 0], [0, 1]]))]


def _rows(items: Tensor, parts: Tensor) -> Callable[[], Rows]:
    return lambda: Rows(items, parts)


def _specs(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in tensors.items()}
