"""Which version of TensorFlow Lite first had an operator: so that a file says what it needs.

An operator has versions of its own; a runtime refuses a file with a version that it does not know. The figures are those of
TensorFlow's `runtime_version.cc`, for the operators of pocketrec's models; what was there before 2.3 counts as 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable

Operators = Iterable[tuple[int, int]]
"""Builtin code and version of each operator."""

OLD = "2.2"
MIN_RUNTIME = "min_runtime_version"
"""The metadata entry in which the converter writes the runtime that a file needs."""
MIN_RUNTIME_BYTES = 16

_FIRST: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("ADD", (OLD, OLD, "2.4", "2.6", "2.13", "2.23")),
    2: ("CONCATENATION", (OLD, OLD, "2.3", "2.14", "2.21")),
    6: ("DEQUANTIZE", (OLD, OLD, OLD, "2.2", "2.7", "2.18", "2.21", "2.22")),
    9: ("FULLY_CONNECTED", (OLD, OLD, OLD, OLD, OLD, OLD, "2.3", "2.3", "2.3", "2.11", "2.15", "2.17", "2.18", "2.21")),
    14: ("LOGISTIC", (OLD, OLD, "2.3")),
    18: ("MUL", (OLD, OLD, OLD, "2.3", "2.6", "2.11", "2.13", "2.23")),
    19: ("RELU", (OLD, OLD, "2.5")),
    22: ("RESHAPE", (OLD,)),
    25: ("SOFTMAX", (OLD, OLD, "2.3")),
    28: ("TANH", (OLD, OLD, "2.3")),
    34: ("PAD", (OLD, OLD, "2.4", "2.6", "2.20")),
    36: ("GATHER", (OLD, OLD, OLD, "2.4", "2.5", "2.13", "2.15")),
    39: ("TRANSPOSE", (OLD, OLD, OLD, "2.3", "2.4", "2.12", "2.14", "2.22")),
    40: ("MEAN", (OLD, OLD, "2.4")),
    41: ("SUB", (OLD, OLD, "2.3", "2.4", "2.4")),
    42: ("DIV", (OLD, "2.3")),
    43: ("SQUEEZE", (OLD, "2.5")),
    45: ("STRIDED_SLICE", (OLD, OLD, OLD, "2.2", "2.5", "2.6", "2.14", "2.14")),
    47: ("EXP", (OLD, "2.12")),
    48: ("TOPK_V2", (OLD, OLD, "2.13")),
    49: ("SPLIT", (OLD, OLD, OLD, "2.3")),
    53: ("CAST", (OLD, "2.7", "2.8", "2.9", "2.12", "2.15", "2.17", "2.21")),
    55: ("MAXIMUM", (OLD, OLD, "2.3", "2.3")),
    57: ("MINIMUM", (OLD, OLD, "2.3", "2.3")),
    58: ("LESS", (OLD, OLD, "2.13")),
    59: ("NEG", (OLD,)),
    61: ("GREATER", (OLD, OLD)),
    62: ("GREATER_EQUAL", (OLD, OLD, "2.13")),
    63: ("LESS_EQUAL", (OLD, OLD)),
    64: ("SELECT", (OLD, OLD, "2.12", "2.12")),
    65: ("SLICE", (OLD, OLD, OLD, "2.4", "2.5", "2.14", "2.21")),
    69: ("TILE", (OLD, "2.2", "2.8")),
    70: ("EXPAND_DIMS", (OLD,)),
    71: ("EQUAL", (OLD, OLD, "2.3", "2.13", "2.21")),
    72: ("NOT_EQUAL", (OLD, OLD, "2.3", "2.21")),
    73: ("LOG", (OLD, "2.15")),
    74: ("SUM", (OLD, OLD)),
    75: ("SQRT", (OLD, "2.21")),
    76: ("RSQRT", (OLD, "2.5", "2.15")),
    77: ("SHAPE", (OLD,)),
    78: ("POW", (OLD,)),
    82: ("REDUCE_MAX", (OLD, OLD, "2.5")),
    83: ("PACK", (OLD, OLD, "2.3", "2.13")),
    84: ("LOGICAL_OR", (OLD,)),
    86: ("LOGICAL_AND", (OLD,)),
    89: ("REDUCE_MIN", (OLD, OLD, "2.5")),
    92: ("SQUARE", (OLD,)),
    93: ("ZEROS_LIKE", (OLD,)),
    94: ("FILL", (OLD, "2.3", "2.5", "2.12")),
    95: ("FLOOR_MOD", (OLD, "2.13")),
    96: ("RANGE", (OLD, "2.14")),
    99: ("SQUARED_DIFFERENCE", (OLD, "2.5")),
    101: ("ABS", (OLD, "2.4", "2.5", "2.6", "2.12")),
    102: ("SPLIT_V", (OLD, "2.3")),
    106: ("ADD_N", (OLD,)),
    107: ("GATHER_ND", (OLD, "2.3", "2.5", "2.13", "2.16")),
    122: ("SCATTER_ND", (OLD,)),
    123: ("SELECT_V2", (OLD, "2.12")),
    126: ("BATCH_MATMUL", ("2.3", "2.3", "2.4", "2.5")),
    129: ("CALL_ONCE", ("2.5",)),
    130: ("BROADCAST_TO", ("2.5", "2.5", "2.5")),
    140: ("REDUCE_ALL", ("2.6",)),
    142: ("VAR_HANDLE", ("2.6",)),
    143: ("READ_VARIABLE", ("2.6",)),
    144: ("ASSIGN_VARIABLE", ("2.6",)),
    160: ("BITWISE_XOR", ("2.13",)),
    161: ("RIGHT_SHIFT", ("2.13",)),
}
"""By builtin code: name, and the runtime that first had each of its versions, from version 1 on."""


def number(runtime: str) -> tuple[int, ...]:
    """A version that can be compared: (2, 13) for 2.13.0. () for a text that is none."""
    parts = runtime.strip("\x00 ").split(".")[:2]
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def needed(operators: Operators) -> str:
    """The first runtime that has all of some operators; those that are not known do not count (`unknown`)."""
    return max(
        (_FIRST[code][1][version - 1] for code, version in operators if _is_known(code, version)), key=number, default=OLD
    )


def unknown(operators: Operators) -> list[str]:
    """The operators of which it is not known since when they are there."""
    return [f"{_FIRST[code][0] if code in _FIRST else f'builtin {code}'} version {version}"
            for code, version in operators if not _is_known(code, version)]  # fmt: skip


def above(operators: Operators, runtime: str) -> list[str]:
    """The operators that a runtime does not have."""
    return [
        f"{_FIRST[code][0]} version {version} is there from {_FIRST[code][1][version - 1]} on"
        for code, version in operators
        if _is_known(code, version) and number(_FIRST[code][1][version - 1]) > number(runtime)
    ]


def _is_known(code: int, version: int) -> bool:
    return code in _FIRST and 1 <= version <= len(_FIRST[code][1])
