"""A module with signatures becomes the bytes of a .tflite: builtin operators only, variables stored small, its card inside.

The converter writes the initial value of every variable into the file. For the slots of the optimizer these are zeros that
weigh as much as the weights again; an operator FILL in the graph that runs once at the start costs nothing. Weights may be
stored as float16, or a table's rows as int8 with a scale each; operators in the graph make float32 of them again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import ANY, METADATA, Card, Signatures
from pocketrec.lite.frozen import FrozenCard
from pocketrec.lite.runtimes import MIN_RUNTIME, MIN_RUNTIME_BYTES, needed

Array = npt.NDArray[Any]

SMALL = 1024
"""Bytes below which zeros and weights may stay as they are."""


@dataclass(frozen=True)
class Stored:
    """A constant in a smaller form: its buffer, and with int8 that of a float32 scale a row, (n, 1)."""

    buffer: int
    scales: int | None = None


def convert(module: tf.Module, signatures: Mapping[str, Any], card: Card, items: Catalogue) -> bytes:
    """The .tflite of a module's concrete functions, with `card` as the metadata entry `pocketrec` and `items` behind it.

    The same module gives the same bytes. Works in a temporary folder of about twice the size of the variables.

    Raises:
        tf.lite.ConverterError: a function needs an operator that TensorFlow Lite does not have.
    """
    return finish(_converted(module, signatures), card, items)


def finish_for_apps(model: Any, first: str) -> None:
    """Make the graphs fit for every runtime: `first` is the first one, and what comes of a variable has a fixed shape.

    Inputs and outputs are in the order of their names, for apps that give them by place. Runtimes that do not know
    signatures can call the first graph alone, and CompiledModel takes the first signature where none is named; the
    converter orders both by name. The output of READ_VARIABLE has no shape that is known before it runs, which some
    runtimes cannot return; that of a RESHAPE has.
    """
    names = [signature.signatureKey.decode() for signature in model.signatureDefs]
    if first in names:
        model.signatureDefs.insert(0, model.signatureDefs.pop(names.index(first)))
        _put_first(model, model.signatureDefs[0].subgraphIndex)
    for signature in model.signatureDefs:
        if signature.signatureKey in (b"save", b"restore"):
            _fix_outputs(model, signature)
        graph, sides = model.subgraphs[signature.subgraphIndex], (signature.inputs, signature.outputs)
        graph.inputs, graph.outputs = (
            [one.tensorIndex for one in sorted(side, key=lambda one: one.name)] for side in sides
        )


def _claim_runtime(model: Any) -> str:
    """The runtime that the operators need, written into the file; the converter does not know those that were added."""
    used = {operator.opcodeIndex for graph in model.subgraphs for operator in graph.operators}
    codes = [model.operatorCodes[index] for index in sorted(used)]
    runtime = needed((max(code.builtinCode, code.deprecatedBuiltinCode), code.version) for code in codes)
    for entry in model.metadata:
        if entry.name == MIN_RUNTIME.encode():
            written = f"{runtime}.0".encode().ljust(MIN_RUNTIME_BYTES, b"\x00")
            model.buffers[entry.buffer].data = np.frombuffer(written, np.uint8)
    return runtime


def _put_first(model: Any, index: int) -> None:
    """Exchange a graph and the first one."""
    places = {index: 0, 0: index}
    graphs = model.subgraphs
    graphs[0], graphs[index] = graphs[index], graphs[0]
    for signature in model.signatureDefs:
        signature.subgraphIndex = places.get(signature.subgraphIndex, signature.subgraphIndex)
    for operator in (one for graph in graphs for one in graph.operators):
        for field in (
            "initSubgraphIndex",
            "thenSubgraphIndex",
            "elseSubgraphIndex",
            "condSubgraphIndex",
            "bodySubgraphIndex",
        ):
            if (found := getattr(operator.builtinOptions, field, None)) is not None:
                setattr(operator.builtinOptions, field, places.get(found, found))


def _fix_outputs(model: Any, signature: Any) -> None:
    graph = model.subgraphs[signature.subgraphIndex]
    fixed = {}
    for index in list(graph.outputs):
        tensor = graph.tensors[index]
        lengths = np.asarray(tensor.shape if tensor.shape is not None else [], np.int32)
        shape = _constant(model, graph, tensor.name + b"_lengths", lengths, schema.TensorType.INT32)
        fixed[index] = _tensor(graph, tensor.name + b"_fixed", lengths, tensor.type)
        operator = _operator(model, "Reshape", [index, shape], [fixed[index]])
        operator.builtinOptions.newShape = lengths
        graph.operators.append(operator)
    graph.outputs = [fixed[index] for index in graph.outputs]
    for output in signature.outputs:
        output.tensorIndex = fixed[output.tensorIndex]


def convert_frozen(module: Any, signatures: Signatures, card: FrozenCard[Any, Any], ids: Catalogue) -> bytes:
    """The .tflite of a tf.Module without variables, whose methods are the signatures, with its card and its ids.

    Raises:
        tf.lite.ConverterError: a function needs an operator that TensorFlow Lite does not have.
    """
    functions = {
        name: tf.function(getattr(module, name), autograph=False).get_concrete_function(
            **{
                tensor: tf.TensorSpec([None if length == ANY else length for length in spec.shape], spec.dtype, name=tensor)
                for tensor, spec in inputs.items()
            }
        )
        for name, (inputs, _) in signatures.items()
    }
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(_converted(module, functions)))
    finish_for_apps(model, next(iter(signatures)))
    return _with_card(model, card, ids, f"{card.kind}, {card.settings.n_items} items, {card.settings.n_users} users")


def _converted(module: tf.Module, signatures: Mapping[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pocketrec-") as folder:
        tf.saved_model.save(module, folder, signatures=dict(signatures))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        converted: bytes = converter.convert()
        return converted


def finish(converted: bytes, card: Card, items: Catalogue) -> bytes:
    """The same model, smaller, with its card and its items."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(converted))
    finish_for_apps(model, "recommend")
    beginning, storage = _initial_graphs(model), card.settings.storage
    for graph in beginning:
        _fill_zeros(model, graph)
    if storage != "float32":
        stored: dict[int, Stored] = {}
        learning = [one.subgraphIndex for one in model.signatureDefs if one.signatureKey == b"learn"]  # has them, too
        held = [*beginning, *(model.subgraphs[index] for index in learning)]
        for graph in model.subgraphs if storage == "int8" else held:
            _store_small(model, graph, storage, card.settings.n_items, stored)
    return _with_card(model, card, items, f"Session-based recommender, {card.settings.n_items} items")


