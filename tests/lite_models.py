"""Makes the models that the tests of the judge need: `python tests/lite_models.py FOLDER`, in a process of its own.

TensorFlow stays out of the tests' process, where warnings are errors and where the judge must do without it.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from lite_support import BEGIN, MATRIX
from pocketrec.dnn import export as dnn_export
from pocketrec.dnn import network as dnn
from pocketrec.dnn.network import DnnSettings
from pocketrec.dnn.options import DnnExportSettings
from pocketrec.gru4rec.export import convert_model, export
from pocketrec.gru4rec.tf import losses
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
from pocketrec.ncf.options import NcfExportSettings
from pocketrec.storage.layout import Dataset
from pocketrec.storage.networks import NetworkFile
from pocketrec.training.tf import convert
from pocketrec.training.tf.convert import as_stored, finish

SHIPPED = 200
"""Bytes that every weight has more of, and no other constant of `learn`."""
SMALL = ModelSpec(n_items=40, batch_size=4, hidden_size=8, embedding="shared", negatives=16)
TRAINING = ("train", "train_sampled", "train_one")
LEARNING = (*TRAINING, "learn")


@contextlib.contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    kept = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, kept)


class Averaging(Gru4Rec):
    """An item that is in two lanes gets the mean of its gradients, not the sum."""

    def _scatter(self, name: str, rows: list[Rows]) -> Any:
        items = tf.concat([part.items for part in rows], axis=0)
        counts = tf.scatter_nd(items[:, None], tf.ones_like(items, tf.float32), (self.settings.n_items,))
        return super()._scatter(name, rows) / tf.maximum(counts, 1)[:, None]


class Counting(Gru4Rec):
    """Divides by the lanes that have a target, not by all."""

    def train(self, feat: Any, target: Any, initstate: Any) -> dict[str, Any]:
        def lanes(target: Any, fine: Any) -> losses.Lanes:  # noqa: ARG001
            counted = tf.cast(target >= 0, tf.float32)
            return losses.Lanes(counted, counted / tf.maximum(tf.reduce_sum(counted), 1.0), tf.maximum(target, 0))

        with replaced(gru4rec, "lanes_of", lanes):
            return super().train(feat, target, initstate)


class Optimistic(Gru4Rec):
    """Its ranks leave out the items that tie with the target."""

    def evaluate(self, feat: Any, target: Any, initstate: Any, top_k: Any) -> dict[str, Any]:
        scores, _ = self._scores(self._guard(feat, initstate))
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
        scores, state = self._scores(self._guard(feat, initstate))
        worst, items = tf.math.top_k(-scores[0], self.settings.k)
        return {"items": items, "scores": -worst, "state": state}


class Flexing(Gru4Rec):
    """Uses an operator that only the Select TF library has."""

    def infer(self, feat: Any, initstate: Any) -> dict[str, Any]:
        found = super().infer(feat, initstate)
        return {**found, "state": found["state"] + 1e-3 * tf.linalg.logdet(tf.eye(2) + found["state"][:2, :2])}


def functions(model: Any, *names: str) -> Iterator[tuple[Any, Any]]:
    """Some signatures of a model file, each with its graph."""
    for signature in model.signatureDefs:
        if signature.signatureKey.decode() in names:
            yield signature, model.subgraphs[signature.subgraphIndex]


def kind_of(model: Any, operator: Any) -> int:
    return int(model.operatorCodes[operator.opcodeIndex].builtinCode)


def lazy(model: Any) -> None:
    """Train signatures that compute everything, count the step, and learn nothing."""
    for _, graph in functions(model, *LEARNING):
        graph.operators = [
            one
            for one in graph.operators
            if kind_of(model, one) != schema.BuiltinOperator.ASSIGN_VARIABLE
            or graph.tensors[one.inputs[1]].type != schema.TensorType.FLOAT32
        ]


def diverging(model: Any) -> None:
    """Goes up the slope: a weight is assigned the sum where it was the difference."""
    for _, graph in functions(model, *LEARNING):
        assigned = {
            one.inputs[1] for one in graph.operators if kind_of(model, one) == schema.BuiltinOperator.ASSIGN_VARIABLE
        }
        for number, one in enumerate(graph.operators):
            if kind_of(model, one) == schema.BuiltinOperator.SUB and one.outputs[0] in assigned:
                graph.operators[number] = convert._operator(model, "Add", list(one.inputs), list(one.outputs))


def uncorrected(model: Any) -> None:
    """Adam without its bias correction: the powers are those of a step far away."""
    for _, graph in functions(model, *LEARNING):
        far = convert._constant(model, graph, b"far", np.full((), 1_000_000, np.float32), schema.TensorType.FLOAT32)
        powers = [one for one in graph.operators if kind_of(model, one) == schema.BuiltinOperator.POW]
        assert powers
        for one in powers:
            one.inputs = [one.inputs[0], far]


def repeating(model: Any) -> None:
    """Drops the same units out in every step: the one number that is made of the step is that of the first."""
    for _, graph in functions(model, *TRAINING):
        first = convert._constant(model, graph, b"first", np.zeros((), np.int32), schema.TensorType.INT32)
        (cast,) = (
            one
            for one in graph.operators
            if kind_of(model, one) == schema.BuiltinOperator.CAST
            and graph.tensors[one.inputs[0]].type == schema.TensorType.INT32
        )
        cast.inputs = [first]


def forgetful(model: Any) -> None:
    """Does not hand out the step it is at."""
    for signature, graph in functions(model, "save"):
        (step,) = (one for one in signature.outputs if one.name == STEP.encode())
        zero = convert._constant(model, graph, b"no_step", np.zeros((), np.int32), schema.TensorType.INT32)
        graph.outputs = [zero if index == step.tensorIndex else index for index in graph.outputs]
        step.tensorIndex = zero


def _bytes_of(model: Any, tensor: Any) -> bytes:
    data = model.buffers[tensor.buffer].data
    return b"" if data is None else bytes(data)


def belittling(model: Any) -> None:
    """Pulls to zero, not to the shipped weights."""
    for _, graph in functions(model, "learn"):
        shipped = [one for one in graph.tensors if len(_bytes_of(model, one)) > SHIPPED]
        assert shipped
        for one in shipped:
            one.buffer = convert._add_buffer(model, bytes(len(_bytes_of(model, one))))


def diffident(model: Any) -> None:
    """Has another name for what one signature gives."""
    for signature, _ in functions(model, "infer"):
        (output,) = (one for one in signature.outputs if one.name == b"output")
        output.name = b"probabilities"


VARIANTS: tuple[type[Gru4Rec], ...] = (Averaging, Counting, Muddled)
CHANGES: dict[Callable[[Any], None], str] = {
    lazy: "adam", diverging: "adam", uncorrected: "adam", repeating: "separate-sgd", forgetful: "adam", diffident: "adam",
    belittling: "adam",
}  # fmt: skip
"""What is done to the file of a sound model of MATRIX, for a wrong one without another conversion, which takes 2 s."""


def changed(sound: Path, change: Callable[[Any], None], items: Catalogue) -> bytes:
    """The bytes of a model file after a change of its graphs."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(sound.read_bytes()))
    change(model)
    return items.append_to(convert._pack(model))


