"""A module with signatures becomes the bytes of a .tflite: builtin operators only, zeros filled in, its card inside.

The converter writes the initial value of every variable into the file. For the slots of the optimizer these are zeros that
weigh as much as the weights again; an operator FILL in the graph that runs once at the start costs nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from pocketrec.lite.contract import METADATA

SMALL = 1024
"""Bytes below which zeros may stay as they are."""


def convert(module: tf.Module, signatures: Mapping[str, Any], card: str) -> bytes:
    """The .tflite of a module's concrete functions, with `card` as the metadata entry `pocketrec`.

    The same module gives the same bytes. Works in a temporary folder of about twice the size of the variables.

    Raises:
        tf.lite.ConverterError: a function needs an operator that TensorFlow Lite does not have.
    """
    with tempfile.TemporaryDirectory(prefix="pocketrec-") as folder:
        tf.saved_model.save(module, folder, signatures=dict(signatures))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        return finish(converter.convert(), card)


def finish(converted: bytes, card: str) -> bytes:
    """The same model, smaller, with its card."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(converted))
    for graph in _initial_graphs(model):
        _fill_zeros(model, graph)
    _drop_unused(model)
    _add_metadata(model, card.encode())
    return _pack(model)


def _initial_graphs(model: Any) -> list[Any]:
    """The graphs that CALL_ONCE runs; one for each signature."""
    calls = [
        operator.builtinOptions.initSubgraphIndex
        for graph in model.subgraphs
        for operator in graph.operators
        if isinstance(operator.builtinOptions, schema.CallOnceOptionsT)
    ]
    return [model.subgraphs[index] for index in dict.fromkeys(calls)]


def _fill_zeros(model: Any, graph: Any) -> None:
    zeros = [index for index, tensor in enumerate(graph.tensors) if _is_zeros(model, tensor)]
    if not zeros:
        return
    value = _constant(model, graph, b"zero", np.zeros((), np.float32), schema.TensorType.FLOAT32)
    code = _operator_code(model, schema.BuiltinOperator.FILL)
    fills = []
    for index in zeros:
        tensor = graph.tensors[index]
        shape = _constant(
            model, graph, tensor.name + b"_shape", np.asarray(tensor.shape, np.int32), schema.TensorType.INT32
        )
        tensor.buffer = 0
        fill = schema.OperatorT(opcodeIndex=code, inputs=[shape, value], outputs=[index])
        fill.builtinOptionsType, fill.builtinOptions = schema.BuiltinOptions.FillOptions, schema.FillOptionsT()
        fills.append(fill)
    graph.operators = fills + graph.operators


def _is_zeros(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > SMALL and tensor.type == schema.TensorType.FLOAT32 and not np.any(data)


def _constant(model: Any, graph: Any, name: bytes, value: np.ndarray[Any, Any], kind: int) -> int:
    graph.tensors.append(
        schema.TensorT(
            name=name, shape=np.asarray(value.shape, np.int32), type=kind, buffer=_add_buffer(model, value.tobytes())
        )
    )
    return len(graph.tensors) - 1


def _operator_code(model: Any, builtin: int) -> int:
    codes = [code.builtinCode for code in model.operatorCodes]
    if builtin not in codes:
        model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=builtin, builtinCode=builtin, version=1))
        return len(codes)
    return codes.index(builtin)


def _add_buffer(model: Any, content: bytes) -> int:
    model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
    return len(model.buffers) - 1


def _drop_unused(model: Any) -> None:
    """Empty the buffers that nothing points to any more; the numbering stays."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None


def _add_metadata(model: Any, content: bytes) -> None:
    entry = schema.MetadataT(name=METADATA, buffer=_add_buffer(model, content))
    model.metadata = [*(model.metadata or []), entry]


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """Packs its bytes at a multiple of 16, as the schema asks; the generated code does not."""

    def Pack(self, builder: Any) -> int:  # noqa: N802
        if self.data is not None and len(self.data):
            builder.Prep(16, len(self.data))
        return int(super().Pack(builder))


def _pack(model: Any) -> bytes:
    model.buffers = [_AlignedBuffer(data=buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
