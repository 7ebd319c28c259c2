"""The stage that trains a network of `ncf` or `dnn`: whether there is anything to do, and what is written at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.storage.manifest import OutputFile
from pocketrec.storage.networks import NetworkFile, NetworkSide
from pocketrec.storage.stage import Stage
from pocketrec.training.epoch_runs import Checkpoints


@dataclass(frozen=True)
class Learned:
    """What a training came to.

    Attributes:
        network: with the weights that are kept.
        counts: for the record.
        resumed: epochs that a checkpoint had.
        save: writes the network in other forms, too, and names the files.
    """

    network: NetworkFile[Any]
    counts: Mapping[str, Any]
    resumed: int
    save: Callable[[], Sequence[Path]] = tuple


def train_network(
    place: NetworkSide,
    stage: Stage,
    checkpoints: Checkpoints,
    needed: int,
    learn: Callable[[], Learned],
    *,
    clean: bool,
) -> tuple[Mapping[str, Any], int, bool]:
    """Train a network, unless the one that is there is up to date.

    Args:
        place: where the network goes; it is held.
        stage: of the training.
        checkpoints: of the run. Where few are kept (`Checkpoints.keep`), they are for a run that was stopped, and go when
            it has finished.
        needed: bytes that will be written, about.
        learn: trains, from the newest checkpoint on.
        clean: forget an earlier network and all checkpoints.

    Returns:
        The counts of the record, how many epochs a checkpoint had, and whether the network was there already.
    """
    found = None if clean else stage.current()
    if found and place.network.name in found.files:  # pocketrec 0.1 wrote another file, which is not read
        if checkpoints.keep:
            checkpoints.clear_own()
        return found.counts, 0, True
    if clean:
        checkpoints.clear()
    with stage.replacing(needed) as draft:
        learned = learn()
        stage.claim(place.network.name)
        learned.network.write(place.network)
        place.network.with_suffix(".npz").unlink(missing_ok=True)  # what pocketrec 0.1 wrote in its place
        draft.files = {path.name: OutputFile.of(path) for path in (place.network, *learned.save())}
        draft.counts = dict(learned.counts)
    if checkpoints.keep:
        checkpoints.clear()
    return draft.counts, learned.resumed, False
