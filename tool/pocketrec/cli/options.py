"""The command line's options in groups: what a group of commands shares is said once, with its help and its default.

A command takes a group as one parameter (`@app.command()` above `@grouped`), and typer sees the options in it.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from pocketrec.cli.choices import BadRows, Embedding, Loss, Optimizer, Resets, SessionOrder, Tail, Ties, TrainOn, Weights
from pocketrec.durations import parse_duration
from pocketrec.errors import SettingsError
from pocketrec.progress import SILENT, Bars, Progress


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


def _check_cutoffs(text: str) -> str:
    if not all(one.strip().isdecimal() and int(one) for one in text.split(",")):
        raise typer.BadParameter(f"{text!r} is not a list of numbers from 1 on, such as 1,5,10,20")
    return text


def _columns(text: str) -> dict[str, str]:
    from pocketrec.sources.delimited import parse_columns

    return parse_columns(text)


def _check_columns(text: str) -> str:
    try:
        return text and ",".join(f"{name}={own}" for name, own in _columns(text).items())
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from error


Clicks = Annotated[
    Path,
    typer.Argument(
        help="Click log: SessionId,Timestamp,ItemId,Category, in any order; a file, .gz, .zst, .zip, or - (stdin).",
        show_default=False,
        readable=False,  # a log that may not be read is no misuse; ingest says so
    ),
]
DatasetOption = Annotated[Path, typer.Option("--dataset", help="Folder that everything is written to and read from.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Lanes of a mini-batch, B.")]
EmbeddingOption = Annotated[
    Embedding, typer.Option("--embedding", help="Of the items: none, a table of its own, or the output layer's.")
]
OptimizerOption = Annotated[Optimizer, typer.Option("--optimizer", help="Of the model.")]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="The optimizer's.")]
DropoutEmbedding = Annotated[
    float, typer.Option("--dropout-embedding", help="Share of an item's numbers left out in training.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bytes.")]


@dataclass(frozen=True)
class Group:
    """Options whose names and values are those of the library's functions."""

    def settings(self) -> dict[str, Any]:
        """The keyword arguments they stand for."""
        return asdict(self)


@dataclass(frozen=True)
class Again(Group):
    """Of every stage that prepares data."""

    fresh: Annotated[bool, typer.Option("--fresh", help="Run again even what is up to date.")] = False
    force: Annotated[bool, typer.Option("--force", help="Begin even where the disk seems too small.")] = False


@dataclass(frozen=True)
class Reading(Group):
    """How a log is read."""

    timezone: Annotated[str, typer.Option("--timezone", help="Zone of the log's wall clock, by IANA name.")] = "UTC"
    bad_rows: Annotated[
        BadRows,
        typer.Option("--bad-rows", help="At a line that is no click: stop, or set it aside in DIR/rejects.csv."),
    ] = BadRows.stop
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            callback=_check_columns,
            metavar="session=A,item=B,time=C",
            help="A csv, tsv or Parquet file with a header: its names for these columns.",
            show_default=False,
        ),
    ] = ""

    def settings(self) -> dict[str, Any]:
        """Plain strings, and the columns by name."""
        columns = _columns(self.columns) if self.columns else None
        return {"timezone": self.timezone, "bad_rows": self.bad_rows.value, "columns": columns}


@dataclass(frozen=True)
class Splitting(Group):
    """The rsc15 protocol."""

    holdout: Annotated[
        str,
        typer.Option(
            "--holdout", callback=_check_duration, metavar="TIME", help="Time held out at the end: 1d, 3h, 86400s."
        ),
    ] = "1d"
    min_session_length: Annotated[int, typer.Option("--min-session-length", min=2, help="Fewest clicks of a session.")] = 2
    min_item_support: Annotated[int, typer.Option("--min-item-support", min=1, help="Fewest clicks of an item.")] = 5

    def settings(self) -> dict[str, Any]:
        """The hold-out in seconds."""
        return {**asdict(self), "holdout": parse_duration(self.holdout)}


@dataclass(frozen=True)
class Batching(Group):
    """Session-parallel mini-batches."""

    batch_size: BatchSize = 512
    formats: Annotated[
        str,
        typer.Option("--formats", callback=_check_formats, metavar="LIST", help="Batch files: txt,npy or one of them."),
    ] = "txt,npy"
    resets: Annotated[
        Resets,
        typer.Option("--resets", help="Reset a state once, when its session starts; or repeated, the original's masks."),
    ] = Resets.once
    tail: Annotated[
        Tail, typer.Option("--tail", help="When sessions run out: drop what lanes still hold, as the original; or pad.")
    ] = Tail.drop
    session_order: Annotated[
        SessionOrder,
        typer.Option("--session-order", help="Take sessions by id, as the original; or by time, as the official GRU4Rec."),
    ] = SessionOrder.id
    train_on: Annotated[
        TrainOn,
        typer.Option("--train-on", help="Train batches and item index of train_tr; or of all but test: train_full."),
    ] = TrainOn.train_tr

    def settings(self) -> dict[str, Any]:
        """Plain strings, which manifests hold."""
        return {
            "batch_size": self.batch_size,
            "formats": self.formats.split(","),
            "resets": self.resets.value,
            "tail": self.tail.value,
            "session_order": self.session_order.value,
            "train_on": self.train_on.value,
        }


