"""The command line: each command parses, calls the function of the same name, and prints what it returned.

Results go to stdout, remarks and progress to stderr. This is the one place where errors become exit codes: 0 done, 1
something is wrong with the data or the machine, 2 the command was misused.
"""

from __future__ import annotations

import contextlib
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import pocketrec
from pocketrec.cli import dnn, ncf, signals
from pocketrec.cli.options import Again, Clicks, DatasetAddress, DatasetOption, Log, Output, fail_unless, with_options
from pocketrec.cli.terminal import say
from pocketrec.errors import MissingExtraError, PocketrecError, visible
from pocketrec.gru4rec.options import DemoSettings, NeighbourSettings, RankSettings, TrainSettings, TuneSettings
from pocketrec.lite.options import ExportSettings, ModelSettings, ServeSettings, VerifySettings
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sources.options import ReadSettings, SynthSettings
from pocketrec.spark.options import EngineSettings
from pocketrec.storage.space import is_full, unusable

SourceOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Go on from these weights: a checkpoint of train, or what a device has learned (OnDeviceModel.save_to).",
    ),
]


Misuse: type[Exception] = typer.BadParameter.__mro__[1]
"""UsageError, which is click's or, in later versions, typer's own."""


class Commands(TyperGroup):
    """Turns what a user can cause or cure into one message and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with _misuse_visible():
                return super().invoke(ctx)
        except PocketrecError as error:
            say(f"Error: {error}", err=True)
        except OSError as error:
            # Outside of `space.room`, which explains more: the log, or what `inspect` and `synth` touch.
            explained = unusable(error, Path.cwd())
            if not (is_full(error) or explained):
                raise
            full = f"the disk is full: {error.filename or 'while writing'}. Nothing half-written is left."
            say(f"Error: {explained or full}", err=True)
        except KeyboardInterrupt:
            say(signals.message(sys.argv), err=True)
            raise typer.Exit(signals.exit_code()) from None
        raise typer.Exit(1)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the options before the command."""
        with _misuse_visible():
            return super().parse_args(ctx, args)


@contextlib.contextmanager
def _misuse_visible() -> Iterator[None]:
    """Typer prints what it says of a misuse itself; it may quote a name that a shell found in a folder."""
    try:
        yield
    except Misuse as error:
        error.message = visible(error.message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Click logs that do not fit in memory, into training batches, into recommenders that keep learning on a phone.",
)

app.add_typer(ncf.app, name="ncf")
app.add_typer(dnn.app, name="dnn")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        say(f"pocketrec {pocketrec.__version__}")
        raise typer.Exit


@app.command()
@with_options
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's files go.")] = Path("pocketrec-demo"),
    *,
    settings: DemoSettings,
    output: Output,
) -> None:
    """A synthetic log through every stage, in under a minute; nothing is downloaded."""
    result = pocketrec.demo(folder, settings, progress=output.progress)
    output.show(replace(result, run=replace(result.run, page=_page(folder, output))))


@app.command()
@with_options
def run(
    clicks: Clicks,
    dataset: DatasetOption = Path("dataset"),
    *,
    batching: BatchSettings,
    splitting: SplitSettings,
    reading: ReadSettings,
    model: ModelSettings,
    again: Again,
    output: Output,
) -> None:
    """prep, export and verify: from a click log to a model that is known to train."""
    result = pocketrec.run(
        clicks, dataset, batching=batching, splitting=splitting, reading=reading, model=model,
        fresh=again.fresh, force=again.force, progress=output.progress,
    )  # fmt: skip
    output.show(replace(result, page=_page(dataset, output)))
    fail_unless(result.verify.passed)


def _page(dataset: Path, output: Output) -> Path | None:
    """The page of a dataset that was just made; None without the extra, or where it cannot be written, which is said."""
    try:
        return pocketrec.report(dataset, progress=output.progress).page
    except MissingExtraError:
        return None  # `RunReport` says which command makes it
    except PocketrecError as error:
        say(f"No page: {error}", err=True)
        return None


