"""`pocketrec ncf prep`: ratings, through the ingest of click logs, to a split with dense ids.

The rating's value is not used: every row is a positive. Users with too few are left out, users and items are numbered by
first appearance in what is left, and `order` says what is for training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.errors import SettingsError
from pocketrec.ingestion.ingest import IngestReport
from pocketrec.ingestion.ratings import COUNT, ITEM_CODE, USER_CODE, Files, Ratings, prepare, save, user_ids
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.negatives import no_negatives
from pocketrec.ncf.options import NcfPrepSettings
from pocketrec.ncf.split import Places, by_time, leave_one_out
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import ITEM, Int32, Int64
from pocketrec.storage.formats import Npy
from pocketrec.storage.manifest import OutputFile
from pocketrec.storage.writer import Writer

_USERS_PER_BLOCK = 1 << 13


@dataclass(frozen=True)
class NcfPrepReport:
    """What is in DIR/ncf/final/interactions.

    Attributes:
        ingest: how the ratings were read.
        users: with enough ratings.
        items: of these users.
        ratings: of these users.
        train: of them for training.
        valid: users with a validation positive.
        test: users with a test positive.
        cold: test positives whose item nobody has in the train set.
        reused: it was there already.
    """

    ingest: IngestReport
    users: int
    items: int
    ratings: int
    train: int
    valid: int
    test: int
    cold: int
    reused: bool


def prep(
    ratings: Path | str,
    dataset: Path | str = "dataset",
    settings: NcfPrepSettings = NcfPrepSettings(),
    *,
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> NcfPrepReport:
    """Ingest ratings and split them.

    Args:
        ratings: MovieLens in any of its forms (`sources.movielens`) or any csv or Parquet file, packed or not.
        dataset: the dataset folder; everything goes to DIR/ncf.
        settings: how the ratings are read and split.
        fresh: do it again even where it is up to date.
        force: begin even where the disk seems too small.
        progress: told how far it is.

    Raises:
        LogError: the ratings cannot be read, or a user has an item twice.
        SettingsError: nothing is left to train on or to evaluate.
        BusyError, SpaceError, FolderError: as for `pocketrec.ingest`. What was there before is as it was.
    """
    read, counts, reused = prepare(
        NcfDataset(Path(dataset)), "ratings", ratings, settings,
        lambda source, folder, _: _Splitter(source, folder, settings).write(),
        fresh=fresh, force=force, progress=progress,
    )  # fmt: skip
    return NcfPrepReport(read, **counts, reused=reused)


class _Splitter:
    """One run: ratings to the files of DIR/ncf/final/interactions."""

    def __init__(self, ratings: Ratings, folder: Path, settings: NcfPrepSettings) -> None:
        self.ratings, self.folder, self.settings = ratings, folder, settings
        self.users, self.items = ratings.vocabulary()
        self.rated_starts = _starts(self.users[COUNT].to_numpy())  # (users + 1,)
        self.rows = int(self.rated_starts[-1])

    def write(self) -> tuple[Files, dict[str, int]]:
        """Files by name, and what is counted."""
        scratch = self.folder / "rated.npy"
        rated = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.int32, shape=(self.rows,))
        places = self._order(rated)
        test, valid = (self._positives(rated, at) for at in (places.test, places.valid))
        if not len(test):
            by_time = self.settings.split == "time"
            raise SettingsError(
                "no user has both a rating to train on and one to test with, so the split is empty.",
                expected="users with two ratings or more" + (" on both sides of the cut" if by_time else ""),
                do="lower --min-ratings" + (", or take another --holdout" if by_time else ""),
            )
        ids, train = user_ids(self.ratings.parts, self.users), places.train
        if full := int((train >= len(self.items)).sum()):  # it would stop every later stage, which knows no ids
            raise no_negatives(full, ids[int(np.argmax(train))], len(self.items))
        train_file, support = self._write_train(rated, train)
        del rated
        scratch.unlink()
        item_ids, starts = self.ratings.parts.item_ids(self.items[ITEM].to_numpy()), _starts(train)
        users = pl.DataFrame({"user_id": ids, USER_CODE: self.users[USER_CODE], "support": train})
        items = pl.DataFrame({"item_id": item_ids, ITEM_CODE: self.items[ITEM_CODE], "support": support})
        files = save(self.folder, {"train_starts.npy": starts, "test.npy": test, "valid.npy": valid})
        files |= save(self.folder, {"users.parquet": users, "items.parquet": items})
        counts = {
            "users": len(users), "items": len(items), "ratings": self.rows, "train": int(starts[-1]),
            "valid": len(valid), "test": len(test), "cold": int((support[test[:, 1]] == 0).sum()),
        }  # fmt: skip
        return {"train_items.npy": train_file, **files}, counts

    def _order(self, rated: Int32) -> Places:
        """Fill `rated` with item codes by user and time; return what is for what."""
        whole = Places(*(np.empty(len(self.users), np.int64) for _ in range(3)))
        split = self._split()
        for who, starts, items, times in self.ratings.by_user(self.users, self.items):
            counts = np.diff(starts)
            shift = np.repeat(self.rated_starts[who] - starts[:-1], counts)
            rated[np.arange(len(items)) + shift] = items
            here = split(times, starts)
            whole.train[who], whole.valid[who], whole.test[who] = here.train, here.valid, here.test
        return whole

    def _split(self) -> Callable[[Int64, Int64], Places]:
        """From the times of some users' ratings, and where each user's begin, to what is for what."""
        validation = self.settings.validation
        if self.settings.split == "leave-one-out":
            return lambda _, starts: leave_one_out(np.diff(starts), validation=validation)
        share = self.settings.holdout
        test = self.ratings.moment(1 - share, self.rows)
        valid = self.ratings.moment(1 - 2 * share, self.rows) if validation else test
        return partial(by_time, cuts=(valid, test))

    def _positives(self, rated: Int32, at: Int64) -> Int32:
        """(n, 2): the users that have such a positive, and its item."""
        users = np.flatnonzero(at >= 0)
        return np.stack([users, rated[self.rated_starts[users] + at[users]]], axis=1).astype(np.int32)

    def _write_train(self, rated: Int32, train: Int64) -> tuple[OutputFile, Int64]:
        """train_items.npy, and the train rows of each item, (items,)."""
        support = np.zeros(len(self.items), np.int64)
        with Writer(self.folder / "train_items.npy", Npy(None)) as writer:
            for first in range(0, len(train), _USERS_PER_BLOCK):
                counts = train[first : first + _USERS_PER_BLOCK]
                block = rated[_prefixes(self.rated_starts[first : first + len(counts)], counts)]
                support += np.bincount(block, minlength=len(support))
                writer.write(block)
            return writer.commit(), support


def _starts(counts: Int64) -> Int64:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _prefixes(starts: Int64, counts: Int64) -> Int64:
    """Positions of the first `counts` elements from each start."""
    before = np.cumsum(counts) - counts
    places: Int64 = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return places
