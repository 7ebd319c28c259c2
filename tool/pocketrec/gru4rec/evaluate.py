"""`pocketrec evaluate`: Recall@N and MRR@N of a model and of baselines, over all sessions of a set and all items.

Each click that has a next one is an event; the state is reset where a session begins. Sessions are read from
DIR/parquet/sequences and put into lanes here, so no session is dropped, however few there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pocketrec.errors import DatasetError, ModelError, SettingsError, require
from pocketrec.gru4rec.baselines import RULES, following, last_item, own_items, popularity
from pocketrec.gru4rec.blend import Blend, BlendChoice, choose_weight
from pocketrec.gru4rec.checkpoints import read_weights
from pocketrec.gru4rec.kept_sessions import KeptSessions, kept_sessions
from pocketrec.gru4rec.options import RankSettings, Ties
from pocketrec.gru4rec.ranking import Accuracy, Ranking
from pocketrec.gru4rec.scoring import Example, Scorer, SessionScorer, WithoutOwn, examples, rank
from pocketrec.gru4rec.search import Choice, EvenSessions, better, choose_neighbours, measured
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.neighbour_model import NeighbourModel, is_neighbour_file
from pocketrec.lite.neighbours import METHODS, WeighedNeighbours
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.options import TrainOn
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
        model: the name of the model among them; None if none was given.
        tries: settings tried for each method of neighbours; 0 if nothing was chosen.
        chosen_on: next clicks of train_valid that settings of baselines were chosen on.
        sessions_known: sessions that the baselines know of those in training, the newest.
        sessions_trained: sessions in training.
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
    model: str | None = None
    tries: int = 0
    chosen_on: int = 0
    sessions_known: int = 0
    sessions_trained: int = 0
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
        model: a checkpoint of `train`, a file from a device or kept sessions (.safetensors), or a .tflite, which runs on
            LiteRT; only the baselines are measured if not given.
        progress: is told about the clicks measured.

    Raises:
        DatasetError: the dataset has no sequences, or they are damaged; or the set has no event.
        ModelError: the model is damaged, or made for other items.
        SettingsError: a blend is asked for without a model, or without anything to choose its weight by.
    """
    where = Dataset(Path(dataset))
    on = settings.on
    record = sequences_record(where)
    check_files(where.sequences.parent, record)
    clicks, sessions = size_of_set(record, where, on)
    if clicks <= sessions:
        raise DatasetError(
            f"{on} of {where.root} has no event: there is nothing to measure.",
            expected="a session with a next click on an item of the train set",
            do=f"hold out more of the log, or keep rarer items: pocketrec split --dataset {where.root} --holdout 7d",
        )
    items = read_item_list(where)
    models: list[Accuracy] = []

    def measure(scorer: Scorer) -> Accuracy:
        with progress.task(f"evaluate {scorer.name}", clicks, "clicks") as advance:
            ranking = Ranking(settings.cutoffs, settings.ties, items.support)
            return rank(scorer, where, on, ranking, advance).accuracy(scorer.name)

    network: Mapping[str, Any] = {}
    shown: tuple[Example, ...] = ()
    if model is not None:
        opened, network = open_scorer(Path(model), items, where)
        if settings.seen == "hide" and not isinstance(opened, WithoutOwn):
            opened = WithoutOwn(opened)
        models.append(measure(opened))
        shown = examples(opened, where, on, sessions, items.ids, settings.ties)
    name = models[0].name if models else None
    tried: dict[str, Any] = {}
    baselines = _Baselines(where, record, items, settings, progress)
    if settings.blend:
        if model is None:
            raise SettingsError("--blend is given without a model.", expected="a checkpoint or a .tflite to blend")
        blend, chosen = baselines.blend(settings.blend, lambda: open_scorer(Path(model), items, where)[0])
        one = measure(blend if chosen["own"] else WithoutOwn(blend))
        models.append(replace(one, settings=chosen))
    if settings.baselines:
        for scorer, choice in baselines.scorers():
            one = measure(scorer if choice.own else WithoutOwn(scorer))
            models.append(replace(one, settings=choice.described()))
        tried = baselines.counts
    roles = read_records(where.roles.parent).get("roles")
    protocol = {**(roles.settings if roles else {}), **record.settings}
    counts = (clicks - sessions, sessions, len(items.ids), record.counts["unknown"][on])
    report = EvaluateReport(where.root, on, settings.ties, protocol, *counts, tuple(models), name)
    report = replace(report, **tried, settings=network, examples=shown)
    of = {"sequences": record.content, "items": items.hash}
    return replace(report, not_kept=_keep(report, settings, None if model is None else Path(model), of, where))


def _keep(report: EvaluateReport, settings: RankSettings, model: Path | None, of: dict[str, str], where: Dataset) -> str:
    """Keep a report for the page; `of` says what data it is of. Why it was not kept, or ""."""
    argv = ["evaluate", *([] if model is None else [str(model.absolute())]), *options_for(settings)]
    of["model"] = "" if model is None else content_hash(model)
    key = f"evaluate {json_digest([of, asdict(settings)])}"
    return try_to_keep(where.root, where.model, key, argv, of, report)


