"""The rivals in benchmarks/ do the job right, and a wrong result loses its number."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oracle import batches, item_index, npy_bytes, prepare, txt_bytes
from pocketrec.sources.options import Order, SynthSettings
from pocketrec.sources.synth import synth

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = {
    "pandas_baseline": "pandas",
    "polars_naive": "polars",
    "duckdb_sql": "duckdb",
    "pocketrec_cli": "pocketrec.cli",
}
LANES = 16

pytestmark = [
    pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="benchmarks/ is not part of a source distribution"),
    pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks run on Linux only"),
]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a script of benchmarks/ by name; forgotten afterwards."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module
    for name in ("measure", "table", "rows", "prep", "plot"):
        sys.modules.pop(name, None)


def is_missing(module: str) -> bool:
    """Whether a module cannot be imported, found out without importing it."""
    return importlib.util.find_spec(module) is None


@pytest.fixture(scope="module", params=["grouped", "interleaved", "shuffled"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A log, and the files that have to come out of it."""
    order: Order = request.param
    log = synth(tmp_path_factory.mktemp("log") / "clicks.dat", SynthSettings(clicks=20_000, seed=7, order=order)).path
    prepared = prepare(log)
    made = batches(prepared.train_tr, item_index(prepared.train_tr), LANES, resets="repeated")
    files = {f"rsc15_{name}.txt": text for name, text in prepared.txt.items()}
    for name in ("feats", "targets", "masks"):
        array = getattr(made, name)
        files |= {f"{name}_bs{LANES}.npy": npy_bytes(array), f"{name}_bs{LANES}.txt": txt_bytes(array)}
    return log, files


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_tool_writes_the_oracles_bytes(tmp_path: Path, job: tuple[Path, dict[str, bytes]], script: str) -> None:
    if is_missing(SCRIPTS[script]):
        pytest.skip(f"{SCRIPTS[script]} is not installed")
    log, files = job
    command = [sys.executable, str(BENCHMARKS / "tools" / f"{script}.py"), str(log), str(tmp_path), str(LANES)]
    subprocess.run(command, check=True)
    makes_batches = script in ("pandas_baseline", "pocketrec_cli")
    expected = [name for name in files if makes_batches or name.startswith("rsc15")]
    wrong = [name for name in expected if next(tmp_path.rglob(name)).read_bytes() != files[name]]
    assert wrong == []


def run_prep(*options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / "prep.py"), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_run_is_a_row_and_a_picture(tmp_path: Path, load: Any) -> None:
    results = tmp_path / "results.csv"
    options = ["--sizes", "5k,20k", "--tools", "polars_naive", "--results", str(results), "--work", str(tmp_path / "work")]
    said = run_prep(*options)
    assert "polars_naive" in said
    rows = load("table").read_table(results)
    assert [(row.clicks, row.tool, row.job, row.ok, row.note) for row in rows] == [
        (5_000, "polars_naive", "txt", True, ""),
        (20_000, "polars_naive", "txt", True, ""),
    ]
    assert rows[1].events > 20_000
    assert rows[1].steps is None
    assert rows[1].seconds > 0
    assert rows[1].peak_bytes > 0
    left = sorted(path.name for path in (tmp_path / "work").iterdir())
    assert left == ["clicks-20000-grouped-0.dat", "clicks-5000-grouped-0.dat"]
    if is_missing("matplotlib"):
        pytest.skip("matplotlib is not installed; the table was checked")
    plot = [sys.executable, str(BENCHMARKS / "plot.py"), "--results", str(results), "--out", str(tmp_path / "prep.png")]
    subprocess.run(plot, check=True, capture_output=True)
    assert (tmp_path / "prep.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("text", "clicks"), [("250000", 250_000), ("330k", 330_000), ("3.3M", 3_300_000), ("33m", 33_000_000)]
)
def test_sizes_have_suffixes(load: Any, text: str, clicks: int) -> None:
    assert load("prep").parse_size(text) == clicks


@pytest.mark.parametrize("text", ["", "M", "many", "0", "-3k"])
def test_a_size_that_is_none_is_refused(load: Any, text: str) -> None:
    prep = load("prep")
    with pytest.raises(prep.typer.BadParameter, match="no number of clicks"):
        prep.parse_size(text)


