"""Stages joined: `prep` (ingest, split, batches), `run` (prep, export, verify) and `demo` (a synthetic log, then run)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pocketrec.errors import require
from pocketrec.gru4rec.export import ExportReport, export
from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.judge.verify import VerifyReport, verify
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.prep import PrepReport, prep
from pocketrec.storage.lock import hold

MODELLING = tuple(one.name for one in fields(ModelSpec) if one.name not in ("n_items", "batch_size"))
"""What `export` takes and no other stage."""


@dataclass(frozen=True)
class RunReport:
    """What each stage of `run` did."""

    prep: PrepReport
    export: ExportReport
    verify: VerifyReport


def run(
    clicks: Path | str,
    dataset: Path | str = "dataset",
    *,
    batch_size: int = 512,
    formats: Sequence[str] = ("txt", "npy"),
    progress: Progress = SILENT,
    **settings: Any,
) -> RunReport:
    """From a click log to a verified model: `prep`, `export`, `verify`, with their arguments.

    Args:
        clicks: the log.
        dataset: the dataset folder.
        batch_size: of the batches, the model and the judge.
        formats: of the batches; npy is always among them.
        progress: who watches.
        settings: what else `export` takes, and what else `prep` takes.

    Raises:
        MissingExtraError: TensorFlow, LiteRT or matplotlib is not installed; asked before anything is done.
    """
    require("make and judge a model", "tensorflow", "ai_edge_litert", "matplotlib")
    modelling = {name: settings.pop(name) for name in MODELLING if name in settings}
    with hold(dataset, "run"):
        # The judge trains on npy.
        prepared = prep(clicks, dataset, batch_size=batch_size, formats=(*formats, "npy"), progress=progress, **settings)
        exported = export(dataset, batch_size=batch_size, progress=progress, **modelling)
        return RunReport(prepared, exported, verify(dataset, batch_size=batch_size, progress=progress))
