"""What comes next in a session, by a model file: `OnDeviceModel.recommend` as a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketrec.lite.runtime import OnDeviceModel, Recommendation


@dataclass(frozen=True)
class RecommendReport:
    """An answer.

    Attributes:
        model: the file asked.
        unknown: item ids of the session that the model does not know.
        items: best first.
    """

    model: Path
    unknown: tuple[str, ...]
    items: tuple[Recommendation, ...]


def recommend(
    model: Path | str,
    session: Sequence[object],
    *,
    top: int | None = None,
    weights: Path | str | None = None,
    threads: int = 1,
) -> RecommendReport:
    """The items that may come next.

    Args:
        model: a .tflite of `export`.
        session: item ids so far, in order.
        top: how many; the model's own number if not given, and at most that.
        weights: what was learned since, a file of `OnDeviceModel.save_to`.
        threads: of the interpreter.

    Raises:
        ModelError: the model is damaged or knows none of the items, or the weights are another model's.
        MissingExtraError: LiteRT is not installed.
    """
    device = OnDeviceModel(model, threads)
    if weights is not None:
        device.restore_from(weights)
    unknown = tuple(text for text in map(str, session) if text not in device.items.codes)
    return RecommendReport(device.path, unknown, tuple(device.recommend(session, top)))
