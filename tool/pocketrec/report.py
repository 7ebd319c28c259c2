"""Reports as people and programs read them: results and remarks as lines of text, everything as one JSON object."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import singledispatch
from io import StringIO
from typing import Any

from pocketrec.batching import BatchesReport
from pocketrec.inspection import InspectReport
from pocketrec.integrity import VerifyDataReport
from pocketrec.layout import SPLITS
from pocketrec.lite.export import ExportReport
from pocketrec.lite.verify import VerifyReport
from pocketrec.partitions import IngestReport
from pocketrec.pipeline import DemoReport, PrepReport, RunReport
from pocketrec.sources.synthetic import SynthReport
from pocketrec.space import size
from pocketrec.splitting import SplitReport

SET_NAMES = {"train_tr": "train", "train_valid": "valid", "test": "test"}


def as_json(result: Any) -> str:
    """A report as one JSON object; paths as text."""
    return json.dumps(dataclasses.asdict(result), indent=1, default=str)


@singledispatch
def results(result: Any) -> Iterable[str]:
    """What was asked for, line by line, for stdout."""
    return [str(result)]


@singledispatch
def remarks(result: Any) -> Iterable[str]:  # noqa: ARG001
    """What is worth knowing besides, for stderr."""
    return []


def _done(reused: bool, what: str) -> str:
    return f"{what} (up to date, not made again)" if reused else what


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


@results.register
def _(result: SynthReport) -> Iterable[str]:
    contents = f"{result.clicks:,} clicks, {result.sessions:,} sessions, {result.items:,} items"
    yield f"Log: {result.path}, {contents}, {size(result.bytes)}"


@results.register
def _(result: IngestReport) -> Iterable[str]:
    span = f"{_day(result.first_ms)} to {_day(result.last_ms)} UTC"
    what = f"Parquet: {result.rows:,} clicks, {span}, in {result.parts:,} parts, {size(result.bytes)}"
    yield _done(result.reused, what)


@results.register
def _(result: SplitReport) -> Iterable[str]:
    yield result.block()


@remarks.register
def _(result: SplitReport) -> Iterable[str]:
    if result.reused:
        yield "Split: up to date, not made again"


@results.register
def _(result: BatchesReport) -> Iterable[str]:
    train = result.sets["train_tr"]
    what = (
        f"Batches of {result.batch_size}: {train.steps:,} steps, {train.transitions:,} transitions, {result.items:,} items"
    )
    yield _done(result.reused, what)


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


@results.register
def _(result: ExportReport) -> Iterable[str]:
    settings = result.settings
    what = f"{settings.n_items:,} items, H={settings.hidden_size}, B={settings.batch_size}, {settings.optimizer}"
    yield f"Model: {result.path}, {size(result.bytes)} ({what})"


@results.register
def _(result: VerifyReport) -> Iterable[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("rung", "verdict", "what was found", box=box.SIMPLE_HEAD, pad_edge=False)
    colour = {"passed": "green", "failed": "bold red", "skipped": "yellow"}
    for rung in result.rungs:
        table.add_row(rung.name, f"[{colour[rung.verdict]}]{rung.verdict}[/]", rung.detail)
    text = StringIO()
    terminal = Console()  # writes nothing; it knows whether stdout is a terminal, and how wide
    width = terminal.width if terminal.is_terminal else 120
    Console(file=text, width=width, force_terminal=terminal.is_terminal).print(table)
    yield text.getvalue().rstrip()
    passed = sum(rung.verdict == "passed" for rung in result.rungs)
    verdict = "Verified" if result.passed else f"FAILED at {', '.join(rung.name for rung in result.failed)}"
    speed = f", {result.step_seconds * 1000:.1f} ms a step, {size(result.peak_bytes)} at most" if result.losses else ""
    fall = (
        f"; loss {result.losses[0]:.3f} -> {result.losses[-1]:.3f} in {len(result.losses)} steps" if result.losses else ""
    )
    yield f"{verdict}: {passed} of {len(result.rungs)} rungs passed{fall}{speed}"
    yield f"Report: {result.json}" + (f", {result.picture}" if result.picture else "")


@results.register
def _(result: InspectReport) -> Iterable[str]:
    yield f"{result.dataset}:" if result.stages else f"{result.dataset}: nothing finished yet"
    for stage in result.stages:
        state = (
            stage.state if stage.state == "current" else f"{stage.state.upper()}: {stage.why}; the next run makes it again"
        )
        settings = ", ".join(f"{name}={value}" for name, value in stage.settings.items())
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


def _chain(function: Any, parts: Iterable[Any]) -> Iterator[str]:
    for part in parts:
        yield from function(part)


@results.register
def _(result: PrepReport) -> Iterable[str]:
    """Only the block of counts: what the original prints, and what scripts compare."""
    return results(result.split)


@remarks.register
def _(result: PrepReport) -> Iterable[str]:
    yield from results(result.ingest)
    yield from remarks(result.split)
    yield from results(result.batches)
    yield from remarks(result.batches)


@results.register
def _(result: RunReport) -> Iterable[str]:
    return _chain(results, (result.prep, result.export, result.verify))


@remarks.register
def _(result: RunReport) -> Iterable[str]:
    return remarks(result.prep)


@results.register
def _(result: DemoReport) -> Iterable[str]:
    yield from _chain(results, (result.log, result.run))
    yield f"Everything is in {result.dataset}/: parquet, rsc15/*.txt, final/*.npy and *.txt, model/*.tflite and verify.png"


@remarks.register
def _(result: DemoReport) -> Iterable[str]:
    return remarks(result.run)
