"""GRU4Rec as a graph of TensorFlow Lite builtins, so that it can be trained without TensorFlow.

A GRU over items, a softmax over all items, and the backward pass written by hand, because an automatic one needs operators
that LiteRT does not have. The input for an item is a one-hot vector (so its rows of three kernels), its row of an embedding
table, or its row of the output layer (`--embedding none`, `separate`, `shared`):

    x = kernel[feat] + bias[0],  or  x = table[feat] @ input + bias[0]           y = initstate @ recurrent + bias[1]
    state = cell(x, y, initstate);   scores = dropout(state) @ output[:, :H].T + output[:, H]

Only training has dropout, of the looked-up numbers and of the state that items are scored with; the state that is passed on
is complete. `learn` has none: dropout keeps many passes over one log from learning it by heart, and a person's few clicks
are to be remembered. The formulas are in `losses`, `cell`, `dropout` and `optimizers`.

The layout suits LiteRT: tables have one row for each item, so that rows can be gathered and scattered, and the kernel is
one variable for each gate, since a variable is read and assigned as a whole and smaller ones need less memory at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from pocketrec.gru4rec.tf import losses
from pocketrec.gru4rec.tf.cell import CellStep, cell_gradients, run_cell
from pocketrec.gru4rec.tf.dropout import keep_shares
from pocketrec.gru4rec.tf.guard import Amounts, Cache, Guarded, guard
from pocketrec.gru4rec.tf.initial import initial_weights
from pocketrec.gru4rec.tf.losses import Lanes, lanes_of, log_sum, product, scores_of, with_one
from pocketrec.gru4rec.tf.optimizers import rests
from pocketrec.gru4rec.tf.state_cache import mixed_scores
from pocketrec.gru4rec.tf.updates import Gradients, Rows, Trainable
from pocketrec.lite.contract import STEP, ModelSpec
from pocketrec.schema import Float32, Int64

Tensor = Any  # TensorFlow has no types for them


@dataclass(frozen=True)
class Forward:
    """A forward step.

    Attributes:
        feat: current item of each lane, (B,).
        vectors: the rows of these items in each input table, after dropout; (B, H) each.
        kept: dropout factors of `vectors`; None without dropout.
        cell: the step of the GRU.
        known: input of the output layer, (B, H): the state after dropout.
        kept_state: dropout factors of the state; None without dropout.
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
        settings: the settings of the model.
        weights: initial values of `ModelSpec.weights`; random ones from the seed if not given.
        support: clicks of each item, (n_items,), for the logQ correction; equal for all items if not given.
    """

    def __init__(
        self, settings: ModelSpec, weights: Mapping[str, Float32] | None = None, support: Int64 | None = None
    ) -> None:
        self.initial = dict(weights or initial_weights(settings))
        super().__init__(settings, self.initial)
        counts = np.ones(settings.n_items) if support is None else np.maximum(support, 1)
        self.log_support = np.log(counts).astype(np.float32)

    def signatures(self) -> dict[str, Tensor]:
        """The concrete functions of the signatures by name."""
        functions = {
            "train": self.train,
            "train_sampled": self.train_sampled,
            "train_one": self.train,  # the same with one lane
            "learn": self.learn,
            "infer": self.infer,
            "eval": self.evaluate,
            "recommend": self.recommend,
            "recommend_user": self.recommend_user,
            "save": self.save,
        }
        wanted = self.settings.signatures
        if "learn" in wanted:
            # Variables that nothing assigns: the converter makes constants of them, without a copy in the graph's text,
            # and `finish` finds them equal to what the weights begin with.
            self.shipped = {
                name: tf.Variable(value, trainable=False, name=f"shipped_{name}") for name, value in self.initial.items()
            }
        concrete = {
            name: tf.function(function, autograph=False).get_concrete_function(**_specs(wanted[name][0]))
            for name, function in functions.items()
            if name in wanted
        }
        if "restore" in wanted:
            concrete["restore"] = self._restore_function()
        return concrete

    def train(self, feat: Tensor, target: Tensor, initstate: Tensor) -> dict[str, Tensor]:
        """One training step with all items as candidates: the loss before it, and the new state."""
        return self._full_step(self._guard(feat, initstate, target), self._kept(feat.shape[0]))

    def learn(
        self, feat: Tensor, target: Tensor, initstate: Tensor, rate: Tensor, share: Tensor, pull: Tensor
    ) -> dict[str, Tensor]:
        """`train` as one user's clicks need it: see `LearnSettings`."""
        return self._full_step(self._guard(feat, initstate, target, amounts=Amounts(rate, share, pull)), {})

    def _full_step(self, given: Guarded, dropout: Mapping[str, Tensor]) -> dict[str, Tensor]:
        output, weight = self._table("output"), given.amounts and given.amounts.share
        step = self._forward(given.feat, given.state, output, dropout)
        lanes = lanes_of(given.target, given.fine)
        loss, d_known, d_output = losses.full_softmax(step.known, output, lanes, weight)
        gradients = self._inner_gradients(step, d_known)
        rows = [Rows(lanes.item, losses.targets_part(step.known, lanes, weight)), *input_rows(gradients)]
        gradients["output"] = lambda: d_output + self._scatter("output", rows)
        after = [loss, step.cell.state, d_known]
        self._apply(gradients, {"output": output}, after, given, sparse=rests(self.settings))
        return {"loss": loss + given.poison, "state": given.state_after(step.cell.state)}

    def train_sampled(self, feat: Tensor, target: Tensor, initstate: Tensor, negatives: Tensor) -> dict[str, Tensor]:
        """One training step with the targets and the drawn items as candidates; only rows of items in the step change."""
        output, given = self._table("output"), self._guard(feat, initstate, target, negatives)
        step = self._forward(given.feat, given.state, output, self._kept(feat.shape[0]))
        lanes = lanes_of(given.target, given.fine)
        candidates = tf.concat([lanes.item, given.negatives], axis=0)
        rows = tf.gather(output, candidates)  # (B + S, H + 1)
        loss, d_known, d_rows = self._sampled_loss(step.known, rows, lanes, candidates)
        gradients = self._inner_gradients(step, d_known)
        parts = [Rows(candidates, d_rows), *input_rows(gradients)]
        gradients["output"] = lambda: Rows(
            tf.concat([part.items for part in parts], axis=0), tf.concat([part.parts for part in parts], axis=0)
        )
        self._apply(gradients, {"output": output}, [loss, step.cell.state, d_known], given, sparse=True)
        return {"loss": loss + given.poison, "state": given.state_after(step.cell.state)}

    def infer(self, feat: Tensor, initstate: Tensor) -> dict[str, Tensor]:
        """Probabilities of the next item, and the new state."""
        given = self._guard(feat, initstate)
        scores, state = self._scores(given)
        return {"output": tf.nn.softmax(scores), "state": given.state_after(state)}

    def recommend(self, feat: Tensor, initstate: Tensor) -> dict[str, Tensor]:
        """After one more item of one session: the items with the highest scores, best first, and the new state."""
        given = self._guard(feat, initstate)
        scores, state = self._scores(given)
        return self._best(scores[0], state, given)

    def recommend_user(
        self, feat: Tensor, initstate: Tensor, cache_states: Tensor, cache_items: Tensor, cache_share: Tensor, hide: Tensor
    ) -> dict[str, Tensor]:
        """`recommend` for the user of the device: with a state cache, and without the items of `hide`."""
        given = guard(self.settings.n_items, feat, initstate, cache=Cache(cache_states, cache_items, cache_share, hide))
        assert given.cache
        scores, state = self._scores(given)
        return self._best(mixed_scores(scores, state, given.cache), state, given)

    def _best(self, scores: Tensor, state: Tensor, given: Guarded) -> dict[str, Tensor]:
        best, items = tf.math.top_k(scores, self.settings.k)  # all scores are NaN if an input cannot be
        items = tf.where(given.good, items, -tf.ones_like(items))
        return {"items": items, "scores": best, "state": given.state_after(state)}

    def evaluate(self, feat: Tensor, target: Tensor, initstate: Tensor, top_k: Tensor) -> dict[str, Tensor]:
        """Loss, Recall@k and MRR@k over the lanes with a target; see `lite.runtime.Metrics`."""
        given = self._guard(feat, initstate, target)
        scores, _ = self._scores(given)
        lanes = lanes_of(given.target)
        share = lanes.counted / tf.maximum(tf.reduce_sum(lanes.counted), 1.0)
        own = tf.gather(scores, lanes.item, batch_dims=1)
        loss = tf.reduce_sum((log_sum(scores, tf.nn.softmax(scores)) - own) * share)
        rank = tf.reduce_sum(tf.cast(scores >= own[:, None], tf.float32), axis=1)  # exact up to 2**24 items
        hit = tf.cast(rank <= tf.cast(top_k, tf.float32), tf.float32) * share
        found = {"loss": loss, "recall": tf.reduce_sum(hit), "mrr": tf.reduce_sum(hit / rank)}
        return {name: value + given.poison for name, value in found.items()}

    def save(self, zero: Tensor) -> dict[str, Tensor]:
        """Weights, slots and step as tensors; `zero` is added to the step."""
        found = {name: variable.read_value() for name, variable in self._state().items()}
        return {**found, STEP: found[STEP] + tf.reshape(zero, ())}

    def _restore_function(self) -> Tensor:
        """Takes what `save` returns, each tensor as an argument with its name, which only a flat list of specs makes."""
        specs, variables = _specs(self.settings.signatures["restore"][0]), self._state()

        def restore(*tensors: Tensor) -> dict[str, Tensor]:
            done = [variables[name].assign(value, read_value=False) for name, value in zip(specs, tensors, strict=True)]
            with tf.control_dependencies(done):
                return {STEP: self.step.read_value()}

        return tf.function(restore, input_signature=list(specs.values()), autograph=False).get_concrete_function()

    def _table(self, name: str) -> Tensor:
        return self.weights[name].read_value()

    def _guard(
        self,
        feat: Tensor,
        initstate: Tensor,
        target: Tensor | None = None,
        negatives: Tensor | None = None,
        amounts: Amounts | None = None,
    ) -> Guarded:
        """The inputs of a call; one with targets depends on the count of steps, too."""
        step = None if target is None else self.step.read_value()
        return guard(self.settings.n_items, feat, initstate, target, negatives, step, amounts)

    def _scores(self, given: Guarded) -> tuple[Tensor, Tensor]:
        """Scores of all items, (B, n_items), and the new state, (B, H)."""
        output = self._table("output")
        state = self._forward(given.feat, given.state, output).cell.state
        return scores_of(state + given.poison, output), state

    def _forward(
        self, feat: Tensor, initstate: Tensor, output: Tensor, dropout: Mapping[str, Tensor] | None = None
    ) -> Forward:
        """One step; `dropout` has the dropout factors by layer, in training."""
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
        """The dropout factors of this step, by layer."""
        return keep_shares(self.step.read_value(), self.settings, lanes)

    def _sampled_loss(self, known: Tensor, rows: Tensor, lanes: Lanes, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and its gradients by `known`, (B, H), and by the candidates' rows, (B + S, H + 1)."""
        settings, batch = self.settings, lanes.item.shape[0]
        absent = losses.absence(lanes, settings.negatives)
        if settings.loss == "bpr-max":
            own, scores = tf.reduce_sum(with_one(known) * rows[:batch], axis=1), scores_of(known, rows)
            loss, d_scores = losses.bpr_max(scores, own, absent, lanes, bpreg=settings.bpreg, elu=settings.elu)
            return loss, product(d_scores, rows)[:, :-1], product(tf.transpose(d_scores), with_one(known))
        if settings.logq:  # targets have P ~ support, drawn items P ~ support ** alpha
            powers = np.repeat([1, settings.sample_alpha], [batch, settings.negatives]) * settings.logq
            absent -= tf.gather(self.log_support, candidates) * powers.astype(np.float32)
        loss, d_state, d_rows = losses.sampled_cross_entropy(known, rows, absent, lanes)
        return loss, d_state[:, :-1], d_rows

    def _inner_gradients(self, step: Forward, d_known: Tensor) -> Gradients:
        """Gradients of all weights before the output layer; those of tables of items are `Rows`."""
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
            gradients[name] = partial(Rows, step.feat, part)
        return gradients


def input_rows(gradients: Gradients) -> list[Rows]:
    """With a shared embedding: take the input's gradient of the output layer out, and add a column of 0 for the bias."""
    if "output" not in gradients:
        return []
    rows = gradients.pop("output")()
    return [Rows(rows.items, tf.pad(rows.parts, [[0, 0], [0, 1]]))]


def _specs(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in tensors.items()}
