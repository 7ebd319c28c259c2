"""`pocketrec evaluate`: Recall@N and MRR@N of a model and of baselines, over all sessions of a set and all items.

Each click that has a next one is an event; the state is reset where a session begins. Sessions are read from
DIR/parquet/sequences and put into lanes here, so no session is dropped, however few there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.errors import DatasetError, require
from pocketrec.gru4rec.baselines import co_occurrence, last_item, popularity
from pocketrec.gru4rec.checkpoints import read_weights
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
        dataset: the dataset folder.
        on: the name of the set.
        ties: how items with the same score as the target count in its rank.
        protocol: settings of the split and of the sessions.
        events: number of clicks with a next one; each of them is measured.
        sessions: number of sessions in the set.
        items: number of items that are ranked.
        unknown: clicks that are left out of the set, since their item is not in the training data.
        models: accuracy of the model, if one was given, and of the baselines.
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
    """Measure a model and the baselines on one set.

    Args:
        dataset: a dataset folder in which `batches` was run.
        settings: the set and how to measure.
        model: a checkpoint of `train` or a file from a device (.safetensors), or a .tflite, which runs on LiteRT; only the
            baselines are measured if not given.
        progress: is told about the clicks measured.

    Raises:
        DatasetError: the dataset has no sequences, or they are damaged; or the set has no event.
        ModelError: the model is damaged, or made for other items.
    """
    where = Dataset(Path(dataset))
    on = settings.on
    record = sequences_record(where)
    check_files(where.sequences.parent, record)
    clicks, sessions = (record.files[f"{where.sequences.name}/{on}_{what}.npy"].shape[0] for what in ("items", "lengths"))
    if clicks <= sessions:
        raise DatasetError(
            f"{on} of {where.root} has no event: there is nothing to measure.",
            expected="a session with a next click on an item of the train set",
            do=f"hold out more of the log, or keep rarer items: pocketrec split --dataset {where.root} --holdout 7d",
        )
    items = read_item_list(where)
    scorers: list[Scorer] = [_open(Path(model), items, where)] if model is not None else []
    if settings.baselines:
        following = co_occurrence(read_sequences(where, "train_tr"), len(items.ids))
        scorers += [following, last_item(len(items.ids)), popularity(items.support)]
    models = []
    with progress.task("evaluate", clicks * len(scorers), "clicks") as advance:
        for scorer in scorers:
            ranking = rank(scorer, where, on, Ranking(settings.cutoffs, settings.ties), advance)
            models.append(ranking.accuracy(scorer.name))
    roles = read_records(where.roles.parent).get("roles")
    protocol = {**(roles.settings if roles else {}), **record.settings}
    counts = (clicks - sessions, sessions, len(items.ids), record.counts["unknown"][on])
    return EvaluateReport(where.root, on, settings.ties, protocol, *counts, tuple(models))


def _open(model: Path, items: Catalogue, where: Dataset) -> Scorer:
    if model.suffix == ".safetensors":
        require("run a checkpoint", "tensorflow")
        checkpoint = read_weights(model, items.hash, where.root)
        with native_stderr_closed():
            from pocketrec.gru4rec.tf.scorer import ModelScorer
            from pocketrec.gru4rec.tf.sparse_model import SparseGru4Rec

            network = SparseGru4Rec(checkpoint.settings, support=items.support)
            network.load(checkpoint.tensors)
            return ModelScorer(network, f"{model.name}, {checkpoint.what}")
    from pocketrec.lite.runtime import LiteModel, LiteScorer

    opened = LiteModel(model)
    opened.check_items(items.hash, f"the dataset {where.root}")
    return LiteScorer(opened)


def sequences_record(where: Dataset) -> Record:
    """The record of the sessions in DIR/parquet/sequences; checks that the item index was made from the same data.

    Raises:
        DatasetError: there are no sessions, or the item index was made from other data.
    """
    do = f"pocketrec batches --dataset {where.root}"
    record = read_records(where.sequences.parent).get("sequences")
    if record is None or record.missing(where.sequences.parent):
        raise DatasetError(f"{where.root} has no sessions in order.", expected="what batches has written", do=do)
    made = [one for one in read_records(where.final).values() if one.stage == "batches"]
    if (record.inputs, record.settings.get("train_on")) not in [(one.inputs, one.settings.get("train_on")) for one in made]:
        raise DatasetError(f"{where.items} and {where.sequences} are from different runs of batches.", do=do)
    return record
