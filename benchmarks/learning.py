"""Trains a model on a dataset's batches on plain LiteRT, as an app could do with batches that are shipped with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocketrec.lite.inputs import open_batches, read_item_list
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.sampling import Sampler
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.layout import Dataset


def learn_batches(
    model: OnDeviceModel,
    dataset: Path | str,
    *,
    steps: int | None = None,
    sampled: bool = False,
    progress: Progress = SILENT,
) -> list[float]:
    """Train on the batches of train_tr, from the first one on; after the last batch the first one follows again.

    Args:
        model: the model; it continues from its current weights.
        dataset: a dataset folder with npy batches of the model's batch size.
        steps: number of steps; one pass over the batches if not given.
        sampled: use `train_sampled` with drawn items, not `train`.
        progress: is told about each step.

    Returns:
        The loss of each step, in nats.

    Raises:
        ModelError: the batches are made for other items than the model.
        DatasetError: a file is missing or damaged.
    """
    place = Dataset(Path(dataset))
    model.check_items(read_item_list(place).hash, f"the dataset {place.root}")
    batches = open_batches(place, model.settings.batch_size)
    sampler = Sampler(model.items.support, model.settings.sample_alpha, model.settings.seed)
    losses, state, total = [], model.fresh_state(), len(batches) if steps is None else steps
    with progress.task("learn", total, "steps") as advance:
        for step in range(total):
            row = step % len(batches)
            feat, target = np.array(batches.feats[row]), np.array(batches.targets[row])
            state = batches.masks[row][:, None].astype(np.float32) * state if row else model.fresh_state()
            if sampled:
                loss, state = model.train_sampled(feat, target, state, sampler.draw(model.settings.negatives))
            else:
                loss, state = model.train(feat, target, state)
            losses.append(loss)
            advance(1)
    return losses
