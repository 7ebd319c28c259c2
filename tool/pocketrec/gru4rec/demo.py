"""`pocketrec demo`: make a synthetic log and run all stages on it."""

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
from pocketrec.storage.manifest import claim

LANES = 128
"""Batch size of the demo; its log is too small for 512 lanes."""


@dataclass(frozen=True)
class DemoReport:
    """What `demo` made, and the dataset folder that it is in."""

    log: SynthReport
    run: RunReport
    dataset: Path


def demo(
    folder: Path | str = "pocketrec-demo", settings: DemoSettings = DemoSettings(), *, progress: Progress = SILENT
) -> DemoReport:
    """Make a synthetic log and run all stages on it, in one folder; nothing is downloaded.

    Args:
        folder: the dataset folder; the log is written into it, too.
        settings: the size of the log; the seed of the log and of the model's weights.
        progress: is told how far each stage is.
    """
    dataset = Path(folder)
    log = dataset / "yoochoose-data" / "yoochoose-clicks.dat"
    with hold(dataset, "demo"):
        claim(log.parent, "demo", [log.name])  # a real log may lie there
        made = synth(log, SynthSettings(clicks=settings.clicks, seed=settings.seed), progress=progress)
        batching, model = BatchSettings(batch_size=LANES), ModelSettings(seed=settings.seed)
        return DemoReport(made, run(log, dataset, batching=batching, model=model, progress=progress), dataset)
