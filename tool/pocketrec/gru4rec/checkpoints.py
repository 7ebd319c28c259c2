"""Checkpoints: files (`storage.tensors`) with the weights of a GRU4Rec and all that is needed to continue its training.

The last state of a training has the weights, the optimizer's slots, the states of the lanes, its position in the batches
and the running mean of its weights. What `train` keeps has that mean as its weights, and the slots. A file that a device
wrote (`OnDeviceModel.save_to`) has the weights, the slots and the number of steps. All can be measured, exported and
trained further.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pocketrec.errors import ModelError, SettingsError
from pocketrec.lite.contract import CACHE_TENSORS, STEP, ModelSpec, TensorSpec
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import claim_for_good
from pocketrec.storage.tensors import OtherFormatError, is_tensor_file, read_tensors, write_tensors

STATE = "lanes_state"
"""Name of a further tensor in the last state of a training: states of the lanes after the last step, float32 (B, H)."""
MEAN = "mean_"
"""What the names of the running means of the weights begin with there; they have the shapes of the weights."""
OF_TRAINING = ("items", "batches", "source", "average")
"""What tells one training from another, besides the settings of the model."""


@dataclass(frozen=True)
class Position:
    """How far a training is. An epoch is one pass over the batches; a transition is a click and the next one.

    Attributes:
        epoch: finished epochs.
        step: steps done in the current epoch.
        losses: mean loss of a transition in each finished epoch, in nats.
        loss: sum of the losses of the steps in the current epoch.
        validation: MRR@20 on train_valid after each finished epoch; empty if it is not measured.
    """

    epoch: int = 0
    step: int = 0
    losses: tuple[float, ...] = ()
    loss: float = 0.0
    validation: tuple[float, ...] = ()

    @classmethod
    def of(cls, about: object) -> Position:
        """Read a position as JSON has it; one that no training can have is a ValueError."""
        if not isinstance(about, dict) or about.keys() - {one.name for one in fields(cls)}:
            raise ValueError(f"its position is {about!r:.80}")
        found = {**asdict(cls()), **about}
        for name, value in found.items():
            if name in ("epoch", "step"):
                fits = type(value) is int and 0 <= value < 2**63
            elif name == "loss":
                fits = _is_finite(value)
            else:
                fits = isinstance(value, list | tuple) and all(map(_is_finite, value))
                fits = fits and len(value) in ({found["epoch"]} if name == "losses" else {0, found["epoch"]})
                found[name] = tuple(value) if fits else value
            if not fits:
                raise ValueError(f"its position has the {name} {value!r:.80}")
        return cls(**found)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


@dataclass(frozen=True)
class Checkpoint:
    """A model in training.

    Attributes:
        settings: the settings of the model.
        items: `Catalogue.hash` of its items.
        batches: hash of the batches that it is trained on (`Record.content`); "" in a file from a device.
        source: XXH3-128 of the file that training began from; "" if it began from random weights.
        average: share of the steps over which the weights that are kept are a mean (`TrainSettings.average`).
        position: how far the training is.
        tensors: the tensors of `ModelSpec.state`; in the last state of a training also `STATE` and the running means.
    """

    settings: ModelSpec
    items: str
    batches: str
    source: str = ""
    average: float = 0.0
    position: Position = Position()
    tensors: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, compare=False)

    @property
    def what(self) -> str:
        """How far the training is, in words."""
        return f"epoch {self.position.epoch}" if self.batches else f"{int(self.tensors[STEP]):,} steps on a device"

    def continues(self, other: Checkpoint) -> bool:
        """Whether the other checkpoint belongs to the same training, so that it can go on from this one."""
        return all(getattr(self, name) == getattr(other, name) for name in ("settings", *OF_TRAINING))


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; if that fails, an earlier file is unchanged."""
    about = {name: getattr(checkpoint, name) for name in OF_TRAINING}
    about |= {"settings": asdict(checkpoint.settings), "position": asdict(checkpoint.position)}
    write_tensors(path, "training", about, checkpoint.tensors)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file that `write_checkpoint` or `OnDeviceModel.save_to` wrote.

    Raises:
        ModelError: the file is missing, damaged, or something else.
    """
    what = "a checkpoint of train, or what save_to wrote on a device"
    do = "name another file, or train anew: pocketrec train --fresh"
    file = read_tensors(path, "training", "learned", what=what, do=do)
    about = file.about
    tensors = {name: tensor for name, tensor in file.tensors.items() if name not in CACHE_TENSORS}
    try:
        settings = ModelSpec(**about["settings"])
        needed = dict(settings.state)
        average = about.get("average", 0.0)  # which earlier versions did not have
        if not _is_finite(average) or average < 0:
            raise ValueError(f"its average is {average!r:.80}")
        if STATE in tensors:
            needed[STATE] = TensorSpec((settings.batch_size, settings.hidden_size))
            needed |= {MEAN + name: TensorSpec(shape) for name, shape in settings.weights.items() if average}
        if needed != {name: TensorSpec(tensor.shape, str(tensor.dtype)) for name, tensor in tensors.items()}:
            raise ValueError("its tensors are not those of its settings")
        words = {name: str(about.get(name, "")) for name in ("batches", "source")}
        position = Position.of(about.get("position", {}))
        return Checkpoint(
            settings, str(about["items"]), **words, average=float(average), position=position, tensors=tensors
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, SettingsError) as error:
        why = f"{error.__class__.__name__}: {error}" if isinstance(error, KeyError) else error
        raise ModelError(f"{path} cannot be read ({why}).", expected=what, do=do) from error


def read_weights(path: Path, item_hash: str, dataset: Path) -> Checkpoint:
    """`read_checkpoint` for the items of a dataset folder, whose `Catalogue.hash` is `item_hash`.

    Raises:
        ModelError: the file cannot be read, or is made for other items.
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


