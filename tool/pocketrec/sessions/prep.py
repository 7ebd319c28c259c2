"""`pocketrec prep`: ingest, split and batches, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketrec.ingestion.ingest import IngestReport, ingest
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.batches import BatchesReport, batches
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.split import SplitReport, split
from pocketrec.sources.files import Logs
from pocketrec.sources.options import ReadSettings
from pocketrec.storage.lock import hold


@dataclass(frozen=True)
class PrepReport:
    """What each stage of `prep` did."""

    ingest: IngestReport
    split: SplitReport
    batches: BatchesReport


def prep(
    clicks: Logs,
    dataset: Path | str = "dataset",
    *,
    batching: BatchSettings = BatchSettings(),
    splitting: SplitSettings = SplitSettings(),
    reading: ReadSettings = ReadSettings(),
    fresh: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PrepReport:
    """From a click log to session-parallel batches; stages that are up to date are not run again.

    The dataset folder is held from the first stage to the last.

    Args:
        clicks: the log, as for `ingest`.
        dataset: the dataset folder; made if need be.
        batching: settings of `batches`.
        splitting: settings of `split`.
        reading: settings of `ingest`.
        fresh: run every stage again.
        force: begin even where the disk seems too small.
        progress: told how far each stage is.

    Raises:
        PocketrecError: as the stages do; what a finished stage wrote stays.
    """
    with hold(dataset, "prep"):
        return PrepReport(
            ingest(clicks, dataset, reading, fresh=fresh, force=force, progress=progress),
            split(dataset, splitting, fresh=fresh, force=force, progress=progress),
            batches(dataset, batching, fresh=fresh, force=force, progress=progress),
        )
