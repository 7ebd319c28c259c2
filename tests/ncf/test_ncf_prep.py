"""Ratings in every form, through the ingest, to the split: against an oracle that goes a rating at a time."""

from __future__ import annotations

import gzip
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED
from ncf_support import Expected, Rating, ratings, split_slowly, write_dat
from pocketrec.errors import DatasetError, LogError, PocketrecError, SettingsError
from pocketrec.ncf.interactions import Interactions, Positives, item_ids, read_interactions, user_ids
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.options import NcfPrepSettings
from pocketrec.ncf.prep import prep
from pocketrec.storage.verify_data import verify_data

LINES = [Rating(user, item, 1_000_000_000 + (user * item) % 7) for item in range(5) for user in (9, 2, 5)]


def with_ids(place: NcfDataset) -> Expected:
    """What prep wrote, in the terms of the oracle."""
    found = read_interactions(place)
    users, items = user_ids(place).to_list(), item_ids(place).to_list()

    def held(positives: Positives) -> dict[int, int]:
        return {users[user]: items[item] for user, item in zip(positives.users, positives.items, strict=True)}

    train = {user: [items[item] for item in found.of(code)] for code, user in enumerate(users)}
    return Expected(users, items, train, held(found.valid), held(found.test))


def agree(lines: list[Rating], min_ratings: int, validation: bool, holdout: float | None) -> bool:
    """Whether there is a split; it must be the oracle's."""
    expected = split_slowly(lines, min_ratings, validation, holdout)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("pocketrec.ingestion.write_parts.ROWS_PER_PART", 64)
        patch.setattr("pocketrec.ncf.prep._USERS_PER_BLOCK", 2)
        patch.setattr("pocketrec.ingestion.ratings._BINS", 3)
        log = write_dat(Path(folder, "ratings.dat"), lines)
        protocol: dict[str, Any] = {} if holdout is None else {"split": "time", "holdout": holdout}
        try:
            prep(log, folder, NcfPrepSettings(min_ratings=min_ratings, validation=validation, **protocol))
        except PocketrecError as error:
            everything = any(len(own) == len(expected.items) for own in expected.train.values())
            if expected.test and not (everything and "no negative left" in str(error)):
                raise
            return False
        assert with_ids(NcfDataset(Path(folder))) == expected
        return True


@pytest.mark.parametrize("holdout", [None, 0.1, 0.3])
@pytest.mark.parametrize("validation", [False, True])
def test_the_split_is_the_oracles(validation: bool, holdout: float | None) -> None:
    rng = np.random.default_rng(3)
    pairs = rng.permutation([(user, item) for user in range(40) for item in rng.permutation(30)[: rng.integers(1, 25)]])
    lines = [Rating(1000 - 7 * user, 3 * item, 10**9 + int(rng.integers(40))) for user, item in pairs.tolist()]
    assert agree(lines, 8, validation, holdout)


@settings(max_examples=8)
@given(lines=ratings(), min_ratings=st.integers(1, 4), validation=st.booleans(), holdout=st.sampled_from([None, 0.1, 0.49]))
def test_small_splits_are_the_oracles(
    lines: list[Rating], min_ratings: int, validation: bool, holdout: float | None
) -> None:
    agree(lines, min_ratings, validation, holdout)


FORMS = {
    "u.data": "".join(f"{user}\t{item}\t3\t{time}\n" for user, item, time in LINES),
    "ratings.dat": "".join(f"{user}::{item}::3.5::{time}\n" for user, item, time in LINES),
    "ratings.csv": "userId,movieId,rating,timestamp\r\n" + "".join(f"{u},{i},3.5,{t}\r\n" for u, i, t in LINES),
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    + "".join(f"{u}\t{i}\t3\t{t}\n" for u, i, t in LINES),
    "own.csv": "when;who;what\n" + "".join(f"{t};{u};{i}\n" for u, i, t in LINES),
}


@pytest.mark.parametrize("packed", ["plain", "zip", "gzip"])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_same_split(tmp_path: Path, name: str, packed: str) -> None:
    text, path = FORMS[name].encode(), tmp_path / name
    if packed == "plain":
        path.write_bytes(text)
    elif packed == "gzip":
        path.write_bytes(gzip.compress(text))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"ml/{name if name != 'own.csv' else 'ratings.csv'}", text)
            archive.writestr("ml/movies.csv", "movieId,title,genres\n")
            archive.writestr("ml/tags.csv", "userId,movieId,tag,timestamp\n")
    columns = (
        {"user" if packed == "zip" else "session": "who", "item": "what", "time": "when"} if name == "own.csv" else None
    )
    report = prep(path, tmp_path / "data", NcfPrepSettings(columns=columns, min_ratings=2))
    assert (report.users, report.items, report.ratings, report.train, report.test) == (3, 5, 15, 12, 3)
    assert with_ids(NcfDataset(tmp_path / "data")) == split_slowly(LINES, 2, False)


def test_ids_that_are_text(tmp_path: Path) -> None:
    named = "user,item,time\n" + "".join(f"u{user},film {item},{time}\n" for user, item, time in LINES)
    (tmp_path / "ratings.csv").write_text(named)
    prep(tmp_path / "ratings.csv", tmp_path, NcfPrepSettings(min_ratings=2))
    place, expected = NcfDataset(tmp_path), split_slowly(LINES, 2, False)
    assert user_ids(place).to_list() == [f"u{user}" for user in expected.users]
    assert item_ids(place).to_list() == [f"film {item}" for item in expected.items]


