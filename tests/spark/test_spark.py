"""What Spark prepares and `land` brings home has the bytes that one machine writes: files, counts, messages."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import SHARED, call
from pocketrec.errors import ClusterError, DatasetError, LogError, PocketrecError
from pocketrec.ingestion.ingest import ingest
from pocketrec.sessions.batches import batches
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.prep import prep
from pocketrec.sessions.session_parallel import Before
from pocketrec.sessions.split import split
from pocketrec.sources.options import ReadSettings, SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.spark import batches as on_spark
from pocketrec.spark import session
from pocketrec.spark.ingest import ingest as on_cluster
from pocketrec.spark.land import land
from pocketrec.spark.options import EngineSettings
from pocketrec.spark.prep import prep_on_spark
from pocketrec.spark.session import explained, open_session, rows_a_batch
from pocketrec.spark.split import parts_in
from pocketrec.spark.store import Store, part_of

pyspark = pytest.importorskip("pyspark", reason="the extra spark is not installed")
pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="there is no Java, which Spark runs on"
    ),
    # Of Spark 3.5:
    pytest.mark.filterwarnings("ignore:distutils Version classes are deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
PROC = Path("/proc")
"""Where Linux shows processes."""
A_SPLIT, SMALL = "spark.sql.files.maxPartitionBytes", "100k"
SEQUENCES = EngineSettings(engine="spark", parts=2)
ALL = replace(SEQUENCES, batches=True, txt=True)
COLUMNS = {"session": "user", "item": "what", "time": "when"}
THERE = "part=7/there [1] {x} %20+"
"""A name that Spark takes for a pattern if it may, and that some decode, below a folder named like one of a part."""
NOT_COMPARED = ("log", "log_path", "log_bytes", "log_mtime_ns", "log_samples", "text_bytes", "sessions", "remarks")
"""Counts of an ingest that differ: where the log is; and what the fast way through YooChoose's own form does not count."""


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[Any]:
    """A session of two threads, with splits so small that every file has several."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    for name, value in {
        # Half of the time of small queries is the making of fast machine code, and of threads that look for garbage.
        "spark.driver.extraJavaOptions": f"{QUICK} -XX:+UseSerialGC",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        A_SPLIT: SMALL,
        "spark.sql.files.openCostInBytes": "8k",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # By TCP each task of Python's waits 40 ms for an acknowledgement that Linux delays. Spark 3.5 has nothing else.
        "spark.python.unix.domain.socket.enabled": "true",
    }.items():
        builder = builder.config(name, value)
    begun = builder.getOrCreate()
    begun.sparkContext.setLogLevel("OFF")
    yield begun
    begun.stop()


def said_when_interrupted() -> str:
    """What a driver says that is interrupted while its Java begins.

    Whoever still holds the pipe, such as a Java without a driver, keeps it from its end.
    """
    script = "from pocketrec.spark.session import open_session; open_session()"
    environment = os.environ | {"PYSPARK_SUBMIT_ARGS": f"--master local[1] --driver-java-options '{QUICK}' pyspark-shell"}
    begun = [sys.executable, "-c", script]
    with subprocess.Popen(begun, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        children = PROC / str(driver.pid) / "task" / str(driver.pid) / "children"
        while driver.poll() is None and not any(
            b"SparkSubmit" in (PROC / one / "cmdline").read_bytes() for one in children.read_text().split()
        ):
            time.sleep(0.01)
        driver.send_signal(signal.SIGINT)
        said, _ = driver.communicate(timeout=300)
    return said


@pytest.fixture(scope="module", autouse=True)
def interrupted(spark: Any) -> Iterator[Future[str]]:  # noqa: ARG001
    """It takes 9 s, mostly of one core: it ends beside the first test."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(said_when_interrupted)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A log of YooChoose's form, not grouped by session."""
    path = tmp_path_factory.mktemp("log") / "log.dat"
    synth(path, SynthSettings(clicks=6_000, order="interleaved"))
    return path.read_bytes().splitlines(keepends=True)


