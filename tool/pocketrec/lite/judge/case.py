"""What a verification works on, and what its rungs hand on to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.flatbuffer import ModelFile
from pocketrec.lite.inputs import Batches
from pocketrec.lite.runtime import OnDeviceModel
from pocketrec.progress import Progress
from pocketrec.storage.layout import Dataset


@dataclass(frozen=True)
class Trial:
    """What a process of its own found when it trained with the model.

    Attributes:
        losses: before each step, in nats.
        rounds: mean losses of further signatures on the same steps, in the first round and in the last.
        seconds: of each step.
        peak_bytes: most memory that process held, Python and numpy included, before it called anything but train.
    """

    losses: tuple[float, ...]
    rounds: Mapping[str, tuple[float, float]]
    seconds: tuple[float, ...]
    peak_bytes: int


@dataclass
class Case:
    """One model on trial.

    Attributes:
        path: the file.
        dataset: the folder it should fit.
        batches: the first real steps.
        items: the item index.
        batch_size: B asked for.
        steps: to train for the loss.
        threads: of the interpreter.
        folder: for passing files between processes.
        progress: who watches.
        file: what the flatbuffer says; set by the rung `file`.
        settings: what the model says it was made with; set by `signatures`.
        trial: set by `load`; none for a model that cannot learn.
    """

    path: Path
    dataset: Dataset
    batches: Batches
    items: Catalogue
    batch_size: int
    steps: int
    threads: int
    folder: Path
    progress: Progress
    file: ModelFile | None = None
    settings: ModelSpec | None = None
    trial: Trial | None = None

    @property
    def n_items(self) -> int:
        """Items of the index."""
        return len(self.items.ids)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What a fresh model holds."""
        return self.device().save()

    def device(self) -> OnDeviceModel:
        """The model, loaded afresh: no rung sees what another did to it, or holds the memory another used."""
        return OnDeviceModel(self.path, self.threads)
