"""Training by whole epochs: each is judged, the best is kept, and a run that was killed goes on from its newest checkpoint.

What follows an epoch depends on the trainer's state and the number of the epoch alone, and a checkpoint has both: a run
that was killed ends with the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pocketrec.errors import ModelError
from pocketrec.storage.manifest import claim_for_good, json_values
from pocketrec.storage.tensors import TensorFile, Tensors, is_tensor_file, read_tensors, write_tensors

KEEP_LAST = math.inf
"""The score of an epoch where there is nothing to choose by: the last one is kept."""


class Trainer(Protocol):
    """A network in training, which `training.tf.fitting` has in Keras."""

    def weights(self) -> Tensors:
        """Those that make the network, as they are now."""

    def state(self) -> Tensors:
        """Everything that training goes on from."""

    def restore(self, state: Tensors) -> None:
        """Go on from what `state` returned."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        content: for records and checkpoints, as JSON has it; the same in every run of the same settings.
        score: higher is better; None where the epoch was not judged, `KEEP_LAST` where there is nothing to choose by.
        scalars: for TensorBoard, by name.
    """

    content: Mapping[str, Any]
    score: float | None
    scalars: Mapping[str, float]


@dataclass
class History:
    """What has become of a run so far.

    Attributes:
        epochs: what each epoch came to, as JSON has it.
        score: of the epoch that is kept; higher is better.
        kept: that epoch, from 1; 0 before the first.
        weights: its weights.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    score: float = -math.inf
    kept: int = 0
    weights: Tensors = field(default_factory=dict)


class Checkpoints:
    """A folder of epoch-NNNN.safetensors: the trainer's state, the weights that are kept, and the history as JSON."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, every: int = 1, keep: int | None = None) -> None:
        """Args:
        folder: it need not exist.
        identity: of the run: what another run must have in common with it to go on from its checkpoints.
        every: a checkpoint is written after every so many epochs, and after the last.
        keep: how many stay; all if None.
        """
        self.folder, self.identity, self.every, self.keep = folder, json_values(identity), every, keep

    def path(self, epoch: int) -> Path:
        """The checkpoint that is written after an epoch."""
        return self.folder / f"epoch-{epoch:04d}.safetensors"

    def paths(self, ending: str = "safetensors") -> list[Path]:
        """Those that are there, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if re.fullmatch(rf"epoch-\d{{4,}}\.({ending})", path.name)), reverse=True)

    def write(self, history: History, trainer: Trainer) -> None:
        """Write one; remove those that are too many."""
        about = {"identity": self.identity, "epochs": history.epochs, "score": history.score, "kept": history.kept}
        tensors = {f"state/{name}": array for name, array in trainer.state().items()}
        tensors |= {f"kept/{name}": array for name, array in history.weights.items()}
        write_tensors(self.path(len(history.epochs)), "epoch", about, tensors)
        for path in self.paths()[self.keep :] if self.keep else ():
            path.unlink()

    def resume(self, trainer: Trainer, epochs: int) -> History:
        """The history in the newest whole checkpoint of this run; the trainer, as it was made, goes on from there.

        A checkpoint of more than `epochs` is of no use.
        """
        begun: Tensors = {}
        for path in self.paths():
            try:
                file = _read(path)
                about = file.about
                if about["identity"] != self.identity or len(about["epochs"]) > epochs:
                    continue
                history = History(about["epochs"], about["score"], about["kept"], _part(file.tensors, "kept/"))
                begun = begun or trainer.state()
                trainer.restore(_part(file.tensors, "state/"))
            except (ModelError, KeyError, TypeError, ValueError, AttributeError):
                if begun:  # a part of it may have been restored
                    trainer.restore(begun)
                continue
            return history
        return History()

    def claim(self, epochs: int) -> None:
        """Claim the names of the checkpoints of so many epochs, and of those that are there: `clear` removes them.

        Raises:
            FolderError: one of them is a file of another origin.
        """
        paths = {*(self.path(epoch) for epoch in range(1, epochs + 1)), *self.paths("safetensors|npz")}
        names = [str(path.relative_to(self.folder.parent)) for path in sorted(paths)]
        claim_for_good(self.folder.parent, "checkpoints", names, _is_checkpoint)

    def clear(self, *, own: bool = False) -> None:
        """Remove them all, those of pocketrec 0.1 (.npz) among them.

        Or with `own` those of this run: one that was killed right after it had finished could not.
        """
        for path in self.paths("safetensors|npz"):
            if not own or self._is_own(path):
                path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _is_own(self, path: Path) -> bool:
        try:
            return bool(_read(path).about["identity"] == self.identity)
        except (ModelError, KeyError):
            return False


def run_epochs(
    trainer: Trainer,
    checkpoints: Checkpoints,
    epochs: int,
    one: Callable[[int], Epoch],
    enough: Callable[[History], bool],
    curves: AbstractContextManager[Callable[..., None]],
) -> tuple[History, int]:
    """Train the epochs that no checkpoint has.

    Args:
        trainer: as it was made; it goes on from the newest checkpoint.
        checkpoints: are read and written.
        epochs: at most.
        one: trains and judges the epoch of a number, from 0.
        enough: asked before each epoch: whether to stop early.
        curves: yields what is told the scalars of an epoch by its number, from 1.

    Returns:
        What has become of all epochs, and how many of them a checkpoint had.
    """
    history = checkpoints.resume(trainer, epochs)
    written = resumed = len(history.epochs)
    if not resumed:
        checkpoints.clear()  # of other runs, whose numbers would be in the way
    with curves as log:
        while len(history.epochs) < epochs and not enough(history):
            epoch = one(len(history.epochs))
            history.epochs.append(dict(epoch.content))
            if epoch.score is not None and (epoch.score > history.score or epoch.score == KEEP_LAST):
                history.score, history.kept, history.weights = epoch.score, len(history.epochs), trainer.weights()
            log(len(history.epochs), **epoch.scalars)
            if len(history.epochs) % checkpoints.every == 0:
                checkpoints.write(history, trainer)
                written = len(history.epochs)
    if written < len(history.epochs):
        checkpoints.write(history, trainer)
    return history, resumed


def _is_checkpoint(path: Path) -> bool:
    """Whether pocketrec wrote a file; the .npz files of 0.1 hold a `card`."""
    if path.suffix != ".npz":
        return is_tensor_file(path)
    try:
        with zipfile.ZipFile(path) as file:
            return "card.npy" in file.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _read(path: Path) -> TensorFile:
    return read_tensors(path, "epoch", what="a checkpoint of a training by epochs", do="train again")


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
