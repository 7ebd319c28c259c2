"""`pocketrec recommend`: the items that a model file expects next in a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketrec.lite.on_device import OnDeviceModel, Recommendation


@dataclass(frozen=True)
class RecommendReport:
    """Recommended items.

    Attributes:
        model: the model file.
        unknown: item ids of the session that the model does not know.
        items: the recommended items, best first.
    """

    model: Path
    unknown: tuple[str, ...]
    items: tuple[Recommendation, ...]


def recommend(
    model: Path | str,
    session: Sequence[object],
    *,
    top: int | None = None,
    exclude_seen: bool | None = None,
    exclude: Sequence[object] = (),
    weights: Path | str | None = None,
    threads: int = 1,
) -> RecommendReport:
    """Recommend next items for a session.

    Args:
        model: a .tflite that `export` made.
        session: the item ids of the session so far, in order.
        top: how many items; at most the number fixed at export, which is also the default.
        exclude_seen: whether the items of the session are left out; as the file says if not given.
        exclude: ids of more items to leave out.
        weights: a file that `OnDeviceModel.save_to` wrote: recommend with what this model has learned.
        threads: how many threads the interpreter uses.

    Raises:
        ModelError: the model is damaged or knows none of the items, or the weights belong to another model.
        MissingExtraError: LiteRT is not installed.
    """
    device = OnDeviceModel(model, threads)
    if weights is not None:
        device.restore_from(weights)
    best = device.recommend(session, top, exclude=exclude, exclude_seen=exclude_seen)
    unknown = tuple(text for text in map(str, session) if text not in device.items.codes)
    return RecommendReport(device.path, unknown, tuple(best))
