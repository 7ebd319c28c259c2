"""Evaluation against a slow oracle that walks over sessions one click at a time; the choice of sets and their order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import oracle
from conftest import call
from neighbour_oracle import SlowNeighbours
from pocketrec.cli.reports import load_for, remarks, results
from pocketrec.errors import DatasetError, SettingsError
from pocketrec.gru4rec.evaluate import EvaluateReport, evaluate
from pocketrec.gru4rec.kept_sessions import kept_sessions
from pocketrec.gru4rec.options import RankSettings
from pocketrec.gru4rec.ranking import Accuracy
from pocketrec.gru4rec.search import EvenSessions, choose_neighbours, tries
from pocketrec.ingestion.ingest import ingest
from pocketrec.lite.neighbours import METHODS, SessionIndex, WeighedNeighbours
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


def slow_scores(session: list[int], known: SlowNeighbours) -> dict[str, list[float]]:
    """Scores of all items by each baseline after a session so far."""
    support: Counter[int] = Counter(item for one in known.train for item in one)
    after = [Counter[int]() for _ in range(3)]
    for counter, reach, looked_at in zip(after, (1, 3, 10), (1, 1, 5), strict=True):
        for age, last in enumerate(reversed(session[-looked_at:])):
            for one in known.train:
                for place in (place for place, item in enumerate(one) if item == last):
                    for distance, later in enumerate(one[place + 1 : place + 1 + reach], 1):
                        counter[later] += 2520 // distance * 32 ** (min(len(session), looked_at) - 1 - age)
    counted = {"popularity": support, "repeat the last item": {session[-1]: 1}}
    counted |= {"own items, newest first": {item: place for place, item in enumerate(session, 1)}}
    counted |= zip(("Markov chain", "item-item co-occurrence", "sequential rules"), after, strict=True)
    scores = {name: [float(np.float32(counts.get(item, 0))) for item in range(known.n)] for name, counts in counted.items()}
    return scores | {name: known.scores(session, chosen) for name, chosen in METHODS.items()}


def test_baselines_on_all_events_are_the_oracle_s(where: Dataset, prepared: oracle.Prepared) -> None:
    batches(where.root, BatchSettings(batch_size=3, formats=("npy",), train_on="train_full"))
    index = oracle.item_index(prepared.train_full)
    train, test = (by_time(known(frame, index)) for frame in (prepared.train_full, prepared.test))
    times = train.groupby("SessionId")["TimeMs"].min().tolist()
    kept, asked = oracle.sessions_of(train, index), oracle.sessions_of(test, index)
    slow = SlowNeighbours(kept, times, len(index))
    assert len(asked) > 20
    events = [(session, stop) for session in asked for stop in range(1, len(session))]
    scored = [(slow_scores(session[:stop], slow), session[stop]) for session, stop in events]
    for ties in ("standard", "median", "conservative"):
        found = evaluate(where.root, RankSettings(ties=ties, cutoffs=(1, 20), tune=0))
        assert (found.ties, found.events, found.sessions) == (ties, len(events), len(asked))
        assert (found.sessions_known, found.sessions_trained, found.chosen_on) == (len(kept), len(kept), 0)
        assert {one.name for one in found.models} == set(scored[0][0])
        for one in found.models:
            ranks = np.array([slow_rank(scores[one.name], target, ties) for scores, target in scored])
            for n in (1, 20):
                assert one.recall[n] == pytest.approx(np.mean(ranks <= n)), one.name
                assert one.mrr[n] == pytest.approx(np.mean((ranks <= n) / ranks)), one.name


def test_settings_are_chosen_on_train_valid_whatever_is_measured(where: Dataset) -> None:
    batches(where.root, BatchSettings(batch_size=3, formats=("npy",), train_on="train_full"))
    rules = RankSettings(cutoffs=(20,), tune=3)
    found = evaluate(where.root, rules)
    again = evaluate(where.root, replace(rules, on="train_valid"))
    assert [one.settings for one in found.models] == [one.settings for one in again.models]
    assert found.chosen_on > 20
    other = evaluate(where.root, replace(rules, seed=1))
    assert [one.settings for one in found.models] != [one.settings for one in other.models]


def test_the_best_of_all_tries_is_chosen_with_own_items_or_without() -> None:
    train = [[0, 1, 2], [0, 2, 1], [3, 1, 0], [1, 0, 2]] * 3
    items, lengths = np.array(train, np.int32).ravel(), np.full(len(train), 3)
    index = SessionIndex.of(items, lengths, np.arange(len(train)), 4)
    for valid, own in (([0, 1, 2, 3], False), ([0, 0, 0, 0], True)):
        judges = EvenSessions([(np.array(valid, np.int32), np.array([4]))], 4, 1)
        chosen = choose_neighbours(index, "VSTAN", 4, 42, judges)
        best = {}
        for number, one in enumerate(tries("VSTAN", 4, 42)):
            score = WeighedNeighbours(index, one)
            for with_own in (True, False):
                left = [[] if with_own else valid[:stop] for stop in (1, 2, 3)]
                rows = [score(valid[:stop]) - 99 * np.isin(np.arange(4), left[stop - 1]) for stop in (1, 2, 3)]
                ranks = [slow_rank(row.tolist(), valid[stop], "conservative") for stop, row in enumerate(rows, 1)]
                best[number, with_own] = sum(1 / rank for rank in ranks) / 3
        assert chosen.mrr == pytest.approx(max(best.values()))
        assert chosen.own is own


def test_of_a_long_log_the_newest_sessions_are_kept(where: Dataset, prepared: oracle.Prepared) -> None:
    batches(where.root, BatchSettings(batch_size=3, formats=("npy",)))
    index = oracle.item_index(prepared.train_tr)
    sessions = oracle.sessions_of(by_time(known(prepared.train_tr, index)), index)
    kept = kept_sessions(where, "train_tr", "train_tr", most=100)
    newest = sessions[-len(kept.lengths) :]
    assert kept.items.tolist() == [item for one in newest for item in one]
    assert kept.lengths.tolist() == [len(one) for one in newest]
    assert (np.diff(kept.starts) >= 0).all()
    assert len(kept.items) <= 100 < len(kept.items) + len(sessions[-len(newest) - 1])
    assert kept.all == len(sessions)


def test_the_report_says_in_words_which_baseline_beats_the_model() -> None:
    rows = [Accuracy("model", {20: 0.4}, {20: 0.2}), Accuracy("VSTAN", {20: 0.6}, {20: 0.1})]
    report = EvaluateReport(Path("d"), "test", "median", {}, 1000, 10, 10, 0, tuple(rows), "model", 30, 7, 5, 9)
    load_for(report)
    assert list(results(report))[-1] == "VSTAN beats model by Recall@20, 0.6000 to 0.4000; it needs no training."
    few = list(results(replace(report, events=10)))
    assert few[-1].endswith("0.6000 to 0.4000, which may be chance; it needs no training.")
    said = "\n".join(remarks(report))
    assert "30 tries" in said
    assert "the newest 5 of 9 sessions" in said
    assert not [line for line in results(replace(report, model=None)) if "beats" in line]


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
    for words in ("median", "popularity", "repeat the last item", "VSTAN", "Recall@20", "MRR@20", "train_full"):
        assert words in out, words
