"""Reads a .tflite without LiteRT and without trusting it: every offset is checked before it is followed.

So a model that LiteRT refuses to load (one with Select TF ops), or that would crash it (a file cut short), can still be
described, and its fault can be named. Only what the judge needs is read: operators, tensors, signatures, metadata, and the
sizes of the weights.

Field numbers and types are those of `tensorflow/lite/schema/schema.fbs`. The layout is FlatBuffers' binary format
(https://flatbuffers.dev/internals/): a table begins with the distance back to its vtable, which holds for each field its
offset in the table, or 0.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from pocketrec.errors import ModelError
from pocketrec.lite.contract import Signature, TensorSpec
from pocketrec.storage.files import regular_file

Thing = TypeVar("Thing")

IDENTIFIER = b"TFL3"
READ_VARIABLE = 143
CUSTOM = 32
"""BuiltinOperator.CUSTOM: the operator has a name, its custom code. Names of Select TF ops begin with Flex."""

DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 9: "int8",
          10: "float64", 13: "resource"}  # fmt: skip
ITEM_BYTES = {name: np.dtype(name).itemsize for name in DTYPES.values() if name not in ("string", "resource")}


MAX_RANK, MAX_LENGTH = 16, 2**31 - 1
"""Dimensions of a tensor, and numbers in one: LiteRT counts both with 32 bits."""

OPTIONS_VECTORS = {17: (0,), 30: (0,), 111: (0, 1)}
"""Type of an operator's options -> its fields that are vectors of int32, or strings: ReshapeOptions, SqueezeOptions,
VarHandleOptions."""
OPTIONS_GRAPHS = {92: (0, 1), 93: (0, 1), 103: (0,)}
"""Type of an operator's options -> its fields that are numbers of graphs: IfOptions, WhileOptions, CallOnceOptions."""


class DamagedError(Exception):
    """An offset points outside the file, or a number cannot be right."""


FORMATS = {code: struct.Struct("<" + code) for code in "bBhHiIqQ"}
"""Types of integers, as in `struct`."""


class Table(NamedTuple):
    """One FlatBuffers table.

    Attributes:
        data: the file.
        place: the byte at which the table begins.
        fields: for each field, how many bytes behind `place` it begins; 0 if it is left out and so has its default value.
    """

    data: memoryview
    place: int
    fields: tuple[int, ...]

    @classmethod
    def root(cls, data: memoryview) -> Table:
        """The table that the first bytes of a file point to."""
        return cls(data, 0, ()).child(0)

    def child(self, place: int) -> Table:
        """The table that the offset at byte `place` points to, all of whose fields begin inside of it."""
        place += self._number("I", place)
        vtable = place - self._number("i", place)
        size, inline = self._number("H", vtable), self._number("H", vtable + 2)
        if size < 4 or size % 2 or vtable + size > len(self.data) or inline < 4 or place + inline > len(self.data):
            raise DamagedError(f"the table at byte {place:,} has {inline:,} bytes and a list of fields of {size:,}")
        fields = struct.unpack_from(f"<{size // 2 - 2}H", self.data, vtable + 4)
        if fields and max(fields) >= inline:
            raise DamagedError(f"a field of the table at byte {place:,} lies {max(fields):,} bytes on, beyond its end")
        return Table(self.data, place, fields)

    def _number(self, code: str, place: int) -> int:
        form = FORMATS[code]
        if place < 0 or place + form.size > len(self.data):
            raise DamagedError(f"an offset leads to byte {place:,} of {len(self.data):,}")
        return int(form.unpack_from(self.data, place)[0])

    def _field(self, number: int) -> int:
        """The byte at which field `number` begins; 0 if the field is left out."""
        offset = self.fields[number] if number < len(self.fields) else 0
        return self.place + offset if offset else 0

    def scalar(self, number: int, code: str = "I", default: int = 0) -> int:
        """A field that is an integer; `code` is its type as in `struct`."""
        place = self._field(number)
        return self._number(code, place) if place else default

    def vector(self, number: int, item_bytes: int) -> tuple[int, int]:
        """First byte and number of items of a vector; (0, 0) if the field is left out."""
        place = self._field(number)
        if not place:
            return 0, 0
        start = place + self._number("I", place)
        count = self._number("I", start)
        if start + 4 + count * item_bytes > len(self.data):
            raise DamagedError(f"{count:,} values at byte {start:,} go beyond the end, byte {len(self.data):,}")
        return start + 4, count

    def content(self, number: int) -> memoryview:
        """The bytes of a vector or of a string."""
        start, count = self.vector(number, 1)
        return self.data[start : start + count]

    def text(self, number: int) -> str:
        """A string; bytes that are not UTF-8 become U+FFFD."""
        return bytes(self.content(number)).decode("utf-8", "replace")

    def integers(self, number: int) -> tuple[int, ...]:
        """A vector of int32."""
        start, count = self.vector(number, 4)
        return struct.unpack_from(f"<{count}i", self.data, start) if count else ()

    def table(self, number: int) -> Table | None:
        """A table that this one points to; None if the field is left out."""
        place = self._field(number)
        return self.child(place) if place else None

    def tables(self, number: int) -> Iterator[Table]:
        """A vector of tables."""
        start, count = self.vector(number, 4)
        return (self.child(start + 4 * index) for index in range(count))


