"""Reports as people and programs read them: as lines of text, results and remarks, and as one JSON object.

The lines for stages of data are here.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import singledispatch
from io import StringIO
from typing import Any

from pocketrec.cli.terminal import Drawn
from pocketrec.errors import visible
from pocketrec.ingestion.ingest import IngestReport
from pocketrec.sessions.batches import BatchesReport
from pocketrec.sessions.prep import PrepReport
from pocketrec.sessions.split import TITLES, SplitReport
from pocketrec.sources.options import USAGE
from pocketrec.sources.peek import PeekReport
from pocketrec.sources.synth import SynthReport
from pocketrec.storage.inspect import InspectReport
from pocketrec.storage.layout import SPLITS
from pocketrec.storage.space import size
from pocketrec.storage.verify_data import VerifyDataReport

_CELL = 40
"""Characters of a cell of a log that are shown."""
LINES_OF = {room: room for room in ("ncf", "dnn", "spark")} | dict.fromkeys(
    ("gru4rec", "lite", "page", "training"), "model"
)
"""Room of a report -> module with its lines, without "_reports"."""
SET_NAMES = {"train_tr": "train", "train_valid": "valid", "test": "test"}


def load_for(result: Any) -> None:
    """See that the lines of a report are known here: those of data are in this module, others in modules of their own."""
    room = type(result).__module__.split(".")[1]
    if room in LINES_OF:
        importlib.import_module(f"pocketrec.cli.{LINES_OF[room]}_reports")


def as_json(result: Any) -> str:
    r"""A report as one JSON object; paths as text. It is printable ASCII; JSON's `\uNNNN` stands for anything else."""
    return json.dumps(dataclasses.asdict(result), indent=1, default=str).replace("\x7f", "\\u007f")


@singledispatch
def results(result: Any) -> Iterable[str]:
    """What was asked for, line by line, for stdout."""
    return [str(result)]


@singledispatch
def remarks(result: Any) -> Iterable[str]:  # noqa: ARG001
    """What is worth knowing besides, for stderr."""
    return []


def done(reused: bool, what: str) -> str:
    """What was done, or that it had been."""
    return f"{what} (up to date, not made again)" if reused else what


def left_out(read: IngestReport, used: int) -> Iterator[str]:
    """Remarks on ratings that were read and are not used, and on lines that are not ratings."""
    if left := read.rows - used:
        yield f"  {left:,} ratings left out, of users with too few, or given twice"
    if read.set_aside:
        yield f"  {read.set_aside:,} lines set aside in {read.rejects}"


def not_kept(why: str) -> Iterator[str]:
    """A remark on figures that `report` will not have."""
    if why:
        yield f"  not kept for the page of `pocketrec report`: {why}"


def setting_text(value: Any) -> str:
    return ",".join(f"{key}={one}" for key, one in value.items()) if isinstance(value, dict) else str(value)


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


@results.register
def _(result: SynthReport) -> Iterable[str]:
    contents = f"{result.clicks:,} clicks, {result.sessions:,} sessions, {result.items:,} items"
    yield f"Log: {result.path}, {contents}, {size(result.bytes)}"


@results.register
def _(result: IngestReport) -> Iterable[str]:
    span = f"{_day(result.first_ms)} to {_day(result.last_ms)} UTC"
    parts = f"{result.parts:,} part" + "s" * (result.parts != 1)
    sessions = f"{result.sessions:,} sessions, " if result.sessions else ""
    what = f"Parquet: {result.rows:,} clicks, {sessions}{span}, in {parts}, {size(result.bytes)}"
    yield done(result.reused, what)


@remarks.register
def _(result: IngestReport) -> Iterable[str]:
    yield from (f"  {remark}" for remark in result.remarks)
    if result.member:
        yield f"  read from the archive: {result.member}"
    if result.header:
        yield "  the first line names the columns; it is not counted"
    if result.text_ids:
        yield f"  {' and '.join(result.text_ids)} ids are not all whole numbers; the parts have codes beside them"
    if result.left_out:
        share = f"({result.left_out / result.lines:.1%})"
        yield f"  {result.left_out:,} of {result.lines:,} rows left out by --where {share}"
    if result.rejects:
        share = f"{result.set_aside:,} of {result.lines:,} lines are not clicks ({result.set_aside / result.lines:.3%})"
        yield f"  {share}; they are in {result.rejects}"


@results.register
def _(result: SplitReport) -> Iterable[str]:
    yield result.block()


@remarks.register
def _(result: SplitReport) -> Iterable[str]:
    if result.reused:
        yield "Split: up to date, not made again"
    if empty := [TITLES[name].lower() for name, size in result.sets.items() if not size.events]:
        yield f"  no event: {', '.join(empty)}; hold out more of the log, or keep rarer items"