def _with_card(model: Any, card: Card | FrozenCard[Any, Any], ids: Catalogue, about: str) -> bytes:
    """The bytes of a model whose graphs are finished; the card says which runtime they need."""
    card = replace(card, runtime=_claim_runtime(model))
    _add_metadata(model, METADATA, card.to_json().encode())
    _add_metadata(model, "TFLITE_METADATA", _describe(card, ids, about))
    _drop_unused(model)
    return ids.append_to(_pack(model))


def as_stored(weight: Array, storage: str, n_items: int) -> Array:
    """The float32 values that a weight has after it was stored."""
    if storage == "float16" and weight.nbytes > SMALL:
        return weight.astype(np.float16).astype(np.float32)
    if storage == "int8" and _is_table(weight.shape, n_items):
        whole, scales = _quantise(weight)
        return whole.astype(np.float32) * scales
    return weight


def _is_table(shape: Any, n_items: int) -> bool:
    """Rows of items; the converter may have put a dimension of 1 before them."""
    return len(shape) in (2, 3) and shape[-2] == n_items and (len(shape) == 2 or shape[0] == 1)


def _quantise(table: Array) -> tuple[Array, Array]:
    """int8 (n, columns) and a float32 scale a row (n, 1): value = int8 * scale."""
    scales = np.maximum(np.abs(table).max(axis=-1, keepdims=True) / np.float32(127), np.float32(1e-30))
    return np.rint(table / scales).astype(np.int8), scales


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
    fills = []
    for index in zeros:
        tensor = graph.tensors[index]
        lengths = np.asarray(tensor.shape, np.int32)
        shape = _constant(model, graph, tensor.name + b"_shape", lengths, schema.TensorType.INT32)
        tensor.buffer = 0
        fills.append(_operator(model, "Fill", [shape, value], [index]))
    graph.operators = fills + graph.operators


