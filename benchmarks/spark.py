"""The preparation on Spark beside one machine: the same bytes, also when processes are killed, and what it costs.

    python benchmarks/spark.py same --clicks 100k
    python benchmarks/spark.py kill --clicks 330k --times 10
    python benchmarks/spark.py drivers --times 6
    python benchmarks/spark.py s3 hadoop-aws.jar aws-java-sdk-bundle.jar
    python benchmarks/spark.py cost --sizes 3.3M,33M

Clusters are begun on this machine, from the pyspark that is installed, and are given commands by spark-submit. A standalone
one has two workers of one core, and executors with a heap of 1 GB. Linux only.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from clusters import adopt, cluster, cpu_seconds, free_port, processes, watched
from measure import evict, linux_only
from pocketrec.storage.files import content_hash
from prep import machine, make_log, parse_size
from rows import put

RESULTS = Path(__file__).parent / "results" / "spark.csv"
CLI = str(files("pocketrec") / "cli" / "__main__.py")
CLUSTERS = ("local[2]", "local-cluster[2,1,1024]", "standalone")
PARTS = ["--parts", "5"]
STAGES = ("ingest", "batches_bs512", "txt")
"""In which processes are killed, by their keys in the manifest."""
CONF = {f"spark.{name}.memory": "1g" for name in ("driver", "executor")} | {"spark.ui.enabled": "false"}
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""A Java that is quick to begin, where time is not measured."""
GC = "-XX:+UseG1GC -XX:G1PeriodicGCInterval=5000 -XX:-G1PeriodicGCInvokesConcurrent -Xlog:gc:file="
"""Of a driver that is measured: garbage is collected whole every five seconds; what is left then is written to a file."""
FULL = re.compile(r"Pause Full.*?->(\d+)M\(")
PARTS_OF = re.compile(r"parquet/(clicks|roles/part=)|.*manifest\.json")
"""Files that differ: parts are cut elsewhere."""
ROWS = """
import sys, pathlib, polars as pl, xxhash
parts = list(pathlib.Path(sys.argv[1]).glob("parquet/clicks/*/*.parquet"))
rows = pl.read_parquet(parts, glob=False, hive_partitioning=False).sort("row")
digest = xxhash.xxh3_128()
for name in sorted(rows.columns):
    digest.update(rows[name].to_numpy())
print(digest.hexdigest())
"""
LAND = "import sys; from pocketrec import land; [land(*both) for both in zip(sys.argv[1::2], sys.argv[2::2])]"
BUCKET = "pocketrec"
S3 = {
    "path.style.access": "true",
    "aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
    "access.key": "any",
    "secret.key": "any",
    # A hadoop-aws before 3.4 reads numbers only, where the defaults of a newer Hadoop have units.
    "threads.keepalivetime": "60",
    "multipart.purge.age": "86400",
    "connection.establish.timeout": "30000",
    "connection.timeout": "200000",
}
"""Settings of Hadoop's S3, by what follows `fs.s3a.` in their names."""
app = typer.Typer(help=__doc__, add_completion=False)


@dataclass(frozen=True)
class Row:
    """One run. Memory is PSS, where a page of several processes counts in parts, at its peak.

    Attributes:
        on: "one machine", or the cluster; of a standalone one the master and the workers' JVMs are not counted.
        does: "sequences" (and the item index), or "all": batches and txt, too.
        peak_bytes: of all processes together, `executor_bytes` of the executors and their Python workers together.
        driver_heap_bytes: the most that a full collection left in the driver's heap.
        same: whether what was landed has the bytes of one machine.
    """

    started: str
    machine: str
    pyspark: str
    on: str
    does: str
    clicks: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    executor_bytes: int
    driver_python_bytes: int
    driver_java_bytes: int
    driver_heap_bytes: int
    same: bool


def options(java: str = QUICK) -> list[str]:
    """Of spark-submit; `java` are options of the driver's Java, where time is measured."""
    conf = CONF | {"spark.driver.extraJavaOptions": java}
    conf |= {"spark.executor.extraJavaOptions": QUICK} if java == QUICK else {}
    return [word for name, value in conf.items() for word in ("--conf", f"{name}={value}")]


