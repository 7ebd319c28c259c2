"""The command line: each command parses, calls the function of the same name, and prints what it returned.

Results go to stdout, remarks and progress to stderr. This is the one place where errors become exit codes: 0 done, 1
something is wrong with the data or the machine, 2 the command was misused.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import pocketrec
from pocketrec import stopping
from pocketrec.allocator import keep_freed_memory
from pocketrec.durations import parse_duration
from pocketrec.errors import PocketrecError
from pocketrec.progress import SILENT, Bars, Progress
from pocketrec.space import is_full, unusable


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
            typer.echo(stopping.message(sys.argv), err=True)
            raise typer.Exit(stopping.exit_code()) from None
        raise typer.Exit(1)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Click logs that do not fit in memory, into training batches, into recommenders that keep learning on a phone.",
)


class Resets(StrEnum):
    """When a mask asks for a reset."""

    once = "once"
    repeated = "repeated"


class Tail(StrEnum):
    """What happens when sessions run out."""

    drop = "drop"
    pad = "pad"


class Optimizer(StrEnum):
    """The optimizers an exported model can have."""

    adam = "adam"
    adagrad = "adagrad"
    sgd = "sgd"


class Order(StrEnum):
    """The order of rows in a synthetic log."""

    grouped = "grouped"
    interleaved = "interleaved"
    shuffled = "shuffled"


def _check_duration(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def _check_formats(text: str) -> str:
    if not set(text.split(",")) <= {"txt", "npy"}:
        raise typer.BadParameter(f"{text!r} is not txt, npy or txt,npy")
    return text


Clicks = Annotated[
    Path, typer.Argument(help="Click log: SessionId,Timestamp,ItemId,Category, in any order.", show_default=False)
]
DatasetOption = Annotated[Path, typer.Option("--dataset", help="Folder that everything is written to and read from.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run again even what is up to date.")]
Force = Annotated[bool, typer.Option("--force", help="Begin even where the disk seems too small.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Lanes of a mini-batch, B.")]
Holdout = Annotated[
    str,
    typer.Option("--holdout", callback=_check_duration, metavar="TIME", help="Time held out at the end: 1d, 3h, 86400s."),
]
MinSession = Annotated[int, typer.Option("--min-session-length", min=2, help="Fewest clicks of a session.")]
MinSupport = Annotated[int, typer.Option("--min-item-support", min=1, help="Fewest clicks of an item.")]
Timezone = Annotated[str, typer.Option("--timezone", help="Zone of the log's wall clock, by IANA name.")]
Formats = Annotated[
    str, typer.Option("--formats", callback=_check_formats, metavar="LIST", help="Batch files: txt,npy or one of them.")
]
ResetsOption = Annotated[
    Resets, typer.Option("--resets", help="Reset a state once, when its session starts; or repeated, the original's masks.")
]
TailOption = Annotated[
    Tail, typer.Option("--tail", help="When sessions run out: drop what lanes still hold, as the original; or pad.")
]
HiddenSize = Annotated[int, typer.Option("--hidden-size", min=1, help="Units of the GRU.")]
OptimizerOption = Annotated[Optimizer, typer.Option("--optimizer", help="Trains the model on the device.")]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="Its learning rate.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bytes.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"pocketrec {pocketrec.__version__}")
        raise typer.Exit


def _watch(quiet: bool, json: bool) -> Progress:
    return SILENT if quiet or json or not sys.stderr.isatty() else Bars()


def _show(result: Any, *, json: bool, quiet: bool) -> None:
    """Print a report: as JSON, or its results on stdout and remarks on it on stderr."""
    from pocketrec import report

    if json:
        typer.echo(report.as_json(result))
        return
    for line in [] if quiet else report.remarks(result):
        typer.echo(line, err=True)
    for line in report.results(result):
        typer.echo(line)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's files go.")] = Path("pocketrec-demo"),
    clicks: Annotated[int, typer.Option("--clicks", min=20_000, help="Rows of the synthetic log.")] = 100_000,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A synthetic log through every stage, in under a minute; nothing is downloaded."""
    _show(pocketrec.demo(folder, clicks=clicks, seed=seed, progress=_watch(quiet, json)), json=json, quiet=quiet)


