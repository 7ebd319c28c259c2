"""Ingested ratings, part by part: users with enough of them, dense ids, and each user's in order of time.

A part holds whole users, so nothing here sees more than one part at a time; what is kept across parts grows with the users
and the items, not with the ratings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from pocketrec.errors import LogError, SettingsError
from pocketrec.ingestion.ids import ID
from pocketrec.ingestion.ingest import IngestReport, ingest_kind, log_arguments
from pocketrec.ingestion.options import RatingSettings
from pocketrec.ingestion.parts import Parts, read_frame
from pocketrec.progress import Progress
from pocketrec.schema import ITEM, RATING, ROW, SESSION, TIME, Array, Int32, Int64
from pocketrec.settings import options_for
from pocketrec.sources.movielens import RATINGS
from pocketrec.sources.streams import check_log
from pocketrec.storage.files import content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile
from pocketrec.storage.networks import NetworkSide
from pocketrec.storage.space import OVERHEAD
from pocketrec.storage.stage import Stage

USER_CODE, ITEM_CODE, COUNT = "user_idx", "item_idx", "count"
_BINS = 1 << 16
_SPLIT_BYTES_PER_ROW = 12
"""Of a split, at the most: two codes and the value, of 4 bytes each."""


class Ratings:
    """The ratings of an ingest, without those that the settings leave out."""

    def __init__(self, parts: Parts, settings: RatingSettings, progress: Progress, *, rated: bool) -> None:
        """Ratings of an ingest; with `rated` their values come along. `progress` is told of rows, on each pass."""
        self.parts, self.settings, self.progress = parts, settings, progress
        self.columns = [SESSION, ITEM, TIME, ROW, *([RATING] if rated else [])]

    def frames(self, what: str) -> Iterator[pl.DataFrame]:
        """session, item, time, row (and rating) of the ratings that are left, a part at a time, in the order of the log.

        A LogError says if a user has an item twice and `duplicates` is "stop".
        """
        with self.progress.task(what, self.parts.record.counts["rows"], "rows") as advance:
            for folder in self.parts.folders:
                frame = read_frame(folder, self.columns)
                advance(len(frame))
                once = frame.unique([SESSION, ITEM], keep="first", maintain_order=True)
                if len(once) < len(frame) and self.settings.duplicates == "stop":
                    raise self._twice(folder, frame)
                yield once.filter(pl.len().over(SESSION) >= self.settings.min_ratings)

    def _twice(self, folder: Path, frame: pl.DataFrame) -> LogError:
        again = frame.filter(pl.struct(SESSION, ITEM).is_first_distinct().not_())
        named = read_frame(folder, [*self.parts.text_ids, ROW]).filter(pl.col(ROW) == again[ROW][0])
        user, item = (
            named[name][0] if name in named else again[column][0]
            for name, column in (("session_id", SESSION), ("item_id", ITEM))
        )
        return LogError(
            f"user {user} has item {item} more than once (and so for {len(again):,} ratings or more).",
            expected="each item once for a user",
            do="--duplicates first keeps the earlier line of each",
        )

    def vocabulary(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Users (session, count, row, user_idx) and items (item, count, row, item_idx) that are left.

        Codes are given from 0 by first appearance; count is that of ratings, row that of the first. A SettingsError says if
        no user has enough ratings.
        """
        users, items = [], pl.DataFrame(schema={ITEM: pl.Int64, COUNT: pl.Int64, ROW: pl.Int64})
        for frame in self.frames("users"):
            count = pl.len().cast(pl.Int64).alias(COUNT)
            users.append(frame.group_by(SESSION).agg(count, pl.min(ROW)))
            here = frame.group_by(ITEM).agg(count, pl.min(ROW))
            items = pl.concat([items, here]).group_by(ITEM).agg(pl.sum(COUNT), pl.min(ROW))
        kept = pl.concat(users)
        if not len(kept):
            raise SettingsError(
                f"no user has {self.settings.min_ratings} ratings or more, so the split is empty.",
                expected="one user or more with enough ratings",
                do="lower --min-ratings",
            )
        return coded(kept, USER_CODE), coded(items, ITEM_CODE)

    def by_user(self, users: pl.DataFrame, items: pl.DataFrame) -> Iterator[tuple[Int64, Int64, Int32, Int64]]:
        """A part at a time, ratings by user and time, ties in file order: users (n,), starts (n + 1,), items, times.

        `users` and `items` are those of `vocabulary`.
        """
        users, items = users.select(SESSION, USER_CODE), items.select(ITEM, ITEM_CODE)
        for frame in self.frames("split"):
            if not len(frame):
                continue
            coded = frame.join(users, on=SESSION, maintain_order="left").join(items, on=ITEM, maintain_order="left")
            coded = coded.select(USER_CODE, ITEM_CODE, TIME).sort(USER_CODE, TIME, maintain_order=True)
            who, firsts = np.unique(coded[USER_CODE].to_numpy(), return_index=True)
            starts = np.append(firsts, len(coded)).astype(np.int64)
            yield who.astype(np.int64), starts, coded[ITEM_CODE].to_numpy(), coded[TIME].to_numpy()

    def moment(self, share: float, rows: int) -> int:
        """The time of the rating before which that share of all ratings lies, exactly, without holding them.

        Two passes: how many fall into each of `_BINS` spans, then the times of the one span that matters.
        """
        counts = self.parts.record.counts
        low, width = counts["first_ms"], (counts["last_ms"] - counts["first_ms"]) // _BINS + 1
        rank, bins = min(rows - 1, int(share * rows)), np.zeros(_BINS, np.int64)
        for frame in self.frames("times"):
            bins += np.bincount((frame[TIME].to_numpy() - low) // width, minlength=_BINS)
        ends = np.cumsum(bins)
        span = int(np.searchsorted(ends, rank, side="right"))
        begin = low + span * width
        inside = [frame[TIME].filter(frame[TIME].is_between(begin, begin + width, closed="left")).to_numpy()
                  for frame in self.frames("times")]  # fmt: skip
        return int(np.sort(np.concatenate(inside))[rank - int(ends[span] - bins[span])])


Files = dict[str, OutputFile]


def prepare(
    place: NetworkSide,
    kind: Literal["ratings", "rated"],
    ratings: Path | str,
    settings: RatingSettings,
    write: Callable[[Ratings, Path, Mapping[str, Path]], tuple[Files, dict[str, Any]]],
    extras: Callable[[Path], AbstractContextManager[Mapping[str, Path]]] = lambda _: nullcontext({}),
    *,
    fresh: bool,
    force: bool,
    progress: Progress,
) -> tuple[IngestReport, Mapping[str, Any], bool]:
    """Ingest ratings and split them: what `ncf prep` and `dnn prep` do, whose arguments and errors these are.

    With the kind "rated" the ratings' values are read, too. `extras` finds, beside the file of ratings, more files that the
    split is made from, by name. `write` writes the split: from the ratings that are used, a folder and the extras to its
    files and counts. What was read, the counts, and whether the split was there already are returned.
    """
    log, rated = ratings_file(Path(ratings)), kind == "rated"
    argv = (place.name, "prep", *log_arguments(ratings), *options_for(settings), "--fresh")
    with hold(place.home, f"{place.name} prep"):
        report = ingest_kind(kind, log, place.home, settings, argv, fresh=fresh, force=force, progress=progress)
        source = Ratings(Parts(Dataset(place.home)), settings, progress, rated=rated)
        record = source.parts.record
        with extras(log) as found:
            inputs = {"ratings": record.content, **{name: content_hash(path) for name, path in found.items()}}
            stage = Stage(place.final, f"{place.name}_prep", settings.split_settings, inputs, argv)
            if not fresh and (current := stage.current()):
                return report, current.counts, True
            needed = OVERHEAD + _SPLIT_BYTES_PER_ROW * int(record.counts["rows"])
            with stage.replacing(needed, force=force, into=place.split) as draft:
                draft.files, draft.counts = write(source, draft.folder, found)
        return report, draft.counts, False


def ratings_file(ratings: Path) -> Path:
    """The file that holds the ratings: as given, or in a folder the one that is called so; a LogError if there is none."""
    expected = "ratings: u.data, ratings.dat, ratings.csv, or their zip"
    if ratings.is_dir():
        found = [path for path in sorted(ratings.iterdir()) if path.is_file() and RATINGS.names.search(path.name)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(path.name for path in found) or "none"
        raise LogError(f"{ratings} is a folder with {names} called ratings.", expected=expected, do="name the file")
    check_log(ratings, expected)
    return ratings


def user_ids(parts: Parts, users: pl.DataFrame) -> pl.Series:
    """The ids that came in of users, in the order of a frame with the column session."""
    if ID[SESSION] not in parts.text_ids:
        return users[SESSION]
    named = pl.concat([read_frame(part, [SESSION, ID[SESSION]]).unique() for part in parts.folders])
    return users.select(SESSION).join(named, on=SESSION, maintain_order="left")[ID[SESSION]]


def code_of(ids: pl.Series, wanted: int | str) -> int | None:
    """The position of an id, given as text or as a number, among those that came in; None where it is not there."""
    text: int | str | None = str(wanted)
    if ids.dtype != pl.String:
        text = int(wanted) if str(wanted).isascii() and str(wanted).isdigit() and int(wanted) < 2**63 else None
    return ids.index_of(text) if text is not None else None


def save(folder: Path, contents: Mapping[str, Array | pl.DataFrame]) -> Files:
    """Write arrays (.npy) and frames (.parquet) that fit into memory, and describe the files; all by name."""
    files = {}
    for name, content in contents.items():
        if isinstance(content, pl.DataFrame):
            content.write_parquet(folder / name)
        else:
            np.save(folder / name, content)
        dtype = "" if isinstance(content, pl.DataFrame) else str(content.dtype)
        files[name] = OutputFile.of(folder / name, content.shape, dtype)
    return files


def coded(frame: pl.DataFrame, code: str, *, first: int = 0) -> pl.DataFrame:
    """The frame by its first rows, with codes from `first` on."""
    return frame.sort(ROW).with_columns((pl.int_range(pl.len(), dtype=pl.Int32) + first).cast(pl.Int32).alias(code))
