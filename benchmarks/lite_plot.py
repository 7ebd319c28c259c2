"""Draw results/lite.csv: time and memory of a step on LiteRT and in TensorFlow.

python benchmarks/lite_plot.py
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer

mpl.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parent / "results"
OURS, THEIRS, INK = "#1c7ed6", "#adb5bd", "#343a40"


def name_of(row: dict[str, str]) -> str:
    """The label of a row."""
    stored = "" if row["storage"] == "float32" else f", {row['storage']}"
    return f"{row['signature']}, {row['embedding']}, {row['optimizer']}{stored}, B={row['batch_size']}"


def place_of(row: dict[str, str]) -> tuple[Any, ...]:
    """The sort key of a row: signature and batch size first."""
    return row["signature"], -int(row["batch_size"]), row["embedding"], row["optimizer"], row["storage"]


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Two panels: time and peak memory."""
    figure, (time, memory) = plt.subplots(
        1, 2, figsize=(12, 1.6 + 0.36 * len(rows)), dpi=130, width_ratios=(2, 1), sharey=True, layout="constrained"
    )
    places = range(len(rows))
    bars(time, places, [float(row["litert_ms"]) for row in rows], [float(row["tensorflow_ms"] or 0) for row in rows], "ms")
    peaks, beside = ([int(row[name] or 0) / 1e6 for row in rows] for name in ("peak_bytes", "tensorflow_peak_bytes"))
    bars(memory, places, peaks, beside, "MB")
    time.set_xscale("log")
    time.set_xlim(left=0.5 * min(float(row[name]) for row in rows for name in ("litert_ms", "tensorflow_ms") if row[name]))
    time.set_title("Time of a step, ms (shorter is better)", loc="left", fontsize=10, color=INK)
    memory.set_title("Peak memory of the process, MB", loc="left", fontsize=10, color=INK)
    time.set_yticks(list(places), [name_of(row) for row in rows], fontsize=8)
    time.invert_yaxis()
    figure.legend(
        ["LiteRT", "TensorFlow, the same arithmetic"], loc="outside lower left", ncols=2, frameon=False, fontsize=9
    )
    items, machine = int(rows[0]["items"]), rows[0]["machine"]
    figure.suptitle(f"{items:,} items, H=100, {machine}", x=0.01, ha="left", fontsize=11, color=INK)
    figure.savefig(path)
    plt.close(figure)


def bars(axes: Any, places: range, ours: list[float], theirs: list[float], unit: str) -> None:
    """A pair of bars with their values for each row."""
    for shift, values, colour in ((-0.19, ours, OURS), (0.19, theirs, THEIRS)):
        drawn = axes.barh([place + shift for place in places], values, height=0.36, color=colour)
        axes.bar_label(
            drawn,
            [f"{value:,.{0 if value >= 100 else 1}f} {unit}" if value else "" for value in values],
            fontsize=7,
            padding=2,
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    axes.margins(x=0.16, y=0.01)


def main(
    results: Annotated[Path, typer.Option(help="CSV file that lite.py wrote.")] = RESULTS / "lite.csv",
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = RESULTS / "lite.png",
) -> None:
    """Draw the table."""
    with results.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=place_of)
    draw(rows, out)
    typer.echo(out)


if __name__ == "__main__":
    typer.run(main)
