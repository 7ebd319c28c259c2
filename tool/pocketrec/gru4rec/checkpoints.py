"""A model in training as one file: weights, the optimizer's slots, the lanes' states, and where in the batches it was.

safetensors: it can be mapped, holds no code, and its reader checks every offset. Settings, items, position and the tensors'
hash are JSON in its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from pocketrec.errors import ModelError
from pocketrec.lite.contract import ModelSpec
from pocketrec.storage.files import staged_file

FORMAT = 2
STATE = "lanes_state"
"""The tensor beside the model's own: float32 (B, H), states of the lanes after the last step."""


@dataclass(frozen=True)
class Position:
    """How far training is.

    Attributes:
        epoch: whole passes that are done.
        step: steps done in the pass that is not.
        losses: the mean loss of a transition in each whole pass, in nats.
        loss: the sum over the steps of the pass that is not.
        validation: of each whole pass, the measure that decides which is kept.
    """

    epoch: int = 0
    step: int = 0
    losses: tuple[float, ...] = ()
    loss: float = 0.0
    validation: tuple[float, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A model in training.

    Attributes:
        settings: of the model.
        items: XXH3-128 of its item ids, `Catalogue.hash`.
        batches: the content of the batches that it is trained on.
        position: how far it is.
        tensors: `ModelSpec.state`, and `STATE`.
    """

    settings: ModelSpec
    items: str
    batches: str
    position: Position = Position()
    tensors: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, compare=False)

    def check_items(self, item_hash: str, path: Path) -> None:
        """Refuse other items than those trained on; `path` is the checkpoint's.

        Raises:
            ModelError: `item_hash` (a `Catalogue.hash`) is not that of its items.
        """
        if item_hash != self.items:
            raise ModelError(
                f"{path} was trained on other items than the dataset's.",
                expected=f"item hash {item_hash}; it has {self.items}",
                do="name the dataset it was trained on with --dataset",
            )

    def continues(self, other: Checkpoint) -> bool:
        """Whether it is of the same training."""
        return (self.settings, self.items, self.batches) == (other.settings, other.items, other.batches)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it, or leave the earlier one as it was."""
    from safetensors.numpy import save

    about = {"format": FORMAT, "settings": asdict(checkpoint.settings), "position": asdict(checkpoint.position)}
    about |= {"items": checkpoint.items, "batches": checkpoint.batches}
    whole = {name: np.array(tensor, order="C") for name, tensor in checkpoint.tensors.items()}
    about["xxh3"] = _digest(whole)
    content = save(whole, metadata={"pocketrec": json.dumps(about, sort_keys=True)})
    with staged_file(path) as staged:
        staged.write_bytes(content)  # safetensors' own writing would keep it from other users


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what `write_checkpoint` wrote.

    Raises:
        ModelError: the file is missing, damaged, or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {})["pocketrec"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, not {FORMAT}")
        settings, position = ModelSpec(**about["settings"]), about["position"]
        shapes = {name: spec.shape for name, spec in settings.state.items()}
        if shapes != {name: tensor.shape for name, tensor in tensors.items() if name != STATE}:
            raise ValueError("its tensors are not those of its settings")
        if about["xxh3"] != _digest(tensors):
            raise ValueError("a tensor has changed since it was written: the XXH3-128 is another")
        position |= {name: tuple(position[name]) for name in ("losses", "validation")}
        return Checkpoint(settings, about["items"], about["batches"], Position(**position), tensors)
    except (SafetensorError, OSError, TypeError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}).",
            expected="a checkpoint of training",
            do="name another one, or train anew: pocketrec train --fresh",
        ) from error


def _digest(tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    """XXH3-128 of tensors in the order of their names."""
    found = xxhash.xxh3_128()
    for name in sorted(tensors):
        found.update(tensors[name].tobytes())
    return found.hexdigest()
