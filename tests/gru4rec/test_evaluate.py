"""Evaluation against a slow oracle that walks over sessions one click at a time; the choice of sets and their order."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import oracle
from conftest import call
from pocketrec.errors import DatasetError, SettingsError
from pocketrec.gru4rec.evaluate import evaluate
from pocketrec.gru4rec.options import RankSettings
from pocketrec.ingestion.ingest import ingest
from pocketrec.sessions.batches import batches
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.split import split
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.layout import Dataset
from ranking_oracle import slow_rank

HOLDOUT, SUPPORT = 20 * 86400.0, 5


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "clicks.dat"
    synth(path, SynthSettings(clicks=2500, seed=3, order="shuffled"))
    return path


@pytest.fixture(scope="module")
def prepared(log: Path) -> oracle.Prepared:
    return oracle.prepare(log, holdout_seconds=HOLDOUT, min_item_support=SUPPORT)


@pytest.fixture
def where(tmp_path: Path, log: Path) -> Dataset:
    ingest(log, tmp_path / "d")
    split(tmp_path / "d", SplitSettings(holdout=HOLDOUT, min_item_support=SUPPORT))
    return Dataset(tmp_path / "d")


def by_time(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows, sessions numbered by their first click, and by id where two begin together."""
    begins = frame.groupby("SessionId")["TimeMs"].min()
    order = sorted(begins.index, key=lambda session: (begins[session], session))
    numbers = {session: number for number, session in enumerate(order)}
    return frame.assign(SessionId=frame["SessionId"].map(numbers))


def known(frame: pd.DataFrame, index: dict[int, int]) -> pd.DataFrame:
    return oracle.keep_frequent(oracle.where(frame, [item in index for item in frame["ItemId"]]), "SessionId", 2)


@pytest.mark.parametrize("session_order", ["id", "time"])
@pytest.mark.parametrize("train_on", ["train_tr", "train_full"])
def test_batches_of_the_chosen_set_in_the_chosen_order(
    where: Dataset, prepared: oracle.Prepared, session_order: Any, train_on: Any
) -> None:
    batches(
        where.root,
        BatchSettings(batch_size=3, formats=("npy",), tail="pad", session_order=session_order, train_on=train_on),
    )
    chosen = getattr(prepared, train_on)
    index = oracle.item_index(chosen)
    support = oracle.item_support(chosen)
    assert pl.read_parquet(where.items).rows() == [(item, code, support[item]) for item, code in index.items()]
    for name, frame in {"train_tr": chosen, "train_valid": prepared.train_valid, "test": prepared.test}.items():
        left = known(frame, index)
        wanted = oracle.batches(by_time(left) if session_order == "time" else left, index, 3, tail="pad")
        for array in ("feats", "targets", "masks"):
            assert where.batches(array, 3, split=name).read_bytes() == oracle.npy_bytes(getattr(wanted, array)), name


def test_batches_of_another_index_are_removed(where: Dataset) -> None:
    batches(where.root, BatchSettings(batch_size=3, formats=("npy",)))
    batches(where.root, BatchSettings(batch_size=4, formats=("npy",), train_on="train_full"))
    assert not list(where.final.glob("*_bs3*"))
    batches(where.root, BatchSettings(batch_size=5, formats=("npy",), train_on="train_full", session_order="time"))
    assert list(where.final.glob("*_bs4*")), "the order changes no code"


def slow_scores(session: list[int], train: list[list[int]], n: int) -> dict[str, list[float]]:
    """Scores of all items by each baseline after a session so far."""
    support: Counter[int] = Counter(item for one in train for item in one)
    following: dict[int, Counter[int]] = defaultdict(Counter)
    for one in train:
        for place, item in enumerate(one):
            for distance, later in enumerate(one[place + 1 : place + 4], 1):
                following[item][later] += 6 // distance
    return {
        "popularity": [float(support[item]) for item in range(n)],
        "repeat the last item": [float(item == session[-1]) for item in range(n)],
        "item-item co-occurrence": [float(following[session[-1]][item]) for item in range(n)],
    }


@pytest.mark.parametrize("ties", ["standard", "median", "conservative"])
def test_baselines_on_all_events_are_the_oracle_s(where: Dataset, prepared: oracle.Prepared, ties: Any) -> None:
    batches(where.root, BatchSettings(batch_size=3, formats=("npy",), train_on="train_full"))
    index = oracle.item_index(prepared.train_full)
    train, test = (oracle.sessions_of(known(frame, index), index) for frame in (prepared.train_full, prepared.test))
    assert len(test) > 20
    ranks = defaultdict(list)
    for session in test:
        for stop in range(1, len(session)):
            for name, scores in slow_scores(session[:stop], train, len(index)).items():
                ranks[name].append(slow_rank(scores, session[stop], ties))
    found = evaluate(where.root, RankSettings(ties=ties, cutoffs=(1, 20)))
    assert (found.ties, found.events, found.sessions) == (ties, sum(map(len, test)) - len(test), len(test))
    assert {one.name for one in found.models} == set(ranks)
    for one in found.models:
        for n in (1, 20):
            assert one.recall[n] == pytest.approx(np.mean([rank <= n for rank in ranks[one.name]])), one.name
            assert one.mrr[n] == pytest.approx(np.mean([(rank <= n) / rank for rank in ranks[one.name]])), one.name


def test_sequences_of_another_run_are_refused(where: Dataset) -> None:
    with pytest.raises(DatasetError, match="no sessions in order"):
        evaluate(where.root)
    batches(where.root, BatchSettings(batch_size=3, formats=("npy",)))
    with pytest.raises(SettingsError, match="on is 'train_full'"):
        evaluate(where.root, RankSettings(on="train_full"))  # type: ignore[arg-type]
    where.items.parent.joinpath("manifest.json").unlink()
    with pytest.raises(DatasetError, match="different runs"):
        evaluate(where.root)


def test_the_command_names_the_protocol(where: Dataset) -> None:
    call("batches", "--dataset", where.root, "--batch-size", 3, "--train-on", "train_full", "--session-order", "time")
    code, out, _ = call("evaluate", "--dataset", where.root, "--ties", "median", "--cutoffs", "1,20")
    assert code == 0
    for words in ("median", "popularity", "repeat the last item", "co-occurrence", "Recall@20", "MRR@20", "train_full"):
        assert words in out, words
