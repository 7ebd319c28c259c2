"""`pocketrec dnn predict`: the rating that a user would give items, by the ids that the ratings have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.network import expected_rating, probabilities, read_network
from pocketrec.dnn.options import DnnPredictSettings
from pocketrec.errors import SettingsError
from pocketrec.ingestion.ratings import code_of
from pocketrec.storage.item_index import read_items


@dataclass(frozen=True)
class Prediction:
    """An item.

    Attributes:
        item: its id as it was asked for.
        title: from movies.csv; "" where there is none.
        rating: that is expected.
        probabilities: of each value, with the task `classify`; else none.
        support: its train ratings: with 0 the prediction is by genres and year.
        known: False where neither the ratings nor movies.csv have the item.
    """

    item: str
    title: str
    rating: float
    probabilities: dict[float, float]
    support: int
    known: bool


@dataclass(frozen=True)
class DnnPredictReport:
    """What a user would rate.

    Attributes:
        user: the id as it was asked for.
        known: whether the user has train ratings; others are taken for a user of no habits.
        items: in the order they were asked for.
    """

    user: str
    known: bool
    items: tuple[Prediction, ...]


def predict(
    dataset: Path | str = "dataset",
    settings: DnnPredictSettings = DnnPredictSettings(),
    *,
    user: int | str,
    items: Sequence[int | str],
    threads: int = 2,
) -> DnnPredictReport:
    """The rating that is expected of a user for items.

    Args:
        dataset: the dataset folder.
        settings: what is asked.
        user: the id in the ratings; one that is not there is predicted by code 0.
        items: ids in the ratings or in movies.csv; others are predicted by code 0.
        threads: of LiteRT's interpreter.

    Raises:
        DatasetError: there is no split, or the network is of another one.
        ModelError: there is no network, or its file is damaged.
        SettingsError: no item was named.
        MissingExtraError: LiteRT is not installed.
    """
    place = DnnDataset(Path(dataset))
    if not items:
        raise SettingsError("no item was named.", expected="one or more", do="--item 318")
    place.prepared()
    index = read_items(place.items, ("item_id", "support", "title"), do=place.prep_command)
    row_of_user = code_of(read_items(place.users, ["user_id"], do=place.prep_command).to_series(), user)
    rows = [code_of(index["item_id"], item) for item in items]
    codes = np.array([0 if row is None else row + 1 for row in rows], np.int32)
    who = 0 if row_of_user is None else row_of_user + 1
    if settings.tflite:
        from pocketrec.dnn.runtime import DnnModel

        model = DnnModel(place.tflite, threads, split=place.prepared().content)
        (ratings, odds), made_of = model.predict(who, codes), model.card.settings
    else:
        network = read_network(place).network
        outputs, made_of = network.outputs(np.full(len(codes), who, np.int32), codes), network.settings
        ratings = expected_rating(made_of, outputs)
        odds = probabilities(outputs) if made_of.task == "classify" else None
    shares = np.empty((len(codes), 0)) if odds is None else odds
    found = []
    for item, row, rating, own in zip(items, rows, ratings.tolist(), shares.tolist(), strict=True):
        title, support = ("", 0) if row is None else (index["title"][row] or "", index["support"][row])
        named = dict(zip(made_of.values, own, strict=True))
        found.append(Prediction(str(item), title, rating, named, support, row is not None))
    return DnnPredictReport(str(user), row_of_user is not None, tuple(found))
