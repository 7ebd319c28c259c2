"""`pocketrec ncf evaluate`: HR and NDCG of a trained network, sampled and full, with popularity beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from pocketrec.ncf.interactions import read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import read_network
from pocketrec.ncf.options import NcfRankSettings, NcfTrainSettings
from pocketrec.ncf.producer import Producer
from pocketrec.ncf.ranking import Metrics, Popularity, Scorer, full, rows_to_rank, sampled
from pocketrec.progress import SILENT, Progress
from pocketrec.settings import options_for
from pocketrec.storage.files import content_hash
from pocketrec.storage.reports import try_to_keep


@dataclass(frozen=True)
class Scores:
    """Of one recommender.

    Attributes:
        sampled: among sampled negatives.
        full: among all unseen items; None if that was not asked for.
    """

    sampled: Metrics
    full: Metrics | None


@dataclass(frozen=True)
class NcfEvaluateReport:
    """A finished evaluation.

    Attributes:
        on: test or valid.
        top: k of HR@k and NDCG@k.
        negatives: sampled for each positive.
        ml_perf: whether negatives that were drawn twice were left out.
        epochs: that the network was trained for.
        model: neumf, gmf, mlp, ials or ease.
        network: its scores.
        popularity: those of the items' train rows.
        seconds: wall time.
        not_kept: why the page of `report` will not have these figures; "" where they are kept.
    """

    on: str
    top: int
    negatives: int
    ml_perf: bool
    epochs: int
    model: str
    network: Scores
    popularity: Scores
    seconds: float
    not_kept: str = ""


def evaluate(
    dataset: Path | str = "dataset", settings: NcfRankSettings = NcfRankSettings(), *, progress: Progress = SILENT
) -> NcfEvaluateReport:
    """Rank the held-out positives with the network of `ncf train`; neither TensorFlow nor LiteRT is needed.

    Args:
        dataset: the dataset folder.
        settings: what is ranked, and how. The test's sampled negatives are the draws that training made with its seed.
        progress: told about users.

    Raises:
        DatasetError: there is no split, or the network is of another one.
        ModelError: there is no network, or its file is damaged.
        SettingsError: there are no such positives.
    """
    began, place = time.perf_counter(), NcfDataset(Path(dataset))
    trained, interactions = read_network(place), read_interactions(place)
    users = len(interactions.positives(settings.on))
    training = NcfTrainSettings(**trained.training)
    if settings.eval_negatives is not None:
        training = replace(training, eval_negatives=settings.eval_negatives)

    def scores(scorer: Scorer, what: str) -> Scores:
        with progress.task(what, users * (2 if settings.full else 1), "users") as advance:
            rows = rows_to_rank(interactions, Producer(interactions, training), settings.on, training)
            among = sampled(scorer, rows, settings.top, ml_perf=settings.ml_perf, advance=advance)
            whole = full(scorer, interactions, settings.on, settings.top, advance=advance) if settings.full else None
            return Scores(among, whole)

    network, popular = scores(trained.network, "network"), scores(Popularity(interactions), "popularity")
    report = NcfEvaluateReport(
        on=settings.on,
        top=settings.top,
        negatives=training.eval_negatives,
        ml_perf=settings.ml_perf,
        epochs=trained.epochs,
        model=trained.network.settings.kind,
        network=network,
        popularity=popular,
        seconds=time.perf_counter() - began,
    )
    of, key = {"network": content_hash(place.network)}, f"evaluate {settings.on}"
    argv = ("ncf", "evaluate", *options_for(settings))
    return replace(report, not_kept=try_to_keep(place.home, place.model, key, argv, of, report))
