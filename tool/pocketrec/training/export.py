"""A trained network of `ncf` or `dnn` becomes a frozen .tflite: made, committed with its record, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketrec.errors import require
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.judge.ladder import Rung
from pocketrec.lite.options import FixedSettings
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.settings import options_for
from pocketrec.storage.files import content_hash, staged_file
from pocketrec.storage.item_index import read_items
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, json_digest, versions
from pocketrec.storage.networks import NetworkFile, NetworkSide, NetworkT
from pocketrec.storage.reports import keep_report
from pocketrec.storage.space import OVERHEAD
from pocketrec.storage.stage import Stage

BYTES_PER_PARAMETER = 6
"""Of a .tflite: 4 of the weight; the rest for what is worked out of the weights beforehand, and for the graph."""


@dataclass(frozen=True)
class FrozenExportReport:
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


def export_network(
    place: NetworkSide,
    fixed: FixedSettings,
    read: Callable[[], NetworkFile[NetworkT]],
    made: Callable[[NetworkFile[NetworkT], Catalogue], bytes],
    judge: Callable[[NetworkFile[NetworkT], Catalogue], tuple[Rung, ...]],
    *,
    unknown: bool = False,
) -> FrozenExportReport:
    """Write a trained network as a .tflite and judge it.

    Args:
        place: the side of the dataset.
        fixed: the lengths that are fixed in the file.
        read: reads the trained network, once the side is held.
        made: makes the model's bytes, with TensorFlow, of the network and the ids of its codes.
        judge: climbs the ladder, once the model has its name.
        unknown: code 0 of users and items stands for all that are not known.

    Raises:
        DatasetError, ModelError: there is no trained network for the split that is there.
        MissingExtraError: TensorFlow or LiteRT is not installed.
        BusyError, SpaceError, FolderError: the folder is in use, full, or cannot be written. An earlier model is as it was.
    """
    began, argv, path = time.perf_counter(), (place.name, "export"), place.tflite
    require("export and judge a network", "tensorflow", "ai_edge_litert")
    with hold(place.home, " ".join(argv)):
        trained, ids = read(), ids_of(place, unknown=unknown)
        settings = trained.network.settings
        inputs = {
            "network": content_hash(place.network),
            "ids": json_digest([ids.hash, ids.users_hash]),
            "makers": json_digest(versions("tensorflow")),
        }
        named = {**asdict(settings), **asdict(fixed)}
        stage = Stage(place.model, f"{place.name}_export", named, inputs, (*argv, *options_for(fixed)))
        found = stage.current(intact=True)
        if not found:
            needed = OVERHEAD + BYTES_PER_PARAMETER * settings.parameters + len(ids.append_to(b""))
            with stage.replacing(needed, names=(path.name,)) as draft:
                with native_stderr_closed():
                    content = made(trained, ids)
                with staged_file(path) as staged:
                    staged.write_bytes(content)
                    stage.claim(path.name)  # only now: a disk that is full leaves the earlier model usable
                draft.files = {path.name: OutputFile.of(path)}
                draft.counts = {"parameters": settings.parameters}
        output = (found or draft.record).files[path.name]
        rungs, reused = judge(trained, ids), found is not None
        seconds = time.perf_counter() - began
        report = FrozenExportReport(path, output.bytes, output.xxh3, settings.parameters, rungs, reused, seconds)
        keep_report(place.model, "export", (*argv, *options_for(fixed)), {"model": output.xxh3}, report)
    return report


def ids_of(place: NetworkSide, *, unknown: bool) -> Catalogue:
    """The ids of the codes of a split, and how many train ratings each item has; `unknown` as in `export_network`."""
    items = read_items(place.items, ("item_id", "support"), do=place.prep_command)
    users = read_items(place.users, ["user_id"], do=place.prep_command).to_series()
    return Catalogue.of(
        items["item_id"].to_list(), items["support"].to_numpy(), users.to_list(), unknown=unknown, do=place.prep_command
    )
