"""What a log says of how a model is used for one user."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import call
from lite_support import fresh
from pocketrec.cli.reports import results
from pocketrec.gru4rec import users
from pocketrec.gru4rec.export import export
from pocketrec.gru4rec.users import Habits, habits_of
from pocketrec.lite.options import ExportSettings, ModelSettings, UserSettings
from pocketrec.storage.layout import Dataset


def prepared(folder: Path, column: str, *options: str) -> Dataset:
    """A dataset of twenty sessions, an hour after each other."""
    rows = [f"{column},item,time"]
    for number in range(20):
        rows += [f"{number},{number % 2 + place},{1_400_000_000 + 3600 * number + 60 * place}" for place in range(3)]
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    columns = ("--columns", f"session={column},item=item,time=time")
    small = ("--holdout", "1h", "--min-item-support", 1, "--batch-size", 2, "--tail", "pad")
    code, _, said = call("prep", folder / "log.csv", "--dataset", folder / "d", *columns, *small, *options)
    assert code == 0, said
    return Dataset(folder / "d")


@pytest.mark.parametrize(
    ("column", "options", "between"),
    [
        ("user_id", (), "carry"),
        ("VisitorId", (), "carry"),
        ("visitorid", ("--session-gap", "30m"), "reset"),
        ("session_id", (), "reset"),
    ],
)
def test_sessions_of_people_go_on_from_each_other(
    tmp_path: Path, column: str, options: tuple[str, ...], between: str
) -> None:
    place = prepared(tmp_path, column, *options)
    found = habits_of(place, ExportSettings())
    assert (found.use.between, found.column) == (between, column if between == "carry" else "")
    assert (found.repeats, found.use.seen) == (0.0, "hide")
    chosen = ExportSettings(passes=2, cache_share=0.1, between="reset", seen="show")
    assert habits_of(place, chosen).use == UserSettings(2, 0.1, "reset", "show")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=12), st.integers(1, 5))
def test_the_share_of_repeats_is_counted(monkeypatch: pytest.MonkeyPatch, sessions: list[list[int]], some: int) -> None:
    """However many sessions are read at a time."""

    def read(*_: object) -> object:
        for first in range(0, len(sessions), some):
            now = sessions[first : first + some]
            yield np.concatenate(now).astype(np.int32), np.array([len(one) for one in now])

    class Whole:
        def missing(self, _: Path) -> bool:
            return False

    monkeypatch.setattr(users, "read_sequences", read)
    monkeypatch.setattr(users, "read_records", lambda _: {"sequences": Whole()})
    again = sum(item in session[:place] for session in sessions for place, item in enumerate(session))
    following = sum(len(session) - 1 for session in sessions)
    assert users._repeats(Dataset(Path("d"))) == (again / following if following else None)


def test_export_says_what_it_took_from_the_log(tmp_path: Path) -> None:
    """Without sessions in order nobody knows of repeats; and what was chosen is said, too."""
    dataset = fresh(tmp_path, "adam")
    options = ("--batch-size", 4, "--hidden-size", 8, "--negatives", 16)
    code, out, _ = call("export", "--dataset", dataset.root, *options)
    assert code == 0
    assert "\nFor one user: items of the session may be recommended again; sessions begin anew\n" in out
    report = export(dataset.root, ModelSettings(batch_size=4, hidden_size=8, negatives=16))
    assert report.reused
    habits = Habits(UserSettings(between="carry", seen="hide"), 0.0049, "user_id")
    assert list(results(replace(report, habits=habits)))[-1] == (
        "For one user: items of the session are left out, 0.5 % of the log's next clicks are on one; "
        "sessions go on where the last one ended, since the log's sessions are people (column user_id)"
    )
    assert "user_seen=show" in call("inspect", dataset.tflite(4))[1]
