"""`pocketrec demo`: a synthetic log through every stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketrec.gru4rec.run import RunReport, run
from pocketrec.progress import SILENT, Progress
from pocketrec.sources.synth import SynthReport, synth
from pocketrec.storage.lock import hold


@dataclass(frozen=True)
class DemoReport:
    """What `demo` made, and where."""

    log: SynthReport
    run: RunReport
    dataset: Path


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
