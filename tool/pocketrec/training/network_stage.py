"""The stage that trains a network of `ncf` or `dnn`: whether there is anything to do, the epochs, and what is written."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.settings import Settings, options_for
from pocketrec.storage.manifest import OutputFile, json_values, read_records
from pocketrec.storage.networks import NetworkFile, NetworkSide
from pocketrec.storage.space import room
from pocketrec.storage.stage import Stage
from pocketrec.training.epoch_runs import Checkpoints, Epoch, History, run_epochs


class NetworkRun(ABC):
    """One training."""

    def __init__(
        self, place: NetworkSide, training: Settings, named: Mapping[str, Any], split: str, checkpoints: Checkpoints
    ) -> None:
        """Args:
        place: where the network goes; it is held.
        training: what the user chose.
        named: what determines the network, for its record.
        split: content of the split that it is trained on.
        checkpoints: of the run. Where few are kept (`Checkpoints.keep`), they are for a run that was stopped, and go when
            it has finished.
        """
        self.place, self.named, self.split, self.checkpoints = place, json_values(named), split, checkpoints
        argv = (place.name, "train", *options_for(training), "--clean")
        self.stage = Stage(place.model, f"{place.name}_train", self.named, {"split": split}, argv)
        self.began = time.perf_counter()
        self.others: Sequence[Path] = ()
        """What `save` writes besides the network."""

    @abstractmethod
    def begin(self) -> tuple[Any, AbstractContextManager[Callable[..., None]]]:
        """The trainer as it was made, and what is told the scalars of each epoch."""

    @abstractmethod
    def epoch(self, trainer: Any, number: int) -> Epoch:
        """Train and judge the epoch of a number, from 0."""

    @abstractmethod
    def enough(self, history: History) -> bool:
        """Whether to stop early; asked before each epoch."""

    @abstractmethod
    def network(self, history: History) -> NetworkFile[Any]:
        """The network with the weights that are kept."""

    @abstractmethod
    def counts(self, history: History) -> Mapping[str, Any]:
        """What the record says besides the epochs and which one is kept."""

    def save(self, trainer: Any, history: History) -> Sequence[Path]:  # noqa: ARG002
        """Write the network in other forms, too, and name the files."""
        return ()

    def run(self, epochs: int, needed: int, *, clean: bool) -> tuple[Mapping[str, Any], int, bool]:
        """Train the epochs that no checkpoint has, unless the network that is there is up to date.

        Args:
            epochs: at most.
            needed: bytes that will be written, about.
            clean: forget an earlier network and all checkpoints.

        Returns:
            The counts of the record, how many epochs a checkpoint had, and whether the network was there already.
        """
        path, found = self.place.network, None if clean else self.stage.current()
        with room(self.place.model, self.stage.command):
            self.checkpoints.claim(epochs)
        if found and path.name in found.files:  # pocketrec 0.1 wrote another file, which is not read
            if self.checkpoints.keep:
                self.checkpoints.clear(own=True)
            return found.counts, 0, True
        if clean:
            self.checkpoints.clear()
        older = path.with_suffix(".npz")  # what pocketrec 0.1 wrote in its place
        before = read_records(self.place.model).get(self.stage.record_key)
        others = [one.name for one in self.others]  # in an earlier record are not all of them
        with self.stage.replacing(needed, names=(path.name, *(() if before else others))) as draft:
            with native_stderr_closed():
                trainer, curves = self.begin()
            history, resumed = run_epochs(
                trainer, self.checkpoints, epochs, lambda number: self.epoch(trainer, number), self.enough, curves
            )
            draft.counts = {"epochs": history.epochs, "kept": history.kept, **self.counts(history)}
            self.stage.claim(path.name, new=others)
            self.network(history).write(path)
            if before and older.name in before.files:
                older.unlink(missing_ok=True)
            draft.files = {one.name: OutputFile.of(one) for one in (path, *self.save(trainer, history))}
        if self.checkpoints.keep:
            self.checkpoints.clear()
        return draft.counts, resumed, False
