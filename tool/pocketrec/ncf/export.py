"""`pocketrec ncf export`: the trained network as a .tflite of builtin operators, judged on plain LiteRT."""

from __future__ import annotations

from pathlib import Path

from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.frozen import FrozenCard
from pocketrec.ncf.interactions import read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import AnyNetwork, read_network
from pocketrec.ncf.options import NcfExportSettings
from pocketrec.ncf.runtime import KIND, signatures_of
from pocketrec.ncf.verify import verify_export
from pocketrec.storage.networks import NetworkFile
from pocketrec.training.export import FrozenExportReport, export_network


def export(dataset: Path | str = "dataset", settings: NcfExportSettings = NcfExportSettings()) -> FrozenExportReport:
    """Write DIR/ncf/model/neumf.tflite and judge it; the errors are those of `training.export.export_network`."""
    place = NcfDataset(Path(dataset))
    return export_network(
        place, settings, lambda: read_network(place),
        lambda trained, ids: model_bytes(trained, ids, settings),
        lambda trained, ids: verify_export(place.tflite, trained, ids, settings, read_interactions(place)),

    )  # fmt: skip


def model_bytes(trained: NetworkFile[AnyNetwork], ids: Catalogue, fixed: NcfExportSettings = NcfExportSettings()) -> bytes:
    """The bytes of a .tflite."""
    from pocketrec.ncf.tf.lite_model import lite_model
    from pocketrec.training.tf.convert import convert_frozen

    settings = trained.network.settings
    card = FrozenCard(KIND, settings, trained.split, fixed, ids.hash, ids.users_hash)
    return convert_frozen(lite_model(trained.network, fixed), signatures_of(settings, fixed), card, ids)
