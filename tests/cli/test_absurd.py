"""Sizes that nobody means are refused before they cost memory or disk: of lanes, headers, lines, members of archives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apart import HANG
from conftest import Click, call, write_log
from dnn_support import camps, write_zip
from pocketrec.sessions import batches as module
from pocketrec.sessions.batches import batches, batches_bytes
from pocketrec.sessions.options import BatchSettings
from pocketrec.storage.layout import SPLITS, Dataset
from pocketrec.storage.manifest import read_records

CLI = [sys.executable, "-m", "pocketrec.cli"]
MEGABYTES = 500
MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print(json.dumps([done.returncode, done.stderr, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def limited(*arguments: object) -> tuple[int, str]:
    """Exit code and stderr of a command; the most memory it had is below `MEGABYTES`."""
    command = [sys.executable, "-c", MEASURED, *CLI, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=True)
    code, err, peak = json.loads(done.stdout)
    assert peak / 1024 < MEGABYTES
    return code, err


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("absurd")
    day = 86_400_000
    clicks = [Click(s, 1_396_321_200_000 + s * day // 9 + k, 7 + k % 3) for s in range(1, 90) for k in range(2 + s % 5)]
    log = write_log(folder / "clicks.dat", clicks)
    code, _, err = call("prep", log, "--dataset", folder, "--batch-size", 2, "--min-item-support", 1)
    assert code == 0, err
    return folder


def test_more_lanes_than_anybody_means_are_asked_about(dataset: Path) -> None:
    command = ("batches", "--dataset", dataset, "--tail", "pad", "--formats", "npy", "--batch-size")
    for lanes in (1_000_000, 100_000_000):
        code, out, err = call(*command, lanes)
        assert (code, out) == (1, "")
        sessions = read_records(dataset / "parquet")["roles"].counts["sets"]["train_tr"]["sessions"]
        assert f"train_tr has {sessions} sessions, and --batch-size {lanes} asks for {lanes:,} lanes" in err
        assert "--force" in err
        assert not list((dataset / "final").glob(f"*_bs{lanes}*"))
    assert call(*command, 20_000, "--force")[0] == 0


@settings(max_examples=15)
@given(st.integers(1, 3000), st.sampled_from(["drop", "pad"]), st.sampled_from([("txt",), ("npy",), ("txt", "npy")]))
@example(9_999, "pad", ("txt", "npy"))
@example(70, "drop", ("txt", "npy"))
def test_the_estimate_knows_what_padding_adds(dataset: Path, lanes: int, tail: str, formats: tuple[str, ...]) -> None:
    """Also where the tail is dropped: a set with fewer sessions than lanes is padded whatever the tail."""
    sizes = read_records(dataset / "parquet")["roles"].counts["sets"]
    if tail == "drop" and lanes > sizes["train_tr"]["sessions"]:
        return
    asked: list[int] = []

    def spy(*arguments: object) -> int:
        asked.append(batches_bytes(*arguments))  # type: ignore[arg-type]
        return asked[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "batches_bytes", spy)
        batches(dataset, BatchSettings(batch_size=lanes, tail=tail, formats=formats), fresh=True)  # type: ignore[arg-type]
    written = sum(path.stat().st_size for path in Dataset(dataset).final.glob(f"*_bs{lanes}.*"))
    transitions = sum(sizes[name]["events"] - sizes[name]["sessions"] for name in SPLITS)
    assert written < asked[0]
    assert asked[0] < 3 * written + 30 * transitions + (1 << 18)


def test_a_header_of_very_many_columns(tmp_path: Path) -> None:
    log = tmp_path / "wide.csv"
    more = 100_000
    log.write_text(",".join(["s", "i", "t", *map(str, range(more))]) + "\n" + ("1,2,1396321200" + "," * more + "\n") * 20)
    code, err = limited("ingest", log, "--columns", "session=s,item=i,time=t", "--dataset", tmp_path / "d")
    assert (code, "100,003 columns" in err, "at most 4,096" in err) == (1, True, True)


@pytest.mark.parametrize("after", [b"", b"\n", b"\n1,2014-04-07T10:51:09.277Z,7,0\n"])
@pytest.mark.parametrize("bad_rows", ["stop", "set-aside"])
def test_a_very_long_line(after: bytes, bad_rows: str, tmp_path: Path) -> None:
    """At the end of the log or inside it; the scan by Polars would hold all of it nine times."""
    log = tmp_path / "long.dat"
    log.write_bytes(b"1,2014-04-07T10:51:09.277Z,7,0\n" * 1000 + b"x" * 60_000_000 + after)
    code, err = limited("ingest", log, "--dataset", tmp_path / "d", "--bad-rows", bad_rows)
    assert code == 1
    assert "a line of more than 1,048,576 bytes" in err


def test_movies_are_unpacked_only_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    movies = "movieId,title,genres\n" + "1000,A (1999),Drama\n" * 200_000
    archive = write_zip(tmp_path / "ml.zip", camps(12, 20, 10), movies=movies)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pocketrec.storage.space.free_bytes", lambda _: 3_000_000)
        code, _, err = call("dnn", "prep", archive, "--dataset", tmp_path / "d")
        assert (code, "unpacking" in err, "movies.csv needs about 4.0 MB" in err) == (1, True, True)
        assert not list(tmp_path.rglob("*incomplete*"))
        assert call("dnn", "prep", archive, "--dataset", tmp_path / "d", "--force")[0] == 0
    monkeypatch.setattr("pocketrec.sources.streams.MIN_LIMIT", 1_000_000)
    monkeypatch.setattr("pocketrec.sources.streams.MAX_EXPANSION", 20)
    code, _, err = call("dnn", "prep", archive, "--dataset", tmp_path / "e")
    assert (code, "movies.csv unpacks to more than" in err) == (1, True)
    assert not (tmp_path / "e" / "dnn" / "final").exists()
