"""`pocketrec ncf ...`: neural collaborative filtering; options that the official NCF has too go by its names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.options import Again, DatasetOption, Group, Output, grouped
from pocketrec.cli.rating_options import RatingsArgument, ReadingRatings, numbers, plain

app = typer.Typer(
    no_args_is_help=True,
    help="Neural collaborative filtering on ratings: MovieLens in any form, or any csv of users, items and times.",
)


class Split(StrEnum):
    """Protocols of evaluation."""

    leave_one_out = "leave-one-out"
    time = "time"


class Model(StrEnum):
    """Networks."""

    neumf = "neumf"
    gmf = "gmf"
    mlp = "mlp"


class Dtype(StrEnum):
    """Arithmetic of training."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class Strategy(StrEnum):
    """Where training runs."""

    one_device = "one_device"
    mirrored = "mirrored"


class On(StrEnum):
    """Sets of positives."""

    test = "test"
    valid = "valid"


@dataclass(frozen=True)
class Splitting(ReadingRatings):
    """How ratings are read and split."""

    min_ratings: Annotated[int, typer.Option("--min-ratings", min=1, help="Fewest ratings of a user.")] = 20
    split: Annotated[
        Split, typer.Option("--split", help="Hold out each user's last rating, or all ratings from one moment on.")
    ] = Split.leave_one_out
    holdout: Annotated[float, typer.Option("--holdout", help="With --split time, the share of ratings held out.")] = 0.1
    validation: Annotated[
        bool, typer.Option("--validation", help="Hold out one more rating of each user, to choose settings by.")
    ] = False


BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Examples of a batch.")]
Epochs = Annotated[int, typer.Option("--train-epochs", min=1, help="Epochs.")]
NumNeg = Annotated[int, typer.Option("--num-neg", min=0, help="Negatives a positive.")]
EvalNegatives = Annotated[int, typer.Option("--eval-negatives", min=1, help="Of the evaluation: 999, or the paper's 99.")]
EvalBatchSize = Annotated[
    int | None, typer.Option("--eval-batch-size", help="Rows of an evaluation batch, a multiple of 1 + negatives.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bytes.")]


@dataclass(frozen=True)
class Making(Group):
    """What determines epochs and evaluation sets."""

    batch_size: BatchSize = 1024
    train_epochs: Epochs = 20
    num_neg: NumNeg = 4
    eval_negatives: EvalNegatives = 999
    eval_batch_size: EvalBatchSize = None
    seed: Seed = 42


@dataclass(frozen=True)
class Training(Making):
    """The original's options of training."""

    model: Annotated[Model, typer.Option("--model", help="The network: NeuMF, or one half of it.")] = Model.neumf
    num_factors: Annotated[int, typer.Option("--num-factors", min=1, help="Factors of GMF.")] = 8
    layers: Annotated[str, typer.Option("--layers", metavar="LIST", help="Widths of the MLP, the first even.")] = (
        "64,32,16,8"
    )
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of Adam.")] = 0.001
    beta1: Annotated[float, typer.Option("--beta1", help="Of Adam.")] = 0.9
    beta2: Annotated[float, typer.Option("--beta2", help="Of Adam.")] = 0.999
    epsilon: Annotated[float, typer.Option("--epsilon", help="Of Adam.")] = 1e-8
    mf_regularization: Annotated[float, typer.Option("--mf-regularization", help="L2 of the embeddings.")] = 0.0
    mlp_regularization: Annotated[
        str, typer.Option("--mlp-regularization", metavar="LIST", help="L2 of each layer.", show_default="zeros")
    ] = ""
    epochs_between_evals: Annotated[int, typer.Option("--epochs-between-evals", min=1, help="Epochs an evaluation.")] = 1
    early_stopping: Annotated[bool, typer.Option("--early-stopping", help="Stop at --hr-threshold.")] = False
    hr_threshold: Annotated[float, typer.Option("--hr-threshold", help="HR@10 at which to stop.")] = 1.0
    ml_perf: Annotated[bool, typer.Option("--ml-perf", help="Negatives that were drawn twice do not count.")] = False
    dtype: Annotated[Dtype, typer.Option("--dtype", help="fp16 and bf16: mixed precision.")] = Dtype.fp32
    loss_scale: Annotated[float, typer.Option("--loss-scale", help="With fp16, fixed; 0: dynamic.")] = 0.0
    enable_xla: Annotated[bool, typer.Option("--enable-xla", help="Compile the step with XLA.")] = False
    distribution_strategy: Annotated[
        Strategy, typer.Option("--distribution-strategy", help="One device, or all GPUs of this machine.")
    ] = Strategy.one_device
    keras_use_ctl: Annotated[
        bool, typer.Option("--keras-use-ctl", help="A custom training loop instead of fit; the result is the same.")
    ] = False
    train_dataset_path: Annotated[
        Path | None, typer.Option("--train-dataset-path", help="Epochs that `ncf batches` wrote, DIR/ncf/final/epochs.")
    ] = None
    clean: Annotated[bool, typer.Option("--clean", help="Forget an earlier network and checkpoint.")] = False

    def settings(self) -> dict[str, Any]:
        """Plain values and tuples of numbers."""
        lists = {"layers": numbers(self.layers, int), "mlp_regularization": numbers(self.mlp_regularization, float)}
        return {**plain(self), **lists}


