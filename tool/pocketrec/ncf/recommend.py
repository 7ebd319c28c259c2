"""`pocketrec ncf recommend`: the best unseen items of a user, by the ids that the ratings have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.errors import SettingsError
from pocketrec.ingestion.ratings import code_of
from pocketrec.ncf.interactions import item_ids, read_interactions, user_ids
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import read_network
from pocketrec.ncf.options import NcfRecommendSettings
from pocketrec.schema import Float32, Int32


@dataclass(frozen=True)
class Recommendation:
    """An item.

    Attributes:
        item: its id in the ratings.
        score: a logit, higher being better.
    """

    item: int | str
    score: float


@dataclass(frozen=True)
class NcfRecommendReport:
    """What a user should be shown, best first, and how many items the user had already."""

    user: int | str
    seen: int
    items: tuple[Recommendation, ...]


def recommend(
    dataset: Path | str = "dataset",
    settings: NcfRecommendSettings = NcfRecommendSettings(),
    *,
    user: int | str,
    threads: int = 2,
) -> NcfRecommendReport:
    """The best items that a user has not rated, held-out ones among the rated.

    Args:
        dataset: the dataset folder.
        settings: how many, and what is asked.
        user: the id in the ratings.
        threads: of LiteRT's interpreter.

    Raises:
        DatasetError: there is no split, or the network is of another one.
        ModelError: there is no network, or its file is damaged.
        SettingsError: the ratings have no such user, or too few items.
        MissingExtraError: LiteRT is not installed.
    """
    place = NcfDataset(Path(dataset))
    split = place.prepared().content
    code = _user_code(user_ids(place), user)
    interactions = read_interactions(place)
    held = [
        int(some.items[some.users == code][0]) for some in (interactions.test, interactions.valid) if code in some.users
    ]
    seen = np.unique(np.append(interactions.of(code), held)).astype(np.int32)
    unseen, top = interactions.n_items - len(seen), settings.top
    if top > max(1, unseen):
        raise SettingsError(f"top is {top}.", expected=f"1 to {unseen:,}, the items that the user has not rated")
    if settings.tflite:
        from pocketrec.ncf.runtime import NcfModel

        codes, scores = NcfModel(place.tflite, threads, split=split).recommend(code, seen, top)
    else:
        network = read_network(place).network
        codes, scores = best(network.all_items(np.array([code], np.int32))[0], seen, top)
    ids = item_ids(place)
    items = tuple(Recommendation(ids[int(item)], float(score)) for item, score in zip(codes, scores, strict=True))
    return NcfRecommendReport(user, len(seen), items)


def best(scores: Float32, seen: Int32, top: int) -> tuple[Int32, Float32]:
    """Codes and scores of the best unseen items, best first; of equal ones the lower code first."""
    left = scores.copy()
    left[seen] = -np.inf
    order = np.argsort(-left, kind="stable")[:top].astype(np.int32)
    return order, left[order]


def _user_code(ids: pl.Series, user: int | str) -> int:
    found = code_of(ids, user)
    if found is None:
        shown = ", ".join(map(str, ids.head(5).to_list()))
        raise SettingsError(
            f"user {user} is not among the {len(ids):,} users of the split.",
            expected=f"a user of the ratings with enough of them, such as {shown}",
        )
    return found
