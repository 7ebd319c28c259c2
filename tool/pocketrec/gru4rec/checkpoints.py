"""A model in training as one file (`storage.tensors`), and everything else that its weights can be taken from.

A checkpoint of `train` has weights, the optimizer's slots, the lanes' states, and where in the batches it was. What a
device has learned (`OnDeviceModel.save_to`) has weights, slots and the number of its steps: it can be measured, exported
and trained on like a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pocketrec.errors import ModelError, SettingsError
from pocketrec.lite.contract import STEP, ModelSpec
from pocketrec.storage.tensors import read_tensors, write_tensors

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
        batches: the content of the batches that it is trained on; "" for what a device has learned.
        source: XXH3-128 of the file that training began from; "" where it began from drawn weights.
        position: how far it is.
        tensors: `ModelSpec.state`, and in a checkpoint of `train` `STATE`.
    """

    settings: ModelSpec
    items: str
    batches: str
    source: str = ""
    position: Position = Position()
    tensors: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, compare=False)

    @property
    def what(self) -> str:
        """How far it is, in words."""
        return f"epoch {self.position.epoch}" if self.batches else f"{int(self.tensors[STEP]):,} steps on a device"

    def continues(self, other: Checkpoint) -> bool:
        """Whether it is of the same training."""
        return all(getattr(self, name) == getattr(other, name) for name in ("settings", "items", "batches", "source"))


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it, or leave the earlier one as it was."""
    about = {name: getattr(checkpoint, name) for name in ("items", "batches", "source")}
    about |= {"settings": asdict(checkpoint.settings), "position": asdict(checkpoint.position)}
    write_tensors(path, "training", about, checkpoint.tensors)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what `write_checkpoint` or `OnDeviceModel.save_to` wrote.

    Raises:
        ModelError: the file is missing, damaged, or something else.
    """
    what, do = (
        "a checkpoint of train, or what save_to wrote on a device",
        "name another file, or train anew: pocketrec train --fresh",
    )
    file = read_tensors(path, "training", "learned", what=what, do=do)
    about, tensors = file.about, file.tensors
    try:
        settings, position = ModelSpec(**about["settings"]), dict(about.get("position", {}))
        shapes = {name: spec.shape for name, spec in settings.state.items()}
        if shapes != {name: tensor.shape for name, tensor in tensors.items() if name != STATE}:
            raise ValueError("its tensors are not those of its settings")
        position |= {name: tuple(position.get(name, ())) for name in ("losses", "validation")}
        batches, source = str(about.get("batches", "")), str(about.get("source", ""))
        return Checkpoint(settings, str(about["items"]), batches, source, Position(**position), tensors)
    except (TypeError, ValueError, KeyError, AttributeError, SettingsError) as error:
        raise ModelError(f"{path} cannot be read ({error}).", expected=what, do=do) from error


def read_weights(path: Path, item_hash: str, dataset: Path) -> Checkpoint:
    """`read_checkpoint` for the items of a dataset.

    Args:
        path: the file.
        item_hash: `Catalogue.hash` of the dataset's items.
        dataset: its folder, for the message.

    Raises:
        ModelError: the file cannot be read, or is made for other items: its codes would mean other ones.
    """
    found = read_checkpoint(path)
    if found.items != item_hash:
        raise ModelError(
            f"{path} is made for other items than those of {dataset}: its {found.settings.n_items:,} items have the hash "
            f"{found.items}.",
            expected=f"the items of {dataset}, whose hash is {item_hash}",
            do="name the dataset that it was trained on with --dataset",
        )
    return found
