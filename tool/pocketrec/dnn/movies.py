"""What is known of the items besides their ratings: movies.csv (title with the year, genres) and tags.csv, where present.

Both are scanned lazily by Polars; from a zip each is streamed to a file that is gone afterwards. What is kept grows with
the items.

| column of the item features | what it is |
|---|---|
| support | log(1 + train ratings) / 5 |
| year | (year - 1995) / 20; 0 where it is not known |
| dated | 1 where the year is known |
| tagged | log(1 + tags given) / 5 |
| one a genre | 1 where the item has it |
| one a tag | 1 where somebody gave it; the most frequent tags, if any are asked for |
"""

from __future__ import annotations

import contextlib
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.errors import LogError
from pocketrec.schema import Float32
from pocketrec.sources.delimited import MOST_COLUMNS
from pocketrec.sources.streams import STDIN, Wanted, open_log, packing_of
from pocketrec.storage.files import staged_name
from pocketrec.storage.space import room

ITEM_ID = "item_id"
NUMBERS = ("support", "year", "dated", "tagged")
"""The features that any item has."""
NO_GENRES = "(no genres listed)"
MIDDLE_YEAR, YEARS, LOGS = 1995, 20, 5
_NEEDED = {"movies": ("movieId", "title", "genres"), "tags": ("movieId", "tag")}
_YEAR = r"\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*$"


@contextlib.contextmanager
def extras_of(ratings: Path, scratch: Path, *, force: bool = False) -> Iterator[dict[str, Path]]:
    """`movies` and `tags`, as far as their csv files came with ratings: members of their zip, or files beside them.

    Args:
        ratings: a file; standard input has nothing beside it.
        scratch: a folder that is made for what is unpacked, and removed.
        force: unpack even where the disk seems too small.

    Raises:
        LogError: a member cannot be read, or unpacks to more than the archive may (`sources.streams`).
        SpaceError: the disk has no room for it.
    """
    packed = ratings != STDIN and packing_of(ratings) == "zip"
    try:
        found = {
            name: _unpacked(ratings, name, staged_name(scratch), force) if packed else _beside(ratings, name)
            for name in _NEEDED
        }
        yield {name: path for name, path in found.items() if path}
    finally:
        shutil.rmtree(staged_name(scratch), ignore_errors=True)


def _beside(ratings: Path, name: str) -> Path | None:
    path = ratings.parent / f"{name}.csv"
    return path if ratings != STDIN and path.is_file() and path != ratings else None


def _unpacked(archive: Path, name: str, scratch: Path, force: bool) -> Path | None:
    with zipfile.ZipFile(archive) as opened:
        members = [
            one
            for one in opened.infolist()
            if Path(one.filename).name.lower() == f"{name}.csv" and not one.filename.startswith("__")
        ]
    if len(members) != 1:
        return None
    path, wanted = scratch / f"{name}.csv", Wanted(name, re.compile(rf"^{name}\.csv$", re.IGNORECASE))
    needed = members[0].file_size  # zipfile reads no more of a member, whatever follows
    with open_log(archive, wanted) as stream, room(scratch, f"unpacking {stream.name}", needed, force=force):
        if needed > stream.limit:
            raise stream.too_large()
        scratch.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for block in stream.blocks(lambda _: None):
                file.write(block)
    return path


def item_table(rated: pl.DataFrame, extras: Mapping[str, Path]) -> pl.DataFrame:
    """The rated items joined with what is known of them, in the order of their codes.

    Args:
        rated: item_id (String), support and row (the first, null where the item has no train row); unique items.
        extras: the files that were found: movies (movieId, title, genres) and tags (userId, movieId, tag, timestamp).

    Returns:
        item_id, support, row, title, year, genres (a list), tags (how many were given), known. First those with train rows,
        by first appearance; then those that have none and are known from movies.csv; then, with known false, the rest.
    """
    items = rated.lazy().with_columns(pl.lit(True).alias("rated"))
    movies, tags = extras.get("movies"), extras.get("tags")
    if movies:
        table = items.join(_movies(movies), on=ITEM_ID, how="full", coalesce=True)
    else:
        nothing = [pl.lit(None, pl.String).alias("title"), pl.lit(None, pl.Int32).alias("year")]
        table = items.with_columns(*nothing, pl.lit(None, pl.List(pl.String)).alias("genres"))
    table = table.join(_tag_counts(tags), on=ITEM_ID, how="left") if tags else table.with_columns(tags=0)
    known = (pl.col("support") > 0) | pl.col("title").is_not_null()
    filled = table.with_columns(
        pl.col("support").fill_null(0), pl.col("genres").fill_null([]), pl.col("tags").fill_null(0).cast(pl.Int64)
    )
    ordered = filled.with_columns(known.alias("known")).sort(
        pl.col("known").not_(), pl.col("row").is_null(), "row", ITEM_ID
    )
    return _collect(ordered, movies or tags)


