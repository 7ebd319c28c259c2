"""Laws of the ingested log: its rows, its parts, when it is made again, and what a bad log leaves behind."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from conftest import Click, logs, write_log
from log_support import CLICKS, Watched
from pocketrec.errors import DatasetError, LogError, SettingsError
from pocketrec.ingestion.ingest import ingest
from pocketrec.ingestion.parts import Parts, read_columns
from pocketrec.sources.options import ReadSettings, SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.files import content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import read_records

COLUMNS = ("session", "item", "time", "row")
Row = tuple[int, ...]


def read_parts(root: Path) -> list[list[Row]]:
    """The rows of each part as it gives them out."""
    return [
        list(zip(*(column.tolist() for column in read_columns(path, COLUMNS)), strict=True))
        for path in Parts(Dataset(root)).folders
    ]


def rows_of(clicks: list[Click]) -> list[Row]:
    return [(click.session, click.item, click.ms, row) for row, click in enumerate(clicks)]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and folder below, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "clicks.dat", CLICKS)


@pytest.mark.usefixtures("small_parts")
@settings(max_examples=25)
@given(clicks=logs(max_sessions=16))
def test_parts_hold_whole_sessions_and_together_the_log(clicks: list[Click]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log, root = write_log(Path(folder, "clicks.dat"), clicks), Path(folder, "dataset")
        report = ingest(log, root)
        parts = read_parts(root)
        files = read_records(Dataset(root).clicks.parent)["ingest"].files
    assert sorted((row for part in parts for row in part), key=lambda row: row[3]) == rows_of(clicks)
    for part in parts:
        assert [row[3] for row in part] == sorted(row[3] for row in part), "a part is not in the order of the log"
    ranges = [(min(part)[0], max(part)[0]) for part in parts]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))
    times = [click.ms for click in clicks]
    assert (report.rows, report.parts, report.first_ms, report.last_ms) == (len(clicks), len(parts), min(times), max(times))
    counted = Counter[str]()
    for name, file in files.items():
        assert file.shape[1] == 4
        counted[str(Path(name).parent)] += file.shape[0]
    assert [counted[name] for name in sorted(counted)] == [len(part) for part in parts]


def names(root: Path) -> list[str]:
    """Files of the parts as the manifest calls them."""
    return sorted(Parts(Dataset(root)).record.files)


@pytest.mark.parametrize("order", ["grouped", "interleaved", "shuffled"])
def test_a_log_of_many_chunks_keeps_every_row_and_its_order(
    tmp_path: Path, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several MB, so that the engine's threads work on several chunks at once, into parts of about equal size."""
    monkeypatch.setattr("pocketrec.ingestion.write_parts.ROWS_PER_PART", 10_000)
    log = synth(tmp_path / "clicks.dat", SynthSettings(clicks=100_000, order=order)).path  # type: ignore[arg-type]
    ingest(log, tmp_path / "d")
    parts = [np.array(read_columns(path, COLUMNS)) for path in Parts(Dataset(tmp_path / "d")).folders]
    together = np.concatenate(parts, axis=1)
    lines = pl.read_csv(log, has_header=False, new_columns=["session", "time", "item", "category"], infer_schema=False)
    by_row = together[:, np.argsort(together[3])]
    assert (by_row[3] == np.arange(100_000)).all()
    assert (by_row[0] == lines["session"].cast(pl.Int64).to_numpy()).all()
    assert (by_row[1] == lines["item"].cast(pl.Int64).to_numpy()).all()
    assert all((np.diff(part[3]) > 0).all() for part in parts)
    assert all(before[0].max() < after[0].min() for before, after in itertools.pairwise(parts))
    assert 8 <= len(parts) <= 12
    assert max(part.shape[1] for part in parts) < 15_000


@pytest.mark.usefixtures("small_parts")
def test_the_same_log_gives_the_same_content_whenever_it_is_ingested(tmp_path: Path) -> None:
    """Later stages are reused where `content` is unchanged."""
    log = synth(tmp_path / "clicks.dat", SynthSettings(clicks=300, order="shuffled")).path
    contents = set()
    for run in range(3):
        ingest(log, tmp_path / f"{run}")
        contents.add(Parts(Dataset(tmp_path / f"{run}")).record.content)
    assert len(contents) == 1


def test_the_largest_ids_and_the_earliest_times(tmp_path: Path) -> None:
    clicks = [Click(session, 0, item) for session in (2**63 - 1, 0) for item in (2**63 - 1, 0)]
    ingest(write_log(tmp_path / "clicks.dat", clicks), tmp_path / "d")
    assert [row for part in read_parts(tmp_path / "d") for row in part] == rows_of(clicks)


def test_columns_and_dtypes_on_disk(log: Path, tmp_path: Path) -> None:
    ingest(log, tmp_path / "d")
    for path in Dataset(tmp_path / "d").clicks.rglob("*.parquet"):
        assert list(pl.read_parquet_schema(path).items()) == [(name, pl.Int64()) for name in COLUMNS]


