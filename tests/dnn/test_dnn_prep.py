"""Ratings with values through the ingest to three sets: nothing lost, nothing twice, codes given by the train set alone."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED, call
from dnn_support import Rated, camps, csv_of, movies_csv, with_ids, write_zip
from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.options import DnnPrepSettings
from pocketrec.dnn.prep import prep
from pocketrec.dnn.sets import read_sets
from pocketrec.dnn.split import by_moment, of_each_user, of_so_many
from pocketrec.errors import DatasetError, LogError, PocketrecError, SettingsError
from pocketrec.storage.item_index import read_items
from pocketrec.storage.verify_data import verify_data

LINES = camps(12, 20, 10)


@pytest.mark.parametrize("split", ["random", "user", "time"])
@pytest.mark.parametrize("several", [False, True])
def test_the_sets_are_the_ratings_each_once(tmp_path: Path, split: Any, several: bool, monkeypatch: Any) -> None:
    if several:
        monkeypatch.setattr("pocketrec.ingestion.write_parts.ROWS_PER_PART", 32)
    lines = camps(25, 20, 12)
    archive = write_zip(tmp_path / "ml.zip", lines, movies=movies_csv(range(1000, 1025)))
    report = prep(archive, tmp_path, DnnPrepSettings(split=split))
    assert report.ingest.parts > 1 or not several
    found, train = with_ids(DnnDataset(tmp_path)), set()
    total = [rating for one in found.values() for rating in one]
    users, items = {line.user for line in lines}, {line.item for line in lines}
    assert len(total) == len(lines)
    assert Counter(rating for *_, rating in total) == Counter(line.rating for line in lines)
    given = {(line.user, line.item): line.rating for line in lines}
    for name, rows in found.items():
        for user, item, rating in rows:
            if user is not None and item is not None:
                assert given.pop((user, item)) == rating, "each pair once, with its rating"  # type: ignore[arg-type]
            assert name != "train" or (user in users and item in items)
        train |= {user for user, *_ in rows} if name == "train" else set()
    unknown = [user for name in ("valid", "test") for user, *_ in found[name] if user is None]
    assert len(unknown) == report.new_users
    assert len(given) == len([row for row in total if None in row]) == report.new_users, "items are known from movies.csv"
    assert report.items == 25
    if split == "random":
        assert (report.train, report.valid, report.test) == (210, 30, 60)
    if split == "user":
        assert Counter(user for user, *_ in found["test"]) == dict.fromkeys(users, 2), "round(12 x 0.2) of each"
        assert Counter(user for user, *_ in found["valid"]) == dict.fromkeys(users, 1)
    if split == "time":
        times = {(line.user, line.item): line.time for line in lines}
        last = max(times[user, item] for user, item, _ in found["train"])  # type: ignore[index]
        later = [times[user, item] for user, item, _ in found["valid"] if user is not None]  # type: ignore[index]
        assert all(time >= last for time in later)


def test_codes_are_given_by_the_train_set(tmp_path: Path) -> None:
    """User 9 and item 7 come late; item 8 comes late and is not in movies.csv; film 99 nobody has rated."""
    lines = [Rated(user, item, 3.0 + item % 2, 1000 + user * item) for user in range(1, 7) for item in range(1, 6)]
    late = [Rated(9, 1, 4.0, 9000), Rated(1, 7, 2.0, 9001), Rated(2, 8, 5.0, 9002), Rated(9, 8, 1.0, 9003)]
    (tmp_path / "ratings.csv").write_text(csv_of([*lines, *late]))
    (tmp_path / "movies.csv").write_text(movies_csv([1, 2, 3, 4, 5, 7, 99]))
    place = DnnDataset(tmp_path)
    report = prep(
        tmp_path / "ratings.csv", tmp_path, DnnPrepSettings(split="time", test=0.1, validation=0.0, time_unit="s")
    )
    found = with_ids(place)
    held = [(user, item) for user, item, _ in found["test"]]
    assert all(pair in held for pair in [(1, 7), (2, None), (None, 1), (None, None)])
    assert (report.users, report.items, report.new_users, report.new_items, report.unknown_items) == (6, 7, 2, 3, 2)
    index = read_items(place.items, ("item_id", "item_idx", "support", "year"))
    assert index["item_id"].to_list()[5:] == [7, 99], "after those that were rated"
    assert index["item_idx"].to_list() == list(range(1, 8))
    assert index["support"].to_list()[5:] == [0, 0]
    sets = read_sets(place)
    assert not sets.item_features[0].any()
    assert not sets.user_features[0].any()
    columns = json.loads((place.split / "features.json").read_text())
    assert columns["item"] == ["support", "year", "dated", "tagged", "Even", "Film", "Odd"]
    code = index["item_id"].to_list().index(7) + 1
    expected = [0, (1957 - 1995) / 20, 1, 0, 0, 1, 1]
    np.testing.assert_allclose(sets.item_features[code], expected, rtol=1e-6)


def test_features_of_users_are_means_over_their_train_items(tmp_path: Path) -> None:
    prep(write_zip(tmp_path / "ml.zip", LINES, movies=movies_csv(range(1000, 1020))), tmp_path)
    sets = read_sets(DnnDataset(tmp_path))
    pairs = sets.sets["train"].pairs
    for user in (1, len(sets.user_features) - 1):
        own = sets.item_features[pairs[pairs[:, 0] == user, 1], 1:]
        np.testing.assert_allclose(sets.user_features[user, 0], np.log1p(len(own)) / 5, rtol=1e-6)
        np.testing.assert_allclose(sets.user_features[user, 1:], own.sum(axis=0) / (len(own) + 5), rtol=1e-5, atol=1e-6)


def test_tags_are_counted_and_the_most_frequent_can_be_features(tmp_path: Path) -> None:
    tags = "userId,movieId,tag,timestamp\n1,1000,Funny ,5\n2,1000,funny,6\n1,1001,FUNNY,7\n1,1001,slow,8\n3,1002,slow,9\n"
    archive = write_zip(tmp_path / "ml.zip", LINES, movies=movies_csv(range(1000, 1020)), tags=tags + "3,1002,dark,9\n")
    report = prep(archive, tmp_path, DnnPrepSettings(tags=2))
    assert report.tags == 6
    place = DnnDataset(tmp_path)
    columns = json.loads((place.split / "features.json").read_text())["item"]
    assert columns[-2:] == ["tag funny", "tag slow"]
    index = read_items(place.items, ("item_id", "tags"))
    features = dict(zip(index["item_id"], read_sets(place).item_features[1:].tolist(), strict=True))
    assert [features[item][-2:] for item in (1000, 1001, 1002, 1003)] == [[1, 0], [1, 1], [0, 1], [0, 0]]
    assert dict(zip(index["item_id"], index["tags"], strict=True))[1001] == 2
    assert not prep(archive, tmp_path, DnnPrepSettings(tags=1)).reused


FORMS = {
    "u.data": "".join(f"{user}\t{item}\t{rating}\t{time}\n" for user, item, rating, time in LINES),
    "ratings.dat": "".join(f"{user}::{item}::{rating}::{time}\n" for user, item, rating, time in LINES),
    "own.csv": "when;stars;who;what\n" + "".join(f"{t};{r};{u};{i}\n" for u, i, r, t in LINES),
    "text.csv": "user,item,rating,time\n" + "".join(f"u{u},film {i},{r},{t}\n" for u, i, r, t in LINES),
}


@pytest.mark.parametrize("name", [*FORMS, "folder", "parquet"])
def test_every_form_is_the_same_split(tmp_path: Path, name: str) -> None:
    prep(write_zip(tmp_path / "ml.zip", LINES), tmp_path / "zip")
    path, columns = tmp_path / name, None
    if name == "folder":
        path.mkdir()
        (path / "ratings.csv").write_text(csv_of(LINES))
    elif name == "parquet":
        pl.DataFrame(LINES, schema=["userId", "movieId", "rating", "timestamp"], orient="row").write_parquet(path)
    else:
        path.write_text(FORMS[name])
        columns = {"session": "who", "item": "what", "time": "when", "rating": "stars"} if name == "own.csv" else None
    prep(path, tmp_path / "other", DnnPrepSettings(columns=columns))
    one, other = with_ids(DnnDataset(tmp_path / "zip")), with_ids(DnnDataset(tmp_path / "other"))
    if name == "text.csv":
        one = {key: [(f"u{u}", f"film {i}" if i else i, r) for u, i, r in rows] for key, rows in one.items()}
    assert one == other


def test_the_same_seed_is_the_same_split_and_another_is_not(tmp_path: Path) -> None:
    log = write_zip(tmp_path / "ml.zip", LINES)
    prep(log, tmp_path)
    first = with_ids(DnnDataset(tmp_path))
    assert prep(log, tmp_path).reused
    assert not prep(log, tmp_path, fresh=True).reused
    assert with_ids(DnnDataset(tmp_path)) == first
    prep(log, tmp_path, DnnPrepSettings(seed=43))
    assert with_ids(DnnDataset(tmp_path)) != first
    assert verify_data(tmp_path).passed


@settings(max_examples=25)
@given(blocks=st.lists(st.integers(0, 40), min_size=1, max_size=6), seed=st.integers(0, 99), data=st.data())
def test_random_roles_come_out_exactly(blocks: list[int], seed: int, data: st.DataObject) -> None:
    total = sum(blocks)
    test = data.draw(st.integers(0, total))
    valid = data.draw(st.integers(0, total - test))
    counts = (total - test - valid, valid, test)
    roles = of_so_many(seed, counts)
    dealt = np.concatenate([roles(pl.DataFrame({"row": range(count)})) for count in blocks])
    assert tuple(np.bincount(dealt, minlength=3)) == counts


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 15), min_size=1, max_size=8),
    valid=st.sampled_from([0.0, 0.1, 0.4]),
    test=st.sampled_from([0.1, 0.2, 0.55]),
    seed=st.integers(0, 99),
)
def test_user_roles_leave_everyone_something_to_train_on(sizes: list[int], valid: float, test: float, seed: int) -> None:
    users = np.repeat(np.arange(len(sizes)), sizes)
    roles = of_each_user(seed, valid, test)(pl.DataFrame({"session": users}))
    for user, size in enumerate(sizes):
        train, held, tested = np.bincount(roles[users == user], minlength=3)
        assert train >= 1
        assert tested == min(size - 1, int(size * test + 0.5))
        assert held == min(size - 1 - tested, int(size * valid + 0.5))


def test_time_roles_begin_at_their_moment() -> None:
    frame = pl.DataFrame({"time": [4, 5, 9, 10, 11]})
    assert by_moment(5, 10)(frame).tolist() == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("a b c\n1 2 3\n", {}, "not a known form of ratings"),
        ("userId,movieId,timestamp\n1,2,3\n", {}, "not a known form of ratings(.|\n)*rating=NAME"),
        ("userId,movieId,rating,timestamp\n1,2,good,3\n", {}, "line 2: the rating is missing or not a number"),
        ("userId,movieId,rating,timestamp\n1,2,,3\n", {}, "line 2: the rating is missing or not a number"),
        ("userId,movieId,rating,timestamp\n1,2,nan,3\n", {}, "line 2: the rating is missing or not a number"),
        ("userId,movieId,rating,timestamp\n1,2,3,4\n1,2,4,5\n", {}, "user 1 has item 2 more than once"),
        ("userId,movieId,rating,timestamp\n1,2,3,4\n", {}, "none is in the test set"),
        ("userId,movieId,rating,timestamp\n1,2,3,4\n", {"min_ratings": 3}, "no user has 3 ratings"),
        ("", {"test": 1.0}, "test is 1.0"),
        ("", {"validation": 0.9}, "validation is 0.9"),
        ("", {"split": "leave-one-out"}, "split is 'leave-one-out'"),
    ],
)
def test_what_cannot_be_split_is_said(tmp_path: Path, text: str, arguments: dict[str, Any], message: str) -> None:
    (tmp_path / "ratings.csv").write_text(text)
    with pytest.raises(PocketrecError, match=message):
        prep(tmp_path / "ratings.csv", tmp_path / "data", DnnPrepSettings(time_unit="s", **arguments))
    assert not list((tmp_path / "data").rglob("*.npy"))


@pytest.mark.parametrize(
    ("movies", "message"),
    [
        ("id,name\n1,x\n", "movies.csv has no column 'movieId'"),
        ('movieId,title,genres\n1000,"Film (1990),Even\n', "movies.csv cannot be read"),
        ("", "movies.csv cannot be read"),
    ],
)
def test_a_movies_csv_that_is_none_is_named(tmp_path: Path, movies: str, message: str) -> None:
    with pytest.raises(LogError, match=message):
        prep(write_zip(tmp_path / "ml.zip", LINES, movies=movies), tmp_path)
    assert not list(tmp_path.rglob("*.npy"))
    assert not list(tmp_path.rglob("*.incomplete"))


def test_a_zip_that_is_cut_or_holds_something_else(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "ml.zip", LINES).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "x")
        archive.writestr("b.txt", "x")
    for name, message in (
        ("cut.zip", "cut or damaged"),
        ("other.zip", "which of its files holds ratings"),
        ("no", "exist"),
    ):
        code, out, err = call("dnn", "prep", tmp_path / name, "--dataset", tmp_path / "data")
        assert (code, out) == (1, "")
        assert message in err
    (tmp_path / "empty").mkdir()
    assert "folder with none called ratings" in call("dnn", "prep", tmp_path / "empty", "--dataset", tmp_path / "data")[2]


def test_lines_that_are_no_ratings_can_be_set_aside(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(csv_of(LINES) + "1,2,good,3\r\n")
    report = prep(tmp_path / "ratings.csv", tmp_path, DnnPrepSettings(bad_rows="set-aside"))
    assert report.ingest.set_aside == 1
    assert report.train + report.valid + report.test == len(LINES)


def test_an_error_leaves_the_earlier_split_and_a_cut_file_is_named(tmp_path: Path) -> None:
    log, place = write_zip(tmp_path / "ml.zip", LINES), DnnDataset(tmp_path)
    prep(log, tmp_path)
    before = with_ids(place)
    with pytest.raises(SettingsError):
        prep(log, tmp_path, DnnPrepSettings(min_ratings=100))
    assert with_ids(place) == before
    (place.split / "test_pairs.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"test_pairs\.npy is missing or cut"):
        read_sets(place)


def test_sets_are_mapped_and_items_without_movies_csv_have_the_plain_features(tmp_path: Path) -> None:
    prep(write_zip(tmp_path / "ml.zip", LINES), tmp_path)
    sets = read_sets(DnnDataset(tmp_path))
    assert isinstance(sets.sets["train"].pairs, np.memmap)
    assert sets.item_features.shape[1] == sets.user_features.shape[1] == 4


def test_ml_latest_small_as_it_is(tmp_path: Path) -> None:
    path = SHARED / "ml-latest-small.zip"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    report = prep(path, tmp_path)
    assert (report.train, report.valid, report.test) == (70_585, 10_084, 20_167)
    assert (report.users, report.items, report.genres, report.tags) == (610, 9742, 19, 3683)
    assert (report.lowest, report.highest) == (0.5, 5.0)