def _store_small(model: Any, graph: Any, storage: str, n_items: int, stored: dict[int, Stored]) -> None:
    """Keep constants of a graph as float16, or tables of `n_items` rows as int8, and make float32 of them in it.

    The graph is one that begins variables; with int8 any, since variables that nothing assigns became constants. `stored`
    is what became of each content so far, by its hash; the graphs share it.
    """
    operators: list[Any] = []
    for index, tensor in enumerate(list(graph.tensors)):
        data = model.buffers[tensor.buffer].data
        large = tensor.type == schema.TensorType.FLOAT32 and data is not None and len(data) > SMALL
        if not large or (storage == "int8" and not _is_table(tensor.shape, n_items)):
            continue
        key = hash(bytes(data))  # graphs with a constant each may hold the same
        if key not in stored:
            weight = np.frombuffer(bytes(data), np.float32).reshape(tensor.shape)
            parts = _quantise(weight) if storage == "int8" else (weight.astype(np.float16),)
            stored[key] = Stored(*(_add_buffer(model, part.tobytes()) for part in parts))
        one, shape = stored[key], tensor.shape
        tensor.buffer = 0
        if one.scales is None:
            small = _tensor(graph, tensor.name + b"_half", shape, schema.TensorType.FLOAT16, one.buffer)
            operators.append(_operator(model, "Dequantize", [small], [index], version=3))
            continue
        small = _tensor(graph, tensor.name + b"_int8", shape, schema.TensorType.INT8, one.buffer)
        scales = _tensor(graph, tensor.name + b"_scales", [*shape[:-1], 1], schema.TensorType.FLOAT32, one.scales)
        _gather_small(model, graph, index, small, scales)
        if index in list(graph.outputs) or any(index in list(operator.inputs) for operator in graph.operators):
            operators += _enlarge(model, graph, small, scales, index)
    graph.operators = operators + graph.operators


def _enlarge(model: Any, graph: Any, small: int, scales: int, index: int) -> list[Any]:
    """Operators that make float32 of int8 rows and their scales, into the tensor `index`."""
    whole = _tensor(graph, graph.tensors[small].name + b"_whole", graph.tensors[small].shape, schema.TensorType.FLOAT32)
    cast = _operator(model, "Cast", [small], [whole], version=3)
    cast.builtinOptions.inDataType, cast.builtinOptions.outDataType = schema.TensorType.INT8, schema.TensorType.FLOAT32
    return [cast, _operator(model, "Mul", [whole, scales], [index])]


def _gather_small(model: Any, graph: Any, index: int, small: int, scales: int) -> None:
    """Look rows up in the int8 table, and make float32 of these alone, not of a whole table for the sake of a few rows."""
    found: list[Any] = []
    for operator in graph.operators:
        kind = model.operatorCodes[operator.opcodeIndex].builtinCode
        if kind != schema.BuiltinOperator.GATHER or operator.inputs[0] != index:
            found.append(operator)
            continue
        parts: list[int] = []
        rows = operator.outputs[0]
        shape = graph.tensors[rows].shape
        for source, width in ((small, shape[-1]), (scales, 1)):
            table = graph.tensors[source]
            parts.append(_tensor(graph, table.name + b"_rows", [*shape[:-1], width], table.type))
            inputs = [source, operator.inputs[1]]
            one = _made(schema.OperatorT, opcodeIndex=operator.opcodeIndex, inputs=inputs, outputs=[parts[-1]])
            one.builtinOptionsType, one.builtinOptions = operator.builtinOptionsType, operator.builtinOptions
            found.append(one)
        found += _enlarge(model, graph, parts[0], parts[1], rows)
    graph.operators = found


def _tensor(graph: Any, name: bytes, shape: Any, kind: int, buffer: int = 0) -> int:
    graph.tensors.append(_made(schema.TensorT, name=name, shape=np.asarray(shape, np.int32), type=kind, buffer=buffer))
    return len(graph.tensors) - 1


