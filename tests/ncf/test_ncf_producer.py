"""The producer: the original's bytes with a seed, and the laws of its examples."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncf_support import golden_ratings, interactions_of, write_dat
from pocketrec.errors import DatasetError, SettingsError
from pocketrec.ncf.interactions import Interactions, Positives, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.negatives import Negatives
from pocketrec.ncf.options import NcfMakeSettings
from pocketrec.ncf.prep import prep
from pocketrec.ncf.producer import Examples, Producer, mask_duplicates

GOLDEN_TRAIN = "b218738e915e825d03939c5e305a2698"
GOLDEN_EVALUATION = "d753d0f3186831466d6e218163a9501e"


def joined(producer: Producer, number: int) -> Examples:
    parts = list(producer.epoch(number))
    return Examples(*(np.concatenate([getattr(part, name) for part in parts]) for name in Examples.__annotations__))


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interactions, np.random.RandomState]:
    folder = tmp_path_factory.mktemp("golden")
    lines, rng = golden_ratings()
    prep(write_dat(folder / "ratings.dat", lines), folder)
    return read_interactions(NcfDataset(Path(folder))), rng


@pytest.mark.parametrize("examples_a_block", [5000, 1 << 19])
def test_the_bytes_of_the_original(
    golden: tuple[Interactions, np.random.RandomState], examples_a_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketrec.ncf.producer.EXAMPLES_PER_BLOCK", examples_a_block)
    interactions, rng = golden
    again = np.random.RandomState()
    again.set_state(rng.get_state())
    producer = Producer(interactions, NcfMakeSettings(batch_size=2048, train_epochs=1), again)
    assert producer.positives == 48_373
    train, evaluation = hashlib.md5(), hashlib.md5()
    for rows in producer.evaluation_batches(4000):  # before the epoch: what lies before it in the stream is skipped
        for array in rows:
            evaluation.update(array.tobytes())
    for block in producer.epoch(0):
        assert len(block) % 2048 == 0
        for first in range(0, len(block), 2048):
            for array in (block.users, block.items, block.valid, block.labels):
                train.update(array[first : first + 2048].tobytes())
    assert (train.hexdigest(), evaluation.hexdigest()) == (GOLDEN_TRAIN, GOLDEN_EVALUATION)


train_sets = st.lists(st.sets(st.integers(0, 14), max_size=14), min_size=1, max_size=8).filter(any)


@given(rows=train_sets)
def test_the_closed_form_is_brute_force(rows: list[set[int]]) -> None:
    negatives = Negatives(interactions_of(rows, 15))
    for user, own in enumerate(rows):
        others = [item for item in range(15) if item not in own]
        draws = np.arange(2 * len(others), dtype=np.uint64)
        assert negatives.at(np.full(len(draws), user, np.int32), draws).tolist() == others * 2


@settings(max_examples=60)
@given(
    rows=train_sets,
    batch_size=st.integers(1, 40),
    num_neg=st.integers(0, 5),
    seed=st.integers(0, 9),
    block=st.integers(1, 50),
)
def test_the_laws_of_an_epoch(rows: list[set[int]], batch_size: int, num_neg: int, seed: int, block: int) -> None:
    interactions = interactions_of(rows, 15)

    def made() -> Producer:
        settings = NcfMakeSettings(batch_size=batch_size, train_epochs=3, num_neg=num_neg, eval_negatives=4, seed=seed)
        return Producer(interactions, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pocketrec.ncf.producer.EXAMPLES_PER_BLOCK", block)
        epochs = [joined(made(), number) for number in (2, 0, 1)]
    in_order = made()
    for number, epoch in zip((2, 0, 1), epochs, strict=True):
        again = joined(in_order, number)
        assert all(getattr(epoch, name).tobytes() == getattr(again, name).tobytes() for name in Examples.__annotations__)
        assert len(epoch) == -(-in_order.examples // batch_size) * batch_size
        assert int(epoch.valid.sum()) == in_order.examples
        assert not epoch.labels[~epoch.valid].any()
        pairs = list(zip(epoch.users.tolist(), epoch.items.tolist(), epoch.labels.tolist(), strict=True))[
            : in_order.examples
        ]
        positives = sorted((user, item) for user, item, label in pairs if label)
        assert positives == sorted((user, item) for user, own in enumerate(rows) for item in own), "each exactly once"
        assert not any(item in rows[user] for user, item, label in pairs if not label)
        drawn = np.bincount([user for user, _, label in pairs if not label], minlength=len(rows))
        assert drawn.tolist() == [num_neg * len(own) for own in rows]


def test_epochs_differ_and_seeds_differ() -> None:
    interactions = interactions_of([set(range(0, 30, 2)), set(range(1, 30, 3))], 40)
    orders = {
        joined(Producer(interactions, NcfMakeSettings(batch_size=7, train_epochs=2, seed=seed)), number).items.tobytes()
        for seed in (0, 1)
        for number in (0, 1)
    }
    assert len(orders) == 4


def test_what_fills_the_last_evaluation_batch_weighs_nothing() -> None:
    interactions = interactions_of([{1, 2}, {3}, {4, 5, 6}], 8)
    producer = Producer(interactions, NcfMakeSettings(batch_size=4, train_epochs=1, eval_negatives=4, seed=1))
    (first_users, first_items, _), (users, items, duplicates) = producer.evaluation_batches(10)
    assert first_users.tolist() == [0] * 5 + [1] * 5
    assert users.tolist() == [2] * 5 + [0] * 5
    assert items[5:].tolist() == [0] * 5
    assert duplicates[5:].tolist() == [True] * 4 + [False]
    (rows,) = producer.evaluation()
    assert np.concatenate([first_items, items[:5]]).tolist() == rows.items.reshape(-1).tolist()


@pytest.mark.parametrize("size", [0, 3, 256, 1001])
def test_an_evaluation_batch_that_is_no_multiple(size: int) -> None:
    producer = Producer(interactions_of([{1}], 8), NcfMakeSettings(batch_size=4, train_epochs=1, eval_negatives=4))
    with pytest.raises(SettingsError, match=rf"batch of {size:,} does not hold whole users(.|\n)*multiple of 5"):
        next(producer.evaluation_batches(size))


def test_evaluation_rows_have_the_positive_last() -> None:
    interactions = interactions_of([{1, 2}, {3}, {4, 5, 6}], 8)
    producer = Producer(interactions, NcfMakeSettings(batch_size=4, train_epochs=1, eval_negatives=20, seed=1))
    (rows,) = producer.evaluation()
    assert rows.items.shape == rows.duplicates.shape == (3, 21)
    assert rows.items[:, -1].tolist() == [0, 0, 0]
    assert not rows.duplicates[:, -1].any()
    for user, own in enumerate(({1, 2}, {3}, {4, 5, 6})):
        assert not own & set(rows.items[user].tolist())
        kept = rows.items[user][~rows.duplicates[user]].tolist()
        assert sorted(kept) == sorted(set(rows.items[user].tolist())), "each item once"


@given(rows=st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=4))
def test_duplicates_are_what_stood_earlier(rows: list[list[int]]) -> None:
    expected = [[item in row[:place] for place, item in enumerate(row)] for row in rows]
    assert mask_duplicates(np.array(rows, np.int32)).tolist() == expected


def test_a_user_with_everything_is_an_error() -> None:
    with pytest.raises(SettingsError, match="user number 1 has all 4 items"):
        Negatives(interactions_of([{1}, {0, 1, 2, 3}], 4))


def test_an_item_twice_is_an_error() -> None:
    none = Positives(np.empty(0, np.int32), np.empty(0, np.int32))
    twice = Interactions(4, np.array([0, 2]), np.array([1, 1], np.int32), none, none)
    with pytest.raises(DatasetError, match="an item twice"):
        Negatives(twice)
