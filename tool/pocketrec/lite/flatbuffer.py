"""Reads a .tflite without LiteRT, and without trusting it: every offset is checked before it is followed.

A model that LiteRT refuses to load (Select TF ops), or would crash on (a file cut short), can still be described and its
fault named. Only what the judge needs is read: operators, tensors, signatures, metadata, and where the weights lie.

Field numbers and types are those of `tensorflow/lite/schema/schema.fbs`, the layout that of FlatBuffers' binary format
(https://flatbuffers.dev/internals/): a table begins with the distance back to its vtable, which holds the place of each
field in the table or 0.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pocketrec.errors import ModelError

IDENTIFIER = b"TFL3"
CUSTOM = 32
"""BuiltinOperator.CUSTOM: the operator is named by its custom code; Select TF ops are called Flex..."""

DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 9: "int8",
          10: "float64", 13: "resource"}  # fmt: skip
ITEM_BYTES = {
    "float32": 4,
    "float16": 2,
    "int32": 4,
    "uint8": 1,
    "int64": 8,
    "bool": 1,
    "int16": 2,
    "int8": 1,
    "float64": 8,
}


class DamagedError(Exception):
    """An offset leads out of the file, or a number cannot be right."""


@dataclass(frozen=True)
class Table:
    """One FlatBuffers table: fields by number."""

    data: memoryview
    place: int

    def _number(self, code: str, place: int) -> int:
        if place < 0 or place + struct.calcsize(code) > len(self.data):
            raise DamagedError(f"an offset leads to byte {place:,} of {len(self.data):,}")
        return int(struct.unpack_from("<" + code, self.data, place)[0])

    def _field(self, number: int) -> int:
        """Where field `number` lies; 0 if it has its default value."""
        vtable = self.place - self._number("i", self.place)
        size = self._number("H", vtable)
        slot = 4 + 2 * number
        return self.place + offset if slot + 2 <= size and (offset := self._number("H", vtable + slot)) else 0

    def scalar(self, number: int, code: str = "I", default: int = 0) -> int:
        """A number; `code` as in `struct`."""
        place = self._field(number)
        return self._number(code, place) if place else default

    def vector(self, number: int, item_bytes: int) -> tuple[int, int]:
        """First byte and length in items; (0, 0) if the field is not there."""
        place = self._field(number)
        if not place:
            return 0, 0
        start = place + self._number("I", place)
        count = self._number("I", start)
        if start + 4 + count * item_bytes > len(self.data):
            raise DamagedError(f"{count:,} values at byte {start:,} go beyond the end, byte {len(self.data):,}")
        return start + 4, count

    def content(self, number: int) -> memoryview:
        """A vector of bytes, or a string."""
        start, count = self.vector(number, 1)
        return self.data[start : start + count]

    def text(self, number: int) -> str:
        """A string."""
        return bytes(self.content(number)).decode("utf-8", "replace")

    def integers(self, number: int) -> tuple[int, ...]:
        """A vector of int32."""
        start, count = self.vector(number, 4)
        return struct.unpack_from(f"<{count}i", self.data, start) if count else ()

    def table(self, number: int) -> Table | None:
        """A table inside this one."""
        place = self._field(number)
        return self.child(place) if place else None

    def tables(self, number: int) -> Iterator[Table]:
        """A vector of tables."""
        start, count = self.vector(number, 4)
        return (self.child(start + 4 * index) for index in range(count))

    def child(self, place: int) -> Table:
        """The table whose distance is written at `place`."""
        inner = Table(self.data, place + self._number("I", place))
        inner._field(0)  # follows the vtable, which may be the part that is missing
        return inner


@dataclass(frozen=True)
class Tensor:
    """A tensor's declaration."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Signature:
    """A signature: tensors by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class ModelFile:
    """What a .tflite says about itself.

    Attributes:
        size: bytes of the file.
        operators: names of custom operators and builtin codes ("builtin 94"), each once, in the file's order.
        tensors: a subgraph's tensors, subgraph by subgraph.
        signatures: by name.
        metadata: entries by name.
    """

    size: int
    operators: tuple[str, ...]
    tensors: tuple[tuple[Tensor, ...], ...]
    signatures: dict[str, Signature]
    metadata: dict[str, bytes]

    @property
    def foreign_operators(self) -> tuple[str, ...]:
        """Operators that are no TensorFlow Lite builtins."""
        return tuple(name for name in self.operators if not name.startswith("builtin "))


def read_model(path: Path) -> ModelFile:
    """Read and check a .tflite; the weights are not read.

    Raises:
        ModelError: the file cannot be opened, is no .tflite, or is damaged.
    """
    try:
        with path.open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # unmapped with its last reader
        if view[4:8] != IDENTIFIER:
            raise DamagedError(f"it does not bear the mark {IDENTIFIER.decode()} in bytes 4 to 7")
        return _model(Table(view, 0).child(0))
    except (DamagedError, struct.error, OverflowError, OSError, ValueError) as error:
        raise ModelError(
            f"{path} is not an intact .tflite: {error}.", expected="a whole model file", do="pocketrec export"
        ) from error


def _model(root: Table) -> ModelFile:
    sizes = [_buffer_size(buffer) for buffer in root.tables(4)]
    graphs = list(root.tables(2))
    if not graphs:
        raise DamagedError("it holds no graph")
    operators = tuple(dict.fromkeys(_operator_name(code) for code in root.tables(1)))
    codes = sum(1 for _ in root.tables(1))
    tensors = tuple(_tensors(graph, sizes) for graph in graphs)
    for graph, declared in zip(graphs, tensors, strict=True):
        _check_operators(graph, codes, len(declared))
    signatures = {entry.text(2): _signature(entry, tensors) for entry in root.tables(7)}
    return ModelFile(len(root.data), operators, tensors, signatures, _metadata(root, len(sizes)))


def _operator_name(code: Table) -> str:
    builtin = max(code.scalar(0, "b"), code.scalar(3, "i"))  # codes below 127 stand in the old field
    return code.text(1) or "unnamed custom operator" if builtin == CUSTOM else f"builtin {builtin}"


def _buffer_size(buffer: Table) -> int:
    """Bytes of constant data; large models keep it behind the flatbuffer, at (offset, size)."""
    offset, size = buffer.scalar(1, "Q"), buffer.scalar(2, "Q")
    if offset > 1 and offset + size > len(buffer.data):
        raise DamagedError(f"{size:,} bytes of weights at byte {offset:,} go beyond the end, byte {len(buffer.data):,}")
    return size if offset > 1 else len(buffer.content(0))


def _tensors(graph: Table, sizes: list[int]) -> tuple[Tensor, ...]:
    return tuple(_tensor(entry, sizes) for entry in graph.tables(0))


def _tensor(entry: Table, sizes: list[int]) -> Tensor:
    code = entry.scalar(1, "b")
    tensor = Tensor(entry.text(3), entry.integers(0), DTYPES.get(code, f"type {code}"), entry.scalar(2))
    if tensor.buffer >= len(sizes):
        raise DamagedError(f"tensor {tensor.name!r} lies in buffer {tensor.buffer} of {len(sizes)}")
    stored, item = sizes[tensor.buffer], ITEM_BYTES.get(tensor.dtype)
    if stored and item and stored != (needed := item * math.prod(tensor.shape)):
        raise DamagedError(f"tensor {tensor.name!r} has {stored:,} bytes where {tensor} takes {needed:,}")
    return tensor


def _check_operators(graph: Table, codes: int, tensors: int) -> None:
    for operator in graph.tables(3):
        if operator.scalar(0) >= codes:
            raise DamagedError(f"an operator has the code {operator.scalar(0)} of {codes}")
        used = operator.integers(1) + operator.integers(2)
        if any(not -1 <= index < tensors for index in used):
            raise DamagedError(f"an operator uses the tensors {used} of {tensors}")
        operator.table(4)
        operator.content(5)


def _signature(entry: Table, tensors: tuple[tuple[Tensor, ...], ...]) -> Signature:
    graph = entry.scalar(4)
    if graph >= len(tensors):
        raise DamagedError(f"the signature {entry.text(2)!r} points to graph {graph} of {len(tensors)}")
    return Signature(*({m.text(0): _pick(m, tensors[graph]) for m in entry.tables(side)} for side in (0, 1)))


def _pick(entry: Table, tensors: tuple[Tensor, ...]) -> Tensor:
    index = entry.scalar(1)
    if index >= len(tensors):
        raise DamagedError(f"the argument {entry.text(0)!r} points to tensor {index} of {len(tensors)}")
    return tensors[index]


def _metadata(root: Table, buffers: int) -> dict[str, bytes]:
    contents = list(root.tables(4))
    found = {}
    for entry in root.tables(6):
        index = entry.scalar(1)
        if index >= buffers:
            raise DamagedError(f"the metadata {entry.text(0)!r} lies in buffer {index} of {buffers}")
        found[entry.text(0)] = bytes(contents[index].content(0))
    return found
