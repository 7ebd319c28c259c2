"""`pocketrec export --model vstan`: write DIR/model/vstan.safetensors, sessions that recommend without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketrec.gru4rec.evaluate import sequences_record, size_of_set
from pocketrec.gru4rec.kept_sessions import kept_sessions
from pocketrec.gru4rec.options import NeighbourSettings
from pocketrec.gru4rec.search import Choice, EvenSessions, choose_neighbours, measured
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.neighbour_model import KnownSessions
from pocketrec.lite.neighbours import METHODS
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.sequences import read_sequences
from pocketrec.settings import options_for
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import OutputFile, read_records
from pocketrec.storage.repair import check_files
from pocketrec.storage.stage import Stage
from pocketrec.version import __version__


@dataclass(frozen=True)
class NeighbourExportReport:
    """The result of an export.

    Attributes:
        path: the file.
        bytes: its size.
        xxh3: XXH3-128 of its bytes.
        items: items that it knows.
        sessions: sessions that it holds, the newest.
        pairs: items of these sessions, each once a session.
        trained: sessions that there are in training.
        settings: those of the formula that were chosen, and whether own items may be recommended.
        chosen_on: next clicks of train_valid that these were chosen on; 0 if nothing was chosen.
        reused: whether the same file was there already, so that nothing was written.
    """

    path: Path
    bytes: int
    xxh3: str
    items: int
    sessions: int
    pairs: int
    trained: int
    settings: Mapping[str, Any]
    chosen_on: int
    reused: bool


def export_neighbours(
    dataset: Path | str = "dataset", settings: NeighbourSettings = NeighbourSettings(), *, progress: Progress = SILENT
) -> NeighbourExportReport:
    """Write the sessions of the set that is trained on, and settings that fit them, as a file for `NeighbourModel`.

    Args:
        dataset: a dataset folder in which `batches` was run.
        settings: the method, and how its settings are chosen on train_valid.
        progress: is told about the clicks that settings are tried on.

    Raises:
        DatasetError: the dataset has no sequences, or they are damaged.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written.
    """
    where = Dataset(Path(dataset))
    with hold(dataset, "export"):
        record = sequences_record(where)
        check_files(where.sequences.parent, record)
        roles = read_records(where.roles.parent).get("roles")
        protocol = {**(roles.settings if roles else {}), **record.settings}
        method = next(name for name in METHODS if name.lower() == settings.model)
        inputs = {**record.inputs, "sequences": record.content, "makers": __version__}
        argv = ("export", *options_for(settings))
        stage = Stage(where.model, "export", asdict(settings), inputs, argv, key=f"export_{settings.model}")
        path = where.model / f"{settings.model}.safetensors"
        found = stage.current(intact=True)
        if not found:
            items = read_item_list(where)
            n_items, train_on = len(items.ids), record.settings["train_on"]
            kept = kept_sessions(where, train_on, train_on)
            index = kept.index(n_items)
            choice, judges = Choice(settings=METHODS[method]), EvenSessions([], 0, 0)
            if settings.tune:
                judges = EvenSessions(read_sequences(where, "train_valid"), *size_of_set(record, where, "train_valid"))
            if judges.events:
                known = index if train_on == "train_tr" else kept_sessions(where, train_on, "train_tr").index(n_items)
                with progress.task("choose settings", judges.events * measured(settings.tune), "clicks") as advance:
                    choice = choose_neighbours(known, method, settings.tune, settings.seed, judges, advance)
            with stage.replacing(6 * len(index.items) + 16 * len(index), names=[path.name]) as draft:
                stage.claim(path.name)
                chosen = choice.settings or METHODS[method]
                KnownSessions(method, chosen, choice.own, items, index, protocol).write(path)
                draft.files = {path.name: OutputFile.of(path)}
                draft.counts = {
                    "items": n_items,
                    "sessions": len(index),
                    "pairs": len(index.items),
                    "trained": kept.all,
                    "settings": choice.described(),
                    "chosen_on": judges.events,
                }
        done = found or draft.record
        file = done.files[path.name]
        return NeighbourExportReport(path, file.bytes, file.xxh3, **done.counts, reused=found is not None)
