"""pocketrec: click logs that do not fit in memory, into batches, into recommenders that keep learning on a phone.

Every command of the command line is a function here with the same name and options. Nothing is imported until it is
used: `import pocketrec` loads neither Polars nor TensorFlow nor LiteRT.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pocketrec.version import __version__ as __version__

if TYPE_CHECKING:
    from pocketrec.errors import PocketrecError as PocketrecError
    from pocketrec.gru4rec.demo import demo as demo
    from pocketrec.gru4rec.evaluate import evaluate as evaluate
    from pocketrec.gru4rec.export import export as export
    from pocketrec.gru4rec.export_neighbours import export_neighbours as export_neighbours
    from pocketrec.gru4rec.options import DemoSettings as DemoSettings
    from pocketrec.gru4rec.options import NeighbourSettings as NeighbourSettings
    from pocketrec.gru4rec.options import RankSettings as RankSettings
    from pocketrec.gru4rec.options import TrainSettings as TrainSettings
    from pocketrec.gru4rec.options import TuneSettings as TuneSettings
    from pocketrec.gru4rec.run import run as run
    from pocketrec.gru4rec.train import train as train
    from pocketrec.gru4rec.tune import tune as tune
    from pocketrec.ingestion.ingest import ingest as ingest
    from pocketrec.lite.inspect_model import inspect_model as inspect_model
    from pocketrec.lite.judge.verify import verify as verify
    from pocketrec.lite.neighbour_model import NeighbourModel as NeighbourModel
    from pocketrec.lite.on_device import OnDeviceModel as OnDeviceModel
    from pocketrec.lite.options import ExportSettings as ExportSettings
    from pocketrec.lite.options import ModelSettings as ModelSettings
    from pocketrec.lite.options import ServeSettings as ServeSettings
    from pocketrec.lite.options import VerifySettings as VerifySettings
    from pocketrec.lite.recommend import recommend as recommend
    from pocketrec.lite.serve import serve as serve
    from pocketrec.page.report import report as report
    from pocketrec.sessions.batches import batches as batches
    from pocketrec.sessions.options import BatchSettings as BatchSettings
    from pocketrec.sessions.options import SplitSettings as SplitSettings
    from pocketrec.sessions.prep import prep as prep
    from pocketrec.sessions.split import split as split
    from pocketrec.sources.options import ReadSettings as ReadSettings
    from pocketrec.sources.options import SynthSettings as SynthSettings
    from pocketrec.sources.peek import peek as peek
    from pocketrec.sources.synth import synth as synth
    from pocketrec.spark.land import land as land
    from pocketrec.spark.options import EngineSettings as EngineSettings
    from pocketrec.spark.prep import prep_on_spark as prep_on_spark
    from pocketrec.storage.inspect import inspect as inspect
    from pocketrec.storage.verify_data import verify_data as verify_data

_HOMES = {
    "PocketrecError": "errors",
    "synth": "sources.synth",
    "peek": "sources.peek",
    "ingest": "ingestion.ingest",
    "split": "sessions.split",
    "batches": "sessions.batches",
    "prep": "sessions.prep",
    "prep_on_spark": "spark.prep",
    "land": "spark.land",
    "train": "gru4rec.train",
    "tune": "gru4rec.tune",
    "evaluate": "gru4rec.evaluate",
    "export": "gru4rec.export",
    "export_neighbours": "gru4rec.export_neighbours",
    "verify": "lite.judge.verify",
    "run": "gru4rec.run",
    "demo": "gru4rec.demo",
    "recommend": "lite.recommend",
    "serve": "lite.serve",
    "report": "page.report",
    "OnDeviceModel": "lite.on_device",
    "NeighbourModel": "lite.neighbour_model",
    "inspect": "storage.inspect",
    "inspect_model": "lite.inspect_model",
    "verify_data": "storage.verify_data",
    "ReadSettings": "sources.options",
    "SynthSettings": "sources.options",
    "SplitSettings": "sessions.options",
    "EngineSettings": "spark.options",
    "BatchSettings": "sessions.options",
    "ModelSettings": "lite.options",
    "ExportSettings": "lite.options",
    "VerifySettings": "lite.options",
    "ServeSettings": "lite.options",
    "TrainSettings": "gru4rec.options",
    "TuneSettings": "gru4rec.options",
    "RankSettings": "gru4rec.options",
    "NeighbourSettings": "gru4rec.options",
    "DemoSettings": "gru4rec.options",
}
"""The module below `pocketrec` that each name is in."""
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pocketrec' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pocketrec.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
