"""Item codes against a dict, counts against a Counter, and the item index against what was written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.errors import DatasetError
from pocketrec.schema import Int64
from pocketrec.sessions.item_codes import MISSING, ItemCodes, ItemCounts
from pocketrec.storage.item_index import read_items, write_items

LARGEST = 2**63 - 1
GOLDEN = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio, the factor of every multiplicative hash of 64 bits."""


def colliding(product: int) -> int:
    """The id that such a hash turns into `product`; small products share their high bits, so they share a slot."""
    return product * pow(GOLDEN, -1, 1 << 64) % (1 << 64)


COLLIDING = [number for number in map(colliding, range(400)) if number <= LARGEST]
ids = st.integers(0, LARGEST) | st.integers(0, 40) | st.sampled_from(COLLIDING) | st.integers(LARGEST - 3, LARGEST)


def array(values: list[int]) -> Int64:
    return np.array(values, np.int64)


@given(vocabulary=st.lists(ids, unique=True, max_size=80), asked=st.lists(ids, max_size=80))
def test_codes_are_those_of_a_dict(vocabulary: list[int], asked: list[int]) -> None:
    """Ids in any order; some asked for are in the vocabulary, some are not."""
    codes, by_dict = ItemCodes(array(vocabulary)), {number: code for code, number in enumerate(vocabulary)}
    for question in (asked, vocabulary, vocabulary[::-1] + asked):
        found = codes.of(array(question))
        assert found.dtype == np.int32
        assert found.tolist() == [by_dict.get(number, MISSING) for number in question]
    assert len(codes) == len(vocabulary)
    assert codes.ids.tolist() == vocabulary


@pytest.mark.parametrize("order", [1, -1])
def test_ids_that_all_collide(order: int) -> None:
    vocabulary = COLLIDING[::2][::order]
    codes = ItemCodes(array(vocabulary))
    assert codes.of(array(vocabulary)).tolist() == list(range(len(vocabulary)))
    assert set(codes.of(array(COLLIDING[1::2])).tolist()) == {MISSING}


@pytest.mark.parametrize("size", [1, 15, 16, 17, 255, 256, 5000])
def test_vocabularies_of_every_size(size: int) -> None:
    """Dense ids, as most logs have them, and the neighbours of the vocabulary's ends."""
    vocabulary = np.random.default_rng(size).permutation(size) + 214_507_331
    codes = ItemCodes(vocabulary)
    assert (codes.of(vocabulary) == np.arange(size)).all()
    assert codes.of(array([214_507_330, 214_507_331 + size, 0, LARGEST])).tolist() == [MISSING] * 4


def test_an_empty_vocabulary_knows_nothing() -> None:
    codes = ItemCodes(array([]))
    assert len(codes) == 0
    assert codes.of(array([0, 5, LARGEST])).tolist() == [MISSING] * 3
    assert codes.of(array([])).tolist() == []


def test_the_ends_of_the_range_of_ids() -> None:
    codes = ItemCodes(array([LARGEST, 0]))
    assert codes.of(array([0, LARGEST, 1, LARGEST - 1])).tolist() == [1, 0, MISSING, MISSING]


def test_the_ids_asked_for_are_left_alone() -> None:
    """Views and read-only arrays, such as Parquet columns, are taken as they are."""
    asked = array([7, 9, 8, 9])
    asked.flags.writeable = False
    assert ItemCodes(array([8, 7])).of(asked[::2]).tolist() == [1, 0]
    assert ItemCodes(array([8, 7])).of(asked).tolist() == [1, MISSING, 0, MISSING]


def test_codes_have_the_shape_of_the_ids() -> None:
    codes = ItemCodes(array([10, 20, 30]))
    assert codes.of(np.array([[10, 99], [30, 20]])).tolist() == [[0, MISSING], [2, 1]]


def check_counts(counts: ItemCounts, expected: Counter[int]) -> None:
    """For every support that makes a difference, the ids that have it, ascending: that is all a count can tell."""
    for support in {1, *expected.values(), *(number + 1 for number in expected.values())}:
        wanted = sorted(number for number, times in expected.items() if times >= support)
        assert counts.at_least(support).ids.tolist() == wanted
        assert counts.at_least(support).of(array(wanted)).tolist() == list(range(len(wanted)))


@given(st.lists(st.lists(ids | st.integers(0, 5), max_size=30), max_size=6))
def test_counts_are_those_of_a_counter(blocks: list[list[int]]) -> None:
    counts, expected = ItemCounts(), Counter[int]()
    for block in blocks:
        counts.add(array(block))
        expected.update(block)
    check_counts(counts, expected)


def test_counts_do_not_depend_on_the_blocks() -> None:
    column = np.random.default_rng(3).zipf(1.3, 20_000) % 3000
    expected = Counter(column.tolist())
    for pieces in (1, 7, 500):
        counts = ItemCounts()
        for block in np.array_split(column, pieces):
            counts.add(block)
        supports = np.unique(list(expected.values()))[:40]
        wanted = [sum(times >= support for times in expected.values()) for support in supports]
        assert [len(counts.at_least(int(support))) for support in supports] == wanted


@given(st.dictionaries(ids, st.integers(0, 2**40), max_size=30))
def test_an_index_reads_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, support: dict[int, int]) -> None:
    path = tmp_path_factory.mktemp("index") / "final" / "items.parquet"
    write_items(path, array(list(support)), array(list(support.values())))
    found = read_items(path)
    assert dict(found.schema) == {"item_id": pl.Int64(), "item_idx": pl.Int32(), "support": pl.Int64()}
    assert found.rows() == [(number, code, times) for code, (number, times) in enumerate(support.items())]
    assert [path.name for path in path.parent.iterdir()] == ["items.parquet"]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    path = tmp_path / "dataset" / "final" / "items.parquet"
    write_items(path, array([5, 3, LARGEST]), array([1, 2, 3]))
    return path


def check_message(index: Path, wrong: str) -> None:
    with pytest.raises(DatasetError) as error:
        read_items(index)
    assert error.value.wrong.startswith(f"{index} {wrong}")
    assert error.value.expected
    assert error.value.do == f"pocketrec batches --dataset {index.parent.parent}"


def test_a_missing_index(index: Path) -> None:
    index.unlink()
    check_message(index, "is missing.")


@pytest.mark.parametrize("left", [0, 3, 50, -1])
def test_a_cut_index(index: Path, left: int) -> None:
    index.write_bytes(index.read_bytes()[:left])
    check_message(index, "cannot be read (")


def test_a_file_that_is_no_index(index: Path) -> None:
    index.write_text("item_id,item_idx,support\n5,0,1\n")
    check_message(index, "cannot be read (")
    pl.DataFrame({"item": [5]}).write_parquet(index)
    check_message(index, "cannot be read (")


def test_a_star_in_a_name_is_no_pattern(index: Path) -> None:
    other = index.parent / "items*.parquet"
    write_items(other, array([1]), array([9]))
    assert read_items(other).rows() == [(1, 0, 9)]
