"""The command line: each command parses, calls the function of the same name, and prints what it returned.

Results go to stdout, remarks and progress to stderr. This is the one place where errors become exit codes: 0 done, 1
something is wrong with the data or the machine, 2 the command was misused.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import pocketrec
from pocketrec.cli import dnn, ncf, signals
from pocketrec.cli.choices import Order, Set
from pocketrec.cli.malloc import keep_freed_memory
from pocketrec.cli.options import (
    Again,
    Batching,
    BatchSize,
    Clicks,
    DatasetOption,
    Group,
    Measuring,
    Modelling,
    Output,
    Reading,
    Seed,
    Splitting,
    Training,
    grouped,
)
from pocketrec.errors import PocketrecError
from pocketrec.storage.space import is_full, unusable


class Commands(TyperGroup):
    """Turns what a user can cause or cure into one message and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except PocketrecError as error:
            typer.echo(f"Error: {error}", err=True)
        except OSError as error:
            # Outside of `space.room`, which explains more: the log, or what `inspect` and `synth` touch.
            explained = unusable(error, Path.cwd())
            if not (is_full(error) or explained):
                raise
            full = f"the disk is full: {error.filename or 'while writing'}. Nothing half-written is left."
            typer.echo(f"Error: {explained or full}", err=True)
        except KeyboardInterrupt:
            typer.echo(signals.message(sys.argv), err=True)
            raise typer.Exit(signals.exit_code()) from None
        raise typer.Exit(1)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Click logs that do not fit in memory, into training batches, into recommenders that keep learning on a phone.",
)

app.add_typer(ncf.app, name="ncf")
app.add_typer(dnn.app, name="dnn")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"pocketrec {pocketrec.__version__}")
        raise typer.Exit


@app.command()
@grouped
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's files go.")] = Path("pocketrec-demo"),
    clicks: Annotated[int, typer.Option("--clicks", min=20_000, help="Rows of the synthetic log.")] = 100_000,
    seed: Seed = 0,
    *,
    output: Output,
) -> None:
    """A synthetic log through every stage, in under a minute; nothing is downloaded."""
    output.show(pocketrec.demo(folder, clicks=clicks, seed=seed, progress=output.progress))


@app.command()
@grouped
def run(
    clicks: Clicks,
    dataset: DatasetOption = Path("dataset"),
    *,
    batching: Batching,
    splitting: Splitting,
    reading: Reading,
    modelling: Modelling,
    again: Again,
    output: Output,
) -> None:
    """prep, export and verify: from a click log to a model that is known to train."""
    groups = (batching, splitting, reading, modelling, again)
    result = pocketrec.run(clicks, dataset, **_settings(*groups), progress=output.progress)
    output.show(result)
    _fail_unless(result.verify.passed)


@app.command()
@grouped
def prep(
    clicks: Clicks,
    dataset: DatasetOption = Path("dataset"),
    *,
    batching: Batching,
    splitting: Splitting,
    reading: Reading,
    again: Again,
    output: Output,
) -> None:
    """ingest, split and batches; what is up to date is not run again."""
    groups = (batching, splitting, reading, again)
    output.show(pocketrec.prep(clicks, dataset, **_settings(*groups), progress=output.progress))


@app.command()
@grouped
def synth(
    out: Annotated[Path, typer.Argument(help="The log to write.", show_default=False)],
    clicks: Annotated[int, typer.Option("--clicks", min=1, help="Rows.")] = 1_000_000,
    seed: Seed = 0,
    order: Annotated[
        Order, typer.Option("--order", help="By session as the real log, by time, or at random.")
    ] = Order.grouped,
    *,
    output: Output,
) -> None:
    """Write a log of YooChoose's shape and format, any size in bounded memory."""
    output.show(pocketrec.synth(out, clicks=clicks, seed=seed, order=order.value, progress=output.progress))


@app.command()
@grouped
def ingest(
    clicks: Clicks, dataset: DatasetOption = Path("dataset"), *, reading: Reading, again: Again, output: Output
) -> None:
    """Stream a click log into Parquet parts of whole sessions."""
    output.show(pocketrec.ingest(clicks, dataset, **_settings(reading, again), progress=output.progress))


@app.command()
@grouped
def split(dataset: DatasetOption = Path("dataset"), *, splitting: Splitting, again: Again, output: Output) -> None:
    """Filter, hold out the last sessions, and write the four rsc15 txt files."""
    output.show(pocketrec.split(dataset, **_settings(splitting, again), progress=output.progress))


@app.command()
@grouped
def batches(dataset: DatasetOption = Path("dataset"), *, batching: Batching, again: Again, output: Output) -> None:
    """Write session-parallel mini-batches and the item index."""
    output.show(pocketrec.batches(dataset, **_settings(batching, again), progress=output.progress))


