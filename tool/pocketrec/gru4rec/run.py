"""`pocketrec run`: prep, export and verify, from a click log to a verified model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pocketrec.errors import require
from pocketrec.gru4rec.export import ExportReport, export
from pocketrec.lite.judge.verify import VerifyReport, verify
from pocketrec.lite.options import ModelSettings, VerifySettings
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.prep import PrepReport, prep
from pocketrec.sources.options import ReadSettings
from pocketrec.storage.lock import hold


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
    batching: BatchSettings = BatchSettings(),
    splitting: SplitSettings = SplitSettings(),
    reading: ReadSettings = ReadSettings(),
    model: ModelSettings = ModelSettings(),
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> RunReport:
    """From a click log to a verified model: `prep`, `export`, `verify`.

    Args:
        clicks: the log, as for `ingest`.
        dataset: the dataset folder; made if need be.
        batching: settings of `batches`; npy is always among the formats, since the model is verified on it.
        splitting: settings of `split`.
        reading: settings of `ingest`.
        model: settings of `export`; its batch size is that of the batches.
        fresh: run every stage of `prep` again.
        force: begin even where the disk seems too small.
        progress: told how far each stage is.

    Raises:
        MissingExtraError: TensorFlow, LiteRT or matplotlib is not installed; asked before anything is done.
    """
    require("make and judge a model", "tensorflow", "ai_edge_litert", "matplotlib")
    batching = replace(batching, formats=tuple(dict.fromkeys((*batching.formats, "npy"))))
    lanes = batching.batch_size
    with hold(dataset, "run"):
        return RunReport(
            prep(
                clicks, dataset, batching=batching, splitting=splitting, reading=reading,
                fresh=fresh, force=force, progress=progress,
            ),
            export(dataset, replace(model, batch_size=lanes), progress=progress),
            verify(dataset, VerifySettings(batch_size=lanes), progress=progress),
        )  # fmt: skip
