"""Laws of the synthetic log: its format, its size, its shape, and that there is something in it to learn."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from oracle import prepare
from pocketrec.errors import SettingsError
from pocketrec.progress import Advance
from pocketrec.sources import _synthetic_rows
from pocketrec.sources import synth as synthetic
from pocketrec.sources.options import Order, SynthSettings
from pocketrec.sources.synth import synth

ORDERS: tuple[Order, ...] = ("grouped", "interleaved", "shuffled")
LINE = re.compile(
    rb"[1-9]\d*,2014-0[4-9]-[0-3]\d"
    rb"T[0-2]\d:[0-5]\d:[0-5]\d\.\d{3}Z,"
    rb"(21[45]\d{6}|64[34]\d{6}|118\d{7}),(0|S|[1-9]|1[0-2]|\d{9,10})"
)


def read(log: Path) -> pl.DataFrame:
    """Columns session, time, item, category, and ms since the click before in the same session."""
    names = ["session", "time", "item", "category"]
    frame = pl.read_csv(log, has_header=False, new_columns=names, schema_overrides={"category": pl.String})
    frame = frame.with_columns(pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_unit="ms"))
    return frame.with_columns(gap=pl.col("time").diff().over("session").dt.total_milliseconds())


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks and many buckets in a small log."""
    monkeypatch.setattr(_synthetic_rows, "BLOCK_ROWS", 1000)
    monkeypatch.setattr(synthetic, "BLOCK_ROWS", 1000)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """200,000 clicks."""
    log = tmp_path_factory.mktemp("synthetic") / "clicks.dat"
    synth(log, SynthSettings(clicks=200_000))
    return read(log)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("clicks", [1, 2, 3, 50, 999, 1000, 1001, 7654])
@pytest.mark.usefixtures("small_blocks")
def test_exactly_as_many_lines_as_asked_for(tmp_path: Path, clicks: int, order: Order) -> None:
    report = synth(tmp_path / "clicks.dat", SynthSettings(clicks=clicks, order=order))
    lines = report.path.read_bytes().split(b"\n")
    assert (report.clicks, len(lines), lines[-1]) == (clicks, clicks + 1, b"")
    assert [line for line in lines[:-1] if not LINE.fullmatch(line)] == []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.usefixtures("small_blocks")
def test_the_seed_decides_every_byte(tmp_path: Path, order: Order) -> None:
    logs = [
        synth(tmp_path / f"{k}.dat", SynthSettings(clicks=5000, seed=seed, order=order)) for k, seed in enumerate((3, 3, 4))
    ]
    once, again, other = (log.path.read_bytes() for log in logs)
    assert once == again
    assert once != other


@pytest.mark.usefixtures("small_blocks")
def test_orders_are_permutations_of_the_same_rows(tmp_path: Path) -> None:
    for order in ORDERS:
        synth(tmp_path / order, SynthSettings(clicks=5000, order=order))
    lines = {order: (tmp_path / order).read_bytes().splitlines() for order in ORDERS}
    assert sorted(lines["grouped"]) == sorted(lines["interleaved"]) == sorted(lines["shuffled"])
    sessions = [int(line.split(b",")[0]) for line in lines["grouped"]]
    assert sessions == sorted(sessions)
    times = [line.split(b",")[1] for line in lines["interleaved"]]
    assert times == sorted(times)
    # Ties keep the order of the sessions: a sort by time of the grouped log is this very file.
    assert lines["interleaved"] == sorted(lines["grouped"], key=lambda line: line.split(b",")[1])


@pytest.mark.usefixtures("small_blocks")
def test_a_shuffle_leaves_no_trace_of_the_old_order(tmp_path: Path) -> None:
    shuffled = read(synth(tmp_path / "clicks.dat", SynthSettings(clicks=20_000, order="shuffled")).path)
    place = shuffled.with_row_index().select(pl.corr("index", "session")).item()
    assert abs(place) < 0.05
    assert (shuffled["session"].diff() == 0).sum() < 20  # neighbours of one session meet by chance alone


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.usefixtures("small_blocks")
def test_the_report_says_what_is_in_the_file(tmp_path: Path, order: Order) -> None:
    report = synth(str(tmp_path / "new" / "clicks.dat"), SynthSettings(clicks=4000, seed=1, order=order))
    log = read(report.path)
    assert (report.sessions, report.items) == (log["session"].n_unique(), log["item"].n_unique())
    assert report.bytes == report.path.stat().st_size
    assert (report.first, report.last) == ("2014-04-01T03:00:00.124Z", "2014-09-30T02:59:59.430Z")
    stamps = log.select(pl.col("time").min().alias("a"), pl.col("time").max().alias("b")).row(0)
    assert tuple(stamp.isoformat(timespec="milliseconds") + "Z" for stamp in stamps) == (report.first, report.last)


def test_lengths_are_those_of_the_real_log(shop: pl.DataFrame) -> None:
    lengths = shop.group_by("session").len()["len"]
    assert lengths.mean() == pytest.approx(3.57, abs=0.08)
    assert (lengths == 1).mean() == pytest.approx(0.137, abs=0.01)
    assert (lengths == 2).mean() == pytest.approx(0.37, abs=0.01)
    longest = lengths.max()
    assert isinstance(longest, int)
    assert 60 < longest <= 200