@app.command()
def run(
    clicks: Clicks,
    dataset: DatasetOption = Path("dataset"),
    batch_size: BatchSize = 512,
    holdout: Holdout = "1d",
    min_session_length: MinSession = 2,
    min_item_support: MinSupport = 5,
    timezone: Timezone = "UTC",
    formats: Formats = "txt,npy",
    resets: ResetsOption = Resets.once,
    tail: TailOption = Tail.drop,
    hidden_size: HiddenSize = 100,
    optimizer: OptimizerOption = Optimizer.adam,
    learning_rate: LearningRate = 0.001,
    seed: Seed = 42,
    fresh: Fresh = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """prep, export and verify: from a click log to a model that is known to train."""
    result = pocketrec.run(
        clicks,
        dataset,
        batch_size=batch_size,
        holdout=parse_duration(holdout),
        min_session_length=min_session_length,
        min_item_support=min_item_support,
        timezone=timezone,
        formats=formats.split(","),
        resets=resets.value,
        tail=tail.value,
        hidden_size=hidden_size,
        optimizer=optimizer.value,
        learning_rate=learning_rate,
        seed=seed,
        fresh=fresh,
        force=force,
        progress=_watch(quiet, json),
    )
    _show(result, json=json, quiet=quiet)
    _fail_unless(result.verify.passed)


@app.command()
def prep(
    clicks: Clicks,
    dataset: DatasetOption = Path("dataset"),
    batch_size: BatchSize = 512,
    holdout: Holdout = "1d",
    min_session_length: MinSession = 2,
    min_item_support: MinSupport = 5,
    timezone: Timezone = "UTC",
    formats: Formats = "txt,npy",
    resets: ResetsOption = Resets.once,
    tail: TailOption = Tail.drop,
    fresh: Fresh = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """ingest, split and batches; what is up to date is not run again."""
    result = pocketrec.prep(
        clicks,
        dataset,
        batch_size=batch_size,
        holdout=parse_duration(holdout),
        min_session_length=min_session_length,
        min_item_support=min_item_support,
        timezone=timezone,
        formats=formats.split(","),
        resets=resets.value,
        tail=tail.value,
        fresh=fresh,
        force=force,
        progress=_watch(quiet, json),
    )
    _show(result, json=json, quiet=quiet)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="The log to write.", show_default=False)],
    clicks: Annotated[int, typer.Option("--clicks", min=1, help="Rows.")] = 1_000_000,
    seed: Seed = 0,
    order: Annotated[
        Order, typer.Option("--order", help="By session as the real log, by time, or at random.")
    ] = Order.grouped,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a log of YooChoose's shape and format, any size in bounded memory."""
    result = pocketrec.synth(out, clicks=clicks, seed=seed, order=order.value, progress=_watch(quiet, json))
    _show(result, json=json, quiet=quiet)


@app.command()
def ingest(
    clicks: Clicks,
    dataset: DatasetOption = Path("dataset"),
    timezone: Timezone = "UTC",
    fresh: Fresh = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stream a click log into Parquet parts of whole sessions."""
    result = pocketrec.ingest(clicks, dataset, timezone=timezone, fresh=fresh, force=force, progress=_watch(quiet, json))
    _show(result, json=json, quiet=quiet)


@app.command()
def split(
    dataset: DatasetOption = Path("dataset"),
    holdout: Holdout = "1d",
    min_session_length: MinSession = 2,
    min_item_support: MinSupport = 5,
    fresh: Fresh = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Filter, hold out the last sessions, and write the four rsc15 txt files."""
    result = pocketrec.split(
        dataset,
        holdout=parse_duration(holdout),
        min_session_length=min_session_length,
        min_item_support=min_item_support,
        fresh=fresh,
        force=force,
        progress=_watch(quiet, json),
    )
    _show(result, json=json, quiet=quiet)


@app.command()
def batches(
    dataset: DatasetOption = Path("dataset"),
    batch_size: BatchSize = 512,
    formats: Formats = "txt,npy",
    resets: ResetsOption = Resets.once,
    tail: TailOption = Tail.drop,
    fresh: Fresh = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write session-parallel mini-batches and the item index."""
    result = pocketrec.batches(
        dataset,
        batch_size=batch_size,
        formats=formats.split(","),
        resets=resets.value,
        tail=tail.value,
        fresh=fresh,
        force=force,
        progress=_watch(quiet, json),
    )
    _show(result, json=json, quiet=quiet)


@app.command()
def export(
    dataset: DatasetOption = Path("dataset"),
    batch_size: BatchSize = 512,
    hidden_size: HiddenSize = 100,
    optimizer: OptimizerOption = Optimizer.adam,
    learning_rate: LearningRate = 0.001,
    seed: Seed = 42,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a GRU4Rec as a .tflite that trains on plain LiteRT."""
    result = pocketrec.export(
        dataset,
        batch_size=batch_size,
        hidden_size=hidden_size,
        optimizer=optimizer.value,
        learning_rate=learning_rate,
        seed=seed,
        progress=_watch(quiet, json),
    )
    _show(result, json=json, quiet=quiet)


@app.command()
def verify(
    dataset: DatasetOption = Path("dataset"),
    batch_size: BatchSize = 512,
    steps: Annotated[int, typer.Option("--steps", help="Training steps for the loss curve.")] = 40,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the interpreter.")] = 2,
    model: Annotated[Path | None, typer.Option("--model", help="Another model than the dataset's own.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge the exported model on plain LiteRT, rung by rung; exit 1 if one fails."""
    watch = _watch(quiet, json)
    result = pocketrec.verify(dataset, batch_size=batch_size, steps=steps, threads=threads, model=model, progress=watch)
    _show(result, json=json, quiet=quiet)
    _fail_unless(result.passed)


@app.command()
def inspect(dataset: DatasetOption = Path("dataset"), json: Json = False, quiet: Quiet = False) -> None:
    """Show what a dataset folder holds and what would be done again."""
    _show(pocketrec.inspect(dataset), json=json, quiet=quiet)


@app.command()
def verify_data(dataset: DatasetOption = Path("dataset"), json: Json = False, quiet: Quiet = False) -> None:
    """Read every file of a dataset and compare it with its checksum; exit 1 if one is damaged."""
    result = pocketrec.verify_data(dataset, progress=_watch(quiet, json))
    _show(result, json=json, quiet=quiet)
    _fail_unless(result.passed)


def _fail_unless(passed: bool) -> None:
    if not passed:
        raise typer.Exit(1)


def main() -> None:
    """The console script."""
    keep_freed_memory()
    stopping.on_sigterm()
    sys.exit(app())


if __name__ == "__main__":
    main()
