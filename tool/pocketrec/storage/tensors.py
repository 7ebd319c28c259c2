"""One kind of file for everything that is learned: tensors by name, and what they are, in safetensors.

| kind | what it is | written by |
|---|---|---|
| training | a GRU4Rec in training: weights, optimizer's slots, states of the lanes, place in the batches | `train` |
| learned | what a model on a device has learned: weights, slots, step | `OnDeviceModel.save_to` |
| network | a trained network of `ncf` or `dnn`: its weights | `ncf train`, `dnn train` |
| neighbours | kept sessions, which recommend without training | `export --model vstan`, `NeighbourModel.save_to` |
| epoch | a training by whole epochs: the trainer's state, the weights that are kept | `ncf train`, `dnn train` |

safetensors can be mapped, holds no code, and its reader checks every offset. The header's metadata entry `pocketrec` is a
JSON object: `format`, `kind`, `xxh3` (over it and the tensors, so that any flipped bit is noticed), and what the kind needs
besides.

Format 4 is the first that all kinds share. Of the earlier ones 2 (checkpoints of `train`) and 3 (what `save_to` wrote) are
read as well; the .npz files of pocketrec 0.1 are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xxhash

from pocketrec.errors import ModelError
from pocketrec.schema import Array
from pocketrec.storage.files import regular_file, staged_file
from pocketrec.version import __version__

Kind = Literal["training", "learned", "network", "epoch", "neighbours"]
Tensors = dict[str, Array]

FORMAT = 4
_EARLIER: dict[int, Kind] = {2: "training", 3: "learned"}
"""Formats of pocketrec 0.1 and what they hold; those of format 3 have no hash."""
_METADATA = "pocketrec"


class OtherFormatError(ModelError):
    """A file that another pocketrec wrote, whole perhaps: never to be taken for a damaged one."""


@dataclass(frozen=True)
class TensorFile:
    """What a file holds: `about` is the JSON object in its header; the kinds are in the table above."""

    path: Path
    kind: Kind
    about: Mapping[str, Any]
    tensors: Tensors


def write_tensors(path: Path, kind: Kind, about: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Write tensors of any shape and numeric type, and beside them a JSON object; or leave the earlier file as it was."""
    from safetensors.numpy import save

    whole = {name: np.array(tensor, order="C") for name, tensor in tensors.items()}
    header = {**about, "format": FORMAT, "kind": kind}
    header["xxh3"] = _digest(whole, header)
    content = save(whole, metadata={_METADATA: json.dumps(header, sort_keys=True)})
    with staged_file(path) as staged:
        staged.write_bytes(content)  # safetensors' own writing would keep the file from other users


def read_tensors(path: Path, *kinds: Kind, what: str, do: str) -> TensorFile:
    """Read what `write_tensors` wrote, a file of one of these kinds.

    If it is missing, damaged, something else or of an unknown format, a ModelError says so; for that `what` is such a file
    in words ("a checkpoint of train"), and `do` what to do without it.
    """
    from safetensors import SafetensorError, safe_open

    regular_file(path, what, do)
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {})[_METADATA])
            kind = _EARLIER.get(about["format"], about.get("kind")) if isinstance(about["format"], int) else None
            known = about["format"] in (FORMAT, *_EARLIER)
            tensors = {name: file.get_tensor(name) for name in file.keys()} if known else {}  # noqa: SIM118
        hashed = about if about["format"] == FORMAT else None
        if known and about.get("xxh3") != _digest(tensors, hashed) and not (about["format"] == 3 and "xxh3" not in about):
            raise ValueError("a tensor or the header has changed since it was written: its XXH3-128 is another")
    except (SafetensorError, OSError, TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        why = f"{error.__class__.__name__}: {error}" if isinstance(error, KeyError | AttributeError) else error
        raise ModelError(f"{path} cannot be read ({why}).", expected=what, do=do) from error
    if not known:
        raise OtherFormatError(
            f"{path} is of format {about['format']!r}.",
            expected=f"format {FORMAT}, which pocketrec {__version__} writes, or 2 or 3, which 0.1 wrote",
            do=f"read it with the pocketrec that wrote it, or: {do}",
        )
    if kind not in kinds:
        raise ModelError(f"{path} is a file of kind {kind!r}.", expected=what, do=do)
    return TensorFile(path, kind, about, tensors)


def read_about(path: Path, kind: Kind) -> Mapping[str, Any] | None:
    """The JSON object in the header of a file of this kind, whose tensors are not looked at; None if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {})[_METADATA])
        found: Mapping[str, Any] = about
        return found if _EARLIER.get(about["format"], about.get("kind")) == kind else None
    except (SafetensorError, OSError, TypeError, ValueError, KeyError, AttributeError, RecursionError):
        return None


def is_tensor_file(path: Path) -> bool:
    """Whether the header of a file says that `write_tensors` wrote it; its tensors may be damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return _METADATA in (file.metadata() or {})
    except (SafetensorError, OSError, TypeError, ValueError):
        return False


def _digest(tensors: Mapping[str, Array], about: Mapping[str, Any] | None = None) -> str:
    """XXH3-128 of tensors in the order of their names; with `about` also of that, and of names, types and shapes."""
    found = xxhash.xxh3_128()
    if about is not None:
        described = {name: [str(tensor.dtype), tensor.shape] for name, tensor in tensors.items()}
        rest = {name: value for name, value in about.items() if name != "xxh3"}
        found.update(json.dumps([rest, described], sort_keys=True).encode())
    for name in sorted(tensors):
        found.update(np.ascontiguousarray(tensors[name]).tobytes())
    return found.hexdigest()