@dataclass(frozen=True)
class Case:
    """A log, and how it is prepared."""

    log: Sequence[Path]
    reading: ReadSettings = field(default_factory=ReadSettings)
    batching: BatchSettings = field(default_factory=lambda: BatchSettings(batch_size=16))
    splitting: SplitSettings = field(default_factory=lambda: SplitSettings(holdout=3 * 86400.0, min_item_support=2))


def files_of(root: Path) -> dict[str, bytes]:
    """All that later stages and people read; parts and roles are cut elsewhere."""
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    own = ("parquet/clicks", "parquet/roles/part=")
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if not name.startswith(own) and not name.endswith("manifest.json")
    }


def clicks_of(root: Path, parts: str = "parquet/clicks") -> pl.DataFrame:
    frame = pl.read_parquet(root / parts / "*/*.parquet", hive_partitioning=False).sort("row")
    return frame.select(sorted(frame.columns))


def counts_of(root: Path) -> dict[str, Any]:
    return compared(json.loads((root / "parquet/manifest.json").read_text())["records"]["ingest"]["counts"])


def compared(counts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if name not in (*NOT_COMPARED, "landed")}


def same(case: Case, home: Path, engine: EngineSettings = SEQUENCES) -> None:
    """Prepare a log on both, and compare all; what is not made on Spark is made here, from what has landed."""
    here, there, landed = home / "here", home / THERE, home / "landed"
    settings: dict[str, Any] = {"reading": case.reading, "splitting": case.splitting, "batching": case.batching}
    alone = prep([*case.log], here, **settings)
    report = prep_on_spark([str(one) for one in case.log], str(there), engine=engine, **settings)
    assert report.split.block() == alone.split.block()
    land(str(there), landed)
    if not engine.batches:
        assert split(landed, case.splitting).sets == alone.split.sets
        assert batches(landed, case.batching).sets == alone.batches.sets
    else:
        assert report.batches == alone.batches.sets
    ours, theirs = files_of(here), files_of(landed)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert clicks_of(here).equals(clicks_of(landed))
    assert counts_of(here) == counts_of(landed)
    assert call("verify-data", "--dataset", landed)[0] == 0


def same_clicks(log: Path, reading: ReadSettings, home: Path, parts: int) -> None:
    """Ingest a log on both, and compare the clicks and their counts: later stages see no more of its form."""
    ingest(log, home / "here", reading)
    spark = open_session()
    with rows_a_batch(spark, 1):
        record, _ = on_cluster(Store(spark, str(home / "there")), [str(log)], reading, parts, [], fresh=False)
    assert [part_of(name) for name in parts_in(record)] == [*range(parts)]
    assert clicks_of(home / "here").equals(clicks_of(home / "there", "clicks-*"))
    assert counts_of(home / "here") == compared(dict(record.counts))


def table_of(lines: Sequence[bytes]) -> list[tuple[str, str, str, str]]:
    """Rows whose ids are text: user, time, item, kind."""
    rows = [line.decode().split(",") for line in lines]
    kinds = itertools.cycle(("view", "view", "buy"))
    return [(f"u{int(row[0]) * 7919 % 10007}", row[1], f"i-{int(row[2]) % 900}", next(kinds)) for row in rows]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, spark: Any) -> Path:
    """A folder with a grouped log, which was prepared on both with all that there is; the bytes were the same."""
    home = tmp_path_factory.mktemp("prepared")
    synth(home / "log.dat", SynthSettings(clicks=100_000))
    spark.conf.set(A_SPLIT, "1m")
    same(Case([home / "log.dat"]), home, replace(ALL, parts=3))
    spark.conf.set(A_SPLIT, SMALL)
    return home