@dataclass(frozen=True)
class ModelFile:
    """What a .tflite contains.

    Attributes:
        size: bytes of the file.
        operators: names of custom operators, and codes of builtin ones ("builtin 94"), each once, in the file's order.
        tensors: the tensors of each graph.
        signatures: the signatures by name.
        metadata: the metadata entries by name.
        versions: builtin code and version of each kind of operator.
        first: the signature of the first graph; "" if it has none.
        loose: outputs of signatures whose shape is not known before they run, "save: step".
    """

    size: int
    operators: tuple[str, ...]
    tensors: tuple[tuple[TensorSpec, ...], ...]
    signatures: dict[str, Signature]
    metadata: dict[str, bytes]
    versions: tuple[tuple[int, int], ...] = ()
    first: str = ""
    loose: tuple[str, ...] = ()

    @property
    def foreign_operators(self) -> tuple[str, ...]:
        """Operators that are not TensorFlow Lite builtins."""
        return tuple(name for name in self.operators if not name.startswith("builtin "))


def read_model(path: Path) -> ModelFile:
    """Read and check a .tflite; the values of the weights are not read.

    Raises:
        ModelError: the file cannot be opened, is not a .tflite, or is damaged.
    """
    regular_file(path, "a model file", "pocketrec export")
    try:
        with path.open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # unmapped with its last reader
        if view[4:8] != IDENTIFIER:
            raise DamagedError(f"bytes 4 to 7 are not {IDENTIFIER.decode()}, the mark of a .tflite")
        return _model(Table.root(view))
    except (DamagedError, struct.error, OverflowError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} is not an intact .tflite: {error}.", expected="a whole model file", do="pocketrec export"
        ) from error


def _model(root: Table) -> ModelFile:
    sizes = [_buffer_size(buffer) for buffer in root.tables(4)]
    graphs = list(root.tables(2))
    if not graphs:
        raise DamagedError("it holds no graph")
    codes = [(_builtin(code), code.scalar(2, "i", 1)) for code in root.tables(1)]
    operators = [_operator_name(code) for code in root.tables(1)]
    tensors = tuple(tuple(_tensor(entry, sizes) for entry in graph.tables(0)) for graph in graphs)
    for graph, declared in zip(graphs, tensors, strict=True):
        _check_tensor_numbers("a graph", graph.integers(1) + graph.integers(2), declared, least=0)
        _check_operators(graph, operators, declared, len(graphs))
    signatures = {entry.text(2): _signature(entry, graphs, tensors) for entry in root.tables(7)}
    first = next((entry.text(2) for entry in root.tables(7) if entry.scalar(4) == 0), "")
    loose = tuple(f"{entry.text(2)}: {name}" for entry in root.tables(7) for name in _loose(entry, graphs, codes))
    kinds = tuple(dict.fromkeys(operators)), tensors, signatures, _metadata(root)
    return ModelFile(len(root.data), *kinds, tuple(dict.fromkeys(codes)), first, loose)


def _loose(entry: Table, graphs: list[Table], codes: list[tuple[int, int]]) -> Iterator[str]:
    """Outputs of a signature that come straight from a variable, or have a length that is not known."""
    graph = graphs[entry.scalar(4)]
    read = {
        output
        for operator in graph.tables(3)
        if codes[operator.scalar(0)][0] == READ_VARIABLE
        for output in operator.integers(2)
    }
    tensors = list(graph.tables(0))
    for output in entry.tables(1):
        index = output.scalar(1)
        if index in read or -1 in tensors[index].integers(7):
            yield output.text(0)


def _builtin(code: Table) -> int:
    return max(code.scalar(0, "b"), code.scalar(3, "i"))  # codes below 127 are in the older field 0


def _operator_name(code: Table) -> str:
    builtin = _builtin(code)
    return code.text(1) or "unnamed custom operator" if builtin == CUSTOM else f"builtin {builtin}"


def _buffer_size(buffer: Table) -> int:
    """Bytes of a buffer's constant data. Large models have it behind the flatbuffer, at (offset, size)."""
    offset, size = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
    if offset > 1 and offset + size > len(buffer.data):
        raise DamagedError(f"{size:,} bytes of weights at byte {offset:,} go beyond the end, byte {len(buffer.data):,}")
    return size if offset > 1 else len(buffer.content(0))


