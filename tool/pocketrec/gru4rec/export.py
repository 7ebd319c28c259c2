"""`pocketrec export`: write DIR/model/gru4rec_bs{B}.tflite, a GRU4Rec for the items of a dataset that can learn on a phone.

TensorFlow is loaded only when a model is made; what it writes to stderr is hidden, unless TF_CPP_MIN_LOG_LEVEL is set.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketrec.errors import ModelError, require
from pocketrec.gru4rec.checkpoints import read_weights
from pocketrec.gru4rec.users import Habits, habits_of
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import FORMAT, METADATA, Card, ModelSpec, digest
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.options import ExportSettings, LearnSettings, ModelSettings, UserSettings
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.progress import SILENT, Progress
from pocketrec.settings import options_for
from pocketrec.storage.files import content_hash, staged_file
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, json_digest, read_records, versions
from pocketrec.storage.stage import Stage
from pocketrec.version import __version__

if TYPE_CHECKING:
    from pocketrec.gru4rec.tf.model import Gru4Rec


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        path: the model file.
        bytes: its size.
        xxh3: XXH3-128 of its bytes.
        parameters: how many numbers in it are trained.
        settings: the settings that it was made with.
        habits: how the file says that it is used for its user, and why.
        reused: whether the same model was there already, so that nothing was written.
        seconds: wall time, including the loading of TensorFlow.
    """

    path: Path
    bytes: int
    xxh3: str
    parameters: int
    settings: ModelSpec
    habits: Habits
    reused: bool
    seconds: float


def export(
    dataset: Path | str = "dataset",
    model: ModelSettings = ModelSettings(),
    user: ExportSettings = ExportSettings(),
    *,
    source: Path | str | None = None,
    progress: Progress = SILENT,
) -> ExportReport:
    """Write a model for the items of a dataset and for batches of `model.batch_size` lanes.

    Args:
        dataset: the dataset folder; it must have final/items.parquet.
        model: the settings of the model; the same settings give the same file, byte for byte.
        user: how the model is used for its user.
        source: a checkpoint of `train` or a file from a device: its weights and slots go into the model. Its settings are
            used, too, except for `batch_size`, `top_k` and `storage`. Random initial weights if not given.
        progress: is told about the three steps of the export.

    Raises:
        DatasetError: the item index is missing or damaged.
        ModelError: the source cannot be read, or is made for other items.
        MissingExtraError: TensorFlow is not installed.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written. An earlier model is
            unchanged.
    """
    began, place = time.perf_counter(), Dataset(Path(dataset))
    with hold(dataset, "export"):
        items = read_item_list(place)
        settings = ModelSpec.of(model, len(items.ids))
        trained = None if source is None else read_weights(Path(source), items.hash, place.root)
        if trained:
            own = {name: getattr(settings, name) for name in ("batch_size", "top_k", "storage")}
            settings = replace(trained.settings, **own)
        protocol = _protocol(place, settings.batch_size)
        habits = habits_of(place, user)
        stage = _stage(place, settings, source, protocol, user, habits)
        path, found = place.tflite(settings.batch_size), stage.current(intact=True)
        if not found:
            content = model_bytes(
                settings,
                items,
                protocol,
                progress,
                tensors=trained.tensors if trained else None,
                lanes=trained.settings.batch_size if trained else None,
                use=habits.use,
            )
            with stage.replacing(names=[path.name]) as draft:
                with staged_file(path) as staged:
                    staged.write_bytes(content)
                    _check(staged)
                    stage.claim(path.name)  # only now, so that a full disk leaves the earlier model usable
                draft.files = {path.name: OutputFile.of(path)}
                draft.counts = {"parameters": settings.parameters, "from": None if source is None else str(source)}
        output = (found or draft.record).files[path.name]
    seconds = time.perf_counter() - began
    return ExportReport(path, output.bytes, output.xxh3, settings.parameters, settings, habits, found is not None, seconds)


def _stage(
    place: Dataset,
    settings: ModelSpec,
    source: Path | str | None,
    protocol: Mapping[str, Any],
    user: ExportSettings,
    habits: Habits,
) -> Stage:
    inputs = {
        "items": content_hash(place.items),
        "checkpoint": "" if source is None else content_hash(Path(source)),
        "protocol": json_digest(protocol),
        "use": json_digest(asdict(habits.use)),
        "makers": json_digest({**versions("tensorflow"), "card": FORMAT}),
    }
    origin = [] if source is None else ["--from", str(Path(source).absolute())]
    argv = ("export", *options_for(ModelSettings.part_of(settings), user), *origin)
    return Stage(place.model, "export", asdict(settings), inputs, argv, key=f"export_bs{settings.batch_size}")


def _protocol(place: Dataset, batch_size: int) -> dict[str, Any]:
    """The settings of `split` and `batches` that the data was prepared with, from their manifests."""
    records = {**read_records(place.rsc15), **read_records(place.final)}
    keys = {"split": "split", "batches": f"batches_bs{batch_size}"}
    return {name: dict(records[key].settings) for name, key in keys.items() if key in records}


def model_bytes(
    settings: ModelSpec,
    items: Catalogue,
    protocol: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
    *,
    tensors: Mapping[str, Any] | None = None,
    lanes: int | None = None,
    use: UserSettings = UserSettings(),
) -> bytes:
    """The bytes of a .tflite; they depend on nothing but the arguments and the versions of TensorFlow and pocketrec.

    `lanes` is how many there were in training, where they are not those of `settings`.
    """
    require("export a model", "tensorflow")
    with progress.task("export", 3, "steps") as advance, native_stderr_closed():
        from pocketrec.gru4rec.tf.model import Gru4Rec

        advance(1)
        weights = {name: tensors[name] for name in settings.weights} if tensors else None
        model = Gru4Rec(settings, weights, items.support)
        if tensors:
            model.load(tensors)
        advance(1)
        content = convert_model(model, items, protocol, tensors, lanes, use)
        advance(1)
    return content


def convert_model(
    model: Gru4Rec,
    items: Catalogue,
    protocol: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Any] | None = None,
    lanes: int | None = None,
    use: UserSettings = UserSettings(),
) -> bytes:
    """The bytes of a .tflite from a TensorFlow model; `lanes` as in `model_bytes`.

    The card has the hashes of the initial weights as they are stored, and of the slots and the step of a model that was
    loaded from `tensors`.
    """
    from pocketrec.training.tf.convert import as_stored, convert

    settings = model.settings
    begun = model.initial if tensors is None else {name: tensors[name] for name in settings.state}
    digests = {name: digest(as_stored(value, settings.storage, settings.n_items)) for name, value in begun.items()}
    learning = LearnSettings.of(settings, lanes or settings.batch_size)
    card = Card(settings, digests, items.hash, dict(protocol or {}), __version__, learning=learning, use=use)
    return convert(model, model.signatures(), card, items)


def _check(path: Path) -> None:
    """Refuse a file that could not run on a phone."""
    model = read_model(path)
    if model.foreign_operators or METADATA not in model.metadata:
        raise ModelError(
            f"The converter made a model that needs {', '.join(model.foreign_operators) or 'no card'}.",
            expected="TensorFlow Lite builtins only",
            do="report this with your TensorFlow version",
        )
