"""`pocketrec recommend`: the items that a model file expects next in a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketrec.errors import ModelError
from pocketrec.lite.blend import blended
from pocketrec.lite.catalogue import known_codes
from pocketrec.lite.neighbour_model import NeighbourModel, is_neighbour_file
from pocketrec.lite.on_device import OnDeviceModel, Recommendation
from pocketrec.lite.runtime import LiteScorer

TOP = 20
"""Items that a blend recommends, if nobody says how many."""


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
    blend: Path | str | None = None,
    blend_weight: float = 0.5,
    threads: int = 1,
) -> RecommendReport:
    """Recommend next items for a session.

    Args:
        model: a .tflite that `export` made, or its kept sessions (.safetensors).
        session: the item ids of the session so far, in order.
        top: how many items; at most the number fixed at export, which is also the default.
        exclude_seen: whether the items of the session are left out; as the file says if not given.
        exclude: ids of more items to leave out.
        weights: a file that `OnDeviceModel.save_to` wrote: recommend with what this model has learned.
        blend: kept sessions (.safetensors of `export --model vstan`) for the same items, whose scores are blended in.
        blend_weight: their weight, 0 to 1.
        threads: how many threads the interpreter uses.

    Raises:
        ModelError: the model is damaged or knows none of the items, or the weights or the kept sessions belong to another
            model.
        MissingExtraError: LiteRT is not installed.
    """
    device: OnDeviceModel | NeighbourModel
    if is_neighbour_file(Path(model)):
        device = NeighbourModel(model if weights is None else weights)
    else:
        device = OnDeviceModel(model, threads)
        if weights is not None:
            device.restore_from(weights)
    if blend is None:
        best = device.recommend(session, top, exclude=exclude, exclude_seen=exclude_seen)
    else:
        hides = isinstance(device, OnDeviceModel) and device.use.hides(exclude_seen)
        left_out = [*(session if hides else ()), *exclude]
        best = _blended(device, NeighbourModel(blend), blend_weight, session, top or TOP, left_out)
    unknown = tuple(text for text in map(str, session) if text not in device.items.codes)
    return RecommendReport(device.path, unknown, tuple(best))


def _blended(
    device: OnDeviceModel | NeighbourModel,
    kept: NeighbourModel,
    weight: float,
    session: Sequence[object],
    top: int,
    exclude: Sequence[object],
) -> list[Recommendation]:
    """The best items by both models; for the scores see `blend`."""
    if not isinstance(device, OnDeviceModel) or not 0 <= weight <= 1:
        what = f"the weight {weight}" if isinstance(device, OnDeviceModel) else str(device.path)
        raise ModelError(f"Kept sessions cannot be blended with {what}.", expected="a .tflite, and a weight of 0 to 1")
    device.check_items(kept.items.hash, kept.path)
    codes, scorer = device.codes_of(session), LiteScorer(device)
    for code in codes:
        shares = scorer.scores(np.full(scorer.lanes, code, np.int32), np.ones(scorer.lanes, np.int32))[:1]
    scores = blended(shares, kept.scores(codes.tolist())[None], weight)[0]
    out = set(known_codes(device.items.codes, exclude))
    order = [code for code in np.argsort(-scores, kind="stable")[: top + len(out)].tolist() if code not in out]
    return [Recommendation(device.items.ids[code], float(scores[code])) for code in order[:top]]