def claim_checkpoints(where: Dataset, batch_size: int) -> None:
    """Claim the names of the two checkpoints of a training (`storage.manifest.claim_for_good`).

    Raises:
        FolderError: one of them is a file of another origin.
    """
    names = [where.checkpoint(batch_size, last=last).name for last in (False, True)]
    claim_for_good(where.model, f"train_bs{batch_size}", names, is_tensor_file)


def last_checkpoint(where: Dataset, begun: Checkpoint) -> tuple[Checkpoint | None, list[str]]:
    """The state that a training continues from, and why it begins anew though files are there, a sentence for each.

    The last state is continued from if the best weights are there, too, once there are any. Else the training begins anew:
    the best weights are a mean, from which it would not go on to the same ones.

    Args:
        where: the dataset, whose checkpoints are claimed.
        begun: the training at its beginning.

    Returns:
        None as the checkpoint if the training begins anew.

    Raises:
        SettingsError: what is there is of another training, which would be replaced.
        ModelError: it is of another format.
    """
    lanes = begun.settings.batch_size
    paths = kept_path, last_path = where.checkpoint(lanes), where.checkpoint(lanes, last=True)
    passed_over: list[str] = []
    kept, last = (_whole(path, passed_over) for path in paths)
    if last and last.continues(begun) and (not last.position.epoch or (kept and kept.continues(begun))):
        return last, passed_over
    if kept and not kept.continues(begun):
        raise _of_another_training(kept_path, kept, begun, paths)
    # If the weights of another training were moved away, they are what its user wanted of it.
    if last and not last.continues(begun) and (kept_path.exists() or not last.position.epoch):
        raise _of_another_training(last_path, last, begun, paths)
    if kept or (last and last.continues(begun)):
        passed_over.append(f"{last_path if kept else kept_path} is missing or damaged: began anew")
    return None, passed_over


def _whole(path: Path, passed_over: list[str]) -> Checkpoint | None:
    """A checkpoint; None if it is missing, or damaged, which `passed_over` will say."""
    if not path.exists():
        return None
    try:
        return read_checkpoint(path)
    except OtherFormatError:
        raise
    except ModelError as error:
        passed_over.append(error.wrong)
        return None


def _of_another_training(path: Path, found: Checkpoint, begun: Checkpoint, paths: tuple[Path, ...]) -> SettingsError:
    theirs, ours = asdict(found.settings), asdict(begun.settings)
    differs = [f"{name} {theirs[name]} there, {ours[name]} now" for name in ours if theirs[name] != ours[name]]
    words = {
        "items": "other items", "batches": "other batches", "source": "another file to begin from",
        "average": f"average {found.average:g} there, {begun.average:g} now",
    }  # fmt: skip
    differs += [words[name] for name in OF_TRAINING if getattr(found, name) != getattr(begun, name)]
    both = " and ".join(map(str, paths))
    return SettingsError(
        f"{path} is of another training ({found.what}): {'; '.join(differs)}. It was not touched.",
        expected="a checkpoint of a training with these settings, or none",
        do=f"train with the settings that it has; or replace it: --fresh; or keep it: move {both} away",
    )
