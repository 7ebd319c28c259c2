"""What export and verify read from a dataset: the item index and the batches.

A file that is missing or does not fit is an error that names the command which makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketrec.errors import DatasetError
from pocketrec.lite.catalogue import Catalogue
from pocketrec.storage.item_index import read_items
from pocketrec.storage.layout import Dataset
from pocketrec.storage.npy import open_array

Lanes = npt.NDArray[np.int32]


def read_item_list(dataset: Dataset) -> Catalogue:
    """The item index: ids and supports in the order of the codes.

    Raises:
        DatasetError: items.parquet is missing, is something else, or is empty.
    """
    path = dataset.items
    do = f"pocketrec batches --dataset {dataset.root}"
    frame = read_items(path, ("item_id", "support"), do=do)
    if not len(frame):
        raise DatasetError(f"{path} holds no items.", expected="one row an item", do=do)
    return Catalogue.of(frame["item_id"].to_list(), frame["support"].to_numpy())


@dataclass(frozen=True)
class Batches:
    """The train batches, mapped, not loaded: int32 (steps, B) each."""

    feats: Lanes
    targets: Lanes
    masks: Lanes

    def __len__(self) -> int:
        return len(self.feats)

    def head(self, steps: int) -> Batches:
        """The first steps, in memory."""
        return Batches(*(np.array(rows[:steps]) for rows in (self.feats, self.targets, self.masks)))


def open_batches(dataset: Dataset, batch_size: int) -> Batches:
    """Open feats, targets and masks of the train set.

    Raises:
        DatasetError: one is missing, damaged, of another shape than the others, or empty.
    """
    do = _make_batches(dataset, batch_size)
    arrays = [
        open_array(dataset.batches(name, batch_size), shape=(None, batch_size), do=do)
        for name in ("feats", "targets", "masks")
    ]
    if len({array.shape for array in arrays}) != 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise DatasetError(
            f"feats, targets and masks in {dataset.final} have the shapes {shapes}.", expected="one shape", do=do
        )
    if not len(arrays[0]):
        raise DatasetError(f"The batches in {dataset.final} hold no step.", expected="1 step or more", do=do)
    return Batches(*arrays)


def check_codes(batches: Batches, n_items: int, dataset: Dataset) -> None:
    """Refuse batches that name items beyond the index: they belong to another one.

    Raises:
        DatasetError: an item code is not in 0 .. n_items - 1 (a target may also be -1).
    """
    for name, rows, lowest in (("feats", batches.feats, 0), ("targets", batches.targets, -1)):
        low, high = int(rows.min()), int(rows.max())
        if low < lowest or high >= n_items:
            path = dataset.batches(name, rows.shape[1])
            raise DatasetError(
                f"{path} holds item codes from {low} to {high}.",
                expected=f"{lowest} to {n_items - 1}, for the {n_items:,} items of {dataset.items}",
                do=_make_batches(dataset, rows.shape[1]),
            )


def _make_batches(dataset: Dataset, batch_size: int) -> str:
    return f"pocketrec batches --dataset {dataset.root} --batch-size {batch_size}"