@results.register
def _(result: BatchesReport) -> Iterable[str]:
    train = result.sets["train_tr"]
    what = (
        f"Batches of {result.batch_size}: {train.steps:,} steps, {train.transitions:,} transitions, {result.items:,} items"
    )
    yield done(result.reused, what)


@remarks.register
def _(result: BatchesReport) -> Iterable[str]:
    for name in SPLITS:
        one, title = result.sets[name], SET_NAMES[name]
        total = one.transitions + one.dropped
        if one.dropped:
            yield f"  {title}: the tail dropped {one.dropped:,} of {total:,} transitions ({one.dropped / total:.3%})"
        if one.padded:
            contents = f"{one.transitions:,} transitions in {one.steps:,} steps"
            yield f"  {title}: fewer sessions than lanes, so it is padded: {contents}"
        if one.unknown:
            yield f"  {title}: {one.unknown:,} clicks left out, their items are not in the train set"


def drawn(names: Sequence[str], rows: Iterable[Sequence[str]], styles: Sequence[str] = (), styled: int = 0) -> Drawn:
    """A table; `styles` are those of the cells in the column `styled`."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(Text(visible(name)))
    for number, row in enumerate(rows):
        cells = [Text(visible(cell)) for cell in row]  # not markup
        if styles:
            cells[styled].stylize(styles[number])
        table.add_row(*cells)
    text = StringIO()
    terminal = Console()  # writes nothing; it knows whether stdout is a terminal, and how wide
    width = terminal.width if terminal.is_terminal else 120
    Console(file=text, width=width, force_terminal=terminal.is_terminal).print(table)
    return Drawn(text.getvalue().rstrip())


@results.register
def _(result: PeekReport) -> Iterable[str]:
    files = f", the first of {result.files:,} files" if result.files > 1 else ""
    header = "; the first line names the columns" if result.header else ""
    yield f"{result.log}{files}, {size(result.bytes)}: {result.form}{header}"
    if result.read_as:
        yield result.read_as
    yield drawn([column.name for column in result.columns], [[_short(cell) for cell in row] for row in result.rows])
    yield drawn(
        ("column", "taken for", "what is in it"), [(one.name, one.taken_for, one.evidence) for one in result.columns]
    )
    if result.sampled:
        span = f", {_day(result.first_ms)} to {_day(result.last_ms)} UTC" if result.first_ms and result.last_ms else ""
        counts = f"{result.kept:,} clicks, {result.left_out:,} left out by --where, {result.bad:,} bad"
        yield f"The first {result.sampled:,} rows: {counts}{span}"
    if result.why_bad:
        yield f"Bad: {result.why_bad}"
    yield (
        f"To read it: {result.command}" if result.command else f"To read it, say which columns are which: --columns {USAGE}"
    )


def _short(cell: str) -> str:
    return cell if len(cell) <= _CELL else cell[: _CELL - 3] + "..."


@results.register
def _(result: InspectReport) -> Iterable[str]:
    yield f"{result.dataset}:" if result.stages else f"{result.dataset}: nothing finished yet"
    for stage in result.stages:
        state = (
            stage.state if stage.state == "current" else f"{stage.state.upper()}: {stage.why}; the next run makes it again"
        )
        settings = ", ".join(f"{name}={setting_text(value)}" for name, value in stage.settings.items())
        if aside := stage.counts.get("set_aside"):
            settings += f", {aside:,} lines set aside"
        yield f"  {stage.key:<14} {size(stage.bytes):>9}  {state}  [{settings}]"


@remarks.register
def _(result: InspectReport) -> Iterable[str]:
    for path in result.leftovers:
        yield f"  {path}: left by a run that was killed, or is being written now"


@results.register
def _(result: VerifyDataReport) -> Iterable[str]:
    if not result.stages:
        yield f"{result.dataset}: nothing finished yet"
    for stage in result.stages:
        verdict = f"DAMAGED: {len(stage.damaged):,} of them" if stage.damaged else "whole"
        yield f"  {stage.key:<14} {size(stage.bytes):>9}  {stage.files:,} files  {verdict}"
        for file in stage.damaged:
            yield f"    {file.path} {file.fault}"
        if stage.damaged:
            yield f"    To go on: {stage.rebuild}"


@results.register
def _(result: PrepReport) -> Iterable[str]:
    """Only the block of counts: what the original prints, and what scripts compare."""
    return results(result.split)


@remarks.register
def _(result: PrepReport) -> Iterable[str]:
    yield from results(result.ingest)
    yield from remarks(result.ingest)
    yield from remarks(result.split)
    yield from results(result.batches)
    yield from remarks(result.batches)
