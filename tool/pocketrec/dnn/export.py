"""`pocketrec dnn export`: the trained network as a .tflite of builtin operators, judged on plain LiteRT."""

from __future__ import annotations

from pathlib import Path

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.network import Network, read_network
from pocketrec.dnn.runtime import KIND
from pocketrec.dnn.sets import prepared
from pocketrec.dnn.verify import verify_export
from pocketrec.lite.frozen import PlainCard
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.storage.networks import NetworkFile
from pocketrec.training.export import PlainExportReport, export_plain


def export(dataset: Path | str = "dataset") -> PlainExportReport:
    """Write DIR/dnn/model/dnn.tflite and judge it.

    Args:
        dataset: the dataset folder.

    Raises:
        DatasetError: there is no split, or no network for it.
        MissingExtraError: TensorFlow or LiteRT is not installed.
        BusyError, SpaceError, FolderError: the folder is in use, full, or cannot be written.
    """
    place = DnnDataset(Path(dataset))
    return export_plain(
        place,
        place.network,
        place.tflite,
        lambda: read_network(place.network, prepared(place).content, f"pocketrec dnn train --dataset {place.root}"),
        model_bytes,
        lambda trained: verify_export(place.tflite, trained),
    )


def model_bytes(trained: NetworkFile[Network]) -> bytes:
    """The bytes of the .tflite of a network."""
    with native_stderr_closed():
        from pocketrec.dnn.tf.lite_model import LiteDnn
        from pocketrec.training.tf.convert import convert_plain

        settings = trained.network.settings
        module = LiteDnn(settings, trained.network.weights)
        return convert_plain(module, module.signatures(), PlainCard(KIND, settings, trained.split).to_json())
