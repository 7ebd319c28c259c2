"""`pocketrec dnn evaluate`: how far the trained network's ratings are from those given, beside two baselines."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.metrics import Accuracy, Spread, baselines, measure, spread
from pocketrec.dnn.network import read_network
from pocketrec.dnn.options import DnnMeasureSettings
from pocketrec.dnn.sets import read_sets
from pocketrec.errors import require
from pocketrec.progress import SILENT, Progress
from pocketrec.settings import options_for
from pocketrec.storage.files import content_hash
from pocketrec.storage.manifest import read_records
from pocketrec.storage.reports import try_to_keep


@dataclass(frozen=True)
class DnnEvaluateReport:
    """A finished evaluation.

    Attributes:
        on: train, valid or test.
        ratings: in the set.
        task: of the network.
        epochs: that the network was trained for.
        learned_from: the sets that the baselines' numbers come from.
        models: by name, the network first.
        picture: where it was drawn, if it was asked for.
        seconds: wall time.
        spread: for each rating that was given, how those that the network predicts instead are spread.
        not_kept: why the page of `report` will not have these figures; "" where they are kept.
    """

    on: str
    ratings: int
    task: str
    epochs: int
    learned_from: tuple[str, ...]
    models: dict[str, Accuracy]
    picture: Path | None
    seconds: float
    spread: tuple[Spread, ...] = ()
    not_kept: str = ""


def evaluate(
    dataset: Path | str = "dataset",
    settings: DnnMeasureSettings = DnnMeasureSettings(),
    *,
    picture: Path | str | None = None,
    progress: Progress = SILENT,
) -> DnnEvaluateReport:
    """Predict a set with the network of `dnn train`; neither TensorFlow nor LiteRT is needed.

    For the test the baselines learn from train and validation set, which is more than the network has: it needs the second
    one to know when to stop.

    Args:
        dataset: the dataset folder.
        settings: the set.
        picture: a png to draw, of the training's losses and the predictions of this set.
        progress: told about ratings.

    Raises:
        DatasetError: there is no split, or the network is of another one.
        ModelError: there is no network, or its file is damaged.
        SettingsError: the set is empty.
        MissingExtraError: a picture is asked for, and matplotlib is not installed.
    """
    began, place, on = time.perf_counter(), DnnDataset(Path(dataset)), settings.on
    trained, sets = read_network(place), read_sets(place)
    rows, shape = sets.rows(on), trained.network.settings
    learned_from = ("train", "valid") if on == "test" else ("train",)
    with progress.task("evaluate", len(rows) * (3 if shape.task == "rate" else 4), "ratings") as advance:
        models = {"dnn": measure(shape, rows, trained.network.outputs, advance)}
        for name, predict in baselines(shape, sets, learned_from).items():
            models[name] = measure(shape, rows, predict, advance)
    if picture is not None:
        require("draw a picture", "matplotlib")
        from pocketrec.dnn.picture import draw

        counts = read_records(place.model)["dnn_train"].counts
        draw(Path(picture), trained.network, counts["epochs"], counts["kept"], rows, on)
    report = DnnEvaluateReport(
        on=on,
        ratings=len(rows),
        task=shape.task,
        epochs=trained.epochs,
        learned_from=learned_from,
        models=models,
        picture=Path(picture) if picture else None,
        seconds=time.perf_counter() - began,
        spread=spread(shape, rows, trained.network.ratings),
    )
    of, argv = {"network": content_hash(place.network)}, ("dnn", "evaluate", *options_for(settings))
    not_kept = try_to_keep(place.home, place.model, f"evaluate {on}", argv, of, report)
    return replace(report, not_kept=not_kept)
