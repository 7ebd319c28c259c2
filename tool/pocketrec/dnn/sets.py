"""The split that `dnn prep` wrote, as the later stages read it: mapped, and a block of rows in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.split import SETS
from pocketrec.errors import DatasetError, SettingsError
from pocketrec.schema import Float32, Int32
from pocketrec.storage.manifest import Record
from pocketrec.storage.npy import open_array

ROWS_PER_BLOCK = 1 << 16


@dataclass(frozen=True)
class RatingSet:
    """Ratings by code.

    Attributes:
        pairs: (n, 2) int32, user and item.
        ratings: (n,) float32.
    """

    pairs: Int32
    ratings: Float32

    def __len__(self) -> int:
        return len(self.ratings)

    def blocks(self) -> Iterator[tuple[Int32, Int32, Float32]]:
        """Users, items and ratings of some rows at a time, in memory."""
        for first in range(0, len(self), ROWS_PER_BLOCK):
            part = slice(first, first + ROWS_PER_BLOCK)
            pairs = np.array(self.pairs[part])
            yield pairs[:, 0].copy(), pairs[:, 1].copy(), np.array(self.ratings[part])


@dataclass(frozen=True)
class RatingSets:
    """What a network is trained and measured on.

    Attributes:
        sets: train, valid and test by name.
        user_features: (U + 1, columns) float32; row 0, of nobody, is zeros.
        item_features: (I + 1, columns) float32; row 0, of nothing, is zeros.
        record: what prep says of it.
    """

    sets: dict[str, RatingSet]
    user_features: Float32
    item_features: Float32
    record: Record

    def rows(self, name: str) -> RatingSet:
        """A set that must not be empty.

        Raises:
            SettingsError: there is no such set, or it is empty.
        """
        if name not in self.sets:
            raise SettingsError(f"there is no set {name!r}.", expected=" or ".join(SETS))
        if not len(self.sets[name]):
            share = "--validation 0.1" if name == "valid" else "--test 0.2"
            raise SettingsError(f"the {name} set is empty.", expected="ratings", do=f"pocketrec dnn prep RATINGS {share}")
        return self.sets[name]


def read_sets(place: DnnDataset) -> RatingSets:
    """The split, mapped.

    Raises:
        DatasetError: a file is missing or is not what prep wrote.
    """
    record, folder, do = place.prepared(), place.split, place.prep_command
    features = {
        name: np.array(open_array(folder / f"{name}_features.npy", dtype=np.float32, do=do)) for name in ("user", "item")
    }
    sets = {}
    for name in SETS:
        pairs = open_array(folder / f"{name}_pairs.npy", shape=(None, 2), do=do)
        ratings = open_array(folder / f"{name}_ratings.npy", dtype=np.float32, shape=(None,), do=do)
        sets[name] = RatingSet(pairs, ratings)
        fits = len(pairs) == len(ratings) and all(
            users.min() >= 0 and users.max() < len(features["user"]) and items.min() >= 0
            and items.max() < len(features["item"]) and np.isfinite(values).all()
            for users, items, values in sets[name].blocks()
        )  # fmt: skip
        if not fits:
            raise DatasetError(f"the files in {folder} do not fit each other.", expected="what prep wrote", do=do)
    return RatingSets(sets, features["user"], features["item"], record)
