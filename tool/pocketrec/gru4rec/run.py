"""`pocketrec run`: from a click log to a verified model, by `prep`, `export` and `verify`."""

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
from pocketrec.sources.files import Logs
from pocketrec.sources.options import ReadSettings
from pocketrec.storage.lock import hold


@dataclass(frozen=True)
class RunReport:
    """The reports of the stages of `run`; and the page of `report`, which the command line makes after them."""

    prep: PrepReport
    export: ExportReport
    verify: VerifyReport
    page: Path | None = None


def run(
    clicks: Logs,
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
    """Make a verified model from a click log, by `prep`, `export` and `verify`.

    Args:
        clicks: the log, as for `ingest`.
        dataset: the dataset folder; it is created if it does not exist.
        batching: settings of `batches`; npy is added to the formats, since the model is verified on it.
        splitting: settings of `split`.
        reading: settings of `ingest`.
        model: settings of `export`, except for the batch size, which is that of `batching`.
        fresh: run every stage of `prep` again.
        force: begin even if the disk seems too small.
        progress: is told how far each stage is.

    Raises:
        MissingExtraError: TensorFlow, LiteRT or matplotlib is not installed; this is checked first.
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
