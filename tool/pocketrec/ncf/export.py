"""`pocketrec ncf export`: the trained network as a .tflite of builtin operators, judged on plain LiteRT."""

from __future__ import annotations

from pathlib import Path

from pocketrec.lite.frozen import PlainCard
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.ncf.interactions import prepared, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import Network, read_network
from pocketrec.ncf.runtime import KIND
from pocketrec.ncf.verify import verify_export
from pocketrec.storage.networks import NetworkFile
from pocketrec.training.export import PlainExportReport, export_plain


def export(dataset: Path | str = "dataset") -> PlainExportReport:
    """Write DIR/ncf/model/neumf.tflite and judge it.

    Args:
        dataset: the dataset folder.

    Raises:
        DatasetError: there is no split, or no network for it.
        MissingExtraError: TensorFlow or LiteRT is not installed.
        BusyError, SpaceError, FolderError: the folder is in use, full, or cannot be written.
    """
    place = NcfDataset(Path(dataset))
    return export_plain(
        place,
        place.network,
        place.tflite,
        lambda: read_network(place.network, prepared(place).content, f"pocketrec ncf train --dataset {place.root}"),
        model_bytes,
        lambda trained: verify_export(place.tflite, trained, read_interactions(place)),
    )


def model_bytes(trained: NetworkFile[Network]) -> bytes:
    """The bytes of the .tflite of a network."""
    with native_stderr_closed():
        from pocketrec.ncf.tf.lite_model import LiteNetwork
        from pocketrec.training.tf.convert import convert_plain

        settings = trained.network.settings
        module = LiteNetwork(settings, trained.network.weights)
        return convert_plain(module, module.signatures(), PlainCard(KIND, settings, trained.split).to_json())