def _movies(path: Path) -> pl.LazyFrame:
    genres = pl.col("genres").str.split("|")
    return (
        _scan(path, "movies")
        .unique("movieId", keep="first", maintain_order=True)
        .select(
            pl.col("movieId").alias(ITEM_ID),
            pl.col("title"),
            pl.col("title").str.extract(_YEAR).cast(pl.Int32, strict=False).alias("year"),
            genres.list.eval(pl.element().filter((pl.element() != NO_GENRES) & (pl.element() != "")))
            .list.unique()
            .alias("genres"),
        )
    )


def _tag_counts(path: Path) -> pl.LazyFrame:
    return _scan(path, "tags").group_by(pl.col("movieId").alias(ITEM_ID)).agg(pl.len().cast(pl.Int64).alias("tags"))


def top_tags(path: Path, count: int) -> pl.DataFrame:
    """item_id and tag of the tags that most items have; the names come first by items, then by the alphabet."""
    tag = pl.col("tag").str.to_lowercase().str.strip_chars()
    given = _scan(path, "tags").select(pl.col("movieId").alias(ITEM_ID), tag.alias("tag")).drop_nulls().unique()
    most = given.group_by("tag").agg(pl.len().alias("items")).sort("items", "tag", descending=[True, False]).head(count)
    return _collect(given.join(most, on="tag").sort("items", "tag", ITEM_ID, descending=[True, False, False]), path)


def _scan(path: Path, name: str) -> pl.LazyFrame:
    try:
        scan = pl.scan_csv(path, infer_schema=False, glob=False)
        columns = scan.collect_schema().names()
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, error) from error
    if len(columns) > MOST_COLUMNS:
        raise LogError(f"{path.name} has {len(columns):,} columns.", expected=f"at most {MOST_COLUMNS:,}")
    if missing := [one for one in _NEEDED[name] if one not in columns]:
        raise LogError(
            f"{path.name} has no column {missing[0]!r}; it has {', '.join(columns[:10])}.",
            expected=f"{name}.csv of MovieLens: {', '.join(_NEEDED[name])}",
            do=f"mend it, or put the ratings where no {name}.csv is beside them",
        )
    return scan


def _collect(frame: pl.LazyFrame, path: Path | None) -> pl.DataFrame:
    try:
        return frame.collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path | None, error: Exception) -> LogError:
    name, why = path.name if path else "the items", str(error).split("\n", 1)[0]
    return LogError(f"{name} cannot be read ({why}).", expected="a whole csv file", do="download or copy it again")


def genres_of(table: pl.DataFrame) -> list[str]:
    """All genres, by the alphabet."""
    return table["genres"].explode().drop_nulls().unique().sort().to_list()


def item_features(table: pl.DataFrame, tags: pl.DataFrame | None) -> tuple[Float32, list[str]]:
    """The features of items by code, float32 (codes, columns), and the columns' names; row 0, of no item, is zeros.

    `table` has the known items in the order of their codes from 1; `tags` are those of `top_tags`.
    """
    genres = genres_of(table)
    words = tags["tag"].unique(maintain_order=True).to_list() if tags is not None else []
    features = np.zeros((len(table) + 1, len(NUMBERS) + len(genres) + len(words)), np.float32)
    year = table["year"].cast(pl.Float32)
    features[1:, 0] = np.log1p(table["support"].to_numpy()) / LOGS
    features[1:, 1] = ((year - MIDDLE_YEAR) / YEARS).fill_null(0).to_numpy()
    features[1:, 2] = year.is_not_null().to_numpy()
    features[1:, 3] = np.log1p(table["tags"].to_numpy()) / LOGS
    codes = table.select(ITEM_ID, code=pl.int_range(1, pl.len() + 1), genres="genres")
    _mark(features, codes.explode("genres").drop_nulls("genres"), "genres", genres, len(NUMBERS))
    if tags is not None:
        _mark(features, tags.join(codes, on=ITEM_ID), "tag", words, len(NUMBERS) + len(genres))
    return features, [*NUMBERS, *genres, *(f"tag {word}" for word in words)]


def _mark(features: Float32, frame: pl.DataFrame, column: str, names: list[str], first: int) -> None:
    """Put a 1 where an item has one of the names."""
    if len(frame) and names:
        place = frame[column].cast(pl.Enum(names)).to_physical().to_numpy()
        features[frame["code"].to_numpy(), first + place.astype(np.int64)] = 1
