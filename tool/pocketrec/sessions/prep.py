"""`pocketrec prep`: ingest, split and batches, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketrec.ingestion.ingest import BadRows, IngestReport, ingest
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.batches import BatchesReport, batches, check_batch_settings
from pocketrec.sessions.sequences import SessionOrder, TrainOn
from pocketrec.sessions.session_parallel import Resets, Tail
from pocketrec.sessions.split import SplitReport, check_rules, split
from pocketrec.sources.delimited import Columns
from pocketrec.storage.lock import hold


@dataclass(frozen=True)
class PrepReport:
    """What each stage of `prep` did."""

    ingest: IngestReport
    split: SplitReport
    batches: BatchesReport


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