@app.command()
@with_options
def prep(
    clicks: Log,
    dataset: DatasetAddress = "dataset",
    *,
    batching: BatchSettings,
    splitting: SplitSettings,
    reading: ReadSettings,
    engine: EngineSettings,
    again: Again,
    output: Output,
) -> None:
    """ingest, split and batches; what is up to date is not run again."""
    if engine.engine == "spark":
        output.show(pocketrec.prep_on_spark(
            clicks, dataset, batching=batching, splitting=splitting, reading=reading, engine=engine, fresh=again.fresh,
            progress=output.progress,
        ))  # fmt: skip
        return
    result = pocketrec.prep(
        clicks, dataset, batching=batching, splitting=splitting, reading=reading,
        fresh=again.fresh, force=again.force, progress=output.progress,
    )  # fmt: skip
    output.show(result)


@app.command()
@with_options
def land(
    uri: Annotated[str, typer.Argument(help="What prep --engine spark --dataset was given.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Folder on this machine.")] = Path("dataset"),
    *,
    again: Again,
    output: Output,
) -> None:
    """Bring a dataset that Spark has prepared to this machine; batches, train and evaluate go on from there."""
    output.show(pocketrec.land(uri, folder, **vars(again), progress=output.progress))


@app.command()
@with_options
def peek(clicks: Clicks, *, reading: ReadSettings, output: Output) -> None:
    """Look at the beginning of a log: what it is, what its columns may be, and the command that reads it."""
    output.show(pocketrec.peek(clicks, reading))


@app.command()
@with_options
def synth(
    out: Annotated[Path, typer.Argument(help="The log to write.", show_default=False)],
    *,
    settings: SynthSettings,
    output: Output,
) -> None:
    """Write a log of YooChoose's shape and format, any size in bounded memory."""
    output.show(pocketrec.synth(out, settings, progress=output.progress))


@app.command()
@with_options
def ingest(
    clicks: Clicks, dataset: DatasetOption = Path("dataset"), *, reading: ReadSettings, again: Again, output: Output
) -> None:
    """Stream a click log into Parquet parts of whole sessions."""
    output.show(pocketrec.ingest(clicks, dataset, reading, **vars(again), progress=output.progress))


@app.command()
@with_options
def split(dataset: DatasetOption = Path("dataset"), *, splitting: SplitSettings, again: Again, output: Output) -> None:
    """Filter, hold out the last sessions, and write the four rsc15 txt files."""
    output.show(pocketrec.split(dataset, splitting, **vars(again), progress=output.progress))


@app.command()
@with_options
def batches(dataset: DatasetOption = Path("dataset"), *, batching: BatchSettings, again: Again, output: Output) -> None:
    """Write session-parallel mini-batches and the item index."""
    output.show(pocketrec.batches(dataset, batching, **vars(again), progress=output.progress))


@app.command()
@with_options
def train(
    dataset: DatasetOption = Path("dataset"),
    source: SourceOption = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Begin anew, and replace the checkpoint that is there. Without it one of other settings is refused.",
        ),
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard's files.")] = None,
    *,
    training: TrainSettings,
    output: Output,
) -> None:
    """Train a GRU4Rec on the npy batches; a training that was stopped goes on where it was."""
    result = pocketrec.train(
        dataset, training, source=source, fresh=fresh, tensorboard=tensorboard, progress=output.progress
    )
    output.show(result)


@app.command()
@with_options
def tune(
    dataset: DatasetOption = Path("dataset"), *, settings: TuneSettings, training: TrainSettings, output: Output
) -> None:
    """Find settings of train that fit the log, on train_valid; what was stopped goes on where it was."""
    output.show(pocketrec.tune(dataset, settings, training, progress=output.progress))


@app.command()
@with_options
def export(
    dataset: DatasetOption = Path("dataset"),
    source: SourceOption = None,
    *,
    model: ModelSettings,
    user: ExportSettings,
    neighbours: NeighbourSettings,
    output: Output,
) -> None:
    """Write a GRU4Rec as a .tflite that trains on plain LiteRT; or, with --model, sessions that need no training."""
    if neighbours.model != "gru4rec":
        if source is not None:
            raise typer.BadParameter(f"--from gives weights, and {neighbours.model} has none")
        output.show(pocketrec.export_neighbours(dataset, neighbours, progress=output.progress))
        return
    output.show(pocketrec.export(dataset, model, user, source=source, progress=output.progress))


