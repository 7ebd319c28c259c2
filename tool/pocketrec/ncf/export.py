"""`pocketrec ncf export`: the trained network as a .tflite of builtin operators, judged on plain LiteRT."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketrec.errors import MissingExtraError
from pocketrec.files import content_hash, staged_file
from pocketrec.lite.ladder import Rung
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.lock import hold
from pocketrec.manifest import OutputFile, Record, drop_record, write_record
from pocketrec.ncf.contract import NcfCard
from pocketrec.ncf.interactions import prepared, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import NetworkFile, read_network
from pocketrec.ncf.verify import verify_export
from pocketrec.space import OVERHEAD, room

STAGE = "ncf_export"


@dataclass(frozen=True)
class NcfExportReport:
    """A finished export.

    Attributes:
        path: the model.
        bytes: its size.
        xxh3: XXH3-128 of its bytes.
        parameters: trained numbers of the network.
        rungs: the verdict.
        seconds: wall time.
    """

    path: Path
    bytes: int
    xxh3: str
    parameters: int
    rungs: tuple[Rung, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no rung failed."""
        return all(rung.verdict != "failed" for rung in self.rungs)


def export(dataset: Path | str = "dataset") -> NcfExportReport:
    """Write DIR/ncf/model/neumf.tflite and judge it.

    Args:
        dataset: the dataset folder.

    Raises:
        DatasetError: there is no split, or no network for it.
        MissingExtraError: TensorFlow or LiteRT is not installed.
        BusyError, SpaceError, FolderError: the folder is in use, full, or cannot be written.
    """
    began, place = time.perf_counter(), NcfDataset(Path(dataset))
    for package, extra in (("tensorflow", "train"), ("ai_edge_litert", "lite")):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), extra, "export and judge a network")
    with hold(place.home, "ncf export"):
        split = prepared(place).content
        trained = read_network(place.network, split, f"pocketrec ncf train --dataset {place.root}")
        settings = trained.network.settings
        with room(place.model, "ncf export", OVERHEAD + 6 * settings.parameters):
            content = model_bytes(trained)
            with staged_file(place.tflite) as staged:
                staged.write_bytes(content)
                drop_record(place.model, STAGE)
            output, inputs = OutputFile.of(place.tflite), {"network": content_hash(place.network)}
            record = Record(
                STAGE, asdict(settings), inputs, {place.tflite.name: output}, {"parameters": settings.parameters}
            )
            write_record(place.model, STAGE, record)
        rungs = verify_export(place.tflite, trained, read_interactions(place))
    return NcfExportReport(place.tflite, output.bytes, output.xxh3, settings.parameters, rungs, time.perf_counter() - began)


def model_bytes(trained: NetworkFile) -> bytes:
    """The bytes of the .tflite of a network."""
    with native_stderr_closed():
        from pocketrec.models.neumf_lite import LiteNetwork
        from pocketrec.models.tflite import convert_plain

        settings = trained.network.settings
        module = LiteNetwork(settings, trained.network.weights)
        return convert_plain(module, module.signatures(), NcfCard(settings, trained.split).to_json())
