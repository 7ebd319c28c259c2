"""A trained network of `lite.plain` becomes a .tflite: made, committed with its record, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketrec.errors import require
from pocketrec.lite.judge.ladder import Rung
from pocketrec.storage.files import content_hash, staged_file
from pocketrec.storage.layout import Side
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import (
    OutputFile,
    Record,
    drop_record,
    intact_record,
    json_digest,
    json_values,
    versions,
    write_record,
)
from pocketrec.storage.networks import NetworkFile, NetworkT
from pocketrec.storage.space import OVERHEAD, room


@dataclass(frozen=True)
class PlainExportReport:
    """A finished export.

    Attributes:
        path: the model.
        bytes: its size.
        xxh3: XXH3-128 of its bytes.
        parameters: trained numbers of the network.
        rungs: the verdict.
        reused: the same model was there already; it was judged again.
        seconds: wall time.
    """

    path: Path
    bytes: int
    xxh3: str
    parameters: int
    rungs: tuple[Rung, ...]
    reused: bool
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no rung failed."""
        return all(rung.verdict != "failed" for rung in self.rungs)


def export_plain(
    place: Side,
    network: Path,
    path: Path,
    read: Callable[[], NetworkFile[NetworkT]],
    made: Callable[[NetworkFile[NetworkT]], bytes],
    judge: Callable[[NetworkFile[NetworkT]], tuple[Rung, ...]],
) -> PlainExportReport:
    """Write a trained network as a .tflite and judge it.

    Args:
        place: the side of the dataset, which is held.
        network: the file of the trained network.
        path: the model.
        read: the trained network.
        made: the model's bytes.
        judge: climbs the ladder, once the model has its name.

    Raises:
        MissingExtraError: TensorFlow or LiteRT is not installed.
        BusyError, SpaceError, FolderError: the folder is in use, full, or cannot be written. An earlier model is as it was.
    """
    began, stage = time.perf_counter(), f"{place.name}_export"
    require("export and judge a network", "tensorflow", "ai_edge_litert")
    with hold(place.home, f"{place.name} export"):
        trained = read()
        settings = trained.network.settings
        inputs = {"network": content_hash(network), "makers": json_digest(versions("tensorflow"))}
        found = intact_record(place.model, stage, json_values(asdict(settings)), inputs)
        if found:
            output = found.files[path.name]
        else:
            with room(place.model, f"{place.name} export", OVERHEAD + 6 * settings.parameters):
                content = made(trained)
                with staged_file(path) as staged:
                    staged.write_bytes(content)
                    drop_record(place.model, stage)
                output = OutputFile.of(path)
                counts: Mapping[str, Any] = {"parameters": settings.parameters}
                write_record(place.model, stage, Record(stage, asdict(settings), inputs, {path.name: output}, counts))
        rungs = judge(trained)
    seconds = time.perf_counter() - began
    return PlainExportReport(path, output.bytes, output.xxh3, settings.parameters, rungs, found is not None, seconds)
