"""Ratings with values for tests: few users and items with structure, and what MovieLens has beside them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.sets import RatingSets, read_sets
from pocketrec.storage.item_index import read_items

HEADER = "userId,movieId,rating,timestamp\r\n"


class Rated(NamedTuple):
    """A line of ratings.csv."""

    user: int
    item: int
    rating: float
    time: int


def camps(users: int = 40, items: int = 30, each: int = 18, seed: int = 5) -> list[Rated]:
    """Half of the users love the even items and the others the odd ones; in half stars, with some noise."""
    rng = np.random.default_rng(seed)
    lines = []
    for user in range(users):
        for time, item in enumerate(rng.permutation(items)[:each]):
            mean = 4.5 if (user + item) % 2 == 0 else 1.5
            rating = np.clip(np.round(2 * (mean + rng.normal(0, 0.4))) / 2, 0.5, 5)
            lines.append(Rated(100 + user, 1000 + int(item), float(rating), 1_000_000_000 + 60 * time + user))
    return lines


def movies_csv(items: Iterable[int]) -> str:
    """A title with a comma, a year, and the genre Even or Odd."""
    rows = "".join(f'{item},"Film, The ({1950 + item % 50})",{"Even" if item % 2 == 0 else "Odd"}|Film\n' for item in items)
    return "movieId,title,genres\n" + rows


def write_zip(path: Path, lines: Iterable[Rated], *, movies: str | None = None, tags: str | None = None) -> Path:
    """As ml-latest-small.zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml/ratings.csv", csv_of(lines))
        for name, text in (("movies", movies), ("tags", tags)):
            if text is not None:
                archive.writestr(f"ml/{name}.csv", text)
    return path


def csv_of(lines: Iterable[Rated]) -> str:
    """As ratings.csv."""
    return HEADER + "".join(f"{user},{item},{rating},{time}\r\n" for user, item, rating, time in lines)


def with_ids(place: DnnDataset) -> dict[str, list[tuple[object, object, float]]]:
    """What prep wrote with the ids of the log: user, item and rating by set; None for code 0."""
    sets: RatingSets = read_sets(place)
    users = [None, *read_items(place.users, ["user_id"])["user_id"].to_list()]
    items = [None, *read_items(place.items, ["item_id"])["item_id"].to_list()]
    return {
        name: [
            (users[user], items[item], float(rating)) for (user, item), rating in zip(one.pairs, one.ratings, strict=True)
        ]
        for name, one in sets.sets.items()
    }
