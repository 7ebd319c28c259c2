"""Fixtures and strategies that several test modules use."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from pocketrec.cli.app import app

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
# The gate tries the same examples each time: a change is judged by itself, not by luck. New examples are for developers.
settings.register_profile("gate", parent=settings.get_profile("default"), derandomize=True, max_examples=30)
settings.load_profile("gate" if "CI" in os.environ else "default")

MEMORY, ENOUGH = Path("/dev/shm"), 4 << 30
"""A disk in memory, where Linux has one, and the free bytes that the tests want on it."""
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH:
    # Every file that is committed is flushed first. Two workers would wait a quarter of their time for the disk.
    tempfile.tempdir = os.environ.setdefault("TMPDIR", str(MEMORY))

MANY = 500
"""Tests; with fewer, the shared models are made when one asks for them."""
TOGETHER = ("test_home.py", "test_kill.py", "test_train.py", "test_ncf_train.py", "test_dnn_train.py", "test_spark.py")
"""Modules that begin with what takes many seconds."""
KERAS = ("test_ncf_train.py", "test_dnn_train.py")
"""Of these, those of one worker: another one need not load Keras, which takes 3 s."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class OneByOne(LoadScopeScheduling):  # type: ignore[misc]
    """A test goes to the next free worker; those of a module of `TOGETHER` to one worker, which makes once what they share.

    xdist's own `loadgroup` would be shorter, but does nothing with pytest 9.2: it writes into a name that is gone.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        name = Path(module).name
        return "keras" if name in KERAS else module if name in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneByOne:
    return OneByOne(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the models which many share come last, so that none waits for them."""
    if support := sys.modules.get("lite_support"):
        modules = {item: getattr(item.getparent(pytest.Module), "obj", None) for item in items}
        items.sort(key=lambda item: getattr(modules[item], "models", None) is support.models)


def pytest_collection_finish(session: pytest.Session) -> None:
    """A whole run, by several workers, begins with what takes longest: the models that many tests share.

    What is loaded by now, such as TensorFlow, is left out of the collections of garbage, which would look through it.
    """
    gc.collect()
    gc.freeze()
    support = sys.modules.get("lite_support")
    if support and "PYTEST_XDIST_WORKER" in os.environ and len(session.items) > MANY:
        support.begin()


@dataclass(frozen=True)
class Click:
    """One line of a log."""

    session: int
    ms: int
    item: int

    def line(self) -> str:
        moment = EPOCH + timedelta(milliseconds=self.ms)
        return f"{self.session},{moment:%Y-%m-%dT%H:%M:%S}.{self.ms % 1000:03d}Z,{self.item},0\n"


_parser_of = functools.cache(typer.main.get_command)
"""The parser of an app, which typer's runner would build anew for each command: 12 ms of the 14 that a refusal takes."""


def call(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; an exception that is no exit comes through."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", _parser_of)
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


class StoppedError(Exception):
    """Stands in for a kill: nothing after it runs, nothing is tidied up by the stage's own code."""


class StopAt:
    """A watcher under whose eyes a task dies."""

    def __init__(self, what: str) -> None:
        self.what = what

    @contextlib.contextmanager
    def task(self, what: str, total: int, unit: str = "bytes") -> Iterator[Callable[[int], None]]:  # noqa: ARG002
        def advance(_: int) -> None:
            if what == self.what:
                raise StoppedError

        yield advance


def write_log(path: Path, clicks: list[Click]) -> Path:
    path.write_text("".join(click.line() for click in clicks))
    return path


@st.composite
def logs(draw: st.DrawFn, *, max_sessions: int = 40) -> list[Click]:
    """Random logs that try the protocol: ties, items near the support limit, sessions that end around the hold-out.

    Rows come grouped by session, by time or shuffled; ids are dense or spread up to 2^63-1.
    """
    sessions = draw(st.integers(1, max_sessions))
    items = draw(st.integers(1, 12))
    spread = draw(st.sampled_from([1, 1_000_003, (2**63 - 1) // (max_sessions + 13)]))
    start = draw(st.sampled_from([1_396_321_200_124, 1_073_741_823_000, 999, 0]))
    clicks = []
    for session in range(sessions):
        begin = start + 1000 * draw(st.integers(0, 40))
        for _ in range(draw(st.integers(1, 7))):
            ms = begin + draw(st.sampled_from([0, 0, 1, 10, 500, 1000, 7777]))
            item = draw(st.integers(0, items - 1) | st.integers(0, min(2, items - 1)))
            clicks.append(Click((session + 1) * spread, ms, (items - item) * spread))
    order = draw(st.sampled_from(["grouped", "by time", "shuffled"]))
    if order == "by time":
        return sorted(clicks, key=lambda click: click.ms)
    return draw(st.permutations(clicks)) if order == "shuffled" else clicks


def shrink_limits(monkeypatch: pytest.MonkeyPatch, runs: str) -> None:
    """Limits so small that a log of a few dozen clicks crosses every boundary that a full log crosses."""
    monkeypatch.setattr("pocketrec.ingestion.write_parts.ROWS_PER_PART", 16)
    monkeypatch.setattr("pocketrec.sessions.rsc15.LINES_PER_BLOCK", 7)
    monkeypatch.setattr("pocketrec.sessions.rsc15.MIN_SLICE", 1)
    monkeypatch.setattr("pocketrec.sessions.rsc15.MAX_SLICE", 4)
    monkeypatch.setattr("pocketrec.sessions.session_parallel.CELLS_PER_BLOCK", 24)
    if runs == "several runs":
        monkeypatch.setattr("pocketrec.ingestion.write_parts.MAX_ROW_GROUP", 4)
        monkeypatch.setattr("pocketrec.ingestion.write_parts.MIN_ROW_GROUP", 4)
        monkeypatch.setattr("pocketrec.ingestion.write_parts.ROW_GROUPS_PER_RUN", 2)
        monkeypatch.setattr("pocketrec.sources.block_scan.BLOCK_BYTES", 100)


@pytest.fixture(params=["one run", "several runs"])
def small_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every boundary is crossed, with the log scanned in one go and in several."""
    shrink_limits(monkeypatch, request.param)


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def yoochoose_sample() -> Path:
    """The 7,954 real clicks, where they are at hand."""
    path = SHARED / "yoochoose-clicks-sample.dat"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return path