def row(table: ModuleType, tool: str, txt: str = "a", arrays: str = "", log: str = "log") -> Any:
    values: dict[str, Any] = dict.fromkeys(table.COLUMNS, "")
    return table.Measurement(
        **values
        | {
            "tool": tool,
            "txt": txt,
            "batches": arrays,
            "log": log,
            "clicks": 9,
            "batch_size": 4,
            "seconds": 1.5,
            "ok": True,
        }
    )


def removed(table: ModuleType, *rows: Any) -> list[str]:
    return [judged.tool for judged in table.judge(rows) if judged.seconds is None and not judged.ok and judged.note]


def test_the_baseline_decides_what_is_right(load: Any) -> None:
    table = load("table")
    rows = [row(table, "pandas_baseline", "a"), row(table, "pocketrec", "b"), row(table, "duckdb", "b")]
    assert removed(table, *rows) == ["pocketrec", "duckdb"]


def test_without_a_baseline_most_tools_decide_and_ours_in_a_tie(load: Any) -> None:
    table = load("table")
    two_to_one = [row(table, "duckdb", "b"), row(table, "pocketrec", "a"), row(table, "polars_naive", "b")]
    assert removed(table, *two_to_one) == ["pocketrec"]
    repeated = [row(table, "duckdb", "b"), row(table, "duckdb", "b"), row(table, "pocketrec", "a")]
    assert removed(table, *repeated) == ["duckdb", "duckdb"]


def test_results_are_compared_for_the_same_log_and_job_alone(load: Any) -> None:
    table = load("table")
    assert removed(table, row(table, "duckdb", "a"), row(table, "pocketrec", "b", log="other")) == []
    assert (
        removed(table, row(table, "pandas_baseline", "a", "x"), row(table, "duckdb", "a"), row(table, "pocketrec", ""))
        == []
    )
    assert removed(table, row(table, "pandas_baseline", "a", "x"), row(table, "pocketrec", "a", "y")) == ["pocketrec"]


def test_the_table_survives_the_disk(tmp_path: Path, load: Any) -> None:
    table = load("table")
    path = tmp_path / "new" / "prep.csv"
    first = table.append(path, row(table, "pandas_baseline"))
    second = table.append(path, row(table, "duckdb", "b"))
    assert (first.seconds, second.seconds, second.ok) == (1.5, None, False)
    again = table.read_table(path)
    assert [(entry.tool, entry.seconds, entry.ok) for entry in again] == [
        ("pandas_baseline", 1.5, True),
        ("duckdb", None, False),
    ]
    assert again[1].note == "wrong txt files: number removed"


def test_the_cost_of_a_process_is_the_kernels_account(tmp_path: Path, load: Any) -> None:
    measure = load("measure")
    script = "x = bytearray(50_000_000); print('done'); raise SystemExit(3)"
    cost = measure.run([sys.executable, "-c", script], tmp_path / "messages")
    assert cost.exit_code == 3
    assert cost.peak_bytes > 50e6
    assert cost.seconds > 0
    assert measure.last_line(tmp_path / "messages") == "done"


def test_labels_are_pushed_apart_no_further_than_needed(load: Any) -> None:
    if is_missing("matplotlib"):
        pytest.skip("matplotlib is not installed")
    spread = load("plot").spread
    assert spread([0.1, 0.5, 0.9], 0.2) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    close = spread([0.3, 0.42, 0.44, 0.9], 0.1)
    assert all(high - low >= 0.1 - 1e-9 for low, high in pairwise(close))
    assert close[3] == 0.9


def test_a_row_takes_the_place_of_an_earlier_one_of_its_configuration(
    tmp_path: Path, load: Callable[[str], ModuleType]
) -> None:
    @dataclass(frozen=True)
    class Row:
        model: str
        batch_size: int
        seconds: float | None

    path, put = tmp_path / "rows.csv", load("rows").put
    put(path, [Row("a", 1, 1.5), Row("b", 1, None)], ("model", "batch_size"))
    put(path, [Row("a", 2, 2.5), Row("b", 1, 3.5)], ("model", "batch_size"))
    assert path.read_text() == "model,batch_size,seconds\na,1,1.5\na,2,2.5\nb,1,3.5\n"
