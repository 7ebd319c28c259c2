"""Makes the models that the tests of the judge need: `python tests/lite_models.py FOLDER`, in a process of its own.

TensorFlow stays out of the tests' process, where warnings are errors and where the judge must do without it.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf

from lite_support import BEGIN, MATRIX
from pocketrec.dnn import export as dnn_export
from pocketrec.dnn import network as dnn
from pocketrec.dnn.network import DnnSettings
from pocketrec.gru4rec.export import convert_model, export
from pocketrec.gru4rec.tf import losses, optimizers
from pocketrec.gru4rec.tf import model as gru4rec
from pocketrec.gru4rec.tf.model import Gru4Rec
from pocketrec.gru4rec.tf.updates import Rows
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import STEP, Card, ModelSpec, digest
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.options import ModelSettings
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.ncf.export import model_bytes
from pocketrec.ncf.network import Network, NetworkSettings
from pocketrec.storage.layout import Dataset
from pocketrec.storage.networks import NetworkFile
from pocketrec.training.tf.convert import finish

SMALL = ModelSpec(n_items=40, batch_size=4, hidden_size=8, embedding="shared", negatives=16)


@contextlib.contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    kept = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, kept)


class Lazy(Gru4Rec):
    """Train signatures that compute everything and learn nothing."""

    def _assign(self, name: str, value: Any, slots: Any) -> list[Any]:  # noqa: ARG002
        return []


class Diverging(Gru4Rec):
    """Goes up the slope."""

    def _assign(self, name: str, value: Any, slots: Any) -> list[Any]:
        return super()._assign(name, 2 * self.weights[name].read_value() - value, slots)


class Averaging(Gru4Rec):
    """An item that is in two lanes gets the mean of its gradients, not the sum."""

    def _scatter(self, name: str, rows: list[Rows]) -> Any:
        items = tf.concat([part.items for part in rows], axis=0)
        counts = tf.scatter_nd(items[:, None], tf.ones_like(items, tf.float32), (self.settings.n_items,))
        return super()._scatter(name, rows) / tf.maximum(counts, 1)[:, None]


class Uncorrected(Gru4Rec):
    """Adam without its bias correction."""

    def _apply(self, *given: Any, **more: Any) -> None:
        def adam(rate: float, step: Any) -> Any:
            return kept(rate, step + 1_000_000)

        kept = optimizers.adam
        with replaced(optimizers, "adam", adam):
            super()._apply(*given, **more)


class Counting(Gru4Rec):
    """Divides by the lanes that have a target, not by all."""

    def train(self, feat: Any, target: Any, initstate: Any) -> dict[str, Any]:
        def lanes(target: Any) -> losses.Lanes:
            counted = tf.cast(target >= 0, tf.float32)
            return losses.Lanes(counted, counted / tf.maximum(tf.reduce_sum(counted), 1.0), tf.maximum(target, 0))

        with replaced(gru4rec, "lanes_of", lanes):
            return super().train(feat, target, initstate)


class Repeating(Gru4Rec):
    """Drops the same units out in every step."""

    def _kept(self, lanes: int) -> dict[str, Any]:
        with replaced(self, "step", SimpleNamespace(read_value=lambda: tf.constant(0))):
            return super()._kept(lanes)


class Optimistic(Gru4Rec):
    """Its ranks leave out the items that tie with the target."""

    def evaluate(self, feat: Any, target: Any, initstate: Any, top_k: Any) -> dict[str, Any]:
        scores, _ = self._scores(feat, initstate)
        lanes = losses.lanes_of(target)
        own = tf.gather(scores, lanes.item, batch_dims=1)
        rank = 1 + tf.reduce_sum(tf.cast(scores > own[:, None], tf.float32), axis=1)
        share = lanes.counted / tf.maximum(tf.reduce_sum(lanes.counted), 1.0)
        hit = tf.cast(rank <= tf.cast(top_k, tf.float32), tf.float32) * share
        return {
            **super().evaluate(feat, target, initstate, top_k),
            "recall": tf.reduce_sum(hit),
            "mrr": tf.reduce_sum(hit / rank),
        }


class Muddled(Optimistic):
    """Wrong in one way in each of three signatures: no logQ correction, ties left out, what fits least recommended."""

    def _sampled_loss(self, *given: Any) -> tuple[Any, Any, Any]:
        with replaced(self, "log_support", self.log_support * 0):
            return super()._sampled_loss(*given)

    def recommend(self, feat: Any, initstate: Any) -> dict[str, Any]:
        scores, state = self._scores(feat, initstate)
        worst, items = tf.math.top_k(-scores[0], self.settings.k)
        return {"items": items, "scores": -worst, "state": state}


class Forgetful(Gru4Rec):
    """Does not hand out the step it is at."""

    def save(self) -> dict[str, Any]:
        return {**super().save(), STEP: self.step.read_value() * 0}


class Flexing(Gru4Rec):
    """Uses an operator that only the Select TF library has."""

    def infer(self, feat: Any, initstate: Any) -> dict[str, Any]:
        found = super().infer(feat, initstate)
        return {**found, "state": found["state"] + 1e-3 * tf.linalg.logdet(tf.eye(2) + found["state"][:2, :2])}


class Diffident(Gru4Rec):
    """Takes a hidden state of another size in one signature."""

    def infer(self, feat: Any, initstate: Any) -> dict[str, Any]:
        found = super().infer(feat, initstate)
        return {"probabilities": found["output"], "state": found["state"]}


VARIANTS: tuple[tuple[type[Gru4Rec], dict[str, Any]], ...] = (
    (Lazy, {}),
    (Diverging, {}),
    (Averaging, {}),
    (Uncorrected, {}),
    (Counting, {}),
    (Repeating, {"dropout_hidden": 0.5}),
    (Muddled, {}),
    (Forgetful, {}),
    (Diffident, {}),
)


def flexing(items: Catalogue) -> bytes:
    """A model converted with the Select TF operators allowed."""
    model = Flexing(SMALL)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(model, folder, signatures=model.signatures())
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(SMALL.signatures))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        converter.experimental_enable_resource_variables = True
        digests = {name: digest(value) for name, value in model.initial.items()}
        return finish(converter.convert(), Card(SMALL, digests, items.hash, {}, "0"), items)


def frozen() -> bytes:
    """A model of `ncf` with random weights."""
    settings, rng = NetworkSettings(n_users=7, n_items=9, layers=(8, 4)), np.random.default_rng(1)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in settings.shapes.items()}
    return model_bytes(NetworkFile(Network(settings, weights), "0f" * 16))


def rating() -> bytes:
    """A model of `dnn` with random weights."""
    settings = DnnSettings(
        3, (6,), n_users=7, n_items=9, user_columns=2, item_columns=2, task="classify", lowest=1.0, highest=3.0,
        values=(1.0, 2.0, 3.0),
    )  # fmt: skip
    rng = np.random.default_rng(2)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in settings.shapes.items()}
    return dnn_export.model_bytes(NetworkFile(dnn.Network(settings, weights), "0f" * 16))


def main(folder: Path) -> None:
    """Export every dataset below `folder`, and put the other models beside them."""
    print(BEGIN, file=sys.stderr)
    for name, settings in MATRIX.items():
        export(folder / name, ModelSettings(batch_size=4, hidden_size=8, negatives=16, **settings))
    export(folder / "adam", ModelSettings(batch_size=1, hidden_size=8, negatives=16))
    export(folder / "wider", ModelSettings(batch_size=4, hidden_size=8, negatives=16))
    export(folder / "one", ModelSettings(batch_size=4, hidden_size=8, negatives=16))
    items = read_item_list(Dataset(folder / "adam"))
    with native_stderr_closed():  # export itself says nothing, which a test sees
        for variant, settings in VARIANTS:
            model = variant(replace(SMALL, **settings), support=items.support)
            (folder / f"{variant.__name__.lower()}.tflite").write_bytes(convert_model(model, items))
        (folder / "frozen.tflite").write_bytes(frozen())
        (folder / "rating.tflite").write_bytes(rating())
        (folder / "flexing.tflite").write_bytes(flexing(items))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
