"""`pocketrec ncf export`: the trained network as a .tflite of builtin operators, judged on plain LiteRT."""

from __future__ import annotations

from pathlib import Path

from pocketrec.lite.frozen import FrozenCard
from pocketrec.ncf.interactions import read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import Network, read_network
from pocketrec.ncf.runtime import KIND, SIGNATURES
from pocketrec.ncf.verify import verify_export
from pocketrec.storage.networks import NetworkFile
from pocketrec.training.export import FrozenExportReport, export_network


def export(dataset: Path | str = "dataset") -> FrozenExportReport:
    """Write DIR/ncf/model/neumf.tflite and judge it; the errors are those of `training.export.export_network`."""
    place = NcfDataset(Path(dataset))
    return export_network(
        place, lambda: read_network(place), model_bytes,
        lambda trained: verify_export(place.tflite, trained, read_interactions(place)),
    )  # fmt: skip


def model_bytes(trained: NetworkFile[Network]) -> bytes:
    """The bytes of a .tflite."""
    from pocketrec.ncf.tf.lite_model import LiteNetwork
    from pocketrec.training.tf.convert import convert_frozen

    settings = trained.network.settings
    card = FrozenCard(KIND, settings, trained.split)
    return convert_frozen(LiteNetwork(settings, trained.network.weights), SIGNATURES, card)
