"""Makes the models that the tests of the judge need: `python tests/lite_models.py FOLDER`, in a process of its own.

TensorFlow stays out of the tests' process, where warnings are errors and where the judge must do without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from pocketrec.lite.contract import STEP, Card, ModelSettings
from pocketrec.lite.export import convert_model, export
from pocketrec.models import gru4rec
from pocketrec.models.gru4rec import Gru4Rec
from pocketrec.models.tflite import finish

SMALL = ModelSettings(n_items=40, batch_size=4, hidden_size=8)


class Lazy(Gru4Rec):
    """A train signature that computes everything and learns nothing."""

    def _assign(self, name: str, change: Any, **slots: Any) -> list[Any]:  # noqa: ARG002
        return []


class Diverging(Gru4Rec):
    """Goes up the slope."""

    def _assign(self, name: str, change: Any, **slots: Any) -> list[Any]:
        return super()._assign(name, -change, **slots)


class Averaging(Gru4Rec):
    """An item that is in two lanes gets the mean of its gradients, not the sum."""

    def _input_gradients(self, feat: Any, initstate: Any, d_x: list[Any], d_y: list[Any]) -> Any:
        counts = tf.scatter_nd(feat[:, None], tf.ones_like(feat, tf.float32), (self.settings.n_items,))
        shared = [part / tf.gather(counts, feat)[:, None] for part in d_x]
        return {**super()._input_gradients(feat, initstate, d_x, d_y), **self._kernels(feat, initstate, shared, d_y)}

    def _kernels(self, feat: Any, initstate: Any, d_x: list[Any], d_y: list[Any]) -> Any:
        found = super()._input_gradients(feat, initstate, d_x, d_y)
        return {name: gradient for name, gradient in found.items() if name.startswith("kernel")}


class Uncorrected(Gru4Rec):
    """Adam without its bias correction."""

    def _adam(self, step: Any) -> Callable[[str, Any], list[Any]]:
        return super()._adam(step + 1e6)


class Counting(Gru4Rec):
    """Divides by all lanes, whether they have a target or not."""

    def _shares(self, target: Any) -> tuple[Any, Any]:
        return tf.cast(target >= 0, tf.float32) / self.settings.batch_size, tf.maximum(target, 0)

    def train(self, feat: Any, target: Any, initstate: Any) -> dict[str, Any]:
        kept = gru4rec._lane_shares
        gru4rec._lane_shares = self._shares
        try:
            return super().train(feat, target, initstate)
        finally:
            gru4rec._lane_shares = kept


class Optimistic(Gru4Rec):
    """Its ranks leave out the items that tie with the target."""

    def evaluate(self, feat: Any, target: Any, initstate: Any, top_k: Any) -> dict[str, Any]:
        logits = self._logits(self._gates(feat, initstate)["state"])
        share, item = gru4rec._lane_shares(target)
        own = tf.gather(logits, item, batch_dims=1)
        rank = 1 + tf.reduce_sum(tf.cast(logits > own[:, None], tf.float32), axis=1)
        hit = tf.cast(rank <= tf.cast(top_k, tf.float32), tf.float32) * share
        return {
            **super().evaluate(feat, target, initstate, top_k),
            "recall": tf.reduce_sum(hit),
            "mrr": tf.reduce_sum(hit / rank),
        }


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


VARIANTS = (Lazy, Diverging, Averaging, Uncorrected, Counting, Optimistic, Forgetful, Diffident)


def flexing() -> bytes:
    """A model converted with the Select TF operators allowed."""
    import tempfile

    model = Flexing(SMALL)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(model, folder, signatures=model.signatures())
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(SMALL.signatures))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        converter.experimental_enable_resource_variables = True
        return finish(converter.convert(), Card.of(SMALL, model.initial).to_json())


def main(folder: Path) -> None:
    """Export every dataset below `folder`, and put the other models beside them."""
    export(folder / "adam", batch_size=4, hidden_size=8)
    export(folder / "adam", batch_size=1, hidden_size=8)
    export(folder / "adagrad", batch_size=4, hidden_size=8, optimizer="adagrad", learning_rate=0.05)
    export(folder / "sgd", batch_size=4, hidden_size=8, optimizer="sgd", learning_rate=0.5)
    export(folder / "wider", batch_size=4, hidden_size=8)
    for variant in VARIANTS:
        (folder / f"{variant.__name__.lower()}.tflite").write_bytes(convert_model(variant(SMALL)))
    (folder / "flexing.tflite").write_bytes(flexing())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
