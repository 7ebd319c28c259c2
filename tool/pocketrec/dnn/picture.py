"""dnn.png: the losses of a training, epoch by epoch, and predicted beside true ratings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.dnn.network import DnnSettings, Network
from pocketrec.dnn.sets import RatingSet
from pocketrec.storage.files import staged_file

INK, TRAIN, VALID, FAINT = "#343a40", "#868e96", "#1c7ed6", "#dee2e6"
BINS = 36


def draw(path: Path, network: Network, epochs: Sequence[Mapping[str, Any]], kept: int, rows: RatingSet, on: str) -> None:
    """Write the picture: what each epoch came to, and how the network of epoch `kept` predicts the set `on`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
    _losses(left, network.settings, epochs, kept)
    _ratings(right, network, rows, on)
    with staged_file(path) as staged:
        figure.savefig(staged, format="png")


def _losses(axes: Any, settings: DnnSettings, epochs: Sequence[Mapping[str, Any]], kept: int) -> None:
    name, label = ("rmse", "RMSE (stars)") if settings.task == "rate" else ("cross_entropy", "cross-entropy (nats)")
    numbers = [one["epoch"] for one in epochs]
    axes.axvline(kept, color=FAINT, linewidth=6, zorder=0)
    axes.plot(numbers, [one["train"][name] for one in epochs], color=TRAIN, marker="o", markersize=3, label="training")
    if all(one["valid"] for one in epochs):
        valid = [one["valid"][name] for one in epochs]
        axes.plot(numbers, valid, color=VALID, marker="o", markersize=4, label="validation")
        axes.annotate(
            f"kept: epoch {kept}, {valid[kept - 1]:.4f}", (kept, valid[kept - 1]), xytext=(0, 10),
            textcoords="offset points", ha="center", va="bottom", fontsize=9, color=VALID,
        )  # fmt: skip
        axes.margins(y=0.15)
    axes.set_title("Loss by epoch (training with dropout)", loc="left", fontsize=10, color=INK)
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _ratings(axes: Any, network: Network, rows: RatingSet, on: str) -> None:
    """For each true rating how the predictions are spread, each column a share of 1; and their mean."""
    settings = network.settings
    blocks = [(ratings, network.ratings(users, items)) for users, items, ratings in rows.blocks()]
    true, found = (np.concatenate(side) for side in zip(*blocks, strict=True))
    values = np.unique(true) if len(np.unique(true)) <= 20 else np.linspace(settings.lowest, settings.highest, 21)
    columns = np.abs(true[:, None] - values[None, :]).argmin(axis=1)
    edges = np.linspace(settings.lowest, settings.highest, BINS + 1)
    counts, *_ = np.histogram2d(columns, found, [np.arange(len(values) + 1) - 0.5, edges])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    half = (values[1] - values[0]) / 2 if len(values) > 1 else 0.5
    ends = np.append(values - half, values[-1] + half)
    axes.pcolormesh(ends, edges, np.ma.masked_equal(shares.T, 0), cmap="Blues", vmax=shares.max() * 1.1, rasterized=True)
    means = [found[columns == number].mean() if (columns == number).any() else np.nan for number in range(len(values))]
    line = (settings.lowest, settings.highest)
    axes.plot(line, line, color=TRAIN, linewidth=1, linestyle="--", label="predicted = true")
    axes.plot(values, means, color=INK, marker="o", markersize=4, linewidth=1.2, label="mean prediction")
    rmse = float(np.sqrt(np.mean((found - true) ** 2)))
    name = {"valid": "validation"}.get(on, on)
    title = f"Predicted and true: {len(true):,} ratings ({name}), RMSE {rmse:.4f}"
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set(
        xlabel="true rating (stars); the darker, the more of its ratings",
        ylabel="predicted rating (stars)",
        xticks=values[:: -(-len(values) // 10)],
    )
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