def flexing(items: Catalogue) -> bytes:
    """A model converted with the Select TF operators allowed; one that only answers, which is the quickest to make."""
    settings = replace(SMALL, storage="int8")
    model = Flexing(settings)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(model, folder, signatures=model.signatures())
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(settings.signatures))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        converter.experimental_enable_resource_variables = True
        digests = {name: digest(as_stored(value, "int8", 40)) for name, value in model.initial.items()}
        return finish(converter.convert(), Card(settings, digests, items.hash, {}, "0"), items)


FIXED = NcfExportSettings(fixed_items=4, fixed_seen=5, top_k=3)


def ids_of(settings: Any) -> Catalogue:
    """Ids i0, i1, ... and u0, u1, ..."""
    items, users = [f"i{code}" for code in range(settings.n_items)], [f"u{code}" for code in range(settings.n_users)]
    return Catalogue.of(items, np.arange(settings.n_items), users)


def frozen() -> bytes:
    """A model of `ncf` with random weights; the converter took codes from 0 to 6, those of 7 users, for a ReLU6."""
    settings, rng = NetworkSettings(n_users=7, n_items=9, layers=(8, 4)), np.random.default_rng(1)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in settings.shapes.items()}
    return model_bytes(NetworkFile(Network(settings, weights), "0f" * 16), ids_of(settings), FIXED)


def rating() -> bytes:
    """A model of `dnn` with random weights."""
    settings = DnnSettings(
        3, (6,), n_users=7, n_items=9, user_columns=2, item_columns=2, task="classify", lowest=1.0, highest=3.0,
        values=(1.0, 2.0, 3.0),
    )  # fmt: skip
    rng = np.random.default_rng(2)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in settings.shapes.items()}
    trained = NetworkFile(dnn.Network(settings, weights), "0f" * 16)
    return dnn_export.model_bytes(trained, ids_of(settings), DnnExportSettings(4))


def main(folder: Path) -> None:
    """Export every dataset below `folder`, and put the other models beside them."""
    print(BEGIN, file=sys.stderr)
    gc.freeze()  # each conversion asks for a collection, which would look through all of TensorFlow, a tenth of the time
    gc.disable()
    for name, settings in MATRIX.items():
        export(folder / name, ModelSettings(batch_size=4, hidden_size=8, negatives=16, **settings))
    export(folder / "adam", ModelSettings(batch_size=1, hidden_size=8, negatives=16))
    export(folder / "wider", ModelSettings(batch_size=4, hidden_size=8, storage="int8"))
    export(folder / "one", ModelSettings(batch_size=4, hidden_size=8, negatives=16))
    items = read_item_list(Dataset(folder / "adam"))
    with native_stderr_closed():  # export itself says nothing, which a test sees
        for variant in VARIANTS:
            model = variant(SMALL, support=items.support)
            (folder / f"{variant.__name__.lower()}.tflite").write_bytes(convert_model(model, items))
        for change, name in CHANGES.items():
            (folder / f"{change.__name__}.tflite").write_bytes(changed(Dataset(folder / name).tflite(4), change, items))
        for count in (2, 7):
            few = Catalogue(items.ids[:count], items.support[:count])
            made = convert_model(Gru4Rec(replace(SMALL, n_items=count, storage="float16")), few)
            (folder / f"of{count}.tflite").write_bytes(made)
        (folder / "frozen.tflite").write_bytes(frozen())
        (folder / "rating.tflite").write_bytes(rating())
        (folder / "flexing.tflite").write_bytes(flexing(items))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
