"""`pocketrec dnn prep`: ratings with their values, through the ingest of click logs, to train, validation and test arrays.

Codes are given in the train set: users and items from 1 by first appearance there, then the items that movies.csv knows and
nobody has rated there. Code 0 stands for everything else, so a rating whose user or item is new is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.movies import ITEM_ID, LOGS, Extras, extras_of, genres_of, item_features, item_table, top_tags
from pocketrec.dnn.split import SETS, RandomRoles, Roles, Split, TimeRoles, UserRoles
from pocketrec.errors import SettingsError, check_choice
from pocketrec.ingestion.ingest import BadRows, IngestReport, ingest
from pocketrec.ingestion.parts import Parts
from pocketrec.ingestion.ratings import (
    COUNT,
    Duplicates,
    Ratings,
    coded,
    parquet_columns,
    ratings_file,
    save_array,
    user_ids,
)
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import ITEM, RATING, ROW, SESSION, Float32, UInt8
from pocketrec.sources.options import Columns
from pocketrec.storage.files import staged_folder
from pocketrec.storage.formats import Npy
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, Record, drop_record, read_records, write_record
from pocketrec.storage.space import OVERHEAD, room
from pocketrec.storage.writer import Writer

STAGE = "dnn_prep"


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
    *,
    columns: Columns | None = None,
    timezone: str = "UTC",
    bad_rows: BadRows = "stop",
    min_ratings: int = 1,
    duplicates: Duplicates = "stop",
    split: Split = "random",
    test: float = 0.2,
    validation: float = 0.1,
    tags: int = 0,
    seed: int = 42,
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> DnnPrepReport:
    """Ingest ratings, join what is known of the items, and split.

    Args:
        ratings: MovieLens in any of its forms (`sources.movielens`), a folder of it, or any csv or Parquet file, packed or
            not. movies.csv and tags.csv are taken from the same zip or folder.
        dataset: the dataset folder; everything goes to DIR/dnn.
        columns: the file's own names for session (its users), item, time and rating, where they are not known ones.
        timezone: of times that are wall clocks.
        bad_rows: as for `pocketrec.ingest`.
        min_ratings: fewest of a user; others are left out.
        duplicates: stop where a user has an item twice, or keep the first.
        split: see `roles`.
        test: share of the ratings that is for the test.
        validation: share that is for validation; may be 0.
        tags: so many of the most frequent tags become features of the items.
        seed: of the split.
        fresh: do it again even where it is up to date.
        force: begin even where the disk seems too small.
        progress: told how far it is.

    Raises:
        LogError: a file cannot be read, or a user has an item twice.
        SettingsError: a setting that leaves nothing to train on or to test with.
        BusyError, SpaceError, FolderError: as for `pocketrec.ingest`. What was there before is as it was.
    """
    log, place = ratings_file(Path(ratings)), DnnDataset(Path(dataset))
    settings: dict[str, Any] = {"min_ratings": min_ratings, "duplicates": duplicates, "split": split, "test": test}
    settings |= {"validation": validation, "tags": tags, "seed": seed}
    _check(settings)
    with hold(place.home, "dnn prep"):
        read = ingest(
            log, place.home, timezone=timezone, bad_rows=bad_rows, columns=columns or parquet_columns(log, rated=True),
            kind="rated", fresh=fresh, force=force, progress=progress,
        )  # fmt: skip
        parts = Parts(Dataset(place.home))
        with extras_of(log, place.final / "extras") as extras:
            inputs = {"ratings": parts.record.content, **extras.contents}
            found = read_records(place.final).get(STAGE)
            if found and not fresh and found.is_current(place.final, settings, inputs):
                return DnnPrepReport(read, **_counted(found.counts), reused=True)
            source = Ratings(parts, min_ratings, duplicates, rated=True)
            with room(place.final, "dnn prep", OVERHEAD + 12 * parts.record.counts["rows"], force=force):
                with staged_folder(place.ratings) as staged:
                    files, counts = _Splitter(source, extras, staged, settings, progress).write()
                    drop_record(place.final, STAGE)
                named = {f"{place.ratings.name}/{name}": file for name, file in files.items()}
                write_record(place.final, STAGE, Record(STAGE, settings, inputs, named, counts))
        return DnnPrepReport(read, **_counted(counts), reused=False)


def _counted(counts: Any) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if name in DnnPrepReport.__dataclass_fields__}


def _check(settings: dict[str, Any]) -> None:
    for name, known in (("duplicates", Duplicates), ("split", Split)):
        check_choice(name, settings[name], known)
    test, validation = settings["test"], settings["validation"]
    for name, fits, expected in (
        ("min_ratings", settings["min_ratings"] >= 1, "1 or more"),
        ("test", 0 < test < 1, "a share of the ratings between 0 and 1"),
        ("validation", 0 <= validation < 1 - test, "a share, which leaves some for training beside the test"),
        ("tags", 0 <= settings["tags"] <= 1000, "0 to 1000"),
        ("seed", 0 <= settings["seed"] < 2**32, "0 to 2^32-1"),
    ):
        if not (fits and math.isfinite(settings[name])):
            raise SettingsError(f"{name} is {settings[name]}.", expected=expected)


class _Splitter:
    """One run: ratings to the files of DIR/dnn/final/ratings."""

    def __init__(
        self, ratings: Ratings, extras: Extras, folder: Path, settings: dict[str, Any], progress: Progress
    ) -> None:
        self.ratings, self.extras, self.folder = ratings, extras, folder
        self.settings, self.progress = settings, progress
        self.rows = sum(map(len, ratings.frames(progress, "count")))
        if not self.rows:
            few = settings["min_ratings"]
            raise SettingsError(f"no user has {few} ratings or more.", expected="ratings", do="lower --min-ratings")

    def _roles(self) -> Roles:
        split, seed, test, valid = (self.settings[name] for name in ("split", "seed", "test", "validation"))
        if split == "user":
            return UserRoles(seed, valid, test)
        if split == "time":
            cuts = (self.ratings.moment(share, self.rows, self.progress) for share in (1 - test - valid, 1 - test))
            return TimeRoles(*cuts)
        held = round(self.rows * valid), round(self.rows * test)
        return RandomRoles(seed, (self.rows - sum(held), *held))

    def _pass(self, what: str) -> Iterator[tuple[pl.DataFrame, UInt8]]:
        """Ratings and their roles, a part at a time; the same on each pass."""
        roles = self._roles()
        for frame in self.ratings.frames(self.progress, what):
            yield frame, roles.of(frame)

    def write(self) -> tuple[dict[str, OutputFile], dict[str, Any]]:
        """Files by name, and what is counted."""
        users, items = self._vocabulary()
        table = item_table(items, self.extras)
        known = table.filter("known").drop("known")
        tags = top_tags(self.extras.tags, self.settings["tags"]) if self.extras.tags and self.settings["tags"] else None
        features, columns = item_features(known, tags)
        codes = known.select(ITEM, item_idx=pl.int_range(1, pl.len() + 1, dtype=pl.Int32)).drop_nulls()
        files, counts = self._write_sets(users, codes, features)
        files |= {"item_features.npy": save_array(self.folder / "item_features.npy", features)}
        files |= self._write_index("users", self._user_index(users))
        files |= self._write_index("items", self._item_index(known))
        files |= self._write_columns(columns)
        counts |= {
            "users": len(users),
            "items": len(known),
            "genres": len(genres_of(known)),
            "tags": int(known["tags"].sum()),
        }
        return files, counts

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
        return coded(whole, "user_idx", first=1), items.with_columns(ids)

    def _write_sets(
        self, users: pl.DataFrame, codes: pl.DataFrame, features: Float32
    ) -> tuple[dict[str, OutputFile], dict[str, Any]]:
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
                joined = frame.join(users.select(SESSION, "user_idx"), on=SESSION, how="left", maintain_order="left")
                joined = joined.join(codes, on=ITEM, how="left", maintain_order="left")
                both = joined.select(pl.col("user_idx", "item_idx").fill_null(0)).to_numpy()
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
            self._check_sets({name: writer.rows for name, writer in zip(SETS, pairs, strict=True)})
            files = {writer.path.name: writer.commit() for writer in (*pairs, *ratings)}
        rows = {name: files[f"{name}_pairs.npy"].shape[0] for name in SETS}
        support = np.append(0, users[COUNT].to_numpy())[:, None]
        profile = np.concatenate([np.log1p(support) / LOGS, sums / (support + LOGS)], axis=1).astype(np.float32)
        files |= {"user_features.npy": save_array(self.folder / "user_features.npy", profile)}
        steps = [float(value) for value in values] if len(values) <= 100 else []
        return files, {**counts, **rows, "lowest": float(values[0]), "highest": float(values[-1]), "values": steps}

    def _check_sets(self, rows: dict[str, int]) -> None:
        if not rows["train"] or not rows["test"]:
            empty = "train" if not rows["train"] else "test"
            raise SettingsError(
                f"of {self.rows:,} ratings none is in the {empty} set.",
                expected="some to train on and some to test with",
                do="give more ratings, or take another --test or --split",
            )

    def _user_index(self, users: pl.DataFrame) -> pl.DataFrame:
        ids = user_ids(self.ratings.parts, users)
        return pl.DataFrame({"user_id": ids, "user_idx": users["user_idx"], "support": users[COUNT]})

    def _item_index(self, known: pl.DataFrame) -> pl.DataFrame:
        ids = known[ITEM_ID]
        if (
            not self.ratings.parts.record.counts.get("text_ids")
            or "item" not in self.ratings.parts.record.counts["text_ids"]
        ):
            ids = ids.cast(pl.Int64, strict=False)
        codes = pl.int_range(1, len(known) + 1, dtype=pl.Int32, eager=True)
        return known.select(ids.alias(ITEM_ID), codes.alias("item_idx"), "support", "title", "year", "genres", "tags")

    def _write_index(self, name: str, frame: pl.DataFrame) -> dict[str, OutputFile]:
        path = self.folder / f"{name}.parquet"
        frame.write_parquet(path)
        return {path.name: OutputFile.of(path, frame.shape)}

    def _write_columns(self, columns: list[str]) -> dict[str, OutputFile]:
        """The names of the features, for people and apps."""
        path = self.folder / "features.json"
        names = {"item": columns, "user": ["support", *(f"mean {column}" for column in columns[1:])]}
        path.write_text(json.dumps(names, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return {path.name: OutputFile.of(path)}