def _tensor(entry: Table, sizes: list[int]) -> TensorSpec:
    code, name = entry.scalar(1, "b"), entry.text(3)
    tensor = TensorSpec(entry.integers(0), DTYPES.get(code, f"type {code}"))
    signature = entry.integers(7) or tensor.shape
    _check_shape(name, tensor, signature)
    _check_quantization(name, tensor, entry.table(4))
    if entry.table(6) is not None:
        raise DamagedError(f"tensor {name!r} is sparse, which no model of pocketrec has")
    stored, item = _at(sizes, entry.scalar(2), f"the buffer of tensor {name!r}"), ITEM_BYTES.get(tensor.dtype)
    if stored and item and stored != (needed := item * math.prod(tensor.shape)):
        raise DamagedError(f"tensor {name!r} has {stored:,} bytes, but {tensor} needs {needed:,}")
    return tensor


def _check_shape(name: str, tensor: TensorSpec, signature: tuple[int, ...]) -> None:
    fits = len(signature) == len(tensor.shape) <= MAX_RANK and min(tensor.shape, default=0) >= 0
    # A length that the app chooses is -1 in the signature of the shape, and 1 in the shape.
    fits = fits and all(of_all in (one, -1) for one, of_all in zip(tensor.shape, signature, strict=True))
    if not fits or math.prod(tensor.shape) > MAX_LENGTH:
        raise DamagedError(f"tensor {name!r} is {tensor}, of the form {list(signature)}, which no tensor can be")


def _check_quantization(name: str, tensor: TensorSpec, found: Table | None) -> None:
    if found is None:
        return
    scales, zeros = found.vector(2, 4)[1], found.vector(3, 8)[1]
    found.vector(0, 4)
    found.vector(1, 4)
    axis = found.scalar(6, "i")
    lengths = {0, 1, tensor.shape[axis]} if 0 <= axis < len(tensor.shape) else {0, 1}
    if not {scales, zeros} <= lengths or (zeros and not scales) or (axis and not 0 <= axis < len(tensor.shape)):
        raise DamagedError(f"tensor {name!r} is {tensor}, but has {scales} scales along its axis {axis}")


def _check_operators(graph: Table, codes: list[str], tensors: tuple[TensorSpec, ...], graphs: int) -> None:
    for operator in graph.tables(3):
        _at(codes, operator.scalar(0), "the code of an operator")
        used = operator.integers(1) + operator.integers(2) + operator.integers(8)
        _check_tensor_numbers("an operator", used, tensors, least=-1)  # -1: an input that is left out
        operator.content(5)
        operator.content(7)
        operator.table(12)
        kind, options = operator.scalar(3, "B"), operator.table(4)
        if options is None:
            continue
        for field in OPTIONS_VECTORS.get(kind, ()):
            options.vector(field, 1 if kind == 111 else 4)
        for field in OPTIONS_GRAPHS.get(kind, ()):
            if not 0 <= (number := options.scalar(field, "i")) < graphs:
                raise DamagedError(f"an operator calls the graph {number}, but there are {graphs}")


def _check_tensor_numbers(what: str, used: tuple[int, ...], tensors: tuple[TensorSpec, ...], *, least: int) -> None:
    if used and not least <= min(used) <= max(used) < len(tensors):
        raise DamagedError(f"{what} uses the tensors {used}, but there are {len(tensors)}")


def _signature(entry: Table, graphs: list[Table], tensors: tuple[tuple[TensorSpec, ...], ...]) -> Signature:
    """Its tensors by name; a length that the app chooses is -1."""
    number = entry.scalar(4)
    declared = _at(tensors, number, f"the graph of the signature {entry.text(2)!r}")
    forms = list(graphs[number].tables(0))
    sides = []
    for side in (0, 1):
        used = {one.text(0): one.scalar(1) for one in entry.tables(side)}
        specs = {name: _at(declared, index, f"the tensor of {name!r}") for name, index in used.items()}
        sides.append(
            {name: TensorSpec(forms[used[name]].integers(7) or one.shape, one.dtype) for name, one in specs.items()}
        )
    return Signature(*sides)


def _metadata(root: Table) -> dict[str, bytes]:
    buffers, entries = list(root.tables(4)), [(entry.text(0), entry.scalar(1)) for entry in root.tables(6)]
    return {name: bytes(_at(buffers, at, f"the buffer of the metadata {name!r}").content(0)) for name, at in entries}


def _at(things: Sequence[Thing], index: int, what: str) -> Thing:
    if index >= len(things):
        raise DamagedError(f"{what} has the number {index}, but there are {len(things)}")
    return things[index]
