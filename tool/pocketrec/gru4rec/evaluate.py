"""`pocketrec evaluate`: Recall@N and MRR@N of a model and of baselines, over all sessions of a set and all items.

Each click that has a next one is an event; the state is reset where a session begins. Sessions are read from
DIR/parquet/sequences and put into lanes here, so no session is dropped, however few there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pocketrec.errors import DatasetError, require
from pocketrec.gru4rec.baselines import co_occurrence, last_item, popularity
from pocketrec.gru4rec.checkpoints import read_weights
from pocketrec.gru4rec.options import RankSettings, Ties
from pocketrec.gru4rec.ranking import Accuracy, Ranking
from pocketrec.gru4rec.scoring import Example, Scorer, examples, rank
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.sequences import read_sequences
from pocketrec.settings import options_for
from pocketrec.storage.files import content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import Record, json_digest, read_records
from pocketrec.storage.repair import check_files
from pocketrec.storage.reports import try_to_keep


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
        settings: what the model's network is and was trained with; none where no model was given.
        examples: some sessions, with what the model recommended in them.
        not_kept: why the page of `report` will not have these figures; "" where they are kept.
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
    settings: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    not_kept: str = ""


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
    scorers: list[Scorer] = []
    network: Mapping[str, Any] = {}
    if model is not None:
        scorer, spec = _open(Path(model), items, where)
        scorers, network = [scorer], asdict(spec)
    if settings.baselines:
        following = co_occurrence(read_sequences(where, "train_tr"), len(items.ids))
        scorers += [following, last_item(len(items.ids)), popularity(items.support)]
    models = []
    with progress.task("evaluate", clicks * len(scorers), "clicks") as advance:
        for scorer in scorers:
            ranking = rank(scorer, where, on, Ranking(settings.cutoffs, settings.ties, items.support), advance)
            models.append(ranking.accuracy(scorer.name))
    shown = examples(scorers[0], where, on, sessions, items.ids, settings.ties) if model is not None else ()
    roles = read_records(where.roles.parent).get("roles")
    protocol = {**(roles.settings if roles else {}), **record.settings}
    counts = (clicks - sessions, sessions, len(items.ids), record.counts["unknown"][on])
    report = EvaluateReport(where.root, on, settings.ties, protocol, *counts, tuple(models), network, shown)
    of = {"sequences": record.content, "items": items.hash}
    return replace(report, not_kept=_keep(report, settings, None if model is None else Path(model), of, where))


def _keep(report: EvaluateReport, settings: RankSettings, model: Path | None, of: dict[str, str], where: Dataset) -> str:
    """Keep a report for the page; `of` says what data it is of. Why it was not kept, or ""."""
    argv = ["evaluate", *([] if model is None else [str(model.absolute())]), *options_for(settings)]
    of["model"] = "" if model is None else content_hash(model)
    key = f"evaluate {json_digest([of, asdict(settings)])}"
    return try_to_keep(where.root, where.model, key, argv, of, report)


def _open(model: Path, items: Catalogue, where: Dataset) -> tuple[Scorer, ModelSpec]:
    if model.suffix == ".safetensors":
        require("run a checkpoint", "tensorflow")
        checkpoint = read_weights(model, items.hash, where.root)
        with native_stderr_closed():
            from pocketrec.gru4rec.tf.scorer import ModelScorer
            from pocketrec.gru4rec.tf.sparse_model import SparseGru4Rec

            network = SparseGru4Rec(checkpoint.settings, support=items.support)
            network.load(checkpoint.tensors)
            return ModelScorer(network, f"{model.name}, {checkpoint.what}"), checkpoint.settings
    from pocketrec.lite.runtime import LiteScorer, OnDeviceModel

    opened = OnDeviceModel(model)
    opened.check_items(items.hash, f"the dataset {where.root}")
    return LiteScorer(opened), opened.settings


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
