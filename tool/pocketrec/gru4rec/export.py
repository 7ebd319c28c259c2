"""Make DIR/model/gru4rec_bs{B}.tflite: a GRU4Rec over the items of a dataset, ready to train on a phone.

TensorFlow is loaded when `export` is called, not before; what it says to itself on stderr is not passed on, unless
TF_CPP_MIN_LOG_LEVEL is set.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketrec.errors import ModelError, require
from pocketrec.gru4rec.checkpoints import Checkpoint, read_checkpoint
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import METADATA, Card, ModelSpec, digest
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.files import content_hash, staged_file
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import (
    OutputFile,
    Record,
    drop_record,
    intact_record,
    json_digest,
    read_records,
    versions,
    write_record,
)
from pocketrec.storage.space import room
from pocketrec.version import __version__

if TYPE_CHECKING:
    from pocketrec.gru4rec.tf.model import Gru4Rec


@dataclass(frozen=True)
class ExportReport:
    """A finished export.

    Attributes:
        path: the model file.
        bytes: its size.
        xxh3: XXH3-128 of its bytes.
        parameters: trained numbers in it.
        settings: what it was made with.
        reused: the same model was there already.
        seconds: wall time, the loading of TensorFlow included.
    """

    path: Path
    bytes: int
    xxh3: str
    parameters: int
    settings: ModelSpec
    reused: bool
    seconds: float


def export(
    dataset: Path | str,
    *,
    batch_size: int = 512,
    hidden_size: int = 100,
    optimizer: str = "adam",
    learning_rate: float = 0.001,
    seed: int = 42,
    source: Path | str | None = None,
    progress: Progress = SILENT,
    **model: Any,
) -> ExportReport:
    """Write the model for a dataset's items and for batches of `batch_size` lanes.

    Args:
        dataset: the dataset folder; final/items.parquet must be there.
        batch_size: B, fixed in the file.
        hidden_size: H, units of the GRU.
        optimizer: adam, adagrad or sgd; see `pocketrec.gru4rec.tf.model` for the formulas.
        learning_rate: of that optimizer.
        seed: of the initial weights; the same seed gives the same file, byte for byte.
        source: a checkpoint of `train`: its weights, and the optimizer's slots, go into the file. Its settings are the
            file's, except `batch_size`, `top_k` and `storage`.
        progress: who watches.
        **model: further settings of `pocketrec.lite.contract.ModelSpec`, by name: embedding, momentum, dropout, loss,
            negatives, storage, ...

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
        items = read_item_list(place)
        chosen = {"hidden_size": hidden_size, "optimizer": optimizer, "learning_rate": learning_rate, "seed": seed, **model}
        trained = None if source is None else _read(Path(source), items)
        if trained:
            chosen = _trained_settings(trained, chosen)
        settings = ModelSpec(len(items.ids), batch_size, **chosen)
        path, protocol = place.tflite(batch_size), _protocol(place, batch_size)
        inputs = {
            "items": content_hash(place.items),
            "checkpoint": "" if source is None else content_hash(Path(source)),
            "protocol": json_digest(protocol),
            "makers": json_digest(versions("tensorflow")),
        }
        found = intact_record(place.model, record_key(batch_size), asdict(settings), inputs)
        if found:
            output = found.files[path.name]
        else:
            content = model_bytes(settings, items, protocol, progress, tensors=trained.tensors if trained else None)
            with room(place.model, "export"):
                output = _commit(content, path, place, settings, inputs, source)
    seconds = time.perf_counter() - began
    return ExportReport(path, output.bytes, output.xxh3, settings.parameters, settings, found is not None, seconds)


def _read(source: Path, items: Catalogue) -> Checkpoint:
    """A checkpoint of the dataset's items."""
    found = read_checkpoint(source)
    found.check_items(items.hash, source)
    return found


def _trained_settings(trained: Checkpoint, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the weights were trained with, and of those asked for the ones that are the file's own."""
    own = {name: chosen[name] for name in ("top_k", "storage") if name in chosen}
    kept = {name: value for name, value in asdict(trained.settings).items() if name not in ("n_items", "batch_size")}
    return kept | own


def _protocol(place: Dataset, batch_size: int) -> dict[str, Any]:
    """How the data was prepared, from the manifests that say so."""
    records = {**read_records(place.rsc15), **read_records(place.final)}
    keys = {"split": "split", "batches": f"batches_bs{batch_size}"}
    return {name: dict(records[key].settings) for name, key in keys.items() if key in records}


def _commit(
    content: bytes,
    path: Path,
    place: Dataset,
    settings: ModelSpec,
    inputs: Mapping[str, str],
    source: Path | str | None,
) -> OutputFile:
    """Give the model its name, and write its record."""
    key = record_key(settings.batch_size)
    with staged_file(path) as staged:
        staged.write_bytes(content)
        _check(staged)
        drop_record(place.model, key)  # only now: a disk that is full leaves the earlier model usable
    output = OutputFile.of(path)
    counts = {"parameters": settings.parameters, "from": None if source is None else str(source)}
    record = Record("export", asdict(settings), inputs, {path.name: output}, counts)
    write_record(place.model, key, record)
    return output


def record_key(batch_size: int) -> str:
    """The key of an export's record in DIR/model/manifest.json."""
    return f"export_bs{batch_size}"


def model_bytes(
    settings: ModelSpec,
    items: Catalogue,
    protocol: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
    *,
    tensors: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes of a .tflite: a function of the settings, the items and the trained tensors (and of TensorFlow)."""
    require("export a model", "tensorflow")
    with progress.task("export", 3, "steps") as advance, native_stderr_closed():
        from pocketrec.gru4rec.tf.model import Gru4Rec

        advance(1)
        weights = {name: tensors[name] for name in settings.weights} if tensors else None
        model = Gru4Rec(settings, weights, items.support)
        if tensors:
            model.load(tensors)
        advance(1)
        content = convert_model(model, items, protocol)
        advance(1)
    return content


def convert_model(model: Gru4Rec, items: Catalogue, protocol: Mapping[str, Any] | None = None) -> bytes:
    """The .tflite of a model that is already there, its initial weights as they were given to it."""
    from pocketrec.training.tf.convert import as_stored, convert

    settings = model.settings
    weights = {name: as_stored(value, settings.storage, settings.n_items) for name, value in model.initial.items()}
    digests = {name: digest(weights[name]) for name in settings.weights}
    card = Card(settings, digests, items.hash, dict(protocol or {}), __version__)
    return convert(model, model.signatures(), card, items)


def _check(path: Path) -> None:
    """A file that could not run on a phone is not committed."""
    model = read_model(path)
    if model.foreign_operators or METADATA not in model.metadata:
        raise ModelError(
            f"The converter made a model that needs {', '.join(model.foreign_operators) or 'no card'}.",
            expected="TensorFlow Lite builtins only",
            do="report this with your TensorFlow version",
        )
