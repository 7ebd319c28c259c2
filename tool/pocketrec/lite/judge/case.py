"""What a verification works on, and what its rungs pass on to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketrec.lite.bundle import read_card
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import Card
from pocketrec.lite.flatbuffer import ModelFile
from pocketrec.lite.inputs import Batches
from pocketrec.lite.judge.ladder import Fault
from pocketrec.lite.options import VerifySettings
from pocketrec.lite.runtime import LiteModel
from pocketrec.progress import Progress
from pocketrec.storage.layout import Dataset


@dataclass(frozen=True)
class Trial:
    """What was measured when a separate process ran the model; `judge/worker.py` makes it.

    Attributes:
        losses: the loss of each training step, in nats; empty for a model that cannot learn.
        rounds: the other signatures that learn -> mean loss of the same steps in the first round and in the last.
        seconds: wall time of each training step.
        peak_bytes: peak memory of that process, Python and numpy included, when it had called only train (or infer).
    """

    losses: Sequence[float]
    rounds: Mapping[str, Sequence[float]]
    seconds: Sequence[float]
    peak_bytes: int


@dataclass
class Case:
    """One model and the dataset that it should fit.

    Attributes:
        path: the model file.
        dataset: the dataset folder.
        batches: the batches of train_tr.
        items: the item index of the dataset.
        settings: the batch size asked for, the training steps, the threads.
        folder: a temporary folder, to pass files between processes.
        progress: is told about each training step.
        file: what the model file contains; set by the rung `file`.
        trial: set by the rung `load`.
    """

    path: Path
    dataset: Dataset
    batches: Batches
    items: Catalogue
    settings: VerifySettings
    folder: Path
    progress: Progress
    file: ModelFile | None = None
    trial: Trial | None = None

    @property
    def n_items(self) -> int:
        """Number of items in the item index."""
        return len(self.items.ids)

    def read(self) -> ModelFile:
        """What the model file contains; the rung `file` must have read it."""
        if self.file is None:
            raise Fault("the file was not read")
        return self.file

    @property
    def card(self) -> Card:
        """The settings that the model file says it was made with."""
        return read_card(self.read(), self.path)

    def device(self) -> LiteModel:
        """The model, newly loaded, so that a rung does not see what another one did to it or hold its memory."""
        return LiteModel(self.path, self.settings.threads, trusted=True)  # the rung `load` has tried it
