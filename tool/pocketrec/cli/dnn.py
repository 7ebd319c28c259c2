"""`pocketrec dnn ...`: ratings predicted by a deep network, with genres and years."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.options import Again, DatasetOption, Group, Output, grouped
from pocketrec.cli.rating_options import RatingsArgument, ReadingRatings, columns_of, numbers, plain

app = typer.Typer(
    no_args_is_help=True,
    help="Ratings predicted by a DNN that knows genres and years: MovieLens in any form, or any csv of ratings.",
)


class Split(StrEnum):
    """Which ratings are held out."""

    random = "random"
    user = "user"
    time = "time"


class Task(StrEnum):
    """What is predicted."""

    rate = "rate"
    classify = "classify"


class On(StrEnum):
    """Sets of ratings."""

    test = "test"
    valid = "valid"
    train = "train"


@dataclass(frozen=True)
class Splitting(ReadingRatings):
    """How ratings are read and split."""

    min_ratings: Annotated[int, typer.Option("--min-ratings", min=1, help="Fewest ratings of a user.")] = 1
    split: Annotated[
        Split, typer.Option("--split", help="Hold out at random; a share of each user's; or all from one moment on.")
    ] = Split.random
    test: Annotated[float, typer.Option("--test", help="Share of the ratings for the test.")] = 0.2
    validation: Annotated[float, typer.Option("--validation", help="Share for choosing epochs and settings.")] = 0.1
    tags: Annotated[int, typer.Option("--tags", min=0, help="So many of the most frequent tags become features.")] = 0
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split; the same seed gives the same files.")] = 42

    def settings(self) -> dict[str, Any]:
        """Plain values, and the columns by name."""
        return plain(self) | {"columns": columns_of(self.columns, "rating")}


@dataclass(frozen=True)
class Training(Group):
    """The network and how it learns."""

    task: Annotated[Task, typer.Option("--task", help="The rating; or the probability of each value it can have.")] = (
        Task.rate
    )
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs at most.")] = 50
    patience: Annotated[
        int, typer.Option("--patience", min=0, help="Stop after so many epochs without a better validation set; 0: never.")
    ] = 5
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Ratings of a batch.")] = 256
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of Adam.")] = 0.001
    layers: Annotated[str, typer.Option("--layers", metavar="LIST", help="Widths of the dense layers.")] = "128,64"
    embedding_size: Annotated[int, typer.Option("--embedding-size", min=1, help="Of users and of items.")] = 64
    dropout: Annotated[float, typer.Option("--dropout", help="Share left out after each dense layer.")] = 0.2
    regularization: Annotated[float, typer.Option("--regularization", help="L2 of the embeddings.")] = 3e-3
    bias_regularization: Annotated[
        float, typer.Option("--bias-regularization", help="L2 of the biases of users and items.")
    ] = 1e-5
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same network.")] = 42
    checkpoint_every: Annotated[int, typer.Option("--checkpoint-every", min=1, help="Epochs a checkpoint.")] = 5
    clean: Annotated[bool, typer.Option("--clean", help="Forget an earlier network and its checkpoints.")] = False

    def settings(self) -> dict[str, Any]:
        """Plain values and the widths as numbers."""
        return plain(self) | {"layers": numbers(self.layers, int)}


def _show(output: Output, result: object) -> None:
    """Print a report; how those of the DNN look is registered on import."""
    import pocketrec.cli.dnn_reports  # noqa: F401

    output.show(result)


@app.command()
@grouped
def prep(
    ratings: RatingsArgument,
    dataset: DatasetOption = Path("dataset"),
    *,
    splitting: Splitting,
    again: Again,
    output: Output,
) -> None:
    """Read ratings, join movies.csv and tags.csv where they come along, and split."""
    from pocketrec.dnn.prep import prep

    _show(output, prep(ratings, dataset, **splitting.settings(), **again.settings(), progress=output.progress))


@app.command()
@grouped
def train(dataset: DatasetOption = Path("dataset"), *, training: Training, output: Output) -> None:
    """Train the network; a run that was killed, or is to have more epochs, goes on from its newest checkpoint."""
    from pocketrec.dnn.train import train

    _show(output, train(dataset, **training.settings(), progress=output.progress))


@app.command()
@grouped
def evaluate(
    dataset: DatasetOption = Path("dataset"),
    on: Annotated[On, typer.Option("--on", help="The ratings to predict.")] = On.test,
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw losses and predictions into this png.")] = None,
    *,
    output: Output,
) -> None:
    """RMSE and MAE, or accuracy, beside the global mean and the biases of users and items."""
    from pocketrec.dnn.evaluate import evaluate

    _show(output, evaluate(dataset, on=on.value, picture=picture, progress=output.progress))


@app.command()
@grouped
def export(dataset: DatasetOption = Path("dataset"), *, output: Output) -> None:
    """Write the network as a .tflite and judge it on plain LiteRT; exit 1 if a rung fails."""
    from pocketrec.dnn.export import export

    result = export(dataset)
    _show(output, result)
    if not result.passed:
        raise typer.Exit(1)


@app.command()
@grouped
def predict(
    user: Annotated[str, typer.Option("--user", help="The user's id in the ratings.")],
    item: Annotated[list[str], typer.Option("--item", help="An item's id in the ratings; may be given several times.")],
    dataset: DatasetOption = Path("dataset"),
    tflite: Annotated[bool, typer.Option("--tflite", help="Ask the exported model, on LiteRT.")] = False,
    *,
    output: Output,
) -> None:
    """Print the rating that a user is expected to give items."""
    from pocketrec.dnn.predict import predict

    _show(output, predict(dataset, user=user, items=item, tflite=tflite))
