"""Stages joined: `prep` (ingest, split, batches), `run` (prep, export, verify) and `demo` (a synthetic log, then run)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pocketrec.batching import BatchesReport, batches, check_batch_settings
from pocketrec.errors import MissingExtraError
from pocketrec.lite.contract import ModelSettings
from pocketrec.lite.export import ExportReport, export
from pocketrec.lite.verify import VerifyReport, verify
from pocketrec.lock import hold
from pocketrec.partitions import BadRows, IngestReport, ingest
from pocketrec.progress import SILENT, Progress
from pocketrec.sequences import SessionOrder, TrainOn
from pocketrec.session_parallel import Resets, Tail
from pocketrec.sources.synthetic import SynthReport, synth
from pocketrec.sources.tabular import Columns
from pocketrec.splitting import SplitReport, check_rules, split

MODELLING = tuple(one.name for one in fields(ModelSettings) if one.name not in ("n_items", "batch_size"))
"""What `export` takes and no other stage."""


@dataclass(frozen=True)
class PrepReport:
    """What each stage of `prep` did."""

    ingest: IngestReport
    split: SplitReport
    batches: BatchesReport


@dataclass(frozen=True)
class RunReport:
    """What each stage of `run` did."""

    prep: PrepReport
    export: ExportReport
    verify: VerifyReport


@dataclass(frozen=True)
class DemoReport:
    """What `demo` made, and where."""

    log: SynthReport
    run: RunReport
    dataset: Path


def prep(
    clicks: Path | str,
    dataset: Path | str = "dataset",
    *,
    batch_size: int = 512,
    holdout: float = 86400.0,
    min_session_length: int = 2,
    min_item_support: int = 5,
    timezone: str = "UTC",
    bad_rows: BadRows = "stop",
    columns: Columns | None = None,
    formats: Sequence[str] = ("txt", "npy"),
    resets: Resets = "once",
    tail: Tail = "drop",
    session_order: SessionOrder = "id",
    train_on: TrainOn = "train_tr",
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PrepReport:
    """From a click log to session-parallel batches; stages that are up to date are not run again.

    The dataset folder is held from the first stage to the last. The arguments are those of `ingest`, `split` and `batches`.

    Raises:
        LogError, SettingsError, DatasetError, BusyError, SpaceError, FolderError: as the stages do. A finished stage stays.
    """
    check_rules(holdout, min_session_length)
    check_batch_settings(batch_size, formats)
    with hold(dataset, "prep"):
        return PrepReport(
            ingest(
                clicks,
                dataset,
                timezone=timezone,
                bad_rows=bad_rows,
                columns=columns,
                fresh=fresh,
                force=force,
                progress=progress,
            ),
            split(
                dataset,
                holdout=holdout,
                min_session_length=min_session_length,
                min_item_support=min_item_support,
                fresh=fresh,
                force=force,
                progress=progress,
            ),
            batches(
                dataset,
                batch_size=batch_size,
                formats=formats,
                resets=resets,
                tail=tail,
                session_order=session_order,
                train_on=train_on,
                fresh=fresh,
                force=force,
                progress=progress,
            ),
        )


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
    for package, extra in (("tensorflow", "train"), ("ai_edge_litert", "lite"), ("matplotlib", "lite")):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), extra, "make and judge a model")
    modelling = {name: settings.pop(name) for name in MODELLING if name in settings}
    with hold(dataset, "run"):
        # The judge trains on npy.
        prepared = prep(clicks, dataset, batch_size=batch_size, formats=(*formats, "npy"), progress=progress, **settings)
        exported = export(dataset, batch_size=batch_size, progress=progress, **modelling)
        return RunReport(prepared, exported, verify(dataset, batch_size=batch_size, progress=progress))


def demo(
    folder: Path | str = "pocketrec-demo", *, clicks: int = 100_000, seed: int = 0, progress: Progress = SILENT
) -> DemoReport:
    """A synthetic log through every stage, in a folder of its own; nothing is downloaded.

    Args:
        folder: where the log and the dataset go.
        clicks: rows of the log.
        seed: of the log and of the model's weights.
        progress: who watches.
    """
    dataset = Path(folder)
    log = dataset / "yoochoose-data" / "yoochoose-clicks.dat"
    with hold(dataset, "demo"):
        made = synth(log, clicks=clicks, seed=seed, progress=progress)
        return DemoReport(made, run(log, dataset, batch_size=128, seed=seed, progress=progress), dataset)
