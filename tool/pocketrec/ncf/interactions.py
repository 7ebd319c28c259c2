"""The split that `ncf prep` wrote, as the later stages read it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from pocketrec.errors import DatasetError, SettingsError
from pocketrec.ncf.layout import NcfDataset
from pocketrec.schema import Int32, Int64
from pocketrec.storage.item_index import read_items
from pocketrec.storage.npy import open_array


@dataclass(frozen=True)
class Positives:
    """One positive for some users, users ascending: int32 (n,) each."""

    users: Int32
    items: Int32

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Interactions:
    """Ratings by code.

    Attributes:
        n_items: I; item codes are 0 .. I - 1.
        starts: (U + 1,) int64, where each user's train rows begin in `items`.
        items: (P,) int32, the items of the train rows, by user, each user's in order of time.
        test: the test positives.
        valid: the validation positives; there may be none.
    """

    n_items: int
    starts: Int64
    items: Int32
    test: Positives
    valid: Positives

    @property
    def n_users(self) -> int:
        """U; user codes are 0 .. U - 1."""
        return len(self.starts) - 1

    @property
    def counts(self) -> Int64:
        """(U,) train rows of each user."""
        return np.diff(self.starts)

    def users(self) -> Int32:
        """(P,) int32, the users of the train rows; made on each call."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.counts)

    def of(self, user: int) -> Int32:
        """The items of one user's train rows."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    def positives(self, name: str) -> Positives:
        """`test` or `valid` by name.

        Raises:
            SettingsError: there are none.
        """
        if name not in ("test", "valid"):
            raise SettingsError(f"{name!r} is not a set of positives.", expected="test or valid")
        found: Positives = getattr(self, name)
        if not len(found):
            raise SettingsError(
                f"no user has a {name} positive.",
                expected="a positive to rank",
                do="pocketrec ncf prep RATINGS --validation",
            )
        return found


def read_interactions(place: NcfDataset) -> Interactions:
    """The split, in memory: 4 bytes a train row.

    Raises:
        DatasetError: a file is missing or is not what prep wrote.
    """
    record, folder, do = place.prepared(), place.split, place.prep_command
    items = np.array(open_array(folder / "train_items.npy", shape=(None,), do=do))
    starts = np.array(open_array(folder / "train_starts.npy", dtype=np.int64, shape=(None,), do=do))
    test, valid = (
        Positives(*np.array(open_array(folder / f"{name}.npy", shape=(None, 2), do=do)).T.copy())
        for name in ("test", "valid")
    )
    n_items = int(record.counts["items"])
    fits = len(starts) > 1 and starts[0] == 0 and starts[-1] == len(items) and (np.diff(starts) >= 0).all()
    known = all(
        not len(codes) or (codes.min() >= 0 and codes.max() < limit)
        for codes, limit in (
            (items, n_items), (test.items, n_items), (valid.items, n_items),
            (test.users, len(starts) - 1), (valid.users, len(starts) - 1),
        )
    )  # fmt: skip
    if not (fits and known):
        raise DatasetError(f"the files in {folder} do not fit each other.", expected="what prep wrote", do=do)
    return Interactions(n_items, starts, items, test, valid)


def hold_out_latest(known: Interactions) -> Interactions:
    """The same with the latest train row of each user who has two or more as validation positive instead."""
    held = known.counts > 1
    last, left = known.starts[1:][held] - 1, np.ones(len(known.items), bool)
    left[last] = False
    starts = np.concatenate([[0], np.cumsum(known.counts - held)]).astype(np.int64)
    valid = Positives(np.flatnonzero(held).astype(np.int32), known.items[last])
    return replace(known, starts=starts, items=known.items[left], valid=valid)


def user_ids(place: NcfDataset) -> pl.Series:
    """The ids that users have in the ratings, by code."""
    return read_items(place.users, ["user_id"], do=place.prep_command).to_series()


def item_ids(place: NcfDataset) -> pl.Series:
    """The ids that items have in the ratings, by code."""
    return read_items(place.items, ["item_id"], do=place.prep_command).to_series()
