"""`pocketrec dnn prep`: ratings with their values, through the ingest of click logs, to train, validation and test arrays.

Codes are given in the train set: users and items from 1 by first appearance there, then the items that movies.csv knows and
nobody has rated there. Code 0 stands for everything else, so a rating whose user or item is new is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.movies import ITEM_ID, LOGS, extras_of, genres_of, item_features, item_table, top_tags
from pocketrec.dnn.options import DnnPrepSettings
from pocketrec.dnn.split import SETS, Roles, by_moment, of_each_user, of_so_many
from pocketrec.errors import SettingsError
from pocketrec.ingestion.ingest import IngestReport
from pocketrec.ingestion.ratings import COUNT, ITEM_CODE, USER_CODE, Files, Ratings, coded, prepare, save, user_ids
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import ITEM, RATING, ROW, SESSION, Float32, UInt8
from pocketrec.storage.formats import Npy
from pocketrec.storage.manifest import OutputFile
from pocketrec.storage.writer import Writer


@dataclass(frozen=True)
class DnnPrepReport:
    """What is in DIR/dnn/final/ratings.

    Attributes:
        ingest: how the ratings were read.
        users: with train rows.
        items: with a code: rated in the train set, or known from movies.csv.
        train: ratings, as are valid and test.
        valid: for choosing settings and epochs.
        test: for the end.
        new_users: validation and test ratings whose user has code 0.
        new_items: those whose item has no train row.
        unknown_items: of these, those that movies.csv does not know either: code 0.
        genres: that items may have; 0 where there was no movies.csv.
        tags: given to items; 0 where there was no tags.csv.
        lowest: rating of the train set.
        highest: rating of the train set.
        reused: it was there already.
    """

    ingest: IngestReport
    users: int
    items: int
    train: int
    valid: int
    test: int
    new_users: int
    new_items: int
    unknown_items: int
    genres: int
    tags: int
    lowest: float
    highest: float
    reused: bool


def prep(
    ratings: Path | str,
    dataset: Path | str = "dataset",
    settings: DnnPrepSettings = DnnPrepSettings(),
    *,
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> DnnPrepReport:
    """Ingest ratings, join what is known of the items, and split.

    Args:
        ratings: MovieLens in any of its forms (`sources.movielens`), a folder of it, or any csv or Parquet file, packed or
            not. movies.csv and tags.csv are taken from the same zip or folder.
        dataset: the dataset folder; everything goes to DIR/dnn.
        settings: how the ratings are read and split.
        fresh: do it again even where it is up to date.
        force: begin even where the disk seems too small.
        progress: told how far it is.

    Raises:
        LogError: a file cannot be read, or a user has an item twice.
        SettingsError: nothing is left to train on or to test with.
        BusyError, SpaceError, FolderError: as for `pocketrec.ingest`. What was there before is as it was.
    """
    place = DnnDataset(Path(dataset))
    read, counts, reused = prepare(
        place, "rated", ratings, settings,
        lambda source, folder, extras: _Splitter(source, folder, settings, extras).write(),
        lambda log: extras_of(log, place.final / "extras", force=force),
        fresh=fresh, force=force, progress=progress,
    )  # fmt: skip
    shown = {name: value for name, value in counts.items() if name in DnnPrepReport.__dataclass_fields__}
    return DnnPrepReport(read, **shown, reused=reused)


class _Splitter:
    """One run: ratings to the files of DIR/dnn/final/ratings."""

    def __init__(self, ratings: Ratings, folder: Path, settings: DnnPrepSettings, extras: Mapping[str, Path]) -> None:
        self.ratings, self.folder, self.settings, self.extras = ratings, folder, settings, extras
        self.rows = sum(map(len, ratings.frames("count")))
        if not self.rows:
            raise SettingsError(
                f"no user has {settings.min_ratings} ratings or more.", expected="ratings", do="lower --min-ratings"
            )

    def _roles(self) -> Roles:
        seed, test, valid = self.settings.seed, self.settings.test, self.settings.validation
        if self.settings.split == "user":
            return of_each_user(seed, valid, test)
        if self.settings.split == "time":
            return by_moment(*(self.ratings.moment(share, self.rows) for share in (1 - test - valid, 1 - test)))
        held = round(self.rows * valid), round(self.rows * test)
        return of_so_many(seed, (self.rows - sum(held), *held))

    def _pass(self, what: str) -> Iterator[tuple[pl.DataFrame, UInt8]]:
        """Ratings and their roles, a part at a time; the same on each pass."""
        roles = self._roles()
        for frame in self.ratings.frames(what):
            yield frame, roles(frame)

    def write(self) -> tuple[Files, dict[str, Any]]:
        """Files by name, and what is counted."""
        users, items = self._vocabulary()
        known = item_table(items, self.extras).filter("known").drop("known")
        wanted = "tags" in self.extras and self.settings.tags
        features, columns = item_features(known, top_tags(self.extras["tags"], self.settings.tags) if wanted else None)
        codes = pl.int_range(1, len(known) + 1, dtype=pl.Int32, eager=True).alias(ITEM_CODE)
        files, counts = self._write_sets(users, known.select(ITEM, codes).drop_nulls(), features)
        text = ITEM_ID in self.ratings.parts.text_ids
        item_ids = known[ITEM_ID] if text else known[ITEM_ID].cast(pl.Int64, strict=False)
        ids = user_ids(self.ratings.parts, users)
        files |= save(
            self.folder,
            {
                "item_features.npy": features,
                "users.parquet": pl.DataFrame({"user_id": ids, USER_CODE: users[USER_CODE], "support": users[COUNT]}),
                "items.parquet": known.select(item_ids, codes, "support", "title", "year", "genres", "tags"),
            },
        )
        names = {"item": columns, "user": ["support", *(f"mean {column}" for column in columns[1:])]}
        path = self.folder / "features.json"  # for people and apps
        path.write_text(json.dumps(names, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        files |= {path.name: OutputFile.of(path)}
        genres, tags = len(genres_of(known)), int(known["tags"].sum())
        return files, {**counts, "users": len(users), "items": len(known), "genres": genres, "tags": tags}

    def _vocabulary(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Users of the train set by code (session, count, row, user_idx); and all items (item, item_id, support, row)."""
        users = []
        items = pl.DataFrame(schema={ITEM: pl.Int64, "support": pl.Int64, ROW: pl.Int64})
        train = pl.col("role") == 0
        for frame, roles in self._pass("users"):
            frame = frame.with_columns(role=pl.Series(roles))
            users.append(frame.filter(train).group_by(SESSION).agg(pl.len().cast(pl.Int64).alias(COUNT), pl.min(ROW)))
            here = frame.group_by(ITEM).agg(train.sum().cast(pl.Int64).alias("support"), pl.col(ROW).filter(train).min())
            items = pl.concat([items, here]).group_by(ITEM).agg(pl.sum("support"), pl.min(ROW))
        whole = pl.concat(users)
        if not len(whole):
            raise SettingsError(
                "no rating is left to train on.", expected="more ratings", do="lower --test or --validation"
            )
        items = items.sort(ITEM)
        ids = self.ratings.parts.item_ids(items[ITEM].to_numpy()).cast(pl.String).alias(ITEM_ID)
        return coded(whole, USER_CODE, first=1), items.with_columns(ids)

    def _write_sets(self, users: pl.DataFrame, codes: pl.DataFrame, features: Float32) -> tuple[Files, dict[str, Any]]:
        """The arrays of the three sets, and the features of users, which are made of their train rows' items."""
        sums = np.zeros((len(users) + 1, features.shape[1] - 1), np.float32)  # all but the items' support
        counts = {"new_users": 0, "new_items": 0, "unknown_items": 0}
        values = np.empty(0, np.float32)
        with ExitStack() as stack:
            pairs, ratings = (
                [stack.enter_context(Writer(self.folder / f"{name}_{what}.npy", form)) for name in SETS]
                for what, form in (("pairs", Npy(2)), ("ratings", Npy(None, "float32")))
            )
            for frame, roles in self._pass("split"):
                joined = frame.join(users.select(SESSION, USER_CODE), on=SESSION, how="left", maintain_order="left")
                joined = joined.join(codes, on=ITEM, how="left", maintain_order="left")
                both = joined.select(pl.col(USER_CODE, ITEM_CODE).fill_null(0)).to_numpy()
                given = frame[RATING].to_numpy()
                for role in range(len(SETS)):
                    pairs[role].write(both[roles == role])
                    ratings[role].write(given[roles == role])
                train, held = both[roles == 0], both[roles != 0]
                np.add.at(sums, train[:, 0], features[train[:, 1], 1:])
                values = np.union1d(values, given[roles == 0])
                counts["new_users"] += int((held[:, 0] == 0).sum())
                counts["new_items"] += int((features[held[:, 1], 0] == 0).sum())
                counts["unknown_items"] += int((held[:, 1] == 0).sum())
            for name, writer in zip(SETS, pairs, strict=True):
                if not writer.rows and name != "valid":
                    raise SettingsError(
                        f"of {self.rows:,} ratings none is in the {name} set.",
                        expected="some to train on and some to test with",
                        do="give more ratings, or take another --test or --split",
                    )
            files = {writer.path.name: writer.commit() for writer in (*pairs, *ratings)}
        rows = {name: files[f"{name}_pairs.npy"].shape[0] for name in SETS}
        support = np.append(0, users[COUNT].to_numpy())[:, None]
        profile = np.concatenate([np.log1p(support) / LOGS, sums / (support + LOGS)], axis=1).astype(np.float32)
        files |= save(self.folder, {"user_features.npy": profile})
        steps = [float(value) for value in values] if len(values) <= 100 else []
        return files, {**counts, **rows, "lowest": float(values[0]), "highest": float(values[-1]), "values": steps}
