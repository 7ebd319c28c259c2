"""`pocketrec dnn ...`: ratings predicted by a deep network, with genres and years."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketrec.cli.options import Again, DatasetOption, Output, Ratings, fail_unless, with_options
from pocketrec.dnn.options import (
    DnnExportSettings,
    DnnMeasureSettings,
    DnnPredictSettings,
    DnnPrepSettings,
    DnnTrainSettings,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Ratings predicted by a DNN that knows genres and years: MovieLens in any form, or any csv of ratings.",
)


@app.command()
@with_options
def prep(
    ratings: Ratings, dataset: DatasetOption = Path("dataset"), *, settings: DnnPrepSettings, again: Again, output: Output
) -> None:
    """Read ratings, join movies.csv and tags.csv where they come along, and split."""
    from pocketrec.dnn.prep import prep

    output.show(prep(ratings, dataset, settings, **vars(again), progress=output.progress))


@app.command()
@with_options
def train(
    dataset: DatasetOption = Path("dataset"),
    clean: Annotated[bool, typer.Option("--clean", help="Forget an earlier network and its checkpoints.")] = False,
    *,
    settings: DnnTrainSettings,
    output: Output,
) -> None:
    """Train the network; a run that was killed, or is to have more epochs, goes on from its newest checkpoint."""
    from pocketrec.dnn.train import train

    output.show(train(dataset, settings, clean=clean, progress=output.progress))


@app.command()
@with_options
def evaluate(
    dataset: DatasetOption = Path("dataset"),
    picture: Annotated[
        Path | None, typer.Option("--picture", help="A png to write: losses by epoch, predicted beside true ratings.")
    ] = None,
    *,
    settings: DnnMeasureSettings,
    output: Output,
) -> None:
    """RMSE and MAE, or accuracy, beside the global mean and the biases of users and items."""
    from pocketrec.dnn.evaluate import evaluate

    output.show(evaluate(dataset, settings, picture=picture, progress=output.progress))


@app.command()
@with_options
def export(dataset: DatasetOption = Path("dataset"), *, settings: DnnExportSettings, output: Output) -> None:
    """Write the network as a .tflite and judge it on plain LiteRT; exit 1 if a rung fails."""
    from pocketrec.dnn.export import export

    result = export(dataset, settings)
    output.show(result)
    fail_unless(result.passed)


@app.command()
@with_options
def predict(
    user: Annotated[str, typer.Option("--user", help="The user's id in the ratings.")],
    item: Annotated[list[str], typer.Option("--item", help="An item's id in the ratings; may be given several times.")],
    dataset: DatasetOption = Path("dataset"),
    *,
    settings: DnnPredictSettings,
    output: Output,
) -> None:
    """Print the rating that a user is expected to give items."""
    from pocketrec.dnn.predict import predict

    output.show(predict(dataset, settings, user=user, items=item))