@app.command()
@with_options
def verify(
    dataset: DatasetOption = Path("dataset"),
    model: Annotated[Path | None, typer.Option("--model", help="Another file than the dataset's own model.")] = None,
    *,
    settings: VerifySettings,
    output: Output,
) -> None:
    """Judge the exported model on plain LiteRT, rung by rung; exit 1 if one fails."""
    result = pocketrec.verify(dataset, settings, model=model, progress=output.progress)
    output.show(result)
    fail_unless(result.passed)


@app.command()
@with_options
def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A checkpoint of train or what a device has learned (.safetensors), or a .tflite; none: baselines only.",
            show_default=False,
        ),
    ] = None,
    dataset: DatasetOption = Path("dataset"),
    *,
    settings: RankSettings,
    output: Output,
) -> None:
    """Recall@N and MRR@N of the next item among all items, over every event of a set."""
    output.show(pocketrec.evaluate(dataset, settings, model=model, progress=output.progress))


@app.command()
@with_options
def inspect(
    model: Annotated[
        Path | None,
        typer.Argument(help="A .tflite, or kept sessions: show items, protocol, settings, signatures.", show_default=False),
    ] = None,
    dataset: DatasetOption = Path("dataset"),
    *,
    output: Output,
) -> None:
    """Show what a dataset folder holds and what would be done again; or, given a .tflite, what that says about itself."""
    output.show(pocketrec.inspect(dataset) if model is None else pocketrec.inspect_model(model))


@app.command()
@with_options
def report(
    dataset: DatasetOption = Path("dataset"),
    out: Annotated[Path | None, typer.Option("--out", help="The page to write; DIR/report.html by default.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser of this machine.")] = False,
    *,
    output: Output,
) -> None:
    """One HTML page: what is in the log, what was done to it, how good the model is. It needs no network."""
    result = pocketrec.report(dataset, out=out, progress=output.progress)
    output.show(result)
    if show:
        webbrowser.open(result.page.absolute().as_uri())


@app.command()
@with_options
def recommend(
    model: Annotated[Path, typer.Option("--model", help="A .tflite of export, or its kept sessions.")],
    session: Annotated[str, typer.Option("--session", metavar="ID,ID,...", help="Item ids so far, in order.")],
    top: Annotated[int | None, typer.Option("--top", min=1, help="How many; by default as many as export fixed.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="What was learned since, a .safetensors.")] = None,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--include-seen",
            help="Leave out the items of the session, or not; by default as the file says.",
            show_default=False,
        ),
    ] = None,
    blend: Annotated[Path | None, typer.Option("--blend", help="Kept sessions of export to blend in.")] = None,
    blend_weight: Annotated[float, typer.Option("--blend-weight", min=0, max=1, help="Their weight, 0 to 1.")] = 0.5,
    *,
    output: Output,
) -> None:
    """The items that may come next in a session, best first, with their scores."""
    found = pocketrec.recommend(
        model, session.split(","),
        top=top, exclude_seen=exclude_seen, weights=weights, blend=blend, blend_weight=blend_weight,
    )  # fmt: skip
    output.show(found)


@app.command()
@with_options
def serve(
    model: Annotated[Path, typer.Argument(help="A .tflite of export, or its kept sessions.", show_default=False)],
    *,
    settings: ServeSettings,
    output: Output,
) -> None:
    """A page in the browser in which a model recommends and learns, served on 127.0.0.1 until Ctrl-C."""
    pocketrec.serve(model, settings, started=output.show)


@app.command()
@with_options
def verify_data(dataset: DatasetOption = Path("dataset"), *, output: Output) -> None:
    """Read every file of a dataset and compare it with its checksum; exit 1 if one is damaged."""
    result = pocketrec.verify_data(dataset, progress=output.progress)
    output.show(result)
    fail_unless(result.passed)
