"""The Spark session, and what can be wrong with it in one message each instead of a stack of Java's."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from pocketrec import errors
from pocketrec.errors import ClusterError, PocketrecError, require
from pocketrec.version import __version__

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS_A_BATCH = "spark.sql.execution.arrow.maxRecordsPerBatch"
FILE_COSTS = "spark.sql.files.openCostInBytes"
"""Files share a task as long as this and the bytes of each are below what a task may read."""
_QUIET = {"spark.ui.showConsoleProgress": "false", "spark.ui.enabled": "false"}
"""Of a session that this process begins itself; one that is there, or is begun by spark-submit, keeps its own."""
_INTERRUPTED = "KeyboardInterrupt while sending command."
"""What py4j logs, with a stack, of an interrupt that it passes on."""
LOG4J = "log4j2.properties"
_LEAST_JAVA = {3: 8, 4: 17}
"""The oldest Java that a Spark of this first number runs on."""
_OURS = re.compile(r"pocketrec\.errors\.(\w+): (.+?)(?=\n\s*\n|\n\tat |\Z)", re.DOTALL)
"""One of pocketrec's own errors in what Spark says of a worker that stopped."""
_CAUSE = re.compile(r"Caused by: ([\w.$]+): (.*)")
_IN_WORKER = "thrown from the Python worker"
_RAISED = re.compile(r"^([\w.]+): (.+)$", re.MULTILINE)
"""The last line of what a worker says of an exception."""
_READING = re.compile(r"while reading file (\S+?)\.?(?=\s|$)")
"""The file that could not be read, in what Spark says."""
_PATIENCE = 20
"""Seconds that `java -version` may take."""


def open_session() -> SparkSession:
    """The session that there is, or a new one.

    Raises:
        MissingExtraError: pyspark is not installed.
        ClusterError: there is no Java that Spark runs on, or the executors have another pocketrec, or none.
    """
    require("prepare a log on Spark", "pyspark", "pandas")
    # pocketrec's kernels see no pandas; pyspark wants one to be there, and warns of the newest.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    from pyspark.sql import SparkSession

    spark = SparkSession.getActiveSession() or _begun()
    if not hasattr(spark, "_jvm"):
        raise ClusterError(
            "the Spark session is one of Spark Connect.",
            expected="a session that drives the cluster itself, since the manifest is written through its Hadoop",
            do="run the command where the driver may run: spark-submit, or a notebook on the cluster",
        )
    # As many threads as there are cores would be begun in each of as many workers.
    spark.sparkContext.environment.setdefault("POLARS_MAX_THREADS", "1")
    _check_executors(spark)
    return spark


def _begun() -> SparkSession:
    """A new session: with the settings of who submitted this process or has a Spark installed; else with quiet ones."""
    from pyspark.sql import SparkSession

    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if not submitted:
        check_java()
    quiet = not submitted and not {"SPARK_HOME", "SPARK_CONF_DIR"} & os.environ.keys()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("pocketrec")
    if quiet:
        os.environ.setdefault("SPARK_LOCAL_HOSTNAME", "localhost")
        java = f"-Dlog4j2.configurationFile={Path(__file__).with_name(LOG4J)}"
        for name, value in {**_QUIET, "spark.driver.extraJavaOptions": java}.items():
            builder = builder.config(name, value)
    with explained("no Spark session could be begun"), _uninterrupted():
        spark: SparkSession = builder.getOrCreate()
    logging.getLogger().addFilter(lambda record: record.msg != _INTERRUPTED)
    if quiet:
        spark.sparkContext.setLogLevel("OFF")  # what stops a stage is raised, and said once
    return spark


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C in the `with` block is raised behind it: a Java whose driver is stopped while it begins would stay for ever.

    The handler is afterwards what it was: pyspark's own asks Java something while an answer of Java's is read.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = list[int]()
    handler = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed:
        raise KeyboardInterrupt


def check_java() -> None:
    """Raise a ClusterError if there is no Java that this Spark runs on."""
    import pyspark

    least = _LEAST_JAVA.get(int(pyspark.__version__.split(".", 1)[0]), 17)
    expected = f"Java {least} or later, which Spark {pyspark.__version__} runs on"
    do = "install a Java runtime (on Debian: apt-get install default-jre-headless), or set JAVA_HOME to one"
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise ClusterError(f"there is no Java{f' in JAVA_HOME={home}' if home else ''}.", expected=expected, do=do)
    try:
        found = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=_PATIENCE, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise ClusterError(f"{java} does not run ({error}).", expected=expected, do=do) from error
    number = re.search(r'version "(?:1\.)?(\d+)', found)
    if number and int(number[1]) < least:
        raise ClusterError(f"{java} is Java {number[1]}.", expected=expected, do=do)