class _Baselines:
    """The baselines of a dataset, with settings chosen on train_valid, where there are any to choose."""

    def __init__(
        self, where: Dataset, record: Record, items: Catalogue, settings: RankSettings, progress: Progress
    ) -> None:
        self.where, self.record, self.items, self.settings, self.progress = where, record, items, settings, progress
        self.train_on: TrainOn = record.settings["train_on"]
        self._chosen: dict[str, Choice] = {}

    @property
    def counts(self) -> dict[str, int]:
        """What a report says of them."""
        known, chosen_on = self._known, self.judges.events
        return {
            "tries": self.settings.tune if chosen_on else 0,
            "chosen_on": chosen_on,
            "sessions_known": len(known.lengths),
            "sessions_trained": known.all,
        }

    def scorers(self) -> Iterator[tuple[Scorer, Choice]]:
        """Each with its settings; one of them is in memory at a time."""
        n_items, nothing = len(self.items.ids), Choice()
        choices = self._choices(*RULES, *METHODS) if self.judges.events else {}
        yield popularity(self.items.support), nothing
        yield last_item(n_items), nothing
        yield own_items(n_items), nothing
        for name in RULES:
            yield following(name, self._known.blocks(), n_items), choices.get(name, nothing)
        index = self._known.index(n_items)
        for name, usual in METHODS.items():
            choice = choices.get(name, Choice(settings=usual))
            yield SessionScorer(name, WeighedNeighbours(index, choice.settings or usual)), choice

    def _choices(self, *names: str) -> dict[str, Choice]:
        """What is chosen on train_valid, by those that know train_tr alone: once for each name, though asked for twice."""
        n_items, new = len(self.items.ids), [name for name in names if name not in self._chosen]
        known = self._known if self.train_on == "train_tr" else self._read("train_tr")
        total = self.judges.events * sum(measured(self.settings.tune) if name in METHODS else 1 for name in new)
        with self.progress.task("choose settings on train_valid", total, "clicks") as advance:
            for name in new:
                if name in RULES:
                    self._chosen[name] = better(Choice(), following(name, known.blocks(), n_items), None, self.judges)
                    advance(self.judges.events)
            index = known.index(n_items)
            asked = (self.settings.tune, self.settings.seed, self.judges, advance)
            self._chosen |= {name: choose_neighbours(index, name, *asked) for name in new if name in METHODS}
        return self._chosen

    def blend(self, named: str, opened: Callable[[], Scorer]) -> tuple[Scorer, dict[str, Any]]:
        """A model, which is opened anew each time, blended with a method; and what was chosen for it."""
        name = next(one for one in METHODS if one.lower() == named)
        judges, given = self.judges, self.settings.blend_weight
        if given is None and (self.train_on != "train_tr" or not judges.events):
            raise SettingsError(
                f"No weight of --blend can be chosen: {self.where.root} has no clicks that the model has not seen.",
                expected="batches of train_tr, a train_valid with an event, and --tune 1 or more",
                do="--blend-weight .5, or the weight that was chosen with a model of train_tr",
            )
        usual = self._choices(name)[name] if judges.events else Choice(settings=METHODS[name])
        neighbours = WeighedNeighbours(self._known.index(len(self.items.ids)), usual.settings or METHODS[name])
        weighed = choose_weight(opened(), neighbours, judges) if given is None else BlendChoice(given, usual.own)
        return Blend(opened(), name, neighbours, weighed.weight), {"weight": weighed.weight, "own": weighed.own}

    @cached_property
    def judges(self) -> EvenSessions:
        """The sessions that settings are chosen on; none if nothing is to be chosen."""
        if not self.settings.tune:
            return EvenSessions([], 0, 0)
        return EvenSessions(read_sequences(self.where, "train_valid"), *size_of_set(self.record, self.where, "train_valid"))

    @cached_property
    def _known(self) -> KeptSessions:
        return self._read(self.train_on)

    def _read(self, train_on: TrainOn) -> KeptSessions:
        return kept_sessions(self.where, self.train_on, train_on)


def size_of_set(record: Record, where: Dataset, name: str) -> tuple[int, int]:
    """Clicks and sessions of a set."""
    clicks, sessions = (record.files[f"{where.sequences.name}/{name}_{what}.npy"].shape[0] for what in ("items", "lengths"))
    return clicks, sessions


def open_scorer(model: Path, items: Catalogue, where: Dataset) -> tuple[Scorer, Mapping[str, Any]]:
    """A checkpoint in TensorFlow, kept sessions, or a .tflite on LiteRT, and what it is made of.

    Raises a ModelError if it is made for other items.
    """
    if is_neighbour_file(model):
        kept = NeighbourModel(model)
        if kept.items.hash != items.hash:
            wrong = f"{model} is made for other items than those of {where.root}."
            raise ModelError(wrong, expected="kept sessions of this dataset", do=f"pocketrec export --dataset {where.root}")
        scorer = SessionScorer(f"{model.name}, {len(kept.known.index):,} sessions", kept.scores)
        return scorer if kept.known.own else WithoutOwn(scorer), {
            "method": kept.known.method,
            **Choice(kept.known.own, kept.known.settings).described(),
        }
    if model.suffix == ".safetensors":
        require("run a checkpoint", "tensorflow")
        checkpoint = read_weights(model, items.hash, where.root)
        with native_stderr_closed():
            from pocketrec.gru4rec.tf.scorer import ModelScorer
            from pocketrec.gru4rec.tf.sparse_model import SparseGru4Rec

            network = SparseGru4Rec(checkpoint.settings, support=items.support)
            network.load(checkpoint.tensors)
            return ModelScorer(network, f"{model.name}, {checkpoint.what}"), asdict(checkpoint.settings)
    from pocketrec.lite.runtime import LiteModel, LiteScorer

    opened = LiteModel(model)
    opened.check_items(items.hash, f"the dataset {where.root}")
    return LiteScorer(opened), asdict(opened.settings)


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
