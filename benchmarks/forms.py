"""Ingest the same clicks from every form that a log can have: rows a second and peak memory, one row of a CSV a run.

    python benchmarks/forms.py --sizes 3.3M,33M --repeats 3

The forms are written by `FORMS`' own commands from one synthetic log, block by block; then they take turns, each read in a
process of its own, its file dropped from the page cache before. Linux only.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from measure import evict, last_line, linux_only, run
from prep import machine, make_log, parse_size

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "forms.csv"
MAKE_FORMS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from forms import write_forms
write_forms(Path(sys.argv[2]), Path(sys.argv[3]))
"""
COLUMNS = ["--columns", "session=session,item=aid,time=ts"]
RETAIL = ["--columns", "session=visitorid,item=itemid,time=timestamp"]
SHOP = ["--columns", "session=user_session,item=product_id,time=event_time"]
OTTO = ["--columns", "session=session,item=events.aid,time=events.ts"]
FORMS: dict[str, tuple[str, list[str]]] = {
    "YooChoose's own": ("clicks.dat", []),
    "csv": ("retail.csv", RETAIL),
    "csv, --where, --session-gap": ("retail.csv", [*RETAIL, "--where", "event=view", "--session-gap", "1h"]),
    "csv, ids and times as text, --where": ("shop.csv", [*SHOP, "--where", "event_type=view"]),
    "JSON lines, --where": ("flat.jsonl", [*COLUMNS, "--where", "type=clicks"]),
    "JSON lines, lists, --where": ("lists.jsonl", [*OTTO, "--where", "events.type=clicks"]),
    "Parquet": ("flat.parquet", COLUMNS),
    "Parquet, --where, --session-gap": ("flat.parquet", [*COLUMNS, "--where", "type=clicks", "--session-gap", "30m"]),
}
"""By name, the file of a form and the options that read it."""


@dataclass(frozen=True)
class Row:
    """One run."""

    started: str
    machine: str
    form: str
    clicks: int
    file_bytes: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    written: str


def write_forms(log: Path, folder: Path) -> None:
    """Write a log in YooChoose's form again in the other forms; one row in eight is not a view."""
    import polars as pl
    import pyarrow.parquet as pq

    names = ["s", "t", "i", "c"]
    writer = None
    text = {name: (folder / name).open("wb") for name in ("retail.csv", "shop.csv", "flat.jsonl", "lists.jsonl")}
    first = True
    for block in _blocks(log):
        frame = pl.read_csv(block, has_header=False, new_columns=names, schema_overrides={"c": pl.String})
        moment = pl.col("t").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ")
        ms, other = moment.dt.epoch("ms"), pl.col("i") % 8 == 0
        retail = frame.select(
            timestamp=ms, visitorid=pl.col("s") // 3,
            event=pl.when(other).then(pl.lit("addtocart")).otherwise(pl.lit("view")), itemid="i", transactionid=pl.lit(""),
        )  # fmt: skip
        shop = frame.select(
            event_time=moment.dt.strftime("%Y-%m-%d %H:%M:%S UTC"),
            event_type=pl.when(other).then(pl.lit("cart")).otherwise(pl.lit("view")),
            product_id=pl.format("sku-{}", "i"), price=pl.lit("35.79"), user_session=pl.format("72d76fde-8bb3-{}", "s"),
        )  # fmt: skip
        flat = frame.select(
            session="s", aid="i", ts=ms, type=pl.when(other).then(pl.lit("carts")).otherwise(pl.lit("clicks"))
        )  # fmt: skip
        lists = flat.group_by("session", maintain_order=True).agg(pl.struct("aid", "ts", "type").alias("events"))
        retail.write_csv(text["retail.csv"], include_header=first)
        shop.write_csv(text["shop.csv"], include_header=first)
        flat.write_ndjson(text["flat.jsonl"])
        lists.write_ndjson(text["lists.jsonl"])
        table = flat.to_arrow()
        writer = writer or pq.ParquetWriter(folder / "flat.parquet", table.schema)
        writer.write_table(table)
        first = False
    for file in text.values():
        file.close()
    if writer:
        writer.close()


def _blocks(log: Path) -> Iterator[bytes]:
    with log.open("rb") as file:
        while block := file.read(1 << 24):
            yield block + file.readline()


def measure(form: str, folder: Path, clicks: int) -> Row:
    """Ingest one form once."""
    name, options = FORMS[form]
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(dir=folder) as out:
        evict(folder / name)
        messages = Path(out) / "messages"
        command = [sys.executable, "-m", "pocketrec.cli", "ingest", str(folder / name), "--like", "none", *options]
        cost = run([*command, "--dataset", f"{out}/d"], messages)
        said = last_line(messages)
    if cost.exit_code:
        raise RuntimeError(f"{form}: {said}")
    size = (folder / name).stat().st_size
    times = round(cost.seconds, 3), round(cost.cpu_seconds, 3)
    return Row(started, machine(), form, clicks, size, *times, cost.peak_bytes, said)


def main(
    sizes: Annotated[str, typer.Option(help="Clicks, comma separated: 330k, 3.3M.")] = "3.3M",
    repeats: Annotated[int, typer.Option(help="Turns.", min=1)] = 3,
    work: Annotated[Path | None, typer.Option(help="Where the logs are made; a folder of the system's by default.")] = None,
    out: Annotated[Path, typer.Option(help="The CSV that rows are appended to.")] = RESULTS,
) -> None:
    """Measure every form at every size."""
    linux_only()
    with tempfile.TemporaryDirectory(dir=work) as folder:
        for size in sizes.split(","):
            home, clicks = Path(folder) / size, parse_size(size)
            home.mkdir()
            make_log(home, clicks, "grouped", 0).rename(home / "clicks.dat")
            # In a process of its own: whoever measures must stay small.
            subprocess.run([sys.executable, "-c", MAKE_FORMS, HERE, home / "clicks.dat", home], check=True)
            rows = [measure(form, home, clicks) for _ in range(repeats) for form in FORMS]
            new = not out.exists()
            out.parent.mkdir(exist_ok=True)
            with out.open("a", newline="") as file:
                writer = csv.DictWriter(file, [one.name for one in fields(Row)])
                if new:
                    writer.writeheader()
                writer.writerows(asdict(row) for row in rows)
            base = 0.0
            for form in FORMS:
                some = [row for row in rows if row.form == form]
                seconds, peak = median(row.seconds for row in some), max(row.peak_bytes for row in some)
                base = base or seconds
                speed = f"{clicks / seconds / 1e6:.2f} million rows a second ({base / seconds:.2f})"
                typer.echo(f"{size:>6} {form:<38} {seconds:7.2f} s  {speed}  {peak / 1e6:.0f} MB")
            shutil.rmtree(home)


if __name__ == "__main__":
    typer.run(main)
