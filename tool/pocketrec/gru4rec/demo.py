"""`pocketrec demo`: a synthetic log through every stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketrec.gru4rec.options import DemoSettings
from pocketrec.gru4rec.run import RunReport, run
from pocketrec.lite.options import ModelSettings
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.options import BatchSettings
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import SynthReport, synth
from pocketrec.storage.lock import hold

LANES = 128
"""Lanes of the demo's batches: its log is small."""


@dataclass(frozen=True)
class DemoReport:
    """What `demo` made, and where."""

    log: SynthReport
    run: RunReport
    dataset: Path


def demo(
    folder: Path | str = "pocketrec-demo", settings: DemoSettings = DemoSettings(), *, progress: Progress = SILENT
) -> DemoReport:
    """A synthetic log through every stage, in a folder of its own; nothing is downloaded.

    Args:
        folder: where the log and the dataset go.
        settings: of the log; the seed is that of the model's weights, too.
        progress: who watches.
    """
    dataset = Path(folder)
    log = dataset / "yoochoose-data" / "yoochoose-clicks.dat"
    with hold(dataset, "demo"):
        made = synth(log, SynthSettings(clicks=settings.clicks, seed=settings.seed), progress=progress)
        batching, model = BatchSettings(batch_size=LANES), ModelSettings(seed=settings.seed)
        return DemoReport(made, run(log, dataset, batching=batching, model=model, progress=progress), dataset)
