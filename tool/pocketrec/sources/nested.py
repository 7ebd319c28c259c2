"""Rows inside rows: values by their path, such as `events.aid`, in JSON and in Parquet.

A path leads through objects, and through at most one list: each of the list's elements is a row of the log then, with what
stands beside the list. A row whose list is empty or missing stays one row, in which the list's values are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from pocketrec.errors import LogError

Keys = tuple[str, ...]
_LIST = "\x00"
"""The column of the list while it is taken apart; no path is called so."""
DEEPEST = 16


@dataclass(frozen=True)
class Paths:
    """Where the values of a log are.

    Attributes:
        keys: by path, the keys that lead there.
        lists: keys that lead to a list.
    """

    keys: Mapping[str, Keys]
    lists: frozenset[Keys]

    @classmethod
    def of(cls, leaves: Iterable[tuple[Keys, bool]]) -> Paths:
        """From keys that lead to a value, or (with True) to a list; where they differ, the first has it."""
        found: dict[Keys, bool] = {}
        values = dict.fromkeys(keys for keys, is_list in leaves if not (found.setdefault(keys, is_list) and is_list))
        return cls({".".join(keys): keys for keys in values}, frozenset(keys for keys, is_list in found.items() if is_list))

    def lists_above(self, path: str) -> Iterator[Keys]:
        """The keys of the lists on the way to a path, and of one that it leads to."""
        keys = self.keys[path]
        return (keys[:length] for length in range(1, len(keys) + 1) if keys[:length] in self.lists)

    def the_list(self, name: str, needed: Iterable[str]) -> Keys:
        """The keys of the list on the way to some paths; () if there is none. A LogError if there are several."""
        found = {above for path in needed for above in self.lists_above(path)}
        if len(found) > 1:
            both = " and ".join(sorted(".".join(keys) for keys in found))
            raise LogError(f"{name} has the lists {both}.", expected="columns from one list at most", do="name others")
        return next(iter(found), ())


def paths_of_values(values: Iterable[Any]) -> Paths:
    """The paths in some objects, as Python's json reads them."""
    return Paths.of((keys, isinstance(found, list)) for value in values for keys, found in values_of(value))


def values_of(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """The values in an object with the keys that lead there, and each list before what is in it."""
    if len(keys) > DEEPEST:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from values_of(inner, (*keys, key))
        return
    yield keys, value
    if isinstance(value, list):
        for inner in value:
            yield from values_of(inner, keys)


def leaves_of_schema(schema: Mapping[str, pl.DataType]) -> list[tuple[Keys, pl.DataType]]:
    """The keys in a frame of nested dtypes that lead to a value or to a list, and the dtype of that."""
    return [leaf for name, dtype in schema.items() for leaf in _typed_leaves(dtype, (name,))]


def paths_of_schema(schema: Mapping[str, pl.DataType]) -> Paths:
    """The paths in a frame of nested dtypes."""
    return Paths.of((keys, isinstance(dtype, pl.List)) for keys, dtype in leaves_of_schema(schema))


def _typed_leaves(dtype: Any, keys: Keys) -> Iterator[tuple[Keys, pl.DataType]]:
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _typed_leaves(field.dtype, (*keys, field.name))
        return
    yield keys, dtype
    if isinstance(dtype, pl.List):
        yield from _typed_leaves(dtype.inner, keys)


def schema_of(paths: Paths, needed: Iterable[str], leaf: Callable[[Keys], pl.DataType]) -> pl.Schema:
    """The dtypes by which some paths are read of JSON; `leaf` says that of the value which some keys lead to."""
    tree: dict[str, Any] = {}
    for path in needed:
        at = tree
        for key in paths.keys[path]:
            at = at.setdefault(key, {})

    def dtype(inner: dict[str, Any], keys: Keys) -> pl.DataType:
        found = pl.Struct({key: dtype(one, (*keys, key)) for key, one in inner.items()}) if inner else leaf(keys)
        return pl.List(found) if keys in paths.lists else found

    return pl.Schema({key: dtype(inner, (key,)) for key, inner in tree.items()})


def flat(frame: pl.DataFrame, paths: Paths, needed: Iterable[str], list_keys: Keys) -> pl.DataFrame:
    """The rows of a frame of nested dtypes with a column for each path; and one, "", of the numbers they had in it.

    `list_keys` lead to the list that is taken apart.
    """
    frame = frame.with_row_index("")
    if list_keys:
        frame = frame.with_columns(_inside(pl.col(list_keys[0]), list_keys[1:]).alias(_LIST)).explode(
            _LIST, empty_as_null=True
        )
    columns = []
    for path in needed:
        keys = paths.keys[path]
        in_list = bool(list_keys) and keys[: len(list_keys)] == list_keys
        rest = keys[len(list_keys) :] if in_list else keys[1:]
        columns.append(_inside(pl.col(_LIST if in_list else keys[0]), rest).alias(path))
    return frame.select(pl.col("").cast(pl.Int64), *columns)


def _inside(column: pl.Expr, keys: Keys) -> pl.Expr:
    for key in keys:
        column = column.struct.field(key)
    return column
