"""SASRec (Kang & McAuley 2018) on the protocol of `accuracy.py`: does attention pay, compared with GRU4Rec's state?

    python benchmarks/sasrec.py accuracy-clicks.dat --seeds 42,43

100 units, 2 blocks, one head, learned positions, the item table shared by input and output; padded sessions, Adam. The loss
is the cross-entropy over the next item and 2,048 that are drawn in proportion to clicks^.75, with the logQ correction, as
GRU4Rec's is. The epochs are the best by MRR@20 on train_valid of a training on train_tr with the first seed; then,
for each seed, it is trained on train_full for so long and measured once on test. Rows go to `results/sasrec.csv`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
import typer

from logs import Bench
from pocketrec.gru4rec.kept_sessions import kept_sessions
from pocketrec.gru4rec.ranking import Accuracy, Ranking
from pocketrec.lite.inputs import read_item_list
from pocketrec.schema import Int32, Int64
from pocketrec.sessions.sequences import read_sequences
from pocketrec.storage.layout import Dataset
from rows import put

RESULTS = Path(__file__).parent / "results" / "sasrec.csv"
UNITS, BLOCKS, DRAWN, ALPHA, LONGEST, SESSIONS = 100, 2, 2048, 0.75, 50, 128
"""LONGEST: clicks of a session that are seen, the newest; SESSIONS: of a batch."""


@dataclass(frozen=True)
class Row:
    """One training; `epochs` are those done, and `on` what it was measured on."""

    log: str
    on: str
    seed: int
    dropout: float
    epochs: int
    recall_1: float
    recall_5: float
    recall_10: float
    recall_20: float
    mrr_20: float
    seconds: float


class SasRec:
    """The network, and its training."""

    def __init__(self, support: Int64, dropout: float, seed: int) -> None:
        tf.keras.utils.set_random_seed(seed)
        layers, draw = tf.keras.layers, tf.keras.initializers.RandomNormal(stddev=UNITS**-0.5)
        self.items = tf.Variable(draw((len(support) + 1, UNITS)))  # the last is where there is no item
        self.places, self.bias = tf.Variable(draw((LONGEST, UNITS))), tf.Variable(tf.zeros(len(support)))
        self.blocks = [
            [
                layers.LayerNormalization(),
                layers.MultiHeadAttention(1, UNITS, dropout=dropout),
                layers.LayerNormalization(),
                layers.Dense(UNITS, "relu"),
                layers.Dense(UNITS),
            ]
            for _ in range(BLOCKS)
        ]
        self.last, self.drop = layers.LayerNormalization(), layers.Dropout(dropout)
        self.states(np.zeros((1, 1), np.int32), False)  # the layers make their weights
        layered = [weight.value for block in self.blocks for layer in block for weight in layer.trainable_variables]
        last = [weight.value for weight in self.last.trainable_variables]
        self.weights = [self.items, self.places, self.bias, *layered, *last]
        self.adam = tf.keras.optimizers.Adam(0.001)
        shares = np.maximum(support, 1).astype(np.float64) ** ALPHA
        self.shares = shares / shares.sum()
        self.expected = tf.constant(np.log(self.shares * DRAWN), tf.float32)
        self.draws = np.random.default_rng(seed)

    def states(self, feats: Any, training: bool) -> Any:
        """(sessions, clicks, UNITS) after each click; feats has -1 where there is none."""
        there = feats >= 0
        found = tf.gather(self.items, tf.where(there, feats, self.bias.shape[0])) * UNITS**0.5
        found = self.drop(found + self.places[None, : tf.shape(feats)[1]], training=training)
        for norm, attention, norm_2, dense, dense_2 in self.blocks:
            query = norm(found)
            mask = there[:, None, :]
            found += self.drop(attention(query, found, attention_mask=mask, use_causal_mask=True, training=training))
            found += self.drop(dense_2(self.drop(dense(norm_2(found)), training=training)), training=training)
        return self.last(found)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def train(self, feats: Any, targets: Any, drawn: Any) -> Any:
        """A step; the loss of a transition."""
        with tf.GradientTape() as tape:
            states = tf.boolean_mask(self.states(feats, True), targets >= 0)
            known = tf.boolean_mask(targets, targets >= 0)
            right = tf.reduce_sum(states * tf.gather(self.items, known), 1) + tf.gather(self.bias, known)
            right -= tf.gather(self.expected, known)
            others = tf.matmul(states, tf.gather(self.items, drawn), transpose_b=True) + tf.gather(self.bias, drawn)
            others -= tf.gather(self.expected, drawn)
            others = tf.where(drawn[None] == known[:, None], -1e9, others)
            loss = tf.reduce_mean(tf.reduce_logsumexp(tf.concat([right[:, None], others], 1), 1) - right)
        self.adam.apply_gradients(zip(tape.gradient(loss, self.weights), self.weights, strict=True))
        return loss

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def scores(self, feats: Any, targets: Any) -> Any:
        """Scores of all items for each transition."""
        states = tf.boolean_mask(self.states(feats, False), targets >= 0)
        return tf.matmul(states, self.items[:-1], transpose_b=True) + self.bias

    def epoch(self, items: Int32, lengths: Int64) -> float:
        """Train on all sessions once; the mean loss of a batch."""
        order = self.draws.permutation(len(lengths))
        # Sessions of like length go together, so that little is padded: sorted in groups of 50 batches.
        groups = [order[i : i + 50 * SESSIONS] for i in range(0, len(order), 50 * SESSIONS)]
        order = np.concatenate([group[np.argsort(lengths[group], kind="stable")] for group in groups])
        batches = [order[i : i + SESSIONS] for i in range(0, len(order), SESSIONS)]
        self.draws.shuffle(batches)
        losses = []
        for batch in batches:
            drawn = self.draws.choice(len(self.shares), DRAWN, p=self.shares).astype(np.int32)
            losses.append(self.train(*padded(items, lengths, batch), drawn))
        return float(np.mean(losses))

    def measured(self, where: Dataset, on: str) -> Accuracy:
        """Recall and MRR over all next clicks of a set."""
        ranking = Ranking()
        for items, lengths in read_sequences(where, on):
            for first in range(0, len(lengths), SESSIONS):
                feats, targets = padded(items, lengths, np.arange(first, min(first + SESSIONS, len(lengths))))
                known = targets[targets >= 0]
                ranking.add(self.scores(feats, targets).numpy(), known)
        return ranking.accuracy("")


def padded(items: Int32, lengths: Int64, sessions: Int64) -> tuple[Int32, Int32]:
    """Clicks and next clicks of some sessions, (sessions, longest), -1 where there is none; every next click is there."""
    starts = np.cumsum(lengths) - lengths
    rows: list[tuple[Int32, Int32]] = []
    for begin, length in zip(starts[sessions].tolist(), lengths[sessions].tolist(), strict=True):
        for stop in range(1, length, LONGEST):  # a longer session goes on in another row, which sees what came before
            last = min(stop + LONGEST, length)
            first = max(0, last - 1 - LONGEST)
            feats, targets = items[begin + first : begin + last - 1], items[begin + first + 1 : begin + last].copy()
            targets[: stop - 1 - first] = -1
            rows.append((feats, targets))
    found = np.full((2, len(rows), max((len(feats) for feats, _ in rows), default=1)), -1, np.int32)
    for row, (feats, targets) in enumerate(rows):
        found[0, row, : len(feats)], found[1, row, : len(targets)] = feats, targets
    return found[0], found[1]


def trained(bench: Bench, train_on: Any, on: str, seed: int, dropout: float, epochs: int, each: bool) -> Iterator[Row]:
    """A training; a row after each epoch or after the last one."""
    where = Dataset(bench.place)
    known = kept_sessions(where, train_on, train_on)
    model, began = SasRec(read_item_list(where).support, dropout, seed), time.perf_counter()
    for epoch in range(1, epochs + 1):
        loss = model.epoch(known.items, known.lengths)
        if each or epoch == epochs:
            found = model.measured(where, on)
            recall: dict[str, Any] = {f"recall_{n}": round(value, 4) for n, value in found.recall.items()}
            seconds = round(time.perf_counter() - began, 1)
            row = Row(bench.name, on, seed, dropout, epoch, **recall, mrr_20=round(found.mrr[20], 4), seconds=seconds)
            print(f"{loss:.4f}", row, flush=True)
            yield row


def main(
    log: Annotated[Path, typer.Argument(help="The click log.")],
    seeds: Annotated[str, typer.Option(help="Seeds of the trainings on train_full, separated by commas.")] = "42,43",
    dropout: Annotated[float, typer.Option(help="Share of each state that a training step sets to 0.")] = 0.3,
    epochs: Annotated[int, typer.Option(help="Epochs of the training on train_tr.")] = 10,
    fixed: Annotated[int, typer.Option(help="Epochs that were chosen before: nothing is trained on train_tr.")] = 0,
    out: Annotated[Path, typer.Option(help="CSV file; rows of the same training go.")] = RESULTS,
) -> None:
    """Choose the epochs, train, measure, and write the table."""
    key = ("log", "on", "seed", "dropout", "epochs")
    with tempfile.TemporaryDirectory() as work:
        if not fixed:
            bench, seed = Bench(log, "train_tr", Path(work)), int(seeds.split(",")[0])
            rows = list(trained(bench, "train_tr", "train_valid", seed, dropout, epochs, each=True))
            put(out, rows, key)
            fixed = max(rows, key=lambda row: row.mrr_20).epochs
        bench = Bench(log, "train_full", Path(work))
        for seed in map(int, seeds.split(",")):
            put(out, list(trained(bench, "train_full", "test", seed, dropout, fixed, each=False)), key)


if __name__ == "__main__":
    typer.run(main)