def test_parquet(tmp_path: Path) -> None:
    pl.DataFrame(LINES, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(tmp_path / "r.parquet")
    prep(tmp_path / "r.parquet", tmp_path, NcfPrepSettings(min_ratings=2))
    assert with_ids(NcfDataset(tmp_path)) == split_slowly(LINES, 2, False)


def test_a_second_run_does_nothing_and_other_settings_do_it_again(tmp_path: Path) -> None:
    log = write_dat(tmp_path / "ratings.dat", LINES)
    assert not prep(log, tmp_path, NcfPrepSettings(min_ratings=2)).reused
    again = prep(log, tmp_path, NcfPrepSettings(min_ratings=2))
    assert again.reused
    assert again.ingest.reused
    other = prep(log, tmp_path, NcfPrepSettings(min_ratings=2, validation=True))
    assert (other.reused, other.ingest.reused, other.valid) == (False, True, 3)
    write_dat(log, LINES[:-1])
    assert not prep(log, tmp_path, NcfPrepSettings(min_ratings=2, validation=True)).ingest.reused
    assert verify_data(NcfDataset(tmp_path).home).passed


def test_duplicates_stop_or_the_first_is_kept(tmp_path: Path) -> None:
    log = write_dat(tmp_path / "ratings.dat", [*LINES, Rating(2, 3, 1_100_000_000)])
    with pytest.raises(LogError, match="user 2 has item 3 more than once"):
        prep(log, tmp_path, NcfPrepSettings(min_ratings=2))
    prep(log, tmp_path, NcfPrepSettings(min_ratings=2, duplicates="first"))
    assert with_ids(NcfDataset(tmp_path)) == split_slowly(LINES, 2, False)


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("a b c\n1 2 3\n", {}, "not a known form of ratings"),
        ("", {}, "not a known form of ratings|is empty"),
        ("1::2::3::4::5\n", {}, "not a known form of ratings"),
        ("1::2::3::4\n1::x\n", {}, "line 2: 2 fields instead of 4"),
        ("1::2::3::4\n1::3\x1f::3::9\n", {}, "line 2: a byte 1f"),
        ("1\t2\t3\t4\n1\t3\t3\tnever\n", {}, "line 2: the time"),
        ("1::2::3::4\n", {}, "no user has 20 ratings"),
        ("1::2::3::4\n2::2::3::4\n", {"min_ratings": 1}, "split is empty"),
        ("1::2::3::4\n2::3::3::9\n", {"min_ratings": 1, "split": "time"}, "split is empty(.|\n)*both sides of the cut"),
        (
            "8::2::3::4\n9::2::3::4\n8::3::3::5\n9::3::3::9\n8::4::3::8\n7::2::3::1\n7::3::3::2\n7::4::3::3\n",
            {"min_ratings": 2, "split": "time", "holdout": 0.1},
            "user 8.* has all 3 items in the train set",
        ),
        ("1::2::3::4\n", {"min_ratings": 0}, "min_ratings is 0"),
        ("1::2::3::4\n", {"split": "random"}, "split is 'random'"),
        ("1::2::3::4\n", {"split": "time", "holdout": 0.7}, "holdout is 0.7"),
    ],
)
def test_what_cannot_be_split_is_said(tmp_path: Path, text: str, arguments: dict[str, Any], message: str) -> None:
    (tmp_path / "ratings.dat").write_text(text)
    with pytest.raises(PocketrecError, match=message):
        prep(tmp_path / "ratings.dat", tmp_path / "data", NcfPrepSettings(time_unit="s", **arguments))
    assert not list((tmp_path / "data").rglob("*.npy"))


def test_an_error_leaves_the_earlier_split(tmp_path: Path) -> None:
    log = write_dat(tmp_path / "ratings.dat", LINES)
    prep(log, tmp_path, NcfPrepSettings(min_ratings=2))
    before = with_ids(NcfDataset(tmp_path))
    with pytest.raises(SettingsError):
        prep(log, tmp_path, NcfPrepSettings(min_ratings=100))
    assert with_ids(NcfDataset(tmp_path)) == before


def test_a_file_that_is_cut_is_named(tmp_path: Path) -> None:
    prep(write_dat(tmp_path / "ratings.dat", LINES), tmp_path, NcfPrepSettings(min_ratings=2))
    place = NcfDataset(tmp_path)
    (place.split / "test.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"test\.npy is missing or cut"):
        read_interactions(place)


def test_a_zip_without_ratings(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        archive.writestr("movies.csv", "x")
        archive.writestr("tags.csv", "x")
    with pytest.raises(LogError, match=r"which of its files holds ratings; it holds movies\.csv, tags\.csv"):
        prep(tmp_path / "ml.zip", tmp_path)


def test_ml_latest_small_as_it_is(tmp_path: Path) -> None:
    path = SHARED / "ml-latest-small.zip"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    report = prep(path, tmp_path)
    assert (report.users, report.items, report.ratings, report.train, report.test) == (610, 9724, 100_836, 100_226, 610)
    found: Interactions = read_interactions(NcfDataset(tmp_path))
    assert np.bincount(found.items, minlength=found.n_items).sum() == 100_226
