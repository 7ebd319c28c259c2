"""benchmarks/on_device.py makes the users it says it makes, ranks as `infer` would, and leaves the model as shipped."""

from __future__ import annotations

import importlib
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lite_support import models
from pocketrec.gru4rec.ranking import ranks_of
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.storage.layout import Dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SESSIONS = [np.array(one, np.int32) for one in ([1, 2, 3], [4, 5], [1, 3], list(range(9)), [1, 9, 9], [1, 4])]

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="benchmarks/ is not part of a source distribution")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("on_device")


def test_users(script: ModuleType) -> None:
    [alone] = script.long_sessions(SESSIONS)
    assert alone.earlier[0].tolist() == [0, 1, 2, 3]
    assert alone.later[0][0].tolist() == list(range(9))
    [group] = script.same_first_item(SESSIONS)
    assert [one.tolist() for one in group] == [[1, 2, 3], [1, 3], [1, 9, 9], [1, 4]]
    [user] = script.of_groups(iter([group]))
    assert len(user.earlier) == len(user.later) == 2
    assert user.later[0][0].tolist() == [1, 9, 9], "what is measured comes after what is learned"
    groups = [group, SESSIONS[3:5]]
    mixed = list(script.dealt(groups))
    assert [len(one) for one in mixed] == [4, 2]
    assert sorted(one.tolist() for some in mixed for one in some) == sorted(one.tolist() for some in groups for one in some)


def test_ranks_are_those_of_infer_and_the_model_is_restored(script: ModuleType) -> None:
    model, session = OnDeviceModel(Dataset(models() / "shared").tflite(4)), SESSIONS[3]
    state, wanted = model.fresh_state(), []
    for code, target in pairwise(session):
        shares, state = model.infer(np.full(4, code, np.int32), state)
        rank = ranks_of(shares[:1], np.array([target]), "conservative")[0]
        wanted.append(rank if rank <= 20 else np.inf)
    assert script.ranks(model, session) == wanted
    assert script.ranks(model, session, skip=4) == wanted[3:], "the first target is the one after what was learned"
    before = model.save()
    for signature in ("train_one", "train"):
        found = script.measure(model, script.long_sessions(SESSIONS), script.How(signature, 40))
        assert found.shipped == wanted[3:]
        assert found.learned != found.shipped
        assert found.clicks == 3 * 40
    for name, value in model.save().items():
        np.testing.assert_array_equal(value, before[name])
