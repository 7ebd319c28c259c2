"""Run every tool on logs of growing size, one process a measurement, one row of a CSV each.

    python benchmarks/prep.py --sizes 0.33M,3.3M,33M --orders grouped --repeats 3

Tools take turns, so that a busy minute of the machine does not fall on one of them alone. Linux only.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from measure import Cost, batch_files, evict, last_line, linux_only, read_output, run, txt_files
from pocketrec.storage.files import content_hash
from table import BASELINE, OURS, Measurement, append

HERE = Path(__file__).parent
ORDERS = ("grouped", "interleaved", "shuffled")
MAKE_LOG = """
import sys
from pocketrec import SynthSettings, synth
synth(sys.argv[1], SynthSettings(clicks=int(sys.argv[2]), seed=int(sys.argv[3]), order=sys.argv[4]))
"""


@dataclass(frozen=True)
class Tool:
    """A script of tools/, called with (log, outdir, batch size); the package whose version counts; what it makes."""

    script: str
    package: str
    job: str


TOOLS = {
    BASELINE: Tool("pandas_baseline.py", "pandas", "txt+batches"),
    "polars_naive": Tool("polars_naive.py", "polars", "txt"),
    "duckdb": Tool("duckdb_sql.py", "duckdb", "txt"),
    OURS: Tool("pocketrec_cli.py", "pocketrec", "txt+batches"),
}


def parse_size(text: str) -> int:
    """Clicks: 250000, 330k, 3.3M."""
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    try:
        clicks = round(float(text[:-1] if factor > 1 else text) * factor)
    except ValueError:
        clicks = 0
    if clicks < 1:
        raise typer.BadParameter(f"{text!r} is no number of clicks; write 250000, 330k or 3.3M")
    return clicks


def choose(text: str, known: tuple[str, ...]) -> list[str]:
    """Names of a comma-separated list, each a known one."""
    names = text.split(",")
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}")
    return names


def make_log(work: Path, clicks: int, order: str, seed: int) -> Path:
    """The synthetic log of this size and order, made once (in a process of its own, to keep this one small)."""
    log = work / f"clicks-{clicks}-{order}-{seed}.dat"
    if not log.exists():
        command = [sys.executable, "-c", MAKE_LOG, str(log), str(clicks), str(seed), order]
        subprocess.run(command, check=True)
    return log


def machine() -> str:
    """Cores, memory and architecture."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}"


def measure(name: str, log: Path, log_hash: str, order: str, clicks: int, batch_size: int) -> Measurement:
    """Run one tool on one log and describe what happened; its output is removed."""
    tool = TOOLS[name]
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(dir=log.parent, prefix=f"{name}-") as folder:
        outdir, messages = Path(folder) / "out", Path(folder) / "messages"
        outdir.mkdir()
        evict(log)
        cost = run([sys.executable, str(HERE / "tools" / tool.script), str(log), str(outdir), str(batch_size)], messages)
        txt = read_output(outdir, txt_files())
        batches = read_output(outdir, batch_files(batch_size))
        note = verdict(cost, tool, txt.xxh3, batches.xxh3, last_line(messages))
    return Measurement(
        started=started,
        machine=machine(),
        tool=name,
        version=version(tool.package),
        job=tool.job,
        order=order,
        clicks=clicks,
        batch_size=batch_size,
        events=sum(txt.lines) - len(txt.lines) if txt.xxh3 else None,
        steps=batches.lines[0] if batches.xxh3 else None,
        seconds=None if note else round(cost.seconds, 3),
        cpu_seconds=round(cost.cpu_seconds, 3),
        peak_bytes=cost.peak_bytes,
        read_bytes=cost.read_bytes,
        written_bytes=cost.written_bytes,
        log=log_hash,
        txt=txt.xxh3,
        batches=batches.xxh3,
        ok=not note,
        note=note,
    )


def verdict(cost: Cost, tool: Tool, txt: str, batches: str, said: str) -> str:
    """Why a run does not count; empty when it does."""
    if cost.exit_code:
        return f"exit {cost.exit_code}: {said}"
    if not txt or (tool.job == "txt+batches" and not batches):
        return "files are missing"
    return ""


def installed(names: list[str]) -> list[str]:
    """The tools that can run here; the others are named on stderr."""
    present = []
    for name in names:
        try:
            version(TOOLS[name].package)
            present.append(name)
        except PackageNotFoundError:
            typer.echo(f"{name}: skipped, {TOOLS[name].package} is not installed", err=True)
    return present


def show(row: Measurement) -> str:
    """One line for the terminal."""
    time = f"{row.seconds:8.2f} s" if row.seconds is not None else "       - s"
    peak = (row.peak_bytes or 0) / 2**20
    return f"{row.clicks:>11,} {row.order:<11} {row.tool:<16}{time}{peak:8.0f} MiB  {row.note}"


def main(
    sizes: Annotated[str, typer.Option(help="Clicks, comma separated: 250000, 330k, 3.3M.")] = "0.33M,3.3M,33M",
    orders: Annotated[str, typer.Option(help=f"Orders of the rows: {', '.join(ORDERS)}.")] = "grouped",
    tools: Annotated[str, typer.Option(help=f"Tools: {', '.join(TOOLS)}.")] = ",".join(TOOLS),
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; tools take turns in each.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Lanes of the batches.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Of the synthetic log.")] = 0,
    results: Annotated[Path, typer.Option(help="The CSV to append to.")] = HERE / "results" / "prep.csv",
    work: Annotated[Path | None, typer.Option(help="Where logs and outputs go; logs stay.")] = None,
) -> None:
    """Measure the preparation of synthetic click logs by several tools."""
    linux_only()
    work = work or Path(tempfile.gettempdir()) / "pocketrec-bench"
    work.mkdir(parents=True, exist_ok=True)
    counts = [parse_size(size) for size in sizes.split(",")]
    names, arrangements = installed(choose(tools, tuple(TOOLS))), choose(orders, ORDERS)
    for _ in range(repeats):
        for clicks in counts:
            for order in arrangements:
                log = make_log(work, clicks, order, seed)
                log_hash = content_hash(log)
                free = shutil.disk_usage(work).free
                if free < 6 * log.stat().st_size:
                    typer.echo(f"only {free / 2**30:.0f} GiB free in {work}; a run may fail", err=True)
                for name in names:
                    typer.echo(show(append(results, measure(name, log, log_hash, order, clicks, batch_size))))


if __name__ == "__main__":
    typer.run(main)
