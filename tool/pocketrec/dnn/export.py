"""`pocketrec dnn export`: the trained network as a .tflite of builtin operators, judged on plain LiteRT."""

from __future__ import annotations

from pathlib import Path

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.network import Network, read_network
from pocketrec.dnn.options import DnnExportSettings
from pocketrec.dnn.runtime import KIND, signatures_of
from pocketrec.dnn.verify import verify_export
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.frozen import FrozenCard
from pocketrec.storage.networks import NetworkFile
from pocketrec.training.export import FrozenExportReport, export_network


def export(dataset: Path | str = "dataset", settings: DnnExportSettings = DnnExportSettings()) -> FrozenExportReport:
    """Write DIR/dnn/model/dnn.tflite and judge it; the errors are those of `training.export.export_network`."""
    place = DnnDataset(Path(dataset))
    return export_network(
        place, settings, lambda: read_network(place),
        lambda trained, ids: model_bytes(trained, ids, settings),
        lambda trained, ids: verify_export(place.tflite, trained, ids, settings),
        unknown=True,
    )  # fmt: skip


def model_bytes(trained: NetworkFile[Network], ids: Catalogue, fixed: DnnExportSettings = DnnExportSettings()) -> bytes:
    """The bytes of a .tflite."""
    from pocketrec.dnn.tf.lite_model import LiteDnn
    from pocketrec.training.tf.convert import convert_frozen

    settings = trained.network.settings
    card = FrozenCard(KIND, settings, trained.split, fixed, ids.hash, ids.users_hash)
    module = LiteDnn(settings, trained.network.weights)
    return convert_frozen(module, signatures_of(settings, fixed), card, ids)
