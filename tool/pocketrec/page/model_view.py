"""The training, the accuracy and the model of a GRU4Rec in words and pictures; what other networks have alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pocketrec.page.blocks import Bar, Bars, Block, Chart, Facts, Notice, Session, Sessions, Table, Verdict, Verdicts
from pocketrec.page.charts import Series, picture
from pocketrec.page.words import Figures, brief_span, duration, number, sentence, span, text
from pocketrec.storage.space import size


def training_blocks(runs: Sequence[Figures]) -> Iterator[Block]:
    for run in runs:
        epochs = len(run["losses"])
        report, settings = run["report"], run["settings"]
        facts = [("epoch kept", f"{run['kept']} of {epochs}")]
        if run["validation"]:
            facts.append(("MRR@20 on validation", f"{run['validation'][run['kept'] - 1]:.4f}"))
        if report and report["events_per_second"]:
            facts.append(("events a second", f"{report['events_per_second']:,.0f}"))
            facts.append(("time", duration(report["seconds"] * 1000)))
        facts += [("optimizer", settings["optimizer"]), ("units", f"{settings['hidden_size']:,}")]
        yield Facts(facts)
        if epochs:
            numbers = list(range(1, epochs + 1))
            yield by_epoch(
                numbers, run["losses"], run["kept"], "loss",
                f"The loss fell from {run['losses'][0]:.3f} to {run['losses'][-1]:.3f} nats in {number(epochs, 'epoch')}",
                "mean loss, nats",
            )  # fmt: skip
            if run["validation"]:
                yield by_epoch(
                    numbers, run["validation"], run["kept"], "MRR@20",
                    f"Epoch {run['kept']} was best on validation and is kept", "MRR@20 on validation",
                )  # fmt: skip
            else:
                yield Notice("Nothing was held out", "No epoch was measured on validation, so the last one is kept.")
        yield settings_table(f"Settings of {run['checkpoint']}", settings)


def by_epoch(epochs: Sequence[int], values: Sequence[float], kept: int, name: str, title: str, label: str) -> Block:
    drawn = picture(
        [Series("", "line", epochs, values), Series("", "dots", epochs, values),
         Series("the epoch that is kept", "dots", [kept], [values[kept - 1]], 2)],
        [(one, str(one)) for one in epochs if len(epochs) <= 12 or one % -(-len(epochs) // 10) == 0],
        x_title="epoch", y_title=label, from_zero=False,
    )  # fmt: skip
    rows = [(str(epoch), f"{value:.4f}") for epoch, value in zip(epochs, values, strict=True)]
    return Chart(title, drawn, Table("", ("epoch", name), rows))


def settings_table(title: str, settings: Figures) -> Block:
    return Table(title, ("setting", "value"), [(name, text(value)) for name, value in sorted(settings.items())])


# Accuracy


def accuracy_blocks(runs: Sequence[Figures]) -> Iterator[Block]:
    here = [one for one in runs if one["is_here"]]
    shown = next((one for one in reversed(here) if one["model"] and one["report"]["on"] == "test"), here[-1])
    report = shown["report"]
    models = report["models"]
    n = max(models[0]["recall"], key=int)
    on = "the test" if report["on"] == "test" else report["on"]
    best = models[0]
    others = models[1:] if shown["model"] else models
    error = math.sqrt(best["recall"][n] * (1 - best["recall"][n]) / max(1, report["events"]))
    if not shown["model"]:
        yield Notice("Baselines only", "No model of this dataset was measured.", "pocketrec evaluate MODEL")
    yield Facts(
        [
            (f"Recall@{n}", f"{best['recall'][n]:.4f}"), (f"MRR@{n}", f"{best['mrr'][n]:.4f}"),
            ("clicks guessed", f"{report['events']:,}"), ("among items", f"{report['items']:,}"),
            ("one standard error of Recall", f"{error:.4f}"),
        ]
    )  # fmt: skip
    spread = _seeds(shown, runs)
    for measure, name in (("recall", f"Recall@{n}"), ("mrr", f"MRR@{n}")):
        values = {one["name"]: one[measure][n] for one in models}
        top = max(values.values()) or 1
        ours, rival = best[measure][n], max(others, key=lambda one: one[measure][n]) if others else None
        if rival is None or not shown["model"]:
            title = f"{name} of {on}"
        elif ours >= rival[measure][n]:
            title = f"{name}: the model finds {ours:.4f}, {rival['name']} {rival[measure][n]:.4f}"
        else:
            title = f"{name}: {rival['name']} ({rival[measure][n]:.4f}) beats the model ({ours:.4f})"
        seeds = [one[measure][n] for one in spread]
        top = max([top, *seeds])
        bars = [
            Bar(one["name"], one[measure][n] / top, f"{one[measure][n]:.4f}", 1 if one is best and shown["model"] else 4,
                *((min(seeds) / top, max(seeds) / top) if one is best and len(seeds) > 1 else (None, None)))
            for one in models
        ]  # fmt: skip
        note = f"The line spans {len(seeds)} seeds: {min(seeds):.4f} to {max(seeds):.4f}." if len(seeds) > 1 else ""
        yield Bars(title, ("model", name), bars, note)
    rival = max(others, key=lambda one: one["recall"][n]) if others else best
    for group, label, what in (
        ("by_place", "click of the session", "place"), ("by_support", "clicks of the next item in training", "popularity"),
    ):  # fmt: skip
        if best.get(group):
            yield _by_group(best, rival, group, label, what, n)
    if report["examples"]:
        yield _examples(report, n)
    yield _all_runs(runs)


def _seeds(shown: Figures, runs: Sequence[Figures]) -> list[Figures]:
    """The accuracy of each run that differs from the one shown in its seed only, the newest of each seed."""

    def alike(run: Figures) -> tuple[Any, ...]:
        report = run["report"]
        rest = {name: value for name, value in report["settings"].items() if name != "seed"}
        return rest, report["on"], report["ties"], sorted(report["models"][0]["recall"])

    found = {
        one["report"]["settings"].get("seed"): one["report"]["models"][0] for one in runs if alike(one) == alike(shown)
    }
    return list(found.values())


def _by_group(best: Figures, rival: Figures, group: str, label: str, what: str, n: str) -> Block:
    groups = best[group]
    names = [span(one) for one in groups]
    places = list(range(len(groups)))
    values = [one["recall"] for one in groups]
    counted = [at for at, one in enumerate(groups) if one["events"] >= ENOUGH] or places
    low, high = (choose(counted, key=values.__getitem__) for choose in (min, max))
    title = f"Recall@{n} by {what}"
    if low != high and what == "place":
        best_at, worst_at = (f"{names[at]} ({values[at]:.3f})" for at in (high, low))
        title = f"Recall@{n} is best after click {best_at}, worst after {worst_at}"
    elif low != high:
        title = (
            f"Items with {names[high]} clicks in training are found best (Recall@{n} {values[high]:.3f}), those with "
            f"{names[low]} worst ({values[low]:.3f})"
        )
    series = [Series(best["name"], "line", places, values), Series("", "dots", places, values)]
    if rival is not best:
        other = {(one["least"], one["most"]): one["recall"] for one in rival[group]}
        theirs = [other.get((one["least"], one["most"])) for one in groups]
        series += [Series(rival["name"], "line", places, theirs, 2), Series("", "dots", places, theirs, 2)]
    drawn = picture(series, list(zip(places, map(brief_span, groups), strict=True)), x_title=label, y_title=f"Recall@{n}")
    rows = [
        (name, f"{one['events']:,}", f"{one['recall']:.4f}", f"{one['mrr']:.4f}")
        for name, one in zip(names, groups, strict=True)
    ]
    return Chart(title, drawn, Table("", (label, "clicks guessed", f"Recall@{n}", f"MRR@{n}"), rows))


def _examples(report: Figures, n: str) -> Block:
    sessions, hits, guesses = [], 0, 0
    for at, one in enumerate(report["examples"], 1):
        steps = []
        for place, (items, rank) in enumerate(zip(one["recommended"], one["ranks"], strict=True)):
            came = one["clicks"][place + 1]
            hits, guesses = hits + (rank <= len(items)), guesses + 1
            steps.append((one["clicks"][place], [(item, item == came) for item in items], came, f"{rank:,.0f}"))
        sessions.append(Session(f"Session {at} of {len(report['examples'])}", steps))
    title = f"In {number(len(sessions), 'session')} of the test {hits} of {guesses} next clicks were among the best five"
    note = f"From all over the set, none chosen by its result. A rank of {n} or better counts for Recall@{n}."
    return Sessions(title, sessions, note)


def _all_runs(runs: Sequence[Figures]) -> Block:
    rows = []
    for run in runs:
        report, one = run["report"], run["report"]["models"][0]
        n = max(one["recall"], key=int)
        state = "here" if run["is_here"] else "not there any more"
        seed = report["settings"].get("seed", "")
        rows.append((one["name"], report["on"], str(seed), f"{one['recall'][n]:.4f}", f"{one['mrr'][n]:.4f}", state))
    head = ("measured", "on", "seed", "Recall", "MRR", "the file")
    return Table(f"{number(len(rows), 'run')} of evaluate on these sessions", head, rows, ids=(0,))


# The model


def models_blocks(models: Sequence[Figures]) -> Iterator[Block]:
    for model in models:
        yield from model_blocks(model)


def model_blocks(model: Figures) -> Iterator[Block]:
    settings = model["settings"]
    facts = [("file", model["model"]), ("size", size(model["bytes"])), ("trained numbers", f"{model['parameters']:,}")]
    facts += [("items", f"{settings['n_items']:,}")] if "n_items" in settings else []
    verdict = model["verify"]["data"]
    if verdict and verdict.get("losses"):
        facts.append(("a training step", f"{verdict['step_seconds'] * 1000:,.3g} ms"))
        facts.append(("most memory of it", size(verdict["peak_bytes"])))
    facts.append(("written by", f"pocketrec {model['version'] or '0.1'}"))
    if model["runtime"]:
        facts.append(("runs on", f"TensorFlow Lite {model['runtime']} or later, LiteRT"))
    yield Facts(facts)
    if model["kind"] == "gru4rec" and not model["from"]:
        yield Notice(
            "Not trained", "The weights of this file are random: it was exported without a checkpoint.",
            "pocketrec export --from CHECKPOINT",
        )  # fmt: skip
    if verdict:
        yield _ladder(verdict)
    else:
        topic = model["verify"]
        yield Notice(
            "Not judged" if topic["state"] == "missing" else "Out of date", sentence(topic["why"]), topic["command"]
        )
    yield _clients(model, verdict)
    yield settings_table(f"Settings of {model['model']}", settings)


def _ladder(verdict: Figures) -> Block:
    rungs = verdict["rungs"]
    passed = sum(one["verdict"] == "passed" for one in rungs)
    failed = [one["name"] for one in rungs if one["verdict"] == "failed"]
    title = f"The judge found faults: {', '.join(failed)}" if failed else f"The judge passed {passed} of {len(rungs)} rungs"
    state = {"passed": "clean", "failed": "leak"}
    return Verdicts(title, [Verdict(state.get(one["verdict"], "skipped"), one["name"], one["detail"]) for one in rungs])


ENOUGH = 30
"""Events of a group from which it is called the best or the worst."""
ABILITIES = (
    ("recommend what comes next", ("recommend",)),
    ("recommend what its user came back to", ("recommend_user",)),
    ("recommend from a history", ("recommend_fixed",)),
    ("predict a rating", ("predict", "predict_fixed")),
    ("score items", ("infer", "score", "score_fixed")),
    ("learn from its user", ("learn",)),
    ("learn a step along one session", ("train_one",)),
    ("train on batches", ("train", "train_sampled")),
    ("keep what was learned", ("save", "restore")),
)
"""What an app can do with a model, and the signatures for it."""


def _clients(model: Figures, verdict: Figures | None) -> Block:
    has = set(model["signatures"])
    judged = {one["name"]: one["verdict"] for one in (verdict or {"rungs": ()})["rungs"]}.get("clients")
    rows = []
    for ability, names in ABILITIES:
        there = [name for name in names if name in has]
        if there:
            everywhere = model["kind"] == "gru4rec" or any(name.endswith("_fixed") for name in there)
            rows.append((ability, ", ".join(there), "yes", "yes" if everywhere else "no: a shape is not fixed"))
    head = ("an app can", "signature", "Java, Kotlin, Swift, C++, Python", "CompiledModel, browsers (LiteRT.js)")
    able = [ability for ability, names in ABILITIES if has & set(names)]
    title = f"An app can {able[0]}" + (" and learn from its user" if "learn" in has else "") if able else "No signature"
    note = {
        "passed": "The judge's rung “clients” passed: every client can call these signatures.",
        "failed": "The judge's rung “clients” failed: some clients cannot call these signatures.",
    }.get(str(judged), "Whether every client can call them is not judged.")
    return Table(title, head, rows, note)