def test_a_grouped_log_in_every_variant_of_batches(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts and roles are made once; `land` brings what is new. The second time the lanes are scanned from guesses."""
    log = prepared / "log.dat"
    for name in ("here", THERE, "landed"):
        shutil.copytree(prepared / name, tmp_path / name)
    second = Case([log], batching=BatchSettings(batch_size=1000, resets="repeated", tail="pad", session_order="time"))
    in_order, again = on_spark.in_order, list[int]()

    def recorded(*args: Any) -> Iterator[Before]:
        for one in in_order(*args):
            again.append(one.part)
            yield one

    with monkeypatch.context() as patch:
        for name, value in {"ONE_SCAN": 0, "REPLAYED": 1, "in_order": recorded}.items():
            patch.setattr(on_spark, name, value)
        same(second, tmp_path, replace(ALL, parts=3))
    assert 1 not in again, "its guess has all that is before it"
    assert 2 in again, "the driver is asked for what a guess has wrong"
    argv = ("prep", log, "--engine", "spark", "--dataset", tmp_path / THERE, "--holdout", "3d", "--min-item-support", 2)
    code, printed, said = call(*argv, "--parts", 3, "--session-order", "time")
    assert (code, printed.count("Sessions")) == (0, 4)
    assert "all of it was there" in said
    code, printed, _ = call("land", tmp_path / THERE, tmp_path / "landed")
    assert (code, "up to date" in printed) == (0, True)


def test_a_folder_of_text_gzip_and_parquet_in_the_order_of_names(tmp_path: Path, lines: list[bytes]) -> None:
    """Part 5 before part 10, files of one click and of none, small splits, ids of text; trained on all but the test."""
    folder, rows = tmp_path / "log", table_of(lines)
    folder.mkdir()
    edges = [0, 1, 1, 2000, 2001, 4500, len(rows)]
    odd = "[0]%20 +"  # Spark takes brackets for a pattern if it may, and some decode the rest
    names = ["user", "when", "what", "kind"]
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        if number == 2:
            pl.DataFrame(rows[begin:end], names, orient="row").write_parquet(
                folder / f"part-10{odd}.parquet", row_group_size=600
            )
            continue
        text = "".join("\t".join(row) + "\n" for row in (names, *rows[begin:end])).encode()
        packed = number % 2 == 1
        name = f"part-{number * 5}{odd}.{'gz' if packed else 'tsv'}"
        (folder / name).write_bytes(gzip.compress(text) if packed else text)
    (folder / "_SUCCESS").touch()
    batching = BatchSettings(batch_size=32, train_on="train_full", formats=("npy",))
    same(Case([folder], ReadSettings(columns=COLUMNS), batching), tmp_path)


def test_ids_of_text_conditions_gaps_and_bad_rows(tmp_path: Path, lines: list[bytes]) -> None:
    """Csv with a header in each file, lines that are not clicks, blank lines at the end; a gap over all rows."""
    rows = table_of(lines)
    for number, some in enumerate((rows[:4000], rows[4000:])):
        text = ["user,when,what,kind", *(",".join(row) for row in some)]
        text[500:500] = ["rubbish", '=cmd,"x']
        (tmp_path / f"log{number}.csv").write_text("\r\n".join(text) + "\r\n\r\n\r\n", newline="")
    reading = ReadSettings(columns=COLUMNS, where=("kind=view",), session_gap=900.0, gap_over="all", bad_rows="set-aside")
    batching = BatchSettings(batch_size=16, resets="repeated")
    same(Case([tmp_path / "log0.csv", tmp_path / "log1.csv"], reading, batching), tmp_path, ALL)


def test_lists_in_json(tmp_path: Path, lines: list[bytes]) -> None:
    rows = sorted((line.decode().split(",") for line in lines[:3000]), key=lambda row: int(row[0]))
    sessions = [
        {"session": int(session), "events": [{"aid": int(row[2]), "ts": row[1]} for row in group]}
        for session, group in itertools.groupby(rows, key=lambda row: row[0])
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, sessions)) + "\n\n")
    columns = {"session": "session", "item": "events.aid", "time": "events.ts"}
    same_clicks(log, ReadSettings(columns=columns), tmp_path, parts=11)  # part 10 comes after part 9


def test_a_folder_of_parquet(tmp_path: Path, lines: list[bytes]) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    rows = pl.DataFrame([line.decode().split(",")[:3] for line in lines], ["session", "time", "item"], orient="row")
    rows = rows.with_columns(
        pl.col("session").cast(pl.Int64), pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_unit="us")
    )
    for number, (begin, end) in enumerate(((0, 100), (100, 4000), (4000, 4001), (4001, 6000))):
        rows[begin:end].write_parquet(folder / f"part-{number}.parquet", row_group_size=900)
    columns = {"session": "session", "item": "item", "time": "time"}
    same_clicks(folder, ReadSettings(columns=columns), tmp_path, parts=3)


def test_the_real_sample(tmp_path: Path) -> None:
    log = SHARED / "yoochoose-clicks-sample.dat"
    if not log.is_file():
        pytest.skip(f"{log.name} is not here")
    same(Case([log], splitting=SplitSettings(holdout=3 * 3600.0), batching=BatchSettings(batch_size=32)), tmp_path)


def error_of(function: Any, *arguments: Any, **settings: Any) -> PocketrecError:
    with pytest.raises(PocketrecError) as caught:
        function(*arguments, **settings)
    return caught.value


def test_a_line_that_is_no_click_is_named_as_on_one_machine(tmp_path: Path, lines: list[bytes]) -> None:
    log = tmp_path / "log.dat"
    log.write_bytes(b"".join([*lines[:5000], b"1,yesterday,2,0\n", *lines[5000:], b"rubbish\n"]))
    ours, theirs = error_of(prep, log, tmp_path / "here"), error_of(prep_on_spark, str(log), str(tmp_path / "there"))
    assert isinstance(theirs, LogError)
    assert str(theirs).replace("file:", "") == str(ours)
    assert not list((tmp_path / "there").glob("*-*/part=*"))


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (b"\n\n", {}),
        (b"a,b,c\n", {"reading": ReadSettings(columns=COLUMNS)}),
        (b"user,when,what\nu,2020-01-01,i\n", {"reading": ReadSettings(columns=COLUMNS, where=("what=j",))}),
        (b"1,2014-04-07T10:51:09.277Z,2,0\n1,2014-04-07T10:51:09.277Z,2,0\n", {}),
    ],
    ids=["blank", "other columns", "nothing left", "nothing to train on"],
)
def test_refusals_are_those_of_one_machine(tmp_path: Path, text: bytes, settings: dict[str, Any]) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(text)
    ours = error_of(prep, log, tmp_path / "here", **settings)
    theirs = error_of(prep_on_spark, str(log), str(tmp_path / "there"), **settings)
    assert type(theirs) is type(ours)
    assert str(theirs).replace("file:", "") == str(ours)


def test_what_the_cluster_refuses_is_one_message(tmp_path: Path) -> None:
    missing = error_of(prep_on_spark, str(tmp_path / "none.dat"), str(tmp_path / "there"))
    assert "matches none" in str(missing)
    for address in ("s3a://bucket/log.dat", "nonsense://x/y"):
        code, _, said = call("prep", address, "--engine", "spark", "--dataset", tmp_path / "there")
        assert code == 1
        assert f"{address} cannot be read" in said
        assert "--packages" in said
        assert "\tat " not in said
    assert isinstance(error_of(land, str(tmp_path / "there"), tmp_path / "landed"), DatasetError)


def test_a_file_that_is_cut_is_named(tmp_path: Path, lines: list[bytes]) -> None:
    log = tmp_path / "a log.gz"
    log.write_bytes(gzip.compress(b"".join(lines))[:-1000])
    refused = error_of(prep_on_spark, str(log), str(tmp_path / "there"))
    assert f"{log} cannot be read" in str(refused)
    assert "EOFException" in str(refused)
    assert not (tmp_path / "there" / "manifest.json").exists()


def test_what_a_worker_raises_is_named() -> None:
    def out_of_bounds(batches: Any) -> Iterator[Any]:
        yield list(batches)[99]

    def asked() -> None:
        with explained("it could not be done"):
            open_session().range(1).mapInArrow(out_of_bounds, "id long").collect()

    assert "it could not be done (IndexError: list index out of range)" in str(error_of(asked))


def test_a_stopped_driver_leaves_what_was_there(
    tmp_path: Path, lines: list[bytes], prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is the last act of a run: one that ends before changes nothing; the next one goes on, or tidies up."""
    other, there = tmp_path / "other.dat", tmp_path / "there"
    other.write_bytes(b"".join(lines[3000:]))
    shutil.copytree(prepared / THERE, there)
    splitting, engine = SplitSettings(holdout=86400.0, min_item_support=1), EngineSettings(engine="spark", parts=1)
    settings: dict[str, Any] = {"splitting": splitting, "engine": engine}
    before = (there / "manifest.json").read_bytes()

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    for last in ("pocketrec.spark.store.Store.finish", "pocketrec.spark.prep.sequences"):
        with monkeypatch.context() as patch:
            patch.setattr(last, killed)
            with pytest.raises(Killed):
                prep_on_spark(str(other), str(there), **settings)
        assert (there / "manifest.json").read_bytes() == before
        land(str(there), tmp_path / "landed")
        assert files_of(tmp_path / "landed") == files_of(prepared / "landed")
    report = prep_on_spark(str(other), str(there), **settings)
    assert report.made == ("sequences",)
    records = json.loads((there / "manifest.json").read_text())["records"]
    assert records.keys() == {"ingest", "roles", "sequences"}  # batches and txt files are of the other log
    named = {name.split("/")[0] for record in records.values() for name in record["files"]}
    assert {path.name for path in there.iterdir()} - {".manifest.json.crc"} == {*named, "manifest.json"}


def test_a_changed_file_does_not_land(tmp_path: Path, prepared: Path) -> None:
    there = tmp_path / "there"
    shutil.copytree(prepared / THERE, there)
    (part, *_) = there.glob("sequences-*/part=*/*.parquet")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    (part.parent / f".{part.name}.crc").unlink(missing_ok=True)
    refused = error_of(land, str(there), tmp_path / "landed")
    assert "XXH3-128" in str(refused)
    assert "--fresh" in str(refused)
    assert not (tmp_path / "landed" / "parquet" / "sequences").exists()


def test_java_must_be_there_and_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pocketrec.spark.session import check_java

    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "there is no Java in JAVA_HOME" in str(error_of(check_java))
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.7.0_80\"' >&2\n")
    java.chmod(0o755)
    assert "is Java 7" in str(error_of(check_java))
    java.write_text("#!/bin/sh\nexit 1\n")
    refused = error_of(check_java)
    assert isinstance(refused, ClusterError)
    assert "does not run" in str(refused)


def test_an_executor_without_pocketrec_is_one_message(tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Python has nothing but what it came with; Spark brings its own package."""
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False)
    monkeypatch.setattr(spark.sparkContext, "pythonExec", str(bare / "bin" / "python"))
    monkeypatch.setitem(spark.sparkContext.environment, "PYTHONPATH", "")
    session._check_executors.cache_clear()
    said = str(error_of(open_session))
    assert "an executor has no Python package" in said
    assert "PYSPARK_PYTHON" in said
    assert "\tat " not in said


@pytest.mark.skipif(not (PROC / "self" / "task").is_dir(), reason="whether Java has begun is read from Linux's /proc")
def test_an_interrupt_while_java_begins_leaves_none_behind(interrupted: Future[str]) -> None:
    assert "KeyboardInterrupt" in interrupted.result()
