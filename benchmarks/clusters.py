"""Clusters of Spark on this machine; and the processes that this one has begun: their roles, memory and CPU seconds."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path


def processes() -> dict[int, tuple[str, float]]:
    """The role and the CPU seconds of all processes that this one has begun, and those that they have."""
    stats, found = dict[int, list[str]](), dict[int, tuple[str, float]]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    for pid, stat in stats.items():
        line = [pid]
        while line[-1] in stats and line[-1] != os.getpid():
            line.append(int(stats[line[-1]][1]))
        if line[-1] == os.getpid() != pid and stat[0] != "Z":
            with suppress(OSError):
                words = [Path(f"/proc/{one}/cmdline").read_text() for one in line[:-1]]
                found[pid] = _role(words), (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return found


def _role(words: list[str]) -> str:
    """By the command line of a process, and of those above it."""
    above = next((one for one in words if re.search(r"CoarseGrainedExecutorBackend|deploy\.(master|worker)\.", one)), "")
    if "deploy." in above:
        return "daemon"
    if "pyspark.daemon" in words[0]:
        return "worker"
    if "moto.server" in words[0]:
        return "s3"
    return "executor" if above else "driver java" if "java" in words[0].split("\0")[0] else "driver python"


@contextmanager
def watched() -> Iterator[Counter[str]]:
    """The most memory that the processes of each role, and all of them, have in the `with` block."""
    peak, ends = Counter[str](), threading.Event()

    def look() -> None:
        while not ends.wait(0.5):
            now = Counter[str]()
            for pid, (role, _) in processes().items():
                with suppress(OSError, IndexError):
                    size = int(re.findall(r"Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[0]) << 10
                    above = {"daemon": [], "worker": ["executors", "all"], "executor": ["executors", "all"]}.get(
                        role, ["all"]
                    )
                    now.update(dict.fromkeys([role, *above], size))
            for role, size in now.items():
                peak[role] = max(peak[role], size)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        ends.set()
        thread.join()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def cluster(kind: str, work: Path) -> Iterator[str]:
    """The address of a cluster of this machine; all of its processes have ended behind the `with` block."""
    spark = files("pyspark")
    os.environ |= {"SPARK_HOME": str(spark), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": str(work / "spark")}
    os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m", "TMPDIR": str(work), "TZ": "UTC"}
    url = f"spark://127.0.0.1:{free_port()}"
    home = [str(spark / "bin" / "spark-class"), "--host", "127.0.0.1", "--webui-port", "0"]
    begun, deploy = list[subprocess.Popen[bytes]](), "org.apache.spark.deploy"
    commands = [["master.Master", "--port", url.rpartition(":")[2]]]
    commands += [["worker.Worker", url, "--cores", "1", "--memory", "2g", "-d", str(work / one)] for one in ("w1", "w2")]
    try:
        for name, *words in commands if kind == "standalone" else []:
            command = [home[0], f"{deploy}.{name}", *words, *home[1:]]
            begun.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work))
        yield url if kind == "standalone" else kind
    finally:
        _end_all()
        for one in begun:
            one.wait()


def _end_all() -> None:
    """End what this process has begun, and wait for it, so that its CPU seconds are counted."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        ends = time.monotonic() + 15
        while processes() and time.monotonic() < ends:
            time.sleep(0.1)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def cpu_seconds() -> float:
    """Of all processes below this one that have ended, orphans too (`adopt`)."""
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken.ru_utime + taken.ru_stime


def adopt() -> None:
    """Be the parent of processes that have lost theirs, so that they can be ended, and counted."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