@lru_cache(maxsize=1)
def _check_executors(spark: SparkSession) -> None:
    """See that the workers have this pocketrec; asked once of a session."""
    with explained("a worker could not be asked for its pocketrec"):
        found = spark.range(1, numPartitions=1).mapInArrow(_version, "version string").collect()[0][0]
    if found != __version__:
        raise ClusterError(
            f"an executor has pocketrec {found}.",
            expected=f"pocketrec {__version__}, as the driver has, so that both mean the same",
            do="install the same on all machines of the cluster",
        )


def _version(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    import pocketrec
    import pocketrec.sessions.holdout  # with all that it needs

    for _ in batches:  # Spark ends a worker that leaves some of its input
        pass
    yield pa.RecordBatch.from_pydict({"version": [pocketrec.__version__]})


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what Spark raises in the `with` block into one message, which begins with `what`."""
    try:
        yield
    except PocketrecError:
        raise
    except Exception as error:
        raise _explained(what, error) from error


def _explained(what: str, error: Exception) -> Exception:
    text = str(error)
    if not type(error).__module__.startswith(("pyspark", "py4j")):
        return error
    if ours := _OURS.search(text):
        return _again(ours[1], ours[2])
    if missing := re.search(r"ModuleNotFoundError: No module named '(\w+)", text):
        return ClusterError(
            f"{what}: an executor has no Python package {missing[1]}.",
            expected=f"pocketrec {__version__} and what it needs on every machine of the cluster",
            do="install it there: pip install 'pocketrec[spark]'; or say with PYSPARK_PYTHON which Python has it",
        )
    if "PYTHON_VERSION_MISMATCH" in text or "Python in worker has different version" in text:
        return ClusterError(
            f"{what}: the executors run another Python than the driver, {sys.version_info[0]}.{sys.version_info[1]}.",
            expected="the same version on all machines",
            do="say with PYSPARK_PYTHON which Python the executors run",
        )
    found = _RAISED.findall(text) if _IN_WORKER in text else _CAUSE.findall(text)
    name, reason = found[-1] if found else ("", _first_line(text))
    kind = name.rsplit(".", 1)[-1]
    if unread := _READING.search(text):
        what, do = (
            f"{unquote(unread[1])} cannot be read",
            "see that the file is whole and that Spark may read it; or copy it again",
        )
    elif kind in ("ClassNotFoundException", "UnsupportedFileSystemException") or "No FileSystem for scheme" in reason:
        do = "give Spark the package of that file system, such as --packages org.apache.hadoop:hadoop-aws:VERSION"
    elif kind in ("AccessDeniedException", "AccessControlException", "NoAuthWithAWSException"):
        do = "check the credentials that the Spark session has, and the rights on that folder"
    elif kind in ("OutOfMemoryError",):
        do = "give the executors more memory (spark.executor.memory), or make the parts smaller: --parts"
    else:
        do = "check the address, and that the Spark session can read and write there"
    return ClusterError(f"{what} ({f'{kind}: ' if kind else ''}{reason.strip()}).", do=do)


def _again(kind: str, text: str) -> PocketrecError:
    """What a worker raised, of a class and with the words of its own."""
    wrong, _, rest = text.partition("\nExpected: ")
    expected, _, do = rest.partition("\nTo go on: ") if rest else ("", "", "")
    if not rest:
        wrong, _, do = wrong.partition("\nTo go on: ")
    found: type[PocketrecError] = getattr(errors, kind, ClusterError)
    return found(wrong.strip(), expected=expected.strip(), do=do.strip())


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("An error occurred", "JVM stack"))]
    return lines[0].removeprefix(": ") if lines else "no reason was given"


@contextlib.contextmanager
def rows_a_batch(spark: SparkSession, rows: int, *, a_file: bool = False) -> Iterator[None]:
    """Rows that are handed on at a time, to a worker or to the driver, by queries that are planned in the `with` block.

    With `a_file` they are also of one file: each file is a task's own.
    """
    wanted = {ROWS_A_BATCH: str(rows), **({FILE_COSTS: "2g"} if a_file else {})}
    before = {name: str(spark.conf.get(name)) for name in wanted}
    try:
        for name, value in wanted.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)


Kernel = partial[Iterator[pa.RecordBatch]]
"""A function of a module with all arguments but the batches: pickled by name, so that the workers run their pocketrec's."""


@lru_cache(maxsize=32)
def java(spark: SparkSession, name: str) -> Any:
    """A class of Java's, or one of its static members, by its whole name.

    It is asked for once: Java looks for each piece of the name in every jar, 5 ms.
    """
    return reduce(getattr, name.split("."), spark._jvm)


def exactly(address: str) -> str:
    """An address as Spark's readers want it: they would take the [1] in a name for a pattern."""
    return re.sub(r"[][{}*?\\]", r"\\\g<0>", address)


def gateway(spark: SparkSession) -> Any:
    """The gateway to Java, which makes arrays of its classes."""
    return spark.sparkContext._gateway
