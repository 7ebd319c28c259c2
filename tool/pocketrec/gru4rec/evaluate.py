"""Recall@N and MRR@N of models and anchors on a set of the split, over all its sessions and all items.

Every click that has a next one is an event; the state is reset where a session begins. Sessions come from
DIR/parquet/sequences and are laid into lanes here, so that no tail is dropped and any number of sessions will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.errors import DatasetError, require
from pocketrec.gru4rec.baselines import CoOccurrence, LastItem, Popularity
from pocketrec.gru4rec.options import RankSettings, Ties
from pocketrec.gru4rec.ranking import Accuracy, Ranking
from pocketrec.gru4rec.scoring import Scorer, rank
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.sequences import read_sequences
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import Record, read_records
from pocketrec.storage.repair import check_files


@dataclass(frozen=True)
class EvaluateReport:
    """Accuracy on one set.

    Attributes:
        dataset: the folder.
        on: the set.
        ties: how items with the target's score count.
        protocol: settings of the split and of the sessions.
        events: clicks with a next one, all counted.
        sessions: that they are from.
        items: candidates.
        unknown: clicks of the set that are left out, since their item was not trained on.
        models: the model's accuracy, if one was given, and the anchors'.
    """

    dataset: Path
    on: str
    ties: Ties
    protocol: Mapping[str, Any]
    events: int
    sessions: int
    items: int
    unknown: int
    models: tuple[Accuracy, ...]


def evaluate(
    dataset: Path | str = "dataset",
    settings: RankSettings = RankSettings(),
    *,
    model: Path | str | None = None,
    progress: Progress = SILENT,
) -> EvaluateReport:
    """Measure a model, and the anchors trained on the same sessions, on one set.

    Args:
        dataset: a folder that `batches` has filled.
        settings: what is measured, and how.
        model: a checkpoint of `train` or what a device has learned (.safetensors), or a .tflite, which runs on LiteRT;
            baselines alone if not given.
        progress: who watches.

    Raises:
        DatasetError: the dataset has no sequences, or they are damaged.
        ModelError: the model is damaged, or made for other items.
    """
    where = Dataset(Path(dataset))
    on = settings.on
    record = sequences_record(where)
    check_files(where.sequences.parent, record)
    items = read_item_list(where)
    scorers: list[Scorer] = [_open(Path(model), items, where)] if model is not None else []
    if settings.anchors:
        following = CoOccurrence(read_sequences(where, "train_tr"), len(items.ids))
        scorers += [following, LastItem(len(items.ids)), Popularity(items.support)]
    clicks, sessions = (record.files[f"{where.sequences.name}/{on}_{what}.npy"].shape[0] for what in ("items", "lengths"))
    models = []
    with progress.task("evaluate", clicks * len(scorers), "clicks") as advance:
        for scorer in scorers:
            ranking = rank(scorer, where, on, Ranking(settings.cutoffs, settings.ties), advance)
            models.append(ranking.accuracy(scorer.name))
    unknown, protocol = record.counts["unknown"][on], {**_rules(where), **record.settings}
    counts = (clicks - sessions, sessions, len(items.ids), unknown)
    return EvaluateReport(where.root, on, settings.ties, protocol, *counts, tuple(models))


def _rules(where: Dataset) -> Mapping[str, Any]:
    roles = read_records(where.roles.parent).get("roles")
    return roles.settings if roles else {}


def _open(model: Path, items: Catalogue, where: Dataset) -> Scorer:
    if model.suffix == ".safetensors":
        require("run a checkpoint", "tensorflow")
        with native_stderr_closed():
            from pocketrec.gru4rec.tf.scorer import open_scorer

            return open_scorer(model, items, where.root)
    from pocketrec.lite.runtime import LiteScorer, OnDeviceModel

    opened = OnDeviceModel(model)
    opened.check_items(items.hash, f"the dataset {where.root}")
    return LiteScorer(opened)


def sequences_record(where: Dataset) -> Record:
    """What the sessions in DIR/parquet/sequences are, after a look whether the item index is theirs.

    Raises:
        DatasetError: there are none, or the item index was made from another set.
    """
    do = f"pocketrec batches --dataset {where.root}"
    record = read_records(where.sequences.parent).get("sequences")
    if record is None or record.missing(where.sequences.parent):
        raise DatasetError(f"{where.root} has no sessions in order.", expected="what batches has written", do=do)
    made = [one for one in read_records(where.final).values() if one.stage == "batches"]
    if not any(
        one.inputs == record.inputs and one.settings.get("train_on") == record.settings.get("train_on") for one in made
    ):
        raise DatasetError(f"{where.items} and {where.sequences} are from different runs of batches.", do=do)
    return record