@pytest.mark.usefixtures("small_parts")
def test_names_on_disk(tmp_path: Path) -> None:
    """part=NNNN from 0000 without gaps in this log, each with a Parquet file a run, and the manifest beside them."""
    ingest(synth(tmp_path / "clicks.dat", SynthSettings(clicks=100)).path, tmp_path / "d")
    found = [Path(name) for name in tree(tmp_path / "d") if name.endswith((".parquet", ".json", ".incomplete"))]
    assert found.pop() == Path("parquet/manifest.json")
    parts = sorted({path.parent for path in found})
    assert parts == [Path(f"parquet/clicks/part={part:04d}") for part in range(len(parts))]
    assert all(re.fullmatch(r"clicks-\d{3}-000\.parquet", path.name) for path in found)
    assert len(parts) > 1


@pytest.mark.usefixtures("small_parts")
def test_every_reader_of_hive_folders_reads_the_log(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    dataset = pytest.importorskip("pyarrow.dataset")
    log = synth(tmp_path / "clicks.dat", SynthSettings(clicks=400, order="shuffled")).path
    ingest(log, tmp_path / "d")
    home, wanted = tmp_path / "d/parquet/clicks", sorted(row for part in read_parts(tmp_path / "d") for row in part)
    columns = ", ".join(COLUMNS)
    by_polars = pl.scan_parquet(home).collect()
    by_arrow = dataset.dataset(home, partitioning="hive").to_table()
    by_duckdb = duckdb.sql(f"SELECT {columns}, part FROM read_parquet('{home}/**/*.parquet', hive_partitioning = true)")
    assert set(by_polars.columns) == set(by_arrow.column_names) == {*COLUMNS, "part"}
    assert sorted(by_polars.select(COLUMNS).rows()) == wanted
    assert sorted(zip(*(by_arrow[name].to_pylist() for name in COLUMNS), strict=True)) == wanted
    fetched = by_duckdb.fetchall()
    assert sorted(row[:4] for row in fetched) == wanted
    parts = {(row[0], int(row[4])) for row in fetched}
    assert len(parts) == len({session for session, _ in parts}), "a session in two parts"
    assert len({part for _, part in parts}) == by_polars["part"].n_unique() > 20


def ages(root: Path) -> dict[str, tuple[int, int]]:
    """Which files these are and when they were written."""
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def age(log: Path, seconds: int) -> None:
    """Set the time of change, since two writes may fall into one tick of the file system's clock."""
    stat = log.stat()
    os.utime(log, ns=(stat.st_atime_ns, stat.st_mtime_ns + seconds * 10**9))


def test_the_same_log_is_ingested_once(log: Path, tmp_path: Path) -> None:
    first = ingest(log, tmp_path / "d")
    before = ages(tmp_path / "d")
    second = ingest(log, tmp_path / "d")
    assert (first.reused, second.reused) == (False, True)
    assert ages(tmp_path / "d") == before
    assert vars(second) == vars(first) | {"reused": True}


def test_a_touched_log_and_a_copy_of_it_are_the_same_log(log: Path, tmp_path: Path) -> None:
    ingest(log, tmp_path / "d")
    before = ages(tmp_path / "d")
    age(log, 60)
    assert ingest(log, tmp_path / "d").reused
    copy = shutil.copyfile(log, tmp_path / "copy.dat")
    assert ingest(copy, tmp_path / "d").reused
    assert {name: found for name, found in ages(tmp_path / "d").items() if name.endswith(".parquet")} == {
        name: found for name, found in before.items() if name.endswith(".parquet")
    }


@pytest.mark.parametrize("how", ["same size", "longer", "shorter"])
def test_a_changed_log_is_ingested_again(log: Path, tmp_path: Path, how: str) -> None:
    ingest(log, tmp_path / "d")
    other = {"same size": [Click(4, CLICKS[0].ms, 10), *CLICKS[1:]], "longer": CLICKS * 2, "shorter": CLICKS[:3]}[how]
    size = log.stat().st_size
    write_log(log, other)
    age(log, 60)
    assert (log.stat().st_size == size) == (how == "same size")
    assert not ingest(log, tmp_path / "d").reused
    assert sorted((row for part in read_parts(tmp_path / "d") for row in part), key=lambda row: row[3]) == rows_of(other)


def test_fewer_parts_leave_none_of_the_old_behind(tmp_path: Path, small_parts: None) -> None:
    del small_parts
    ingest(synth(tmp_path / "long.dat", SynthSettings(clicks=500)).path, tmp_path / "d")
    many = tree(tmp_path / "d")
    ingest(write_log(tmp_path / "short.dat", CLICKS), tmp_path / "d")
    assert len(tree(tmp_path / "d")) < len(many)
    assert sum(map(len, read_parts(tmp_path / "d"))) == len(CLICKS)
    assert pl.scan_parquet(tmp_path / "d/parquet/clicks").select(pl.len()).collect().item() == len(CLICKS)


def test_fresh_and_another_zone_ingest_again(log: Path, tmp_path: Path) -> None:
    first = ingest(log, tmp_path / "d")
    assert not ingest(log, tmp_path / "d", fresh=True).reused
    shanghai = ingest(log, tmp_path / "d", ReadSettings(timezone="Asia/Shanghai"))
    assert not shanghai.reused
    assert shanghai.first_ms == first.first_ms - 8 * 3_600_000
    assert ingest(log, tmp_path / "d", ReadSettings(timezone="Asia/Shanghai")).reused
    assert not ingest(log, tmp_path / "d").reused


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_part_is_reported_and_made_again(log: Path, tmp_path: Path, damage: str) -> None:
    ingest(log, tmp_path / "d")
    part = next(Parts(Dataset(tmp_path / "d")).folders[0].iterdir())
    if damage == "gone":
        part.unlink()
    else:
        os.truncate(part, part.stat().st_size - 1)
    with pytest.raises(DatasetError) as error:
        Parts(Dataset(tmp_path / "d"))
    assert error.value.wrong == f"{part} is missing or cut."
    assert (
        error.value.do
        == f"pocketrec ingest {log} --timezone UTC --bad-rows stop --time-unit auto --gap-over kept --quote double "
        f"--encoding utf-8 --fresh --dataset {tmp_path / 'd'}"
    )
    assert not ingest(log, tmp_path / "d").reused
    assert sum(map(len, read_parts(tmp_path / "d"))) == len(CLICKS)


def test_parts_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        Parts(Dataset(tmp_path / "d"))
    assert "has no ingested log" in error.value.wrong
    assert error.value.do.startswith("pocketrec ingest CLICKS")
    assert not (tmp_path / "d").exists()


BAD_LINES = {
    "too many fields stop the scan": b"1,2014-04-07T10:51:09.277Z,7,0,0\n",
    "bytes that are no text stop the scan": b"1,2014-04-07T10:51:09.277Z,7,\xff\n",
    "a word for an id stops the scan": b"x,2014-04-07T10:51:09.277Z,7,0\n",
    "no time is a null": b"1,2014-02-30T10:51:09.277Z,7,0\n",
    "a negative id is a null": b"-1,2014-04-07T10:51:09.277Z,7,0\n",
    "a blank line": b"\n",
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_log_leaves_nothing_behind(log: Path, tmp_path: Path, bad: bytes) -> None:
    log.write_bytes(log.read_bytes() + bad)
    with pytest.raises(LogError, match=r"line 8: "):
        ingest(log, tmp_path / "a/b/dataset")
    assert list(tree(tmp_path)) == ["clicks.dat"]


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_log_leaves_an_earlier_one_usable(log: Path, tmp_path: Path, bad: bytes) -> None:
    ingest(log, tmp_path / "d")
    before = tree(tmp_path / "d")
    other = tmp_path / "other.dat"
    other.write_bytes(log.read_bytes() + bad)
    with pytest.raises(LogError):
        ingest(other, tmp_path / "d")
    assert tree(tmp_path / "d") == before
    assert ingest(log, tmp_path / "d").reused


def test_messages_for_what_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "empty.dat").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "_SUCCESS").touch()
    wrong = {"nothing.dat": "does not exist", "empty.dat": "is empty", "folder": "is a folder without files to read"}
    for name, words in wrong.items():
        with pytest.raises(LogError) as error:
            ingest(tmp_path / name, tmp_path / "d")
        assert error.value.wrong == f"{tmp_path / name} {words}."
        assert "click" in error.value.expected
    assert sorted(tree(tmp_path)) == ["empty.dat", "folder", "folder/_SUCCESS"]


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../etc/passwd", "Europe"])
def test_an_unknown_zone_is_blamed_and_not_the_log(log: Path, tmp_path: Path, zone: str) -> None:
    with pytest.raises(SettingsError) as error:
        ingest(log, tmp_path / "d", ReadSettings(timezone=zone))
    assert repr(zone) in error.value.wrong
    assert "Asia/Shanghai" in error.value.expected
    assert str(log) not in error.value.wrong
    assert not (tmp_path / "d").exists()


def test_progress_is_told_about_the_bytes_of_the_log(tmp_path: Path) -> None:
    log, watched = synth(tmp_path / "clicks.dat", SynthSettings(clicks=20_000)).path, Watched()
    ingest(log, tmp_path / "d", progress=watched)
    assert watched.totals == [("ingest", log.stat().st_size, "bytes")]
    assert watched.done == pytest.approx(log.stat().st_size, rel=0.02)
    ingest(log, tmp_path / "d", progress=watched)
    assert len(watched.totals) == 1, "nothing is read where nothing is done"


def test_the_manifest_describes_every_part(log: Path, tmp_path: Path) -> None:
    report = ingest(log, tmp_path / "d")
    record = read_records(tmp_path / "d/parquet")["ingest"]
    assert record.inputs == {"log": content_hash(log)}
    assert record.settings == {"timezone": "UTC"}
    assert set(record.files) == set(names(tmp_path / "d"))
    for name, file in record.files.items():
        path = tmp_path / "d/parquet" / name
        assert (file.bytes, file.xxh3) == (path.stat().st_size, content_hash(path))
    assert report.bytes == sum(file.bytes for file in record.files.values())
