"""Draw the table of measurements: time and peak memory against the size of the log.

    python benchmarks/plot.py

Points are medians over the repeats of one order; runs that failed or gave a wrong result are not in the picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import matplotlib as mpl
import typer
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from table import OURS, Measurement, read_table

mpl.use("Agg")  # no window, no display
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
LABELS = {
    "pandas_baseline": "pandas, as the original\n(txt and batches)",
    "polars_naive": "Polars in memory\n(txt only)",
    "duckdb": "DuckDB, 1 GB limit\n(txt only)",
    OURS: "pocketrec\n(txt and batches)",
}
COLORS = {"pandas_baseline": "#8a6d3b", "polars_naive": "#3b7ea1", "duckdb": "#7a7a7a", OURS: "#d1495b"}
ORIGINAL_SECONDS = 720
"""What the original's guide says its first step takes."""
Lines = dict[str, list[tuple[int, float]]]


def lines(rows: Iterable[Measurement], value: Callable[[Measurement], float | None]) -> Lines:
    """Tool -> (clicks, median) ascending, of the good runs."""
    cells: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        found = value(row)
        if row.ok and found is not None:
            cells[row.tool, row.clicks].append(found)
    drawn: Lines = defaultdict(list)
    for tool, clicks in sorted(cells):
        drawn[tool].append((clicks, median(cells[tool, clicks])))
    return dict(drawn)


def spread(positions: list[float], gap: float) -> list[float]:
    """Ascending positions pushed apart to at least `gap`, each cluster around where it was."""
    clusters = [[position] for position in positions]
    centres = list(positions)
    index = 0
    while index + 1 < len(clusters):
        reach = gap * (len(clusters[index]) + len(clusters[index + 1])) / 2
        if centres[index + 1] - centres[index] >= reach:
            index += 1
            continue
        clusters[index] += clusters.pop(index + 1)
        centres.pop(index + 1)
        centres[index] = sum(clusters[index]) / len(clusters[index])
        index = max(0, index - 1)
    return [
        centre + gap * (k - (len(cluster) - 1) / 2)
        for centre, cluster in zip(centres, clusters, strict=True)
        for k in range(len(cluster))
    ]


def draw(axes: Any, drawn: Lines, title: str, form: Callable[[float], str]) -> None:
    """One panel: a line a tool, its name at the end of it."""
    axes.set(xscale="log", yscale="log")
    for tool, points in drawn.items():
        ours = tool == OURS
        axes.plot(
            *zip(*points, strict=True), color=COLORS[tool], lw=2.4 if ours else 1.6, marker="o", ms=6 if ours else 4.5
        )
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=12)
    axes.set_xlabel("clicks in the log")
    axes.grid(which="major", color="#e6e6e6", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    sizes = sorted({clicks for points in drawn.values() for clicks, _ in points})
    axes.set_xticks(sizes, [short(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def label(axes: Any, drawn: Lines, form: Callable[[float], str]) -> None:
    """Write each tool's name and last value to the right of its line. The limits must be final."""
    last = sorted(((points[-1], tool) for tool, points in drawn.items()), key=lambda end: end[0][1])
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [to_axes.transform(point) for point, _ in last]
    for (point, tool), end, height in zip(last, ends, spread([end[1] for end in ends], 0.115), strict=True):
        name, made = LABELS[tool].split("\n")
        axes.annotate(
            f"{name}: {form(point[1])}\n{made}",
            xy=(end[0], end[1]),
            xytext=(1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=COLORS[tool],
            fontweight="bold" if tool == OURS else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": COLORS[tool],
                "lw": 0.6,
                "shrinkA": 1,
                "shrinkB": 5,
                "relpos": (0, 0.5),
            },
        )


def original(axes: Any) -> None:
    """The time its own guide gives for the original's first step, drawn across the panel."""
    axes.axhline(ORIGINAL_SECONDS, color="#555555", lw=1, ls=(0, (5, 3)))
    axes.annotate(
        "12 min: the original's guide, on its machine,\nfor the four txt files of the real log (33.0M clicks)",
        xy=(0, ORIGINAL_SECONDS),
        xycoords=axes.get_yaxis_transform(),
        xytext=(6, 4),
        textcoords="offset points",
        va="bottom",
        fontsize=8.5,
        color="#555555",
    )


def short(clicks: float) -> str:
    """330000 -> 0.33M."""
    return f"{clicks / 1e6:.3g}M" if clicks >= 100_000 else f"{clicks / 1e3:.3g}k"


def time_text(seconds: float) -> str:
    """0.43 s, 12 s, 7.4 min."""
    return f"{seconds / 60:.3g} min" if seconds >= 120 else f"{seconds:.2g} s"


def size_text(size: float) -> str:
    """160 MB, 1.3 GB."""
    return f"{size / 1e9:.2g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def picture(rows: list[Measurement], path: Path) -> None:
    """Two panels into one PNG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13.5, 5.2), dpi=150)
    times, peaks = lines(rows, lambda row: row.seconds), lines(rows, lambda row: row.peak_bytes)
    draw(left, times, "Time", time_text)
    draw(right, peaks, "Peak memory", size_text)
    left.set_ylim(top=ORIGINAL_SECONDS * 4)  # room for the note above the line
    left.set_yticks([1, 10, 60, 300])
    right.set_yticks([100e6, 200e6, 500e6, 1e9, 2e9, 5e9])
    lowest = min(value for points in peaks.values() for _, value in points)
    highest = max(value for points in peaks.values() for _, value in points)
    right.set_ylim(min(90e6, lowest * 0.85), max(1.2e9, highest * 1.25))
    original(left)
    figure.subplots_adjust(left=0.055, right=0.83, wspace=0.74, top=0.88, bottom=0.19)
    label(left, times, time_text)
    label(right, peaks, size_text)
    where = ", ".join(sorted({row.machine for row in rows if row.ok}))
    arrangement = (
        "rows by session as in the real log" if {row.order for row in rows} == {"grouped"} else "rows out of order"
    )
    figure.text(0.055, 0.03, f"Synthetic logs of YooChoose's shape, {arrangement}. {where}.", fontsize=8.5, color="#555555")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def main(
    results: Annotated[Path, typer.Option(help="The CSV prep.py wrote.")] = RESULTS / "prep.csv",
    out: Annotated[Path, typer.Option(help="The picture.")] = RESULTS / "prep.png",
    order: Annotated[str, typer.Option(help="Which order of the rows to draw.")] = "grouped",
) -> None:
    """Draw time and memory against rows."""
    rows = [row for row in read_table(results) if row.order == order]
    if not any(row.ok for row in rows):
        typer.echo(f"{results} has no good run on {order} rows; run prep.py first.", err=True)
        raise typer.Exit(1)
    picture(rows, out)
    typer.echo(out)


if __name__ == "__main__":
    typer.run(main)
