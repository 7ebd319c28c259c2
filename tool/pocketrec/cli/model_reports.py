"""What is printed of models of clicks, of exports and verdicts, of whole runs and their page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pocketrec.cli.reports import done, drawn, not_kept, remarks, results, setting_text
from pocketrec.gru4rec.demo import DemoReport
from pocketrec.gru4rec.evaluate import EvaluateReport
from pocketrec.gru4rec.export import ExportReport
from pocketrec.gru4rec.export_neighbours import NeighbourExportReport
from pocketrec.gru4rec.run import RunReport
from pocketrec.gru4rec.train import FEW_TRANSITIONS, TrainReport
from pocketrec.gru4rec.tune import TuneReport
from pocketrec.lite.inspect_model import KeptSessionsReport, ModelReport
from pocketrec.lite.judge.ladder import Rung
from pocketrec.lite.judge.verify import VerifyReport
from pocketrec.lite.recommend import RecommendReport
from pocketrec.lite.serve import ServeReport
from pocketrec.page.report import PageReport
from pocketrec.storage.repair import command_line
from pocketrec.storage.space import size
from pocketrec.training.export import FrozenExportReport


@results.register
def _(result: ExportReport) -> Iterable[str]:
    settings = result.settings
    what = f"{settings.n_items:,} items, H={settings.hidden_size}, B={settings.batch_size}, {settings.optimizer}"
    yield done(result.reused, f"Model: {result.path}, {size(result.bytes)} ({what})")
    use, repeats, column = result.habits.use, result.habits.repeats, result.habits.column
    shown = "may be recommended again" if use.seen == "show" else "are left out"
    why = f", {100 * repeats:.1f} % of the log's next clicks are on one" if repeats is not None else ""
    begins = "begin anew" if use.between == "reset" else "go on where the last one ended"
    people = f", since the log's sessions are people (column {column})" if column and use.between == "carry" else ""
    yield f"For one user: items of the session {shown}{why}; sessions {begins}{people}"


@results.register
def _(result: NeighbourExportReport) -> Iterable[str]:
    what = f"{result.sessions:,} sessions with {result.pairs:,} items, of {result.items:,} different ones"
    yield done(result.reused, f"Model: {result.path}, {size(result.bytes)} ({what})")


@remarks.register
def _(result: NeighbourExportReport) -> Iterable[str]:
    chosen = f"chosen on {result.chosen_on:,} next clicks of train_valid" if result.chosen_on else "the usual ones"
    yield f"  {', '.join(f'{name}={value}' for name, value in result.settings.items())}: {chosen}"
    if result.sessions < result.trained:
        yield f"  the newest of {result.trained:,} sessions, so that the file has a limit"


def ladder(rungs: Sequence[Rung], more: str = "") -> Iterator[str]:
    """A verdict as a table, and in a line."""
    colour = {"passed": "green", "failed": "bold red", "skipped": "yellow"}
    rows = [(rung.name, rung.verdict, rung.detail) for rung in rungs]
    yield drawn(("rung", "verdict", "what was found"), rows, [colour[rung.verdict] for rung in rungs], 1)
    failed = ", ".join(rung.name for rung in rungs if rung.verdict == "failed")
    passed = sum(rung.verdict == "passed" for rung in rungs)
    yield f"{f'FAILED at {failed}' if failed else 'Verified'}: {passed} of {len(rungs)} rungs passed{more}"


@results.register
def _(result: VerifyReport) -> Iterable[str]:
    speed = f", {result.step_seconds * 1000:.1f} ms a step, {size(result.peak_bytes)} at most" if result.losses else ""
    fall = (
        f"; loss {result.losses[0]:.3f} -> {result.losses[-1]:.3f} in {len(result.losses)} steps" if result.losses else ""
    )
    yield from ladder(result.rungs, fall + speed)
    yield f"Report: {result.json}" + (f", {result.picture}" if result.picture else "")


@results.register
def _(result: FrozenExportReport) -> Iterable[str]:
    yield done(result.reused, f"Model: {result.path}, {size(result.bytes)}, {result.parameters:,} parameters")
    yield from ladder(result.rungs)


@results.register
def _(result: TrainReport) -> Iterable[str]:
    judged = f", MRR@20 on train_valid {result.validation[result.kept - 1]:.4f}" if result.validation else ""
    yield f"Checkpoint: {result.checkpoint}, epoch {result.kept} of {result.epochs}{judged}"
    speed = f"; {result.events:,} events, {result.events_per_second:,.0f} a second" if result.events else ""
    yield f"Loss {' -> '.join(f'{loss:.4f}' for loss in result.losses)}{speed}"


@remarks.register
def _(result: TrainReport) -> Iterable[str]:
    if result.resumed:
        yield "  went on from the last checkpoint; --fresh begins anew"
    for why in result.passed_over:
        yield f"  {why}"
    if not result.validation:
        yield "  train_valid is trained on, so nothing was held out to judge by: the last epoch is kept"
    if result.transitions < FEW_TRANSITIONS:
        yield f"  {result.transitions:,} events are few: methods without training are likely better; evaluate compares them"


@results.register
def _(result: TuneReport) -> Iterable[str]:
    best = result.trials[0]
    names = list(best.settings)
    rows = []
    for one in result.trials:
        values = [f"{one.settings[name]:g}" for name in names]
        rows.append((str(one.number), *values, f"{one.epoch} of {len(one.validation)}", f"{one.best:.4f}"))
    yield drawn(("trial", *names, "best epoch", "MRR@20 on train_valid"), rows)
    on_test = f"Recall@20 {result.accuracy.recall[20]:.4f}, MRR@20 {result.accuracy.mrr[20]:.4f}"
    yield f"The best on test, measured once: {on_test}{'' if result.own else ', own items left out'}"
    yield f"Its weights: {best.checkpoint}"
    yield f"The same again: pocketrec train --dataset {result.dataset} {' '.join(result.options)}".rstrip()


@remarks.register
def _(result: TuneReport) -> Iterable[str]:
    yield f"  table: {result.table}; picture: {result.picture or 'none without matplotlib'}"
    if not result.own:
        yield "  the items of a session are better left out: recommend --exclude-seen"


@results.register
def _(result: EvaluateReport) -> Iterable[str]:
    train_on, order = (result.protocol.get(name, "unknown") for name in ("train_on", "session_order"))
    what = f"{result.events:,} events in {result.sessions:,} sessions, {result.items:,} items of {train_on}"
    yield f"{result.dataset}, {result.on}: {what}, sessions by {order}; ties {result.ties}"
    cutoffs = list(result.models[0].recall) if result.models else []
    titles = [f"{what}@{n}" for what in ("Recall", "MRR") for n in cutoffs]
    width = max((len(one.name) for one in result.models), default=0)
    yield f"{'':<{width}}" + "".join(f"{title:>11}" for title in titles)
    for one in result.models:
        yield f"{one.name:<{width}}" + "".join(f"{share:>11.4f}" for share in (*one.recall.values(), *one.mrr.values()))
    yield from _beaten(result)


def _beaten(result: EvaluateReport) -> Iterable[str]:
    """What is better than the model although it was not trained."""
    model = next((one for one in result.models if one.name == result.model), None)
    rivals = [one for one in result.models if one is not model and "weight" not in one.settings]
    if model is None or not rivals:
        return
    n = max(model.recall)
    for what in ("mrr", "recall"):
        best = max(rivals, key=lambda one: getattr(one, what)[n])
        theirs, ours = getattr(best, what)[n], getattr(model, what)[n]
        if theirs > ours:
            chance = math.sqrt(max(ours * (1 - ours), 0) / result.events)
            doubt = ", which may be chance" if theirs - ours < 2 * chance else ""
            title = {"mrr": "MRR", "recall": "Recall"}[what]
            yield f"{best.name} beats {model.name} by {title}@{n}, {theirs:.4f} to {ours:.4f}{doubt}; it needs no training."


@remarks.register
def _(result: EvaluateReport) -> Iterable[str]:
    if result.unknown:
        yield f"  {result.unknown:,} clicks of {result.on} are left out, their items were not trained on"
    if result.on == "train_valid" and result.protocol.get("train_on") == "train_full":
        yield "  train_valid is part of train_full: these are figures of what was trained on"
    if result.chosen_on:
        again = ", which is measured here: they are a little too good" if result.on == "train_valid" else ""
        yield f"  settings of baselines were chosen on {result.chosen_on:,} next clicks of train_valid{again}"
        tries = "1 try" if result.tries == 1 else f"{result.tries} tries"
        more = "; --tune 30 tries more" if result.tries < 30 else ""
        yield f"  {tries} each for sessions like this one{more}"
    for one in result.models:
        if len(one.settings) > 1:
            yield f"  {one.name}: {', '.join(f'{name}={value}' for name, value in one.settings.items())}"
    if result.sessions_known < result.sessions_trained:
        what = f"the newest {result.sessions_known:,} of {result.sessions_trained:,} sessions"
        yield f"  the baselines know {what} of the train set, so that memory has a limit"
    yield from not_kept(result.not_kept)


@results.register
def _(result: ModelReport) -> Iterable[str]:
    settings = result.settings
    yield f"{result.model}: {size(result.bytes)}, written by pocketrec {result.version or '0.1'}"
    yield f"  runs on    TensorFlow Lite {result.runtime} or later, LiteRT" if result.runtime else "  runs on    LiteRT"
    for title, ids, digest in (
        ("items", result.first_items, result.items),
        ("users", result.first_users, result.users),
    ):
        if f"n_{title}" in settings:
            known = f": {', '.join(ids)}, ...; XXH3-128 {digest}" if ids else "; their ids are not in the file"
            yield f"  {title:<10} {settings[f'n_{title}']:,}{known}"
    protocol = {name: value for one in result.protocol.values() for name, value in one.items() if name not in settings}
    for title, named in (("settings", settings), ("protocol", protocol)):
        yield f"  {title:<10} {', '.join(f'{name}={named[name]}' for name in sorted(named)) or 'unknown'}"
    for name, what in result.signatures.items():
        yield f"  {name:<15} {what if len(what) < 200 else f'{len(what.split(chr(44)))} tensors, weights, slots and step'}"


@results.register
def _(result: KeptSessionsReport) -> Iterable[str]:
    yield f"{result.model}: {size(result.bytes)}, kept sessions for {result.method}"
    yield f"  items      {result.n_items:,}: {', '.join(result.first_items)}, ...; XXH3-128 {result.items}"
    when = f", from {' to '.join(result.began).replace('T', ' ')}" if result.began else ""
    yield f"  sessions   {result.sessions:,} with {result.clicks:,} clicks{when}"
    for title, named in (("settings", result.settings), ("protocol", result.protocol)):
        yield f"  {title:<10} {', '.join(f'{name}={setting_text(named[name])}' for name in sorted(named)) or 'unknown'}"
    yield f"  tensors    {', '.join(f'{name} {what}' for name, what in result.tensors.items())}"


@results.register
def _(result: RecommendReport) -> Iterable[str]:
    for one in result.items:
        yield f"{one.item}\t{one.score:.6f}"


@remarks.register
def _(result: RecommendReport) -> Iterable[str]:
    if result.unknown:
        yield f"{result.model} does not know {', '.join(result.unknown)}; left out"


@results.register
def _(result: ServeReport) -> Iterable[str]:
    by = f", in LiteRT.js {result.runtime}" if result.runtime else ""
    yield f"{result.url}: {result.model}, {size(result.bytes)}{by}; Ctrl-C ends it"


@remarks.register
def _(result: ServeReport) -> Iterable[str]:
    if result.taken:
        yield f"Port {result.taken} is taken: this is another one, and what was learned there is not seen here."
    if not result.learns:
        yield "This model only recommends: it is of an earlier pocketrec. pocketrec export makes one that learns."


def _chain(function: Any, parts: Iterable[Any]) -> Iterator[str]:
    for part in parts:
        yield from function(part)


@results.register
def _(result: RunReport) -> Iterable[str]:
    yield from _chain(results, (result.prep, result.export, result.verify))
    yield _page(result)


def _page(result: RunReport) -> str:
    """Where the page of a run is, or how it is made."""
    dataset = result.verify.json.parents[1]
    cure = f"pip install 'pocketrec[report]', then {command_line(dataset, 'report')}"
    return f"Page: {result.page}" if result.page else f"A page of all of it: {cure}"


@results.register
def _(result: PageReport) -> Iterable[str]:
    yield f"Page: {result.page}, {size(result.bytes)}"


@remarks.register
def _(result: PageReport) -> Iterable[str]:
    return (f"  {line}" for line in result.missing)


@remarks.register
def _(result: RunReport) -> Iterable[str]:
    return remarks(result.prep)


@results.register
def _(result: DemoReport) -> Iterable[str]:
    yield from _chain(results, (result.log, result.run.prep, result.run.export, result.run.verify))
    yield f"Everything is in {result.dataset}/: parquet, rsc15/*.txt, final/*.npy and *.txt, model/*.tflite and verify.png"
    yield _page(result.run)


@remarks.register
def _(result: DemoReport) -> Iterable[str]:
    return remarks(result.run)
