"""The figures of a log against a slow walk over its clicks, one by one, with every boundary crossed."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Click, logs, shrink_limits, write_log
from pocketrec.errors import SettingsError
from pocketrec.ingestion.ingest import ingest
from pocketrec.page.log_figures import log_figures
from pocketrec.sessions.options import SplitSettings
from pocketrec.sessions.split import split
from pocketrec.storage.layout import Dataset

HOUR = 3_600_000


def by_session(clicks: list[Click]) -> dict[int, list[Click]]:
    """The clicks of each session in the order of time; equal times in the order of the log."""
    found: dict[int, list[Click]] = defaultdict(list)
    for click in clicks:
        found[click.session].append(click)
    return {session: sorted(found[session], key=lambda one: one.ms) for session in sorted(found)}


def in_group(groups: list[dict[str, Any]], value: int) -> dict[str, Any]:
    (found,) = (one for one in groups if one["least"] <= value <= (one["most"] if one["most"] is not None else value))
    return found


def counted(groups: list[dict[str, Any]], values: list[int], name: str) -> None:
    expected = Counter(in_group(groups, value)["least"] for value in values)
    assert {one["least"]: one[name] for one in groups if one[name]} == dict(expected)


def check_log(found: dict[str, Any], clicks: list[Click]) -> None:
    sessions = by_session(clicks)
    lengths = [len(one) for one in sessions.values()]
    support = Counter(click.item for click in clicks)
    assert (found["rows"], found["sessions"], found["items"]) == (len(clicks), len(sessions), len(support))
    counted(found["lengths"], lengths, "sessions")
    assert found["longest"] == max(lengths)
    assert found["median_length"] == statistics.median_low(lengths)
    gaps = [after.ms - before.ms for one in sessions.values() for before, after in pairwise(one)]
    counted(found["gaps"], gaps, "pairs")
    if gaps:  # the median is that of a group that is 2 % wide
        middle = statistics.median_low(gaps)
        assert found["median_gap_ms"] <= middle <= found["median_gap_ms"] * 1.04 + 1
    again = sum(len(one) - len({click.item for click in one}) for one in sessions.values())
    directly = sum(before.item == after.item for one in sessions.values() for before, after in pairwise(one))
    assert (found["again"], found["directly_again"]) == (again, directly)
    assert found["repeated_rows"] == len(clicks) - len(set(clicks))
    week: Counter[tuple[int, int]] = Counter((click.ms // HOUR // 24 + 3, click.ms // HOUR) for click in clicks)
    cells: Counter[tuple[int, int]] = Counter()
    for (day, hour), count in week.items():
        cells[day % 7, hour % 24] += count
    assert {(d, h): n for d, row in enumerate(found["week"]) for h, n in enumerate(row) if n} == dict(cells)
    assert sum(found["time"]["clicks"]) == len(clicks)
    bins = Counter((click.ms - found["time"]["first_ms"]) // (found["time"]["bin_hours"] * HOUR) for click in clicks)
    assert {at: n for at, n in enumerate(found["time"]["clicks"]) if n} == dict(bins)
    first = {click.item: click.ms for click in sorted(clicks, key=lambda one: -one.ms)}
    new = Counter((ms - found["time"]["first_ms"]) // (found["time"]["bin_hours"] * HOUR) for ms in first.values())
    assert {at: n for at, n in enumerate(found["time"]["new_items"]) if n} == dict(new)
    falling = sorted(support.values(), reverse=True)
    popular = found["popularity"]
    assert popular["clicks"] == [falling[rank - 1] for rank in popular["ranks"]]
    half = next(n for n in range(1, len(falling) + 1) if 2 * sum(falling[:n]) >= len(clicks))
    assert (popular["items_of_half"], popular["once"]) == (half, falling.count(1))
    top = sorted(support.items(), key=lambda one: (-one[1], one[0]))[:10]
    assert [(one["item"], one["clicks"]) for one in popular["top"]] == [(str(item), n) for item, n in top]


def lines_of(dataset: Dataset, name: str) -> set[tuple[str, ...]]:
    """Session and item of each row of a set, by the text that the split wrote."""
    rows = dataset.split_txt(name).read_text().splitlines()[1:]
    return {tuple(row.split("\t")[:2]) for row in rows}


def check_split(found: dict[str, Any], clicks: list[Click], dataset: Dataset) -> None:
    """The sets are known by the txt files: a session and an item of it are in a set, with all their rows, or are not."""
    members = {name: lines_of(dataset, name) for name in ("train_full", "test", "train_tr", "train_valid")}
    rows = {name: [c for c in clicks if (str(c.session), str(c.item)) in some] for name, some in members.items()}
    for name in ("train_tr", "train_valid", "test"):
        assert sum(found["time"][name]) == len(rows[name])
        sessions = by_session(rows[name])
        assert found["repeated_rows"][name] == len(rows[name]) - len(set(rows[name]))
        if name == "test":
            assert found["test_sessions"] == len(sessions)
    test, train = by_session(rows["test"]), rows["train_full"]
    last = max(click.ms for click in train)
    assert found["last_train_ms"] == last
    assert found["first_test_ms"] == min((click.ms for click in rows["test"]), default=None)
    assert found["early_test_sessions"] == sum(one[0].ms <= last for one in test.values())
    seconds = {click.ms // 1000 for click in train}
    assert found["test_shares_second"] == sum(any(c.ms // 1000 in seconds for c in one) for one in test.values())
    assert (found["sessions_in_both"], found["valid_in_train"]) == (0, 0)


@given(logs(max_sessions=30), st.sampled_from([3.0, 9.0, 20.0]), st.sampled_from(["one run", "several runs"]))
@settings(max_examples=12)
def test_the_figures_are_those_of_a_slow_walk(
    tmp_path_factory: pytest.TempPathFactory, clicks: list[Click], holdout: float, runs: str
) -> None:
    folder = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        shrink_limits(patch, runs)
        ingest(write_log(folder / "log.dat", clicks), folder / "d")
        dataset = Dataset(folder / "d")
        check_log(log_figures(dataset, split=False), clicks)
        try:
            split(dataset.root, SplitSettings(holdout=holdout, min_item_support=1))
        except SettingsError:
            return
        found = log_figures(dataset, split=True)
        check_log(found, clicks)
        check_split(found["split"], clicks, dataset)
