"""A network on LiteRT and kept sessions, blended in `recommend`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import call
from lite_support import kept, models
from pocketrec.errors import ModelError
from pocketrec.lite.blend import blended
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.neighbour_model import NeighbourModel
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.recommend import recommend
from pocketrec.storage.layout import Dataset


def test_a_blend_is_a_mean_of_logarithms() -> None:
    logits = np.array([[1, 2, 0], [0, 0, 9]], np.float32)
    sessions = np.array([[3, 0, 1], [0, 0, 0]], np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for given in (logits, np.array(softmax, np.float32)):
        found = blended(given, sessions, 0.4)
        likes = np.log(np.array([0.75, 0, 0.25]) + 1e-4)
        assert found[0] == pytest.approx(0.6 * np.log(softmax[0]) + 0.4 * likes, rel=1e-4)
        assert np.argsort(found[1]).tolist() == np.argsort(logits[1]).tolist(), "no session is like it: the network alone"


def test_recommend_blends_for_the_same_items(tmp_path: Path) -> None:
    model = Dataset(models() / "shared").tflite(4)
    device = OnDeviceModel(model)
    path = kept(tmp_path / "vstan.safetensors", device.items)
    session = [device.items.ids[code] for code in (5, 0)]
    alone = [one.item for one in device.recommend(session)]
    assert [one.item for one in recommend(model, session, blend=path, blend_weight=0, top=20).items] == alone
    sessions = [one.item for one in NeighbourModel(path).recommend(session)]
    found = recommend(model, session, blend=path, blend_weight=1, top=len(sessions)).items
    assert [one.item for one in found] == sessions
    assert sum(np.exp(one.score) - 1e-4 for one in found) == pytest.approx(1, rel=1e-4)
    words = ("--session", ",".join(session), "--blend", path, "--blend-weight", 0.9, "--exclude-seen", "--top", 3)
    code, out, _ = call("recommend", "--model", model, *words)
    rows = [line.split("\t")[0] for line in out.splitlines()]
    assert (code, len(rows)) == (0, 3)
    assert not set(rows) & set(session)
    other = kept(tmp_path / "other.safetensors", Catalogue(("x", *device.items.ids[1:]), device.items.support))
    with pytest.raises(ModelError, match="other items"):
        recommend(model, session, blend=other)
    with pytest.raises(ModelError, match="cannot be blended"):
        recommend(path, session, blend=path)
