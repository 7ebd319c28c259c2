"""`pocketrec ncf recommend`: the best unseen items of a user, by the ids that the ratings have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketrec.errors import SettingsError
from pocketrec.ingestion.ratings import code_of
from pocketrec.ncf.interactions import item_ids, read_interactions, user_ids
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import read_network
from pocketrec.ncf.options import NcfRecommendSettings


@dataclass(frozen=True)
class Recommendation:
    """An item.

    Attributes:
        item: its id in the ratings.
        score: a logit, of ials and ease another number; higher is better.
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
    split, users = place.prepared().content, user_ids(place)
    code = code_of(users, user)
    if code is None:
        shown = ", ".join(map(str, users.head(5).to_list()))
        raise SettingsError(
            f"user {user} is not among the {len(users):,} users of the split.",
            expected=f"a user of the ratings with enough of them, such as {shown}",
        )
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
        left = read_network(place).network.all_items(np.array([code], np.int32))[0]
        left[seen] = -np.inf
        codes = np.argsort(-left, kind="stable")[:top].astype(np.int32)  # of equal scores the lower code first
        scores = left[codes]
    ids = item_ids(place)
    items = tuple(Recommendation(ids[int(item)], float(score)) for item, score in zip(codes, scores, strict=True))
    return NcfRecommendReport(user, len(seen), items)
