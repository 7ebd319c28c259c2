"""Training by whole epochs: each is judged, the best is kept, and a run that was killed goes on from its newest checkpoint.

What follows an epoch depends on the trainer's state and the number of the epoch alone, and a checkpoint has both: a run
that was killed ends with the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pocketrec.storage.networks import DAMAGE, Arrays, read_arrays, write_arrays


class Trainer(Protocol):
    """What learns."""

    def weights(self) -> Arrays:
        """Those that make the network, as they are now."""

    def state(self) -> Arrays:
        """Everything that training goes on from."""

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""


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
    weights: Arrays = field(default_factory=dict)

    def add(self, epoch: Mapping[str, Any], score: float | None, trainer: Trainer) -> None:
        """Take in an epoch; `score` is None where it was not judged, and infinite where there is nothing to choose by."""
        self.epochs.append(dict(epoch))
        if score is not None and (score > self.score or score == math.inf):
            self.score, self.kept, self.weights = score, len(self.epochs), trainer.weights()


class Checkpoints:
    """A folder of epoch-NNNN.npz: the trainer's state, the weights that are kept, and the history as JSON."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, every: int = 1, keep: int | None = None) -> None:
        """Args:
        folder: it need not exist.
        identity: of the run, as JSON has it: what a run must have in common to go on from its checkpoints.
        every: so many epochs one is written, and after the last.
        keep: how many stay; all if None.
        """
        self.folder, self.identity, self.every, self.keep = folder, dict(identity), every, keep

    def path(self, epoch: int) -> Path:
        """The checkpoint that is written after an epoch."""
        return self.folder / f"epoch-{epoch:04d}.npz"

    def paths(self) -> list[Path]:
        """Those that are there, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if re.fullmatch(r"epoch-\d{4,}\.npz", path.name)), reverse=True)

    def write(self, history: History, trainer: Trainer) -> None:
        """Write one; remove those that are too many."""
        about = {"identity": self.identity, "epochs": history.epochs, "score": history.score, "kept": history.kept}
        arrays = {f"state/{name}": array for name, array in trainer.state().items()}
        arrays |= {f"kept/{name}": array for name, array in history.weights.items()}
        write_arrays(self.path(len(history.epochs)), about, arrays)
        for path in self.paths()[self.keep :] if self.keep else ():
            path.unlink()

    def resume(self, trainer: Trainer, epochs: int) -> History:
        """The history in the newest checkpoint of this run that is whole; the trainer goes on from there.

        Args:
            trainer: as it was made.
            epochs: a checkpoint of more than these is of no use.
        """
        for path in self.paths():
            try:
                about, arrays = read_arrays(path)
                if about["identity"] != self.identity or len(about["epochs"]) > epochs:
                    continue
                history = History(about["epochs"], about["score"], about["kept"], _part(arrays, "kept/"))
                trainer.restore(_part(arrays, "state/"))
            except DAMAGE:
                continue
            return history
        return History()

    def clear(self) -> None:
        """Remove them all."""
        self._remove(self.paths())

    def clear_own(self) -> None:
        """Remove those of this run: one that was killed right after it had finished could not."""
        self._remove([path for path in self.paths() if self._is_own(path)])

    def _is_own(self, path: Path) -> bool:
        try:
            return bool(read_arrays(path)[0]["identity"] == self.identity)
        except DAMAGE:
            return False

    def _remove(self, paths: list[Path]) -> None:
        for path in paths:
            path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def run_epochs(
    trainer: Trainer,
    history: History,
    checkpoints: Checkpoints,
    epochs: int,
    one: Callable[[int], tuple[Mapping[str, Any], float | None]],
    enough: Callable[[History], bool],
) -> None:
    """Train the epochs that are missing.

    Args:
        trainer: stands where the history ends.
        history: it is added to.
        checkpoints: are written.
        epochs: at most.
        one: trains and judges the epoch of a number, from 0; what it came to, and its score as `History.add` has it.
        enough: asked before each epoch: whether to stop early.
    """
    written = len(history.epochs)
    while len(history.epochs) < epochs and not enough(history):
        history.add(*one(len(history.epochs)), trainer)
        if len(history.epochs) % checkpoints.every == 0:
            checkpoints.write(history, trainer)
            written = len(history.epochs)
    if written < len(history.epochs):
        checkpoints.write(history, trainer)


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