def _show(output: Output, result: object) -> None:
    """Print a report; how those of NCF look is registered on import."""
    import pocketrec.cli.ncf_reports  # noqa: F401

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
    """Read ratings, number users and items, and hold out positives."""
    from pocketrec.ncf.prep import prep

    _show(output, prep(ratings, dataset, **splitting.settings(), **again.settings(), progress=output.progress))


@app.command()
@grouped
def batches(dataset: DatasetOption = Path("dataset"), *, making: Making, again: Again, output: Output) -> None:
    """Write the training epochs and the evaluation set as npy shards; `train` makes its own on the way without them."""
    from pocketrec.ncf.batches import batches

    _show(output, batches(dataset, **making.settings(), **again.settings(), progress=output.progress))


@app.command()
@grouped
def train(dataset: DatasetOption = Path("dataset"), *, training: Training, output: Output) -> None:
    """Train NeuMF; a run that was killed goes on where its last epoch ended."""
    from pocketrec.ncf.train import train

    _show(output, train(dataset, **training.settings(), progress=output.progress))


@app.command()
@grouped
def evaluate(
    dataset: DatasetOption = Path("dataset"),
    on: Annotated[On, typer.Option("--on", help="The positives to rank.")] = On.test,
    top: Annotated[int, typer.Option("--top", min=1, help="k of HR@k and NDCG@k.")] = 10,
    eval_negatives: Annotated[
        int | None, typer.Option("--eval-negatives", min=1, help="999 or 99.", show_default="as in training")
    ] = None,
    ml_perf: Annotated[
        bool, typer.Option("--ml-perf/--no-ml-perf", help="Negatives that were drawn twice do not count.")
    ] = True,
    full: Annotated[bool, typer.Option("--full/--no-full", help="Also rank among all unseen items.")] = True,
    *,
    output: Output,
) -> None:
    """HR and NDCG among sampled negatives and among all unseen items, with popularity beside them."""
    from pocketrec.ncf.evaluate import evaluate

    _show(
        output,
        evaluate(
            dataset,
            on=on.value,
            top=top,
            negatives=eval_negatives,
            ml_perf=ml_perf,
            full_ranking=full,
            progress=output.progress,
        ),
    )


@app.command()
@grouped
def export(dataset: DatasetOption = Path("dataset"), *, output: Output) -> None:
    """Write the network as a .tflite and judge it on plain LiteRT; exit 1 if a rung fails."""
    from pocketrec.ncf.export import export

    result = export(dataset)
    _show(output, result)
    if not result.passed:
        raise typer.Exit(1)


@app.command()
@grouped
def recommend(
    user: Annotated[str, typer.Option("--user", help="The user's id in the ratings.")],
    dataset: DatasetOption = Path("dataset"),
    top: Annotated[int, typer.Option("--top", min=1, help="How many items.")] = 10,
    tflite: Annotated[bool, typer.Option("--tflite", help="Ask the exported model, on LiteRT.")] = False,
    *,
    output: Output,
) -> None:
    """Print the ids of the best items that a user has not rated, best first."""
    from pocketrec.ncf.recommend import recommend

    _show(output, recommend(dataset, user=user, top=top, tflite=tflite))
