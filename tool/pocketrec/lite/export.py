"""Make DIR/model/gru4rec_bs{B}.tflite: a GRU4Rec over the items of a dataset, ready to train on a phone.

TensorFlow is loaded when `export` is called, not before; what it says to itself on stderr is not passed on, unless
TF_CPP_MIN_LOG_LEVEL is set.
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocketrec.errors import MissingExtraError, ModelError
from pocketrec.files import content_hash, staged_file
from pocketrec.layout import Dataset
from pocketrec.lite.contract import METADATA, Card, ModelSettings
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.inputs import count_items
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.lock import hold
from pocketrec.manifest import OutputFile, Record, drop_record, write_record
from pocketrec.progress import SILENT, Progress
from pocketrec.space import room

if TYPE_CHECKING:
    from pocketrec.models.gru4rec import Gru4Rec


@dataclass(frozen=True)
class ExportReport:
    """A finished export.

    Attributes:
        path: the model file.
        bytes: its size.
        xxh3: XXH3-128 of its bytes.
        parameters: trained numbers in it.
        settings: what it was made with.
        seconds: wall time, the loading of TensorFlow included.
    """

    path: Path
    bytes: int
    xxh3: str
    parameters: int
    settings: ModelSettings
    seconds: float


def export(
    dataset: Path | str,
    *,
    batch_size: int = 512,
    hidden_size: int = 100,
    optimizer: str = "adam",
    learning_rate: float = 0.001,
    seed: int = 42,
    progress: Progress = SILENT,
) -> ExportReport:
    """Write the model for a dataset's items and for batches of `batch_size` lanes.

    Args:
        dataset: the dataset folder; final/items.parquet must be there.
        batch_size: B, fixed in the file.
        hidden_size: H, units of the GRU.
        optimizer: adam, adagrad or sgd; see `pocketrec.models.gru4rec` for the formulas.
        learning_rate: of that optimizer.
        seed: of the initial weights; the same seed gives the same file, byte for byte.
        progress: who watches.

    Raises:
        DatasetError: the item index is missing or damaged.
        SettingsError: a setting no model can have.
        MissingExtraError: TensorFlow is not installed.
        BusyError: another process is at work in the dataset folder.
        SpaceError: the disk is full. An earlier model is as it was.
        FolderError: the dataset folder cannot be written.
    """
    began, place = time.perf_counter(), Dataset(Path(dataset))
    with hold(dataset, "export"):
        settings = ModelSettings(count_items(place), batch_size, hidden_size, optimizer, learning_rate, seed)
        path, content = place.tflite(batch_size), model_bytes(settings, progress)
        with room(place.model, "export"):
            output = _commit(content, path, place, settings)
    seconds = time.perf_counter() - began
    return ExportReport(path, output.bytes, output.xxh3, settings.parameters, settings, seconds)


def _commit(content: bytes, path: Path, place: Dataset, settings: ModelSettings) -> OutputFile:
    """Give the model its name, and write its record."""
    key = record_key(settings.batch_size)
    with staged_file(path) as staged:
        staged.write_bytes(content)
        _check(staged)
        drop_record(place.model, key)  # only now: a disk that is full leaves the earlier model usable
    output = OutputFile.of(path)
    counts = {"parameters": settings.parameters}
    record = Record("export", asdict(settings), {"items": content_hash(place.items)}, {path.name: output}, counts)
    write_record(place.model, key, record)
    return output


def record_key(batch_size: int) -> str:
    """The key of an export's record in DIR/model/manifest.json."""
    return f"export_bs{batch_size}"


def model_bytes(settings: ModelSettings, progress: Progress = SILENT) -> bytes:
    """The bytes of a .tflite: a function of the settings alone (and of TensorFlow's version)."""
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError("tensorflow", "train", "export a model")
    with progress.task("export", 3, "steps") as advance, native_stderr_closed():
        from pocketrec.models.gru4rec import Gru4Rec

        advance(1)
        model = Gru4Rec(settings)
        advance(1)
        content = convert_model(model)
        advance(1)
    return content


def convert_model(model: Gru4Rec) -> bytes:
    """The .tflite of a model that is already there, its present weights as the initial ones."""
    from pocketrec.models.tflite import convert

    return convert(model, model.signatures(), Card.of(model.settings, model.initial).to_json())


def _check(path: Path) -> None:
    """A file that could not run on a phone is not committed."""
    model = read_model(path)
    if model.foreign_operators or METADATA not in model.metadata:
        raise ModelError(
            f"The converter made a model that needs {', '.join(model.foreign_operators) or 'no card'}.",
            expected="TensorFlow Lite builtins only",
            do="report this with your TensorFlow version",
        )
