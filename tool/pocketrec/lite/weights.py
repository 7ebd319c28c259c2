"""What a model has learned, in one file: safetensors, with the model it belongs to in its header.

A file on a phone is read again after updates and crashes, and may come from elsewhere; safetensors can be mapped, holds no
code, and its reader checks every offset.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.errors import FolderError, ModelError
from pocketrec.lite.contract import FORMAT, Card
from pocketrec.storage.files import staged_file

Tensors = dict[str, npt.NDArray[Any]]


def write_weights(path: Path, tensors: Mapping[str, npt.NDArray[Any]], card: Card) -> None:
    """Write tensors atomically.

    Raises:
        FolderError: the file cannot be written.
    """
    from safetensors.numpy import save_file

    whole = {name: np.array(tensor, order="C") for name, tensor in tensors.items()}
    try:
        with staged_file(path) as staged:
            save_file(whole, staged, metadata={"pocketrec": _label(card)})
    except OSError as error:
        raise FolderError(f"{path} cannot be written ({error.strerror or error}).", do="choose another place") from error


def read_weights(path: Path, card: Card) -> Tensors:
    """Read what `write_weights` wrote for a model with the same card.

    Raises:
        ModelError: the file is missing, damaged, or of another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            label = (file.metadata() or {}).get("pocketrec", "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", expected="a file that save_to wrote") from error
    if label != _label(card):
        raise ModelError(
            f"{path} belongs to another model.", expected=_label(card), do=f"the model with {label or 'no label'}"
        )
    return tensors


def _label(card: Card) -> str:
    """What must be the same for weights to fit: items and settings."""
    document = {"format": FORMAT, "items": card.items, "settings": asdict(card.settings)}
    return json.dumps(document, sort_keys=True)