@app.command()
@grouped
def train(
    dataset: DatasetOption = Path("dataset"),
    batch_size: BatchSize = 32,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the batches, earlier ones included.")] = 5,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, not from the last checkpoint.")] = False,
    tensorboard: Annotated[Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard's files.")] = None,
    *,
    training: Training,
    output: Output,
) -> None:
    """Train a GRU4Rec on the npy batches; a training that was stopped goes on where it was."""
    settings = {"epochs": epochs, "fresh": fresh, "tensorboard": tensorboard, **_settings(training)}
    output.show(pocketrec.train(dataset, batch_size=batch_size, **settings, progress=output.progress))


@app.command()
@grouped
def export(
    dataset: DatasetOption = Path("dataset"),
    batch_size: BatchSize = 512,
    source: Annotated[
        Path | None, typer.Option("--from", help="A checkpoint of train: its settings, weights and optimizer state.")
    ] = None,
    *,
    modelling: Modelling,
    output: Output,
) -> None:
    """Write a GRU4Rec as a .tflite that trains on plain LiteRT."""
    settings = {"batch_size": batch_size, "source": source, **_settings(modelling)}
    output.show(pocketrec.export(dataset, **settings, progress=output.progress))


@app.command()
@grouped
def verify(
    dataset: DatasetOption = Path("dataset"),
    batch_size: BatchSize = 512,
    steps: Annotated[int, typer.Option("--steps", help="Training steps for the loss curve.")] = 40,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the interpreter.")] = 2,
    model: Annotated[Path | None, typer.Option("--model", help="Another model than the dataset's own.")] = None,
    *,
    output: Output,
) -> None:
    """Judge the exported model on plain LiteRT, rung by rung; exit 1 if one fails."""
    result = pocketrec.verify(
        dataset, batch_size=batch_size, steps=steps, threads=threads, model=model, progress=output.progress
    )
    output.show(result)
    _fail_unless(result.passed)


@app.command()
@grouped
def evaluate(
    model: Annotated[
        Path | None, typer.Argument(help="A checkpoint of train, or a .tflite; none: anchors only.", show_default=False)
    ] = None,
    dataset: DatasetOption = Path("dataset"),
    on: Annotated[Set, typer.Option("--on", help="The set to measure on.")] = Set.test,
    anchors: Annotated[bool, typer.Option(help="Measure popularity, the last item and co-occurrence, too.")] = True,
    *,
    measuring: Measuring,
    output: Output,
) -> None:
    """Recall@N and MRR@N of the next item among all items, over every event of a set."""
    settings = {"on": on.value, "anchors": anchors, **_settings(measuring)}
    output.show(pocketrec.evaluate(dataset, model=model, **settings, progress=output.progress))


@app.command()
@grouped
def inspect(
    model: Annotated[
        Path | None,
        typer.Argument(help="A .tflite: show its items, protocol, settings and signatures.", show_default=False),
    ] = None,
    dataset: DatasetOption = Path("dataset"),
    *,
    output: Output,
) -> None:
    """Show what a dataset folder holds and what would be done again; or, given a .tflite, what that says about itself."""
    output.show(pocketrec.inspect(dataset) if model is None else pocketrec.inspect_model(model))


@app.command()
@grouped
def recommend(
    model: Annotated[Path, typer.Option("--model", help="A .tflite of export.")],
    session: Annotated[str, typer.Option("--session", metavar="ID,ID,...", help="Item ids so far, in order.")],
    top: Annotated[int | None, typer.Option("--top", min=1, help="How many; by default as many as export fixed.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="What was learned since, a .safetensors.")] = None,
    *,
    output: Output,
) -> None:
    """The items that may come next in a session, best first, with their scores."""
    output.show(pocketrec.recommend(model, session.split(","), top=top, weights=weights))


@app.command()
@grouped
def verify_data(dataset: DatasetOption = Path("dataset"), *, output: Output) -> None:
    """Read every file of a dataset and compare it with its checksum; exit 1 if one is damaged."""
    result = pocketrec.verify_data(dataset, progress=output.progress)
    output.show(result)
    _fail_unless(result.passed)


def _settings(*groups: Group) -> dict[str, Any]:
    """The keyword arguments that groups of options stand for."""
    return {name: value for group in groups for name, value in group.settings().items()}


def _fail_unless(passed: bool) -> None:
    if not passed:
        raise typer.Exit(1)


def main() -> None:
    """The console script."""
    keep_freed_memory(heaps=2 if sys.argv[1:2] == ["train"] else 1)
    signals.on_sigterm()
    sys.exit(app())


if __name__ == "__main__":
    main()
