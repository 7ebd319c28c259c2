"""pocketrec: click logs that do not fit in memory, into batches, into recommenders that keep learning on a phone.

Every command of the command line is a function here with the same name and options. Nothing is imported until it is
used: `import pocketrec` loads neither Polars nor TensorFlow nor LiteRT.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pocketrec.batching import batches as batches
    from pocketrec.errors import PocketrecError as PocketrecError
    from pocketrec.evaluation import evaluate as evaluate
    from pocketrec.inspection import inspect as inspect
    from pocketrec.inspection import inspect_model as inspect_model
    from pocketrec.integrity import verify_data as verify_data
    from pocketrec.lite.export import export as export
    from pocketrec.lite.recommending import recommend as recommend
    from pocketrec.lite.runtime import OnDeviceModel as OnDeviceModel
    from pocketrec.lite.verify import verify as verify
    from pocketrec.partitions import ingest as ingest
    from pocketrec.pipeline import demo as demo
    from pocketrec.pipeline import prep as prep
    from pocketrec.pipeline import run as run
    from pocketrec.sources.synthetic import synth as synth
    from pocketrec.splitting import split as split
    from pocketrec.training import train as train

_HOMES = {
    "PocketrecError": "errors",
    "synth": "sources.synthetic",
    "ingest": "partitions",
    "split": "splitting",
    "batches": "batching",
    "train": "training",
    "export": "lite.export",
    "verify": "lite.verify",
    "recommend": "lite.recommending",
    "evaluate": "evaluation",
    "inspect": "inspection",
    "inspect_model": "inspection",
    "verify_data": "integrity",
    "prep": "pipeline",
    "run": "pipeline",
    "demo": "pipeline",
    "OnDeviceModel": "lite.runtime",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pocketrec' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pocketrec.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
