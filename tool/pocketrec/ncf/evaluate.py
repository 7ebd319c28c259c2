"""`pocketrec ncf evaluate`: HR and NDCG of a trained network, sampled and full, with popularity beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketrec.errors import SettingsError
from pocketrec.ncf.interactions import Interactions, prepared, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import Network, read_network
from pocketrec.ncf.options import Training
from pocketrec.ncf.producer import EvaluationRows, Producer
from pocketrec.ncf.ranking import Metrics, Popularity, Scorer, full, sampled
from pocketrec.ncf.train import rows_of
from pocketrec.progress import SILENT, Progress
from pocketrec.storage.networks import NetworkFile


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
        model: neumf, gmf or mlp.
        network: its scores.
        popularity: those of the items' train rows.
        seconds: wall time.
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


def evaluate(
    dataset: Path | str = "dataset",
    *,
    on: str = "test",
    top: int = 10,
    negatives: int | None = None,
    ml_perf: bool = True,
    full_ranking: bool = True,
    progress: Progress = SILENT,
) -> NcfEvaluateReport:
    """Rank the held-out positives with the network of `ncf train`; neither TensorFlow nor LiteRT is needed.

    Args:
        dataset: the dataset folder.
        on: test, or valid while settings are still being chosen.
        top: k.
        negatives: sampled for each positive, 999 or 99; None for as many as in training. The test's are the draws that
            training made with its seed.
        ml_perf: leave out negatives that were drawn twice.
        full_ranking: also rank among all unseen items.
        progress: told about users.

    Raises:
        DatasetError: there is no split or no network for it.
        SettingsError: a setting that cannot be, or there are no such positives.
    """
    began, place = time.perf_counter(), NcfDataset(Path(dataset))
    if top < 1:
        raise SettingsError(f"top is {top}.", expected="1 or more")
    split = prepared(place).content
    trained = read_network(place.network, split, f"pocketrec ncf train --dataset {place.root}")
    interactions = read_interactions(place)
    users = len(interactions.positives(on))
    training = _training(trained, negatives)

    def scores(scorer: Scorer, what: str) -> Scores:
        with progress.task(what, users * (2 if full_ranking else 1), "users") as advance:
            rows = _rows(interactions, training, on)
            among = sampled(scorer, rows, top, ml_perf=ml_perf, advance=advance)
            return Scores(among, full(scorer, interactions, on, top, advance=advance) if full_ranking else None)

    network, popular = scores(trained.network, "network"), scores(Popularity(interactions), "popularity")
    return NcfEvaluateReport(
        on, top, training.eval_negatives, ml_perf, trained.epochs, trained.network.settings.kind, network, popular,
        time.perf_counter() - began,
    )  # fmt: skip


def _training(trained: NetworkFile[Network], negatives: int | None) -> Training:
    options = {**trained.training, "mlp_regularization": tuple(trained.training["mlp_regularization"])}
    return Training(**{**options, **({} if negatives is None else {"eval_negatives": negatives})})


def _rows(interactions: Interactions, training: Training, on: str) -> Iterator[EvaluationRows]:
    producer = Producer(
        interactions,
        batch_size=training.batch_size,
        epochs=training.train_epochs,
        num_neg=training.num_neg,
        eval_negatives=training.eval_negatives,
        rng=np.random.RandomState(training.seed),
    )
    return rows_of(interactions, producer, on, training)
