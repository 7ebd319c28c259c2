"""Training on the desktop takes the steps that the exported model takes on LiteRT."""

from __future__ import annotations

import numpy as np
import pytest

from lite_support import MATRIX, models
from pocketrec.lite.inputs import open_batches, read_item_list
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.sampling import Sampler
from pocketrec.storage.layout import Dataset

STEPS = 12


@pytest.mark.parametrize("name", [name for name in MATRIX if MATRIX[name].get("storage") != "int8"])
def test_steps_are_those_of_the_exported_model(name: str) -> None:
    """The same weights after the same steps: rows scattered in place here, whole tables computed anew on LiteRT."""
    from pocketrec.gru4rec.tf.sparse_model import SparseGru4Rec

    where = Dataset(models() / name)
    items, rows = read_item_list(where), open_batches(where, 4).head(STEPS)
    exported = OnDeviceModel(where.tflite(4))
    fast, begun = SparseGru4Rec(exported.settings, support=items.support), exported.save()
    if exported.settings.storage == "float16":  # begun from the rounded weights there
        for weight in exported.settings.weights:
            np.testing.assert_allclose(begun[weight], fast.tensors()[weight], atol=1e-3)
        fast.load(begun)
    drawn = Sampler(items.support).draw(STEPS * 16).reshape(STEPS, 16)
    steps = fast.prepare(rows.feats, rows.targets, rows.masks, drawn, done=0)
    losses, state = fast.train_block(steps, exported.fresh_state())
    there = exported.fresh_state()
    for i in range(STEPS):
        reset = rows.masks[i][:, None].astype(np.float32) * there
        loss, there = exported.train_sampled(rows.feats[i], rows.targets[i], reset, drawn[i])
        assert losses[i] == pytest.approx(loss, rel=1e-4), i
    np.testing.assert_allclose(state, there, atol=2e-4)
    saved = exported.save()
    for key, tensor in fast.tensors().items():
        np.testing.assert_allclose(tensor, saved[key], atol=5e-4, err_msg=key)
