"""Laws of the synthetic log of users: as many of them as asked for, who come back, repeat themselves and have tastes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pocketrec.errors import SettingsError
from pocketrec.sessions.options import BatchSettings
from pocketrec.sessions.prep import prep
from pocketrec.sources import _synthetic_rows
from pocketrec.sources import synth as synthetic
from pocketrec.sources.options import Order, ReadSettings, SynthSettings
from pocketrec.sources.synth import synth

ORDERS: tuple[Order, ...] = ("grouped", "interleaved", "shuffled")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks and many buckets in a small log."""
    monkeypatch.setattr(_synthetic_rows, "BLOCK_ROWS", 1000)
    monkeypatch.setattr(synthetic, "BLOCK_ROWS", 1000)


def read(log: Path) -> pl.DataFrame:
    return pl.read_csv(log).with_columns(pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_unit="ms"))


def repeats(log: pl.DataFrame) -> tuple[float, float]:
    """Shares of clicks on an item of an earlier session of the user, and of an earlier click of the session."""
    earlier = pl.col("session").first().over("user", "item") != pl.col("session")
    again = pl.int_range(pl.len()).over("session", "item") > 0
    return log.select(earlier.mean()).item(), log.select(again.mean()).item()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """100,000 clicks of 3,000 users, user by user."""
    path = tmp_path_factory.mktemp("people") / "clicks.csv"
    report = synth(path, SynthSettings(clicks=100_000, users=3000))
    found = read(path)
    assert report.clicks == len(found)
    assert (report.sessions, report.items) == (found["session"].n_unique(), found["item"].n_unique())
    return found


@pytest.mark.parametrize(("clicks", "users"), [(1, 1), (7, 7), (999, 30), (1001, 2), (5000, 400)])
@pytest.mark.usefixtures("small_blocks")
def test_exactly_as_many_clicks_and_users_as_asked_for_in_every_order(tmp_path: Path, clicks: int, users: int) -> None:
    texts = {}
    for order in ORDERS:
        synth(tmp_path / order, SynthSettings(clicks=clicks, users=users, order=order))
        head, *texts[order] = (tmp_path / order).read_text().splitlines()
        assert head == "user,session,time,item"
    assert sorted(texts["grouped"]) == sorted(texts["interleaved"]) == sorted(texts["shuffled"])
    assert texts["interleaved"] == sorted(texts["grouped"], key=lambda line: line.split(",")[2])
    found = read(tmp_path / "grouped")
    assert found["session"].is_sorted()
    assert found["user"].unique().sort().to_list() == list(range(1, users + 1))
    assert len(found) == clicks


@pytest.mark.usefixtures("small_blocks")
def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    once, again, other = (
        synth(tmp_path / str(k), SynthSettings(clicks=3000, users=90, seed=seed)).path.read_bytes()
        for k, seed in enumerate((3, 3, 4))
    )
    assert once == again
    assert once != other


def test_one_click_in_ten_repeats_an_earlier_session_and_few_their_own(log: pl.DataFrame) -> None:
    earlier, own = repeats(log)
    assert 0.08 < earlier < 0.14
    assert own < 0.03


@pytest.mark.usefixtures("small_blocks")
def test_repeats_are_as_many_in_small_blocks(tmp_path: Path, log: pl.DataFrame) -> None:
    small = read(synth(tmp_path / "clicks.csv", SynthSettings(clicks=100_000, users=3000)).path)
    assert repeats(small) == pytest.approx(repeats(log), abs=0.01)


def test_sessions_of_a_user_follow_each_other_over_all_of_the_time(log: pl.DataFrame) -> None:
    sessions = log.group_by("user", "session", maintain_order=True).agg(
        first=pl.col("time").min(), last=pl.col("time").max()
    )
    pauses = sessions.select((pl.col("first") - pl.col("last").shift().over("user")).dt.total_minutes()).to_series()
    assert pauses.drop_nulls().min() >= 30  # type: ignore[operator]
    assert str(log["time"].min()) >= "2014-04-01 03:00:00.124"
    assert str(log["time"].max()) <= "2014-09-30 02:59:59.430"
    counts = sessions.group_by("user").len()["len"]
    assert counts.mean() == pytest.approx(100_000 / 3000 / 3.3, rel=0.1)
    assert counts.max() > 2 * counts.mean()  # type: ignore[operator]
    half = sessions.group_by("user").agg(pl.col("first").min().alias("a"), pl.col("first").max().alias("b"))
    assert half.select((pl.col("b") - pl.col("a")).dt.total_days().mean()).item() > 90


def test_tastes_last_and_differ(log: pl.DataFrame) -> None:
    """Of the clicks of users' later sessions far more are on items of their own earlier ones than on those of others."""
    place, count = pl.col("session").rank("dense").over("user"), pl.col("session").n_unique().over("user")
    halves = log.with_columns(late=place > (count + 1) // 2)
    early = halves.filter(~pl.col("late")).select("user", "item").unique()
    late = halves.filter("late")
    own = len(late.join(early, on=["user", "item"], how="semi")) / len(late)
    others = late.with_columns(pl.col("user") % 3000 + 1)
    foreign = len(others.join(early, on=["user", "item"], how="semi")) / len(late)
    assert own > 4 * foreign


def test_prep_reads_it(tmp_path: Path) -> None:
    log = synth(tmp_path / "clicks.csv", SynthSettings(clicks=20_000, users=700)).path
    reading = ReadSettings(columns={"session": "session", "item": "item", "time": "time"})
    report = prep(log, tmp_path / "data", reading=reading, batching=BatchSettings(batch_size=32))
    assert report.ingest.rows == 20_000


@pytest.mark.parametrize("settings", [{"clicks": 9, "users": 10}, {"clicks": 5001, "users": 5}, {"users": -1}])
def test_impossible_numbers_of_users_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="users"):
        synth(tmp_path / "clicks.csv", SynthSettings(**settings))
    assert list(tmp_path.iterdir()) == []
