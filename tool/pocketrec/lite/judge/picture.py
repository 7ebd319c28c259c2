"""verify.png: the loss curve of a verification, and the verdict of each rung."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pocketrec.lite.judge.ladder import Rung
from pocketrec.storage.files import staged_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"passed": "#2b8a3e", "failed": "#c92a2a", "skipped": "#868e96"}
MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}
INK, LINE = "#343a40", "#1c7ed6"


def draw(path: Path, title: str, losses: Sequence[float], rows: int, rungs: Sequence[Rung]) -> None:
    """Write the PNG file `path`: the loss of each step, in nats, the mean of each round of `rows` steps, and the rungs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    curve, ladder = figure.subplots(1, 2, width_ratios=(4, 1.1))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    _curve(curve, np.asarray(losses), rows)
    _ladder(ladder, rungs)
    with staged_file(path) as staged:
        figure.savefig(staged, format="png")


def _curve(axes: Axes, losses: np.ndarray[tuple[int], np.dtype[np.float64]], rows: int) -> None:
    steps = np.arange(len(losses))
    for begin in range(rows, len(losses), rows):
        axes.axvline(begin - 0.5, color="#dee2e6", linewidth=1, zorder=0)
    axes.plot(steps, losses, color=LINE, linewidth=1, alpha=0.45, marker="o", markersize=3, label="one step")
    whole = len(losses) // rows * rows
    means = losses[:whole].reshape(-1, rows).mean(axis=1)
    middles = np.arange(len(means)) * rows + (rows - 1) / 2
    axes.hlines(
        means, middles - rows / 2, middles + rows / 2, color=LINE, linewidth=2.2, label=f"mean of a round of {rows}"
    )
    axes.set(xlabel="optimizer step", ylabel="cross-entropy (nats)", xlim=(-0.5, len(losses) - 0.5))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _ladder(axes: Axes, rungs: Sequence[Rung]) -> None:
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(rungs) - 0.5, -0.5))
    for place, rung in enumerate(rungs):
        colour = COLOURS[rung.verdict]
        axes.text(0.0, place, MARKS[rung.verdict], color=colour, fontsize=12, va="center", weight="bold")
        axes.text(0.16, place, rung.name, color=colour, fontsize=10, va="center")