def test_ids_are_sparse(shop: pl.DataFrame) -> None:
    for name in ("session", "item"):
        ids = shop[name].unique().sort()
        assert ids.diff().drop_nulls().max() > 1  # type: ignore[operator]
    assert int(shop["session"].max()) / shop["session"].n_unique() == pytest.approx(1.25, abs=0.02)  # type: ignore[arg-type]
    assert shop["item"].min() == pytest.approx(214_507_224, abs=1000)
    assert 0.05 < (shop["item"].unique() > 600_000_000).mean() < 0.12  # type: ignore[operator]


def test_popularity_has_a_head_and_a_tail(shop: pl.DataFrame) -> None:
    clicks = shop.group_by("item").len()["len"]
    assert 0.22 < (clicks < 5).mean() < 0.35  # type: ignore[operator]
    assert clicks.max() > 30 * clicks.median()  # type: ignore[operator]


def test_times_have_a_rhythm_ties_and_steps_back(shop: pl.DataFrame) -> None:
    gaps = shop["gap"].drop_nulls()
    assert 0.002 < (gaps == 0).mean() < 0.006  # type: ignore[operator]
    assert 0.001 < (gaps < 0).mean() < 0.004  # type: ignore[operator]
    assert gaps.median() == pytest.approx(50_000, rel=0.1)
    hours = shop["time"].dt.hour().value_counts()["count"]
    assert hours.max() > 5 * hours.min()  # type: ignore[operator]
    starts = shop.group_by("session").agg(pl.col("time").min()).sort("session")["time"]
    assert not starts.is_sorted()
    place = pl.DataFrame({"start": starts.to_physical()}).with_row_index().select(pl.corr("index", "start")).item()
    assert place > 0.99


def test_most_clicks_have_no_category_or_a_special_offer(shop: pl.DataFrame) -> None:
    shares = dict(shop["category"].value_counts(normalize=True).iter_rows())
    assert shares["0"] == pytest.approx(0.5, abs=0.02)
    assert shares["S"] == pytest.approx(0.33, abs=0.02)
    assert {str(number) for number in range(1, 13)} < set(shares)


def test_what_follows_what_can_be_learned(shop: pl.DataFrame) -> None:
    """Counting pairs on the first four fifths predicts the rest far better than popularity does (Recall@20)."""
    pairs = shop.select("item", before=pl.col("item").shift().over("session")).drop_nulls()
    known, unseen = pairs.head(len(pairs) * 4 // 5), pairs.tail(len(pairs) // 5)
    popular = known["item"].value_counts(sort=True).head(20)["item"]
    by_popularity = unseen["item"].is_in(popular.implode()).mean()
    followers = known.group_by("before", "item").len().sort("len", descending=True)
    top = followers.group_by("before", maintain_order=True).head(20)
    by_pairs = len(unseen.join(top, on=["before", "item"], how="semi")) / len(unseen)
    assert isinstance(by_popularity, float)
    assert by_pairs > 0.45
    assert by_pairs > 4 * by_popularity
    assert 0.05 < (pairs["item"] == pairs["before"]).mean() < 0.15  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(3))
def test_every_set_of_the_split_has_sessions_from_20_thousand_clicks_on(tmp_path: Path, seed: int) -> None:
    prepared = prepare(synth(tmp_path / "clicks.dat", SynthSettings(clicks=20_000, seed=seed)).path)
    assert len(prepared.test) > 20
    assert len(prepared.train_valid) > 20


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"clicks": 0}, "clicks is 0"),
        ({"clicks": -5}, "clicks is -5"),
        ({"clicks": 9, "seed": -1}, "seed is -1"),
        ({"clicks": 9, "order": "sorted"}, "order is 'sorted'"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        synth(tmp_path / "clicks.dat", SynthSettings(**settings))
    with pytest.raises(SettingsError, match="is a folder"):
        synth(tmp_path, SynthSettings(clicks=9))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.usefixtures("small_blocks")
def test_a_failure_leaves_the_old_log_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Order
) -> None:
    log = tmp_path / "clicks.dat"
    log.write_text("old")
    written = []

    def write(*arguments: Any) -> None:
        written.append(arguments)
        if len(written) == 3:
            raise OSError("the disk is full")

    monkeypatch.setattr(synthetic, "_write", write)
    with pytest.raises(OSError, match="disk is full"):
        synth(log, SynthSettings(clicks=5000, order=order))
    assert [path.name for path in tmp_path.rglob("*")] == ["clicks.dat"]
    assert log.read_text() == "old"


@pytest.mark.parametrize(("order", "tasks"), [("grouped", ["making"]), ("shuffled", ["making", "ordering"])])
@pytest.mark.usefixtures("small_blocks")
def test_progress_counts_every_click(tmp_path: Path, order: Order, tasks: list[str]) -> None:
    done: dict[str, int] = {}

    class Counts:
        @contextlib.contextmanager
        def task(self, what: str, total: int, unit: str = "bytes") -> Iterator[Advance]:
            assert (total, unit) == (5000, "clicks")
            done[what] = 0

            def advance(amount: int) -> None:
                done[what] += amount

            yield advance

    synth(tmp_path / "clicks.dat", SynthSettings(clicks=5000, order=order), progress=Counts())
    assert done == dict.fromkeys(tasks, 5000)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """In a process of its own; VmHWM, since ru_maxrss of a child begins at the size of its parent."""
    script = """
import re, sys
from pathlib import Path
from pocketrec import SynthSettings, synth
synth(sys.argv[1], SynthSettings(clicks=int(sys.argv[2]), order="shuffled"))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    peaks = []
    for clicks in (600_000, 2_400_000):
        command = [sys.executable, "-c", script, str(tmp_path / "clicks.dat"), str(clicks)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] < 1.5 * peaks[0]
