"""The item index and the train batches of a dataset, as training, export and verify read them.

A file that is missing or does not fit is an error; its message names the command that makes the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketrec.errors import DatasetError
from pocketrec.lite.catalogue import Catalogue
from pocketrec.schema import Int32
from pocketrec.storage.item_index import read_items
from pocketrec.storage.layout import Dataset
from pocketrec.storage.npy import open_array


def read_item_list(dataset: Dataset) -> Catalogue:
    """Read the item index, DIR/final/items.parquet.

    Raises:
        DatasetError: the file is missing, is something else, or is empty.
    """
    path = dataset.items
    do = f"pocketrec batches --dataset {dataset.root}"
    frame = read_items(path, ("item_id", "support"), do=do)
    if not len(frame):
        raise DatasetError(f"{path} holds no items.", expected="one row an item", do=do)
    return Catalogue.of(frame["item_id"].to_list(), frame["support"].to_numpy())


@dataclass(frozen=True)
class Batches:
    """The batches of train_tr, int32 (steps, B) each. The files are mapped, not read into memory."""

    feats: Int32
    targets: Int32
    masks: Int32

    def __len__(self) -> int:
        return len(self.feats)

    def head(self, steps: int) -> Batches:
        """Copies of the first `steps` steps, in memory."""
        return Batches(*(np.array(rows[:steps]) for rows in (self.feats, self.targets, self.masks)))


def open_batches(dataset: Dataset, batch_size: int) -> Batches:
    """Open feats, targets and masks of train_tr.

    Raises:
        DatasetError: a file is missing, damaged or empty, or its shape is not that of the others.
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
        raise DatasetError(f"The batches in {dataset.final} have no steps.", expected="1 step or more", do=do)
    return Batches(*arrays)


def check_codes(batches: Batches, n_items: int, dataset: Dataset) -> None:
    """Check that every item code is in the item index; batches with other codes belong to another index.

    Raises:
        DatasetError: a code is outside 0 .. n_items - 1 (a target may also be -1).
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