def submit(
    master: str, log: Path | str, there: Path | str, *extras: str, home: Path, words: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Begin to prepare a log on a cluster; `words` are more options of spark-submit."""
    begin = [str(files("pyspark") / "bin" / "spark-submit"), "--master", master, *(words or options())]
    return _begun([*begin, CLI, "prep", str(log), "--engine", "spark", "--dataset", str(there), *extras], home)


def _begun(command: list[str], home: Path) -> subprocess.Popen[bytes]:
    with (home / "messages").open("wb") as said:
        return subprocess.Popen(command, stdout=said, stderr=said, cwd=home)


def finished(running: subprocess.Popen[bytes], home: Path) -> None:
    """Wait for a command; this one ends with what it has printed, if it failed."""
    if running.wait():
        sys.exit(f"exit {running.returncode}: {(home / 'messages').read_text(errors='replace')[-6000:]}")


def digests(dataset: Path) -> dict[str, str]:
    """The hashes of the files that later stages read, by name, and of the rows of the parts."""
    names = {str(path.relative_to(dataset)): path for path in dataset.rglob("*") if path.is_file()}
    rows = subprocess.check_output([sys.executable, "-c", ROWS, str(dataset)], text=True).strip()
    return {name: content_hash(path) for name, path in names.items() if not PARTS_OF.match(name)} | {"clicks": rows}


def prepared(log: Path, there: Path) -> dict[str, str]:
    """What one machine makes of a log, which is removed again."""
    finished(_begun([sys.executable, CLI, "prep", str(log), "--dataset", str(there)], there.parent), there.parent)
    found = digests(there)
    shutil.rmtree(there)
    return found


def other(expected: Mapping[str, str], home: Path, *datasets: Path | str, whole: bool = False) -> list[str]:
    """Land datasets, and name what differs from one machine: of all its files if they are whole, else of those landed."""
    wrong, landed = list[str](), {str(one): home / f"{Path(one).name}-landed" for one in datasets}
    finished(_begun([sys.executable, "-c", LAND, *(str(one) for both in landed.items() for one in both)], home), home)
    for one in landed.values():
        found = digests(one)
        names = expected.keys() | found.keys() if whole else found.keys()
        wrong += sorted(f"{one.name}/{name}" for name in names if expected.get(name) != found.get(name))
        shutil.rmtree(one)
    return wrong


def stages(there: Path, *manifests: str) -> set[str]:
    """The stages that some manifests have a record of."""
    return {
        key for name in manifests if (there / name).exists() for key in json.loads((there / name).read_text())["records"]
    }


@contextmanager
def home_of(work: Path | None) -> Iterator[tuple[Path, Path]]:
    """The folder of logs, and a new one for all else, which is removed."""
    linux_only()
    adopt()
    logs = work or Path(tempfile.gettempdir()) / "pocketrec-bench"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=logs, prefix="spark-") as folder:
        yield logs, Path(folder)


Clicks = Annotated[str, typer.Option(help="Rows of the log: 100k, 3.3M.")]
Work = Annotated[Path | None, typer.Option(help="Where logs and outputs go; logs stay.")]


@app.command()
def same(clicks: Clicks = "100k", work: Work = None) -> None:
    """Prepare a log on each cluster, land it, and compare all files with those of one machine."""
    with home_of(work) as (logs, home):
        log = make_log(logs, parse_size(clicks), "shuffled", 0)
        expected = prepared(log, home / "here")
        for kind in CLUSTERS:
            with cluster(kind, home) as master:
                finished(submit(master, log, home / kind, *PARTS, "--batches", "--txt", home=home), home)
            typer.echo(f"{kind}: {other(expected, home, home / kind, whole=True) or 'the same bytes'}")


def kill_one(role: str, stage: str, there: Path, killed: list[Path]) -> None:
    """Kill a process of a role, unless the stage is done."""
    pids = [pid for pid, (of, _) in processes().items() if of == role]
    if pids and stage not in stages(there, "manifest.json", "unfinished.json"):
        os.kill(random.choice(pids), signal.SIGKILL)
        killed.append(there)


def kill_drivers() -> None:
    """Kill Java and Python of every driver that this process has begun."""
    for pid, (role, _) in processes().items():
        if role.startswith("driver"):
            os.kill(pid, signal.SIGKILL)


@app.command()
def kill(clicks: Clicks = "330k", times: int = 10, work: Work = None) -> None:
    """Kill executors and Python workers in ingest, batches and txt: the same bytes all the same."""
    from pocketrec import EngineSettings, prep_on_spark

    with home_of(work) as (logs, home), cluster("standalone", home) as master:
        os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join(["--master", master, *options(), "pyspark-shell"])
        log, base, killed = make_log(logs, parse_size(clicks), "shuffled", 0), home / "base", list[Path]()
        expected, seconds = prepared(log, home / "here"), dict[str, float]()
        prep_on_spark(str(log), str(base), engine=EngineSettings(engine="spark", parts=5))
        del os.environ["PYSPARK_SUBMIT_ARGS"]  # `land` has a Spark of its own
        while len(killed) < times:
            stage, role = STAGES[len(killed) % 3], ("executor", "worker")[len(killed) // 3 % 2]
            there, before = home / f"{len(killed)}-{role}-killed-in-{stage}", len(killed)
            if stage != "ingest":
                shutil.copytree(base, there)
            after = random.random() * seconds.get(stage, 1e6)
            timer = threading.Timer(after, kill_one, [role, stage, there, killed])
            timer.start()
            start = time.perf_counter()
            engine = EngineSettings(engine="spark", parts=5, batches=stage.startswith("batches"), txt=stage == "txt")
            prep_on_spark(str(log), str(there), engine=engine)
            timer.cancel()
            if len(killed) > before:
                typer.echo(f"{there.name} after {after:.1f} of {seconds[stage]:.1f} s")
            else:  # not disturbed
                seconds[stage] = (time.perf_counter() - start) * (0.5 if stage == "ingest" else 1)
                shutil.rmtree(there)
        typer.echo(f"{len(killed)} runs: {other(expected, home, *killed) or 'the same bytes'}")


@app.command()
def drivers(clicks: Clicks = "100k", times: int = 6, work: Work = None) -> None:
    """Kill drivers that prepare another log in place of one that is there, in one stage after the other."""
    with home_of(work) as (logs, home), cluster("standalone", home) as master:
        old, new = (make_log(logs, parse_size(clicks), "grouped", seed) for seed in (0, 1))
        expected, theirs = prepared(old, home / "here"), prepared(new, home / "here")
        there = home / "there"
        finished(submit(master, old, there, *PARTS, "--batches", "--txt", home=home), home)
        for number in range(times):
            running = submit(master, new, there, *PARTS, "--batches", "--txt", home=home)
            while running.poll() is None and len(stages(there, "unfinished.json")) < number % 5:
                time.sleep(0.05)
            time.sleep(after := random.random() * 10)
            kill_drivers()
            if not running.wait():
                break  # it was done
            done = ", ".join(sorted(stages(there, "unfinished.json"))) or "nothing"
            wrong = other(expected, home, there, whole=True)
            typer.echo(f"driver killed {after:.1f} s later, {done} finished: {wrong or 'the earlier bytes'}")
        finished(submit(master, new, there, *PARTS, "--batches", "--txt", home=home), home)
        records = json.loads((there / "manifest.json").read_text())["records"].values()
        left = {one.name for one in there.glob("*-*")} - {name.split("/")[0] for one in records for name in one["files"]}
        wrong = other(theirs, home, there, whole=True)
        typer.echo(f"the run after them: {wrong or 'the right bytes'}, {left or 'nothing is left'}")


@contextmanager
def server_of_s3() -> Iterator[str]:
    """The address of one on this machine."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket() as asked:
                if not asked.connect_ex(("127.0.0.1", port)):
                    break
            if server.poll() is not None:
                sys.exit("the server has ended: is moto[server] installed?")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@app.command()
def s3(jars: list[Path], clicks: Clicks = "20k", work: Work = None) -> None:
    """Prepare a log on S3, and another one in its place, with a driver killed between.

    JARS are hadoop-aws and what it needs; the server is of `moto[server]`.
    """
    import boto3

    with home_of(work) as (logs, home), server_of_s3() as url, cluster("local[2]", home) as master:
        client = boto3.client("s3", "us-east-1", endpoint_url=url, aws_access_key_id="any", aws_secret_access_key="any")
        client.create_bucket(Bucket=BUCKET)
        conf = {f"spark.hadoop.fs.s3a.{name}": value for name, value in {**S3, "endpoint": url}.items()}
        words = [*options(), "--jars", ",".join(map(str, jars))]
        words += [word for name, value in conf.items() for word in ("--conf", f"{name}={value}")]
        os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join(["--master", master, *words, "pyspark-shell"])  # for `land`
        there, expected = f"s3a://{BUCKET}/there", list[dict[str, str]]()
        for seed in (0, 1):
            log = make_log(logs, parse_size(clicks), "shuffled", seed)
            expected.append(prepared(log, home / "here"))
            client.upload_file(str(log), BUCKET, f"log-{seed}/{log.name}")

        def begun(seed: int) -> subprocess.Popen[bytes]:
            log = f"s3a://{BUCKET}/log-{seed}"
            return submit(master, log, there, *PARTS, "--batches", "--txt", home=home, words=words)

        for does in ("all of it", "again"):
            start = time.perf_counter()
            finished(begun(0), home)
            typer.echo(f"{does}: {time.perf_counter() - start:.0f} s")
        typer.echo(f"s3a: {other(expected[0], home, there, whole=True) or 'the same bytes'}")
        running = begun(1)
        while running.poll() is None and "Contents" not in client.list_objects_v2(Bucket=BUCKET, Prefix="there/unfinished"):
            time.sleep(0.05)
        time.sleep(random.random() * 5)
        kill_drivers()
        running.wait()
        typer.echo(f"driver killed after ingest: {other(expected[0], home, there, whole=True) or 'the earlier bytes'}")
        finished(begun(1), home)
        typer.echo(f"the run after it: {other(expected[1], home, there, whole=True) or 'the right bytes'}")


@app.command()
def cost(sizes: str = "3.3M,33M", items: str = "", work: Work = None, results: Path = RESULTS) -> None:
    """Time, CPU and memory beside one machine; or of logs that have five clicks on each of so many items."""
    jobs = ("one machine", "all"), ("standalone", "sequences"), ("standalone", "all")
    with home_of(work) as (logs, home):
        for number in map(parse_size, (items or sizes).split(",")):
            log = log_of_items(logs / f"items-{number}.dat", number) if items else make_log(logs, number, "grouped", 0)
            expected = prepared(log, home / "here")
            for where, does in [("standalone", f"sequences, {number} items")] if items else jobs:
                row = measured(where, does, log, number * (5 if items else 1), home, expected)
                put(results, [row], ["on", "does", "clicks", "pyspark"])


def log_of_items(path: Path, items: int) -> Path:
    """A log with five clicks on each of some items, in sessions of five clicks."""
    with path.open("w") as file:
        for number in range(5 * items):
            when = datetime.fromtimestamp(1.4e9 + number * 2e6 / items, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
            file.write(f"{number // 5},{when}Z,{number % items},0\n")
    return path


def measured(where: str, does: str, log: Path, clicks: int, home: Path, expected: Mapping[str, str]) -> Row:
    """Prepare a log once."""
    there, before, started = home / "there", cpu_seconds(), datetime.now(UTC).isoformat(timespec="seconds")
    alone = [sys.executable, CLI, "prep", str(log), "--dataset", str(there)] if where == "one machine" else []
    evict(log)
    with cluster(where, home) as master, watched() as peak:
        start = time.perf_counter()
        extras = ["--batches", "--txt"] if does == "all" else []
        words = options(f"{GC}{home / 'gc.log'}")
        finished(_begun(alone, home) if alone else submit(master, log, there, *extras, home=home, words=words), home)
        seconds = time.perf_counter() - start
        daemons = sum(taken for role, taken in processes().values() if role == "daemon")
    taken = cpu_seconds() - before - daemons
    heap = 0 if alone else max(map(int, FULL.findall((home / "gc.log").read_text())), default=0) << 20
    wrong = [] if alone else other(expected, home, there, whole=does == "all")
    row = Row(
        started, machine(), "" if alone else version("pyspark"), where, does, clicks,
        round(seconds, 1), round(taken, 1),
        peak["all"], peak["executors"], peak["driver python"], peak["driver java"], heap, not wrong,
    )  # fmt: skip
    typer.echo(f"{row} {wrong or ''}")
    shutil.rmtree(there)
    return row


if __name__ == "__main__":
    app()
