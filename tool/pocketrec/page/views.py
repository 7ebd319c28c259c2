"""What the figures mean, in words: the parts of the page and their sections, for the template.

A title says what was found. A number has its unit. What is missing is said with the command that makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pocketrec.page.blocks import Block, Commands, Notice, Part, Section, Table, View
from pocketrec.page.log_view import funnel_blocks, log_blocks, split_blocks
from pocketrec.page.model_view import accuracy_blocks, model_blocks, models_blocks, training_blocks
from pocketrec.page.ratings_view import dnn_accuracy, dnn_training, ncf_accuracy, ncf_training, rated_blocks, rating_split
from pocketrec.page.words import Figures, number, sentence, text
from pocketrec.storage.space import size


def view_of(figures: Figures) -> View:
    """The page of some figures."""
    parts = []
    if figures["clicks"]:
        parts.append(_clicks(figures["clicks"], figures))
    for name, title in (("ncf", "Ratings: NCF"), ("dnn", "Ratings: the DNN")):
        if figures[name]:
            parts.append(_ratings(name, title, figures[name], figures))
    title = parts[0].summary
    return View(title, figures["dataset"], figures["made"][:16] + " UTC", figures["pocketrec"], parts)


def _clicks(found: Figures, figures: Figures) -> Part:
    log = found["log"]["data"]
    summary = f"{number(log['rows'], 'click')} in {number(log['sessions'], 'session')}" if log else "Nothing was read yet"
    sections = [
        Section("log", "The log", "What came in.", _topic(found, "log", log_blocks)),
        Section("funnel", "The funnel", "What each filter and cut took.",
                _topic(found, "log", lambda _: funnel_blocks(found))),
        Section("split", "Is the split honest?", "What the test could know of the training, counted.",
                _topic(found, "split", lambda data: split_blocks(data, found))),
        Section("training", "Training", "How the network learned.", _topic(found, "training", training_blocks)),
        Section("accuracy", "Accuracy", "How often the next click is among the best items.",
                _topic(found, "accuracy", accuracy_blocks)),
        Section("model", "The model", "The file for a device, judged on plain LiteRT.",
                _topic(found, "model", models_blocks)),
        Section("made", "How it was made", "Commands that make the same files again.",
                tuple(_made(found, figures))),
    ]  # fmt: skip
    return Part("clicks", "The click log", _dated(summary, found), sections)


def _topic(found: Figures, name: str, blocks: Any) -> Sequence[Block]:
    """The blocks of a topic, or what to do where it is not there."""
    topic = found[name]
    if topic["state"] == "missing":
        return [Notice("Not there yet", sentence(topic["why"]), topic["command"])]
    if topic["state"] != "current":
        why = sentence(topic["why"]) + " What was there is not shown, since it is not true any more."
        return [Notice(topic["state"].capitalize(), why, topic["command"])]
    stamp: list[Block] = []
    if found["aged"]:
        text = sentence(found["aged"]) + " What follows is of the log as it was then."
        again = found["made"][0]["command"] if found["made"] else ""
        stamp = [Notice("Out of date", text, again)]
    return [*stamp, *blocks(topic["data"])]


def _made(found: Figures, figures: Figures) -> Iterator[Block]:
    if not found["made"]:
        return
    yield Commands(f"{number(len(found['made']), 'command')} made all of this", [one["command"] for one in found["made"]])
    rows = [
        (made["stage"], made.get("state", "kept"), f"{made['files']:,}" if "files" in made else "",
         size(made["bytes"]) if "bytes" in made else "", made.get("xxh3", ""),
         ", ".join(f"{name} {value[:8]}" for name, value in made["inputs"].items() if value))
        for one in found["made"] for made in one["made"]
    ]  # fmt: skip
    head = ("stage", "state", "files", "size", "XXH3-128 of its files", "made from")
    yield Table("Every file has a hash, and what it was made from", head, rows)
    settings = [
        (made["stage"], name, text(value))
        for one in found["made"] for made in one["made"] for name, value in made.get("settings", {}).items()
        if value not in (None, "", [], {})
    ]  # fmt: skip
    yield Table("Settings of each stage", ("stage", "setting", "value"), settings)
    installed = [(name, value or "not installed") for name, value in figures["installed"].items()]
    yield Table("Versions that this page was made with", ("package", "version"), installed)


def _ratings(name: str, title: str, found: Figures, figures: Figures) -> Part:
    log = found["log"]["data"]
    summary = f"{number(log['rows'], 'rating')} by {number(log['sessions'], 'user')}" if log else "Nothing was read yet"
    training, accuracy = (ncf_training, ncf_accuracy) if name == "ncf" else (dnn_training, dnn_accuracy)
    sections = [
        Section(f"{name}-log", "The ratings", "What came in.", _topic(found, "log", rated_blocks)),
        Section(f"{name}-split", "The split", "What is held out, and what the training knows of it.",
                _topic(found, "split", lambda data: rating_split(name, data))),
        Section(f"{name}-training", "Training", "How the network learned.", _topic(found, "training", training)),
        Section(f"{name}-accuracy", "Accuracy", "How well it does what it is for.", _topic(found, "accuracy", accuracy)),
        Section(f"{name}-model", "The model", "The file for a device, judged on plain LiteRT.",
                _topic(found, "model", one_model)),
        Section(f"{name}-made", "How it was made", "Commands that make the same files again.",
                tuple(_made(found, figures))),
    ]  # fmt: skip
    return Part(name, title, _dated(summary, found), sections)


def _dated(summary: str, found: Figures) -> str:
    """A summary; it says so where it is of a log that has changed."""
    return f"{summary}, before the log changed" if found["aged"] else summary


def one_model(model: Figures) -> Iterator[Block]:
    return model_blocks({"from": "training", **model})