def _operator(model: Any, name: str, inputs: list[int], outputs: list[int], version: int = 1) -> Any:
    """An operator of the kind `name`, as in the schema's options: Fill, Cast, ..."""
    builtin, codes = getattr(schema.BuiltinOperator, name.upper()), model.operatorCodes
    known = [(code.builtinCode, code.version) for code in codes]
    if (builtin, version) not in known:
        known.append((builtin, version))
        codes.append(_made(schema.OperatorCodeT, deprecatedBuiltinCode=builtin, builtinCode=builtin, version=version))
    operator = _made(schema.OperatorT, opcodeIndex=known.index((builtin, version)), inputs=inputs, outputs=outputs)
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name}Options")
    operator.builtinOptions = getattr(schema, f"{name}OptionsT")()
    return operator


def _made(kind: Any, **fields: Any) -> Any:
    """An object of the schema with some fields; only newer versions of TensorFlow take them as arguments."""
    one = kind()
    for name, value in fields.items():
        setattr(one, name, value)
    return one


def _is_zeros(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > SMALL and tensor.type == schema.TensorType.FLOAT32 and not np.any(data)


def _constant(model: Any, graph: Any, name: bytes, value: np.ndarray[Any, Any], kind: int) -> int:
    return _tensor(graph, name, value.shape, kind, _add_buffer(model, value.tobytes()))


def _add_buffer(model: Any, content: bytes) -> int:
    model.buffers.append(_made(schema.BufferT, data=np.frombuffer(content, np.uint8)))
    return len(model.buffers) - 1


def _drop_unused(model: Any) -> None:
    """Leave out what says nothing: names inside of graphs, empty quantisations, empty and equal buffers.

    The converter gives each tensor a buffer and a quantisation of its own. Nothing looks for the names of inner tensors.
    Together that was a fourth of a small model.
    """
    places: dict[bytes | None, int] = {None: 0}  # buffer 0 stands for none; one of no bytes is the shape of a scalar
    kept = [_made(schema.BufferT)]

    def place(index: int) -> int:
        content = None if (data := model.buffers[index].data) is None else bytes(data)
        if content not in places:
            places[content] = len(kept)
            kept.append(model.buffers[index])
        return places[content]

    for graph in model.subgraphs:
        shown = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            tensor.buffer = place(tensor.buffer)
            tensor.name = tensor.name if index in shown else None
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
    for entry in model.metadata or []:
        entry.buffer = place(entry.buffer)
    model.buffers = kept


def _add_metadata(model: Any, name: str, content: bytes) -> None:
    entry = _made(schema.MetadataT, name=name, buffer=_add_buffer(model, content))
    model.metadata = [*(model.metadata or []), entry]


def _describe(card: Card | FrozenCard[Any, Any], ids: Catalogue, about: str) -> bytes:
    """LiteRT's own metadata (metadata_schema.fbs): ModelMetadata with a name, a description and the associated files."""
    builder = flatbuffers.Builder(256)
    files = []
    for name, (what, _) in ids.files.items():
        fields = [builder.CreateString(text) for text in (name, what)]
        files.append(_table(builder, dict(enumerate(fields))))
    builder.StartVector(4, len(files), 4)
    for file in reversed(files):
        builder.PrependUOffsetTRelative(file)
    listed = builder.EndVector()
    kind = card.kind if isinstance(card, FrozenCard) else "gru4rec"
    fields = [builder.CreateString(text) for text in (kind, about, card.version, "1.0.0")]
    root = _table(builder, dict(zip((0, 1, 2, 7), fields, strict=True)) | {6: listed})
    builder.Finish(root, file_identifier=b"M001")
    return bytes(builder.Output())


def _table(builder: Any, fields: Mapping[int, int]) -> int:
    builder.StartObject(max(fields) + 1)
    for number, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    return int(builder.EndObject())


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """Packs its bytes at a multiple of 16, as the schema asks; the generated code does not."""

    def Pack(self, builder: Any) -> int:  # noqa: N802
        if self.data is not None and len(self.data):
            builder.Prep(16, len(self.data))
        return int(super().Pack(builder))


def _pack(model: Any) -> bytes:
    model.buffers = [_made(_AlignedBuffer, data=buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