@dataclass(frozen=True)
class Network(Group):
    """What is trained."""

    hidden_size: Annotated[int, typer.Option("--hidden-size", min=1, help="Units of the GRU.")] = 100
    embedding: EmbeddingOption = Embedding.none
    optimizer: OptimizerOption = Optimizer.adam
    learning_rate: LearningRate = 0.001
    momentum: Annotated[float, typer.Option("--momentum", help="Of adagrad.")] = 0.0
    dropout_embedding: DropoutEmbedding = 0.0
    dropout_hidden: Annotated[
        float, typer.Option("--dropout-hidden", help="Share of the hidden state left out in training.")
    ] = 0.0
    loss: Annotated[Loss, typer.Option("--loss", help="Of train_sampled.")] = Loss.cross_entropy
    negatives: Annotated[int, typer.Option("--negatives", min=1, help="Items drawn for train_sampled, S.")] = 2048
    sample_alpha: Annotated[
        float, typer.Option("--sample-alpha", help="They are drawn with P ~ support to this power.")
    ] = 0.75
    logq: Annotated[float, typer.Option("--logq", help="Share of the logQ correction of train_sampled.")] = 1.0
    bpreg: Annotated[float, typer.Option("--bpreg", help="Weight of the score regularisation in BPR-max.")] = 1.0
    elu: Annotated[float, typer.Option("--elu", help="Alpha of the elu on scores in BPR-max; 0: none.")] = 0.5
    seed: Seed = 42

    def settings(self) -> dict[str, Any]:
        """Choices by their names."""
        return {name: value.value if isinstance(value, StrEnum) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Training(Network):
    """What is trained here: the official GRU4Rec's settings, as far as it has one for all data."""

    embedding: EmbeddingOption = Embedding.shared
    optimizer: OptimizerOption = Optimizer.adagrad
    learning_rate: LearningRate = 0.1
    dropout_embedding: DropoutEmbedding = 0.1


@dataclass(frozen=True)
class Modelling(Network):
    """What is trained on the device."""

    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Items that recommend returns.")] = 20
    weights: Annotated[
        Weights, typer.Option("--weights", help="As stored in the file; int8 gives a model that only answers.")
    ] = Weights.float32

    def settings(self) -> dict[str, Any]:
        """Choices by their names; the weights' kind is `storage` in the library, where weights are tensors."""
        plain = super().settings()
        return {**{name: value for name, value in plain.items() if name != "weights"}, "storage": plain["weights"]}


@dataclass(frozen=True)
class Measuring(Group):
    """Recall@N and MRR@N."""

    cutoffs: Annotated[
        str, typer.Option("--cutoffs", callback=_check_cutoffs, metavar="N,N,...", help="N of Recall@N and MRR@N.")
    ] = "1,5,10,20"
    ties: Annotated[
        Ties, typer.Option("--ties", help="Items with the next item's score: all, half or none count as better.")
    ] = Ties.conservative

    def settings(self) -> dict[str, Any]:
        """Numbers, and a plain string."""
        return {"cutoffs": [int(one) for one in self.cutoffs.split(",")], "ties": self.ties.value}


@dataclass(frozen=True)
class Output:
    """How a command talks."""

    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")] = False

    @property
    def progress(self) -> Progress:
        """Bars on a terminal, if anybody wants them."""
        return SILENT if self.quiet or self.json or not sys.stderr.isatty() else Bars()

    def show(self, result: Any) -> None:
        """Print a report: as JSON, or its results on stdout and remarks on it on stderr."""
        from pocketrec.cli import reports

        if self.json:
            typer.echo(reports.as_json(result))
            return
        for line in [] if self.quiet else reports.remarks(result):
            typer.echo(line, err=True)
        for line in reports.results(result):
            typer.echo(line)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every parameter that is a group replaced by the options of that group."""
    hints = get_type_hints(command, include_extras=True)
    flat: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(group := hints[name]):
            groups[name] = group  # type: ignore[assignment]
            of = get_type_hints(group, include_extras=True)
            flat += [
                parameter.replace(name=one.name, annotation=of[one.name], default=one.default) for one in fields(group)
            ]
        else:
            flat.append(parameter.replace(annotation=hints[name]))

    @functools.wraps(command)
    def taking_options(**values: Any) -> None:
        made = {name: group(**{one.name: values.pop(one.name) for one in fields(group)}) for name, group in groups.items()}
        command(**values, **made)

    del taking_options.__wrapped__
    taking_options.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    taking_options.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return taking_options
