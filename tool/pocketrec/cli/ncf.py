"""`pocketrec ncf ...`: neural collaborative filtering; options that the official NCF has too go by its names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketrec.cli.options import Again, DatasetOption, Output, Ratings, fail_unless, with_options
from pocketrec.ncf.options import (
    PRESETS,
    NcfExportSettings,
    NcfMakeSettings,
    NcfPrepSettings,
    NcfRankSettings,
    NcfRecommendSettings,
    NcfTrainSettings,
    PresetName,
)
from pocketrec.settings import rules_of, value_text

app = typer.Typer(
    no_args_is_help=True,
    help="Neural collaborative filtering on ratings: MovieLens in any form, or any csv of users, items and times.",
)


@app.command()
@with_options
def prep(
    ratings: Ratings, dataset: DatasetOption = Path("dataset"), *, settings: NcfPrepSettings, again: Again, output: Output
) -> None:
    """Read ratings, number users and items, and hold out ratings to rank."""
    from pocketrec.ncf.prep import prep

    output.show(prep(ratings, dataset, settings, **vars(again), progress=output.progress))


@app.command()
@with_options
def batches(dataset: DatasetOption = Path("dataset"), *, settings: NcfMakeSettings, again: Again, output: Output) -> None:
    """Write the training epochs and the evaluation set as npy shards; `train` makes its own on the way without them."""
    from pocketrec.ncf.batches import batches

    output.show(batches(dataset, settings, **vars(again), progress=output.progress))


def _set_defaults(context: typer.Context, preset: PresetName | None) -> PresetName | None:
    """Give the options of `train` the defaults of a preset."""
    if preset:
        rules, values = rules_of(NcfTrainSettings), PRESETS[preset].values
        context.default_map = {name: value_text(value, rules[name]) for name, value in values.items()}
    return preset


@app.command()
@with_options
def train(
    dataset: DatasetOption = Path("dataset"),
    train_dataset_path: Annotated[
        Path | None,
        typer.Option(
            "--train-dataset-path",
            help="Train on epochs that `ncf batches` wrote with the same options, DIR/ncf/final/epochs. Without it they "
            "are made on the way, to the same result.",
        ),
    ] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Forget an earlier network and its checkpoints.")] = False,
    preset: Annotated[  # noqa: ARG001
        PresetName | None,
        typer.Option(
            "--preset",
            is_eager=True,
            callback=_set_defaults,
            help="Defaults of the options that are not given. "
            + " ".join(f"{name}: {one.purpose}." for name, one in PRESETS.items()),
        ),
    ] = None,
    *,
    settings: NcfTrainSettings,
    output: Output,
) -> None:
    """Train NeuMF, or solve iALS or EASE; a run that was killed goes on where its last epoch ended."""
    from pocketrec.ncf.train import train

    found = train(dataset, settings, train_dataset_path=train_dataset_path, clean=clean, progress=output.progress)
    output.show(found)


@app.command()
@with_options
def evaluate(dataset: DatasetOption = Path("dataset"), *, settings: NcfRankSettings, output: Output) -> None:
    """HR and NDCG among sampled negatives and among all unseen items, with popularity beside them."""
    from pocketrec.ncf.evaluate import evaluate

    output.show(evaluate(dataset, settings, progress=output.progress))


@app.command()
@with_options
def export(dataset: DatasetOption = Path("dataset"), *, settings: NcfExportSettings, output: Output) -> None:
    """Write the model as a .tflite and judge it on plain LiteRT; exit 1 if a rung fails."""
    from pocketrec.ncf.export import export

    result = export(dataset, settings)
    output.show(result)
    fail_unless(result.passed)


@app.command()
@with_options
def recommend(
    user: Annotated[str, typer.Option("--user", help="The user's id in the ratings.")],
    dataset: DatasetOption = Path("dataset"),
    *,
    settings: NcfRecommendSettings,
    output: Output,
) -> None:
    """Print the ids of the best items that a user has not rated, best first."""
    from pocketrec.ncf.recommend import recommend

    output.show(recommend(dataset, settings, user=user))
