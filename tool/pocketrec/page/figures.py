"""Every number of the page, as one JSON object: what `pocketrec report --json` prints and the page carries along.

The object has `clicks`, `ncf` and `dnn`, each None where nothing of it was begun, and in each of these a topic (log, split,
batches, training, accuracy, model) is an object:

    state    current; missing; out of date, made from what has been replaced since; damaged
    why      in words, for any state but current
    command  that makes it, or makes it again
    data     the figures; None for any state but current: a figure that is old is never there

Where the log itself has changed since it was read, all of it is of the log as it was: `aged` says so.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pocketrec.errors import PocketrecError
from pocketrec.gru4rec.checkpoints import OF_TRAINING, Position
from pocketrec.ingestion import ingest
from pocketrec.ingestion.parts import UNREADABLE, Parts, read_frame
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.inspect_model import inspect_model
from pocketrec.page.log_figures import log_figures
from pocketrec.page.words import short
from pocketrec.progress import Progress
from pocketrec.schema import RATING
from pocketrec.sessions import batches
from pocketrec.storage.files import content_hash, size_of
from pocketrec.storage.inspect import StageState, stages_of
from pocketrec.storage.layout import SIDES, Dataset
from pocketrec.storage.manifest import Record, logs_of, read_records, versions
from pocketrec.storage.repair import command_line, rebuild_command, unreadable
from pocketrec.storage.reports import KeptReport, as_values, read_reports
from pocketrec.storage.tensors import read_about
from pocketrec.version import __version__

Figures = dict[str, Any]
STAGES = ("ingest", "prep", "roles", "split", "sequences", "batches", "train", "export", "verify", "evaluate")
"""In the order in which they run; `prep` is that of ratings."""
PACKAGES = ("polars", "pyarrow", "numpy", "tensorflow", "ai-edge-litert")
EXAMPLES_A_REASON, MOST_REASONS, LONGEST_REASON, MOST_VALUES = 3, 12, 400, 20


def figures(homes: list[Dataset], progress: Progress) -> Figures:
    """All figures of a dataset folder and its sides, which `homes_in` has found."""
    whole, sides = homes[0], {home.root.name: home for home in homes[1:]}
    found: Figures = {
        "pocketrec": __version__,
        "made": datetime.now(UTC).isoformat(" ", "seconds"),
        "dataset": str(whole.root),
        "installed": {"python": platform.python_version(), **versions(*PACKAGES)},
        "clicks": None if sides and not _Home(whole, "", progress).records else _Clicks(whole, "", progress).figures(),
    }
    kinds: dict[str, type[_Ratings]] = {"ncf": _Ratings, "dnn": _Dnn}
    return found | {name: kinds[name](sides[name], name, progress).figures() if name in sides else None for name in SIDES}


def _topic(state: str, why: str = "", command: str = "", data: Any = None) -> Figures:
    return {"state": state, "why": why, "command": command, "data": data}


class _Home:
    """What a folder with manifests of its own has: the records, their states, and the reports that are kept."""

    def __init__(self, home: Dataset, side: str, progress: Progress) -> None:
        self.home, self.side, self.progress = home, side, progress
        self.root = home.root.parent if side else home.root
        self.folders = {key: folder for folder in home.homes for key in read_records(folder)}
        self.records = {key: record for folder in home.homes for key, record in read_records(folder).items()}
        self.states: dict[str, StageState] = {one.key: one for one in stages_of(home, logs=False)}
        self.reports = read_reports(home.model)

    def command(self, *words: object) -> str:
        """A command on this dataset folder, of this side of it."""
        return command_line(self.root, *([self.side] if self.side else []), *words)

    def again(self, key: str) -> str:
        """The command that makes the files of a record again."""
        return rebuild_command(self.home.root, self.records[key])

    def topic(self, key: str, missing: str, command: str, data: Callable[[Record], Any]) -> Figures:
        """A topic that a record tells of, if it is current; `missing` and `command` for one that is not there."""
        if key not in self.records:
            return _topic("missing", missing, command)
        state = self.states[key]
        if state.state != "current":
            return _topic(state.state, state.why, self.again(key))
        try:
            return _topic("current", data=data(self.records[key]))
        except PocketrecError as error:
            return _topic("damaged", error.wrong, self.again(key))

    @property
    def aged(self) -> str:
        """Why all of it is of a log as it was; "" where it is not."""
        return next((one.why for one in stages_of(self.home) if one.key == "ingest" and one.state == "out of date"), "")

    @cached_property
    def weights(self) -> dict[str, Path]:
        """The checkpoints, networks and models that are there, by content."""
        paths = sorted(self.home.model.glob("*.safetensors")) + sorted(self.home.model.glob("*.tflite"))
        return {content_hash(path): path for path in paths if not path.stem.endswith(".last")}

    def made(self) -> list[Figures]:
        """Each command that made something that is there, in the order of the stages, and what."""
        steps: list[tuple[str, str, Figures]] = []
        for key, record in self.records.items():
            about = {
                "stage": key, "state": self.states[key].state, "files": len(record.files), "bytes": record.bytes,
                "xxh3": record.content, "inputs": dict(record.inputs), "settings": dict(record.settings),
            }  # fmt: skip
            steps.append((record.stage.removeprefix(f"{self.side}_"), self.again(key), about))
        for one in self.reports.values():
            if all(one.of.get(name, "") in ("", *self.weights) for name in ("checkpoint", "network", "model")):
                stage = one.argv[1 if self.side else 0]
                steps.append((stage, command_line(self.root, *one.argv), {"stage": stage, "inputs": dict(one.of)}))
        if (verdict := _verdict(self.home.model / "verify.json")) and verdict["xxh3"] in self.weights:
            command = self.command("verify", "--batch-size", verdict["batch_size"])
            steps.append(("verify", command, {"stage": "verify", "inputs": {"model": verdict["xxh3"]}}))
        found: dict[str, Figures] = {}
        for _, command, about in sorted(steps, key=lambda step: (*STAGES, step[0]).index(step[0])):
            found.setdefault(command, {"command": command, "made": []})["made"].append(about)
        return list(found.values())

    def log(self) -> Figures:
        """The topic of the log."""
        name = "ratings" if self.side else "click log"
        words = ("prep", "RATINGS" if self.side else "CLICKS")
        return self.topic("ingest", f"no {name} was read", self.command(*words), self._log)

    def _log(self, record: Record) -> Figures:
        roles = not self.side and self._is_current("roles")
        logs = [Path(one) for one in logs_of(record)]
        return {
            "ingest": as_values(ingest.report_of(self.home, record, reused=True)),
            "files": [{"name": short(log.name, 200), "bytes": size_of(log)} for log in logs],
            "set_aside": _set_aside(self.home.rejects) if record.counts["set_aside"] else [],
            **log_figures(self.home, split=roles, progress=self.progress),
        }

    def _is_current(self, key: str) -> bool:
        return key in self.states and self.states[key].state == "current"


def _set_aside(rejects: Path) -> list[Figures]:
    """The lines that were set aside, by reason, the most frequent first, each with some examples."""
    reason = pl.col("reason").str.slice(0, LONGEST_REASON)
    grouped = pl.scan_csv(rejects, schema={"line": pl.Int64, "reason": pl.String, "text": pl.String}, glob=False)
    some = pl.col("line", "text").slice(0, EXAMPLES_A_REASON)
    found = grouped.group_by(reason).agg(pl.len().alias("lines"), some).sort("lines", "reason", descending=[True, False])
    try:
        rows = found.head(MOST_REASONS).collect(engine="streaming").rows(named=True)
    except UNREADABLE as error:
        raise unreadable(rejects, error, expected="what ingest has set aside") from error
    return [
        {
            "reason": row["reason"],
            "lines": row["lines"],
            "examples": [
                {"line": line, "text": short(text or "", 160)} for line, text in zip(row["line"], row["text"], strict=True)
            ],
        }
        for row in rows
    ]


class _Clicks(_Home):
    """A click log and its GRU4Rec."""

    def figures(self) -> Figures:
        log = self.log()
        roles = log["data"].pop("split", None) if log["data"] else None
        self.items = self._items()
        return {
            "aged": self.aged,
            "log": log,
            "split": self.topic(
                "roles", "the log was not split", self.command("split"), lambda record: self._split(record, roles)
            ),
            "batches": self._all_batches(),
            "training": self._training(),
            "accuracy": self._accuracy(),
            "model": self._model(),
            "made": self.made(),
        }

    def _items(self) -> str:
        """The hash of the items that are trained on; "" where there are none, or their file is damaged."""
        try:
            return read_item_list(self.home).hash if self._batches() else ""
        except PocketrecError:
            return ""

    def _split(self, record: Record, roles: Figures | None) -> Figures:
        filters = record.counts.get("filters")  # none in a record of pocketrec 0.1
        return {"sets": dict(record.counts["sets"]), "settings": dict(record.settings), "filters": filters, **(roles or {})}

    def _batches(self) -> list[str]:
        """Keys of the batches that are current."""
        return [key for key, one in self.records.items() if one.stage == "batches" and self._is_current(key)]

    def _all_batches(self) -> Figures:
        key = next(iter(self._batches()), next((key for key in self.records if key.startswith("batches_")), "batches"))
        found = self.topic(key, "there are no batches", self.command("batches"), lambda _: None)
        if found["state"] == "current":
            found["data"] = [
                {
                    **as_values(batches.report_of(self.records[one], reused=True)),
                    "settings": dict(self.records[one].settings),
                }
                for one in self._batches()
            ]
        return found

    def _training(self) -> Figures:
        old, found = [], []
        for path in sorted(self.home.model.glob("gru4rec_bs*.safetensors")):
            about = read_about(path, "training") if re.fullmatch(r"gru4rec_bs\d+", path.stem) else None
            if about is None:
                continue
            lanes = int(path.stem.removeprefix("gru4rec_bs"))
            made = self.records.get(f"batches_bs{lanes}")
            kept = self.reports.get(f"train_bs{lanes}")
            again = command_line(self.root, *kept.argv) if kept else self.command("train", "--batch-size", lanes, "--fresh")
            if made is None or (about.get("items"), about.get("batches")) != (self.items, made.content):
                old.append((path, again))
                continue
            try:
                found.append(self._checkpoint(path, about, kept))
            except (ValueError, KeyError, TypeError):
                return _topic("damaged", f"the header of {path.name} is not what train wrote", again)
        if found:
            return _topic("current", data=found)
        if old:
            path, again = old[0]
            return _topic("out of date", f"{path.name} was trained on batches that have been replaced since", again)
        return _topic("missing", "no network was trained", self.command("train"))

    def _checkpoint(self, path: Path, about: Mapping[str, Any], kept: KeptReport | None) -> Figures:
        content = content_hash(path)
        report = kept.report if kept and kept.of.get("checkpoint") == content else None
        last = read_about(path.with_suffix(".last.safetensors"), "training")  # it knows of the epochs after the best one
        same = last is not None and all(last.get(name) == about.get(name) for name in ("settings", *OF_TRAINING))
        position = Position.of((last if same and last else about)["position"])
        validation = list(position.validation)
        return {
            "checkpoint": path.name,
            "xxh3": content,
            "settings": dict(about["settings"]),
            "losses": list(position.losses),
            "validation": validation,
            "kept": 1 + int(np.argmax(validation)) if validation else position.epoch,
            "report": report and dict(report),
        }

    def _accuracy(self) -> Figures:
        made = self.records.get("sequences")
        command = self.command("evaluate", *(path for path in self.weights.values() if path.suffix == ".safetensors"))
        evaluated = [one for one in self.reports.values() if one.argv[:1] == ("evaluate",)]
        if not evaluated:
            return _topic("missing", "nothing was measured", command)
        now = {"sequences": made.content if made and self._is_current("sequences") else "", "items": self.items}
        of_now = [one for one in evaluated if all(one.of.get(name) == content for name, content in now.items())]
        if not of_now:
            return _topic("out of date", "what was measured is of sessions that have been replaced since", command)
        runs = [_evaluation(one, self.weights) for one in of_now]
        if not any(one["is_here"] for one in runs):
            return _topic("out of date", "what was measured is of a model that is not there any more", command)
        return _topic("current", data=runs)

    def _model(self) -> Figures:
        keys = [key for key, one in self.records.items() if one.stage == "export"]
        current = [key for key in keys if self._is_current(key)]
        if not current:
            key = next(iter(keys), "export")
            return self.topic(key, "no model was exported", self.command("export"), lambda _: None)
        return self.topic(current[0], "", "", lambda _: [self._exported(self.records[key]) for key in current])

    def _exported(self, record: Record) -> Figures:
        (name, file) = next(iter(record.files.items()))
        verdict = _verdict(self.home.model / "verify.json")
        lanes = record.settings["batch_size"]
        command = self.command("verify", "--batch-size", lanes)
        if verdict is None:
            judged = _topic("missing", "the model was not judged", command)
        elif verdict["xxh3"] != file.xxh3:
            judged = _topic("out of date", "the verdict that is there is of another model", command)
        else:
            judged = _topic("current", data=verdict)
        source = record.counts.get("from")
        return {
            **_model_file(self.home.model / name, file.xxh3),
            "parameters": record.counts["parameters"],
            "from": source and Path(source).name,
            "verify": judged,
        }


def _verdict(path: Path) -> Figures | None:
    """The report of `verify`, as it is in verify.json."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        _ = found["losses"], found["step_seconds"], found["peak_bytes"], found["batch_size"]
        found["rungs"] = [dict(rung, detail=short(rung["detail"], 600)) for rung in found["rungs"]]
        return dict(found, xxh3=str(found["xxh3"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _model_file(path: Path, xxh3: str) -> Figures:
    """What a model file says about itself."""
    about = as_values(inspect_model(path))
    ids = {name: [short(one) for one in about[name]] for name in ("first_items", "first_users")}
    return {**about, **ids, "model": path.name, "xxh3": xxh3, "signatures": sorted(about["signatures"])}


def _evaluation(one: KeptReport, here: Mapping[str, Path]) -> Figures:
    report = dict(one.report)
    report["examples"] = [
        {
            "clicks": [short(item) for item in example["clicks"]],
            "recommended": [[short(item) for item in items] for items in example["recommended"]],
            "ranks": example["ranks"],
        }
        for example in report["examples"]
    ]
    content = one.of["model"]
    return {"is_here": content == "" or content in here, "model": content, "report": report}


class _Ratings(_Home):
    """Ratings and a network that is trained on them."""

    def figures(self) -> Figures:
        name = self.side
        return {
            "aged": self.aged,
            "log": self.log(),
            "split": self.topic(
                f"{name}_prep", "the ratings were not split", self.command("prep", "RATINGS"),
                lambda record: {**record.counts, "settings": dict(record.settings)},
            ),
            "training": self.topic(
                f"{name}_train", "no network was trained", self.command("train"),
                lambda record: {**record.counts, "settings": dict(record.settings)},
            ),
            "accuracy": self._accuracy(),
            "model": self.topic(f"{name}_export", "no model was exported", self.command("export"), self._exported),
            "made": self.made(),
        }  # fmt: skip

    def _accuracy(self) -> Figures:
        evaluated = [one for key, one in self.reports.items() if key.startswith("evaluate ")]
        if not evaluated:
            return _topic("missing", "nothing was measured", self.command("evaluate"))
        network = {"ncf": "neumf", "dnn": "dnn"}[self.side]
        path = self.home.model / f"{network}.safetensors"
        now = content_hash(path) if path.is_file() and self._is_current(f"{self.side}_train") else ""
        of_now = [dict(one.report) for one in evaluated if one.of.get("network") == now]
        if not of_now:
            why = "what was measured is of a network that has been replaced since"
            return _topic("out of date", why, self.command("evaluate"))
        return _topic("current", data=of_now)

    def _exported(self, record: Record) -> Figures:
        (name, file) = next(iter(record.files.items()))
        kept, command = self.reports.get("export"), self.command("export")
        if kept is None or kept.of.get("model") != file.xxh3:
            judged = _topic("missing", "the verdict on this model was not kept", command)
        else:
            rungs = kept.report["rungs"]
            judged = _topic("current", data={"passed": all(one["verdict"] != "failed" for one in rungs), "rungs": rungs})
        return {
            **_model_file(self.home.model / name, file.xxh3),
            "parameters": record.counts["parameters"],
            "verify": judged,
        }


class _Dnn(_Ratings):
    """Those of the rating DNN, which have values."""

    def figures(self) -> Figures:
        found = super().figures()
        if found["log"]["data"]:
            found["log"]["data"]["values"] = self._values()
        return found

    def _values(self) -> list[Figures]:
        """How often each rating was given; ranges where there are many."""
        counted: dict[float, int] = {}
        parts = Parts(self.home)
        for path in parts.folders:
            values, counts = np.unique(read_frame(path, [RATING])[RATING].to_numpy(), return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                counted[value] = counted.get(value, 0) + count
        given = sorted(counted)
        if len(given) > MOST_VALUES:
            weights = np.array([counted[value] for value in given])
            sums, edges = np.histogram(given, MOST_VALUES, weights=weights)
            middles = ((edges[1:] + edges[:-1]) / 2).tolist()
            return [{"rating": middle, "count": int(count)} for middle, count in zip(middles, sums.tolist(), strict=True)]
        return [{"rating": value, "count": counted[value]} for value in given]
