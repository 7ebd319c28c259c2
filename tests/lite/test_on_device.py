"""What an app does with a model: ids in and ids out, learning from sessions, carrying over what was learned."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from learning import learn_batches
from lite_support import ITEMS, STEPS, fresh, models
from pocketrec.errors import DatasetError, FolderError, ModelError, SpaceError
from pocketrec.lite.bundle import read_bundle
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.contract import digest
from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.on_device import Learned, OnDeviceModel
from pocketrec.lite.options import LearnSettings, ModelSettings
from pocketrec.storage.layout import Dataset


def path_of(name: str = "shared") -> Path:
    return Dataset(models() / name).tflite(4)


def load(name: str = "shared") -> OnDeviceModel:
    return OnDeviceModel(path_of(name))


def test_recommendations_are_the_best_scores_in_the_logs_own_ids() -> None:
    model, state = load(), np.zeros((4, 8), np.float32)
    for code in (3, 9, 11):
        shares, state = model.infer(np.full(4, code, np.int32), state)
    found = model.recommend([109, 127, 133])  # ids are 100 + 3 * code
    order = np.argsort(-shares[0])[:20]
    assert [int(one.item) for one in found] == [100 + 3 * int(code) for code in order]
    scores = np.array([one.score for one in found])
    np.testing.assert_allclose(scores - scores[0], np.log(shares[0, order] / shares[0, order[0]]), atol=1e-5)
    assert model.recommend(["109", 4711, "127", 133], top=3) == found[:3]  # as text; one that is not known


def test_sessions_and_depths_that_cannot_be(tmp_path: Path) -> None:
    model = load()
    for session in ([], [4711, "x"]):
        with pytest.raises(ModelError, match="knows none of the items"):
            model.recommend(session)
    for top in (0, 21):
        with pytest.raises(ModelError, match=f"{top} items are asked for"):
            model.recommend([109], top=top)
    with pytest.raises(ModelError, match="is missing"):
        model.restore_from(tmp_path / "none.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="is a file"):
        model.save_to(tmp_path / "file" / "below")


def test_what_was_learned_is_carried_over(tmp_path: Path) -> None:
    model, session, path = load(), [100, 103, 130, 160, 100, 103], tmp_path / "user.safetensors"
    for _ in range(30):
        model.observe(session)
    assert model.learn(keep="always") == Learned(kept=True, cached=True, transitions=150)
    assert model.recommend([100, 103], top=1)[0].item == "130"
    model.save_to(path)
    other = load()
    other.restore_from(path)
    for name, value in model.save().items():
        assert value.tobytes() == other.save()[name].tobytes(), name
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_was_learned_does_not_fit_another_model(tmp_path: Path) -> None:
    path = tmp_path / "user.safetensors"
    load("adam").save_to(path)
    with pytest.raises(ModelError, match="belongs to another model"):
        load("shared").restore_from(path)
    content = path.read_bytes()
    for cut in (0, 7, 100, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ModelError, match="cannot be read"):
            load("adam").restore_from(path)


def test_a_failed_save_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = tmp_path / "user.safetensors", load()
    model.save_to(path)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pocketrec.storage.files.os.fsync", fail)
    with pytest.raises(SpaceError, match="became full"):
        model.save_to(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_dropout_is_active_in_training_and_nowhere_else() -> None:
    """The state of the same step differs from infer's, and another step's differs from both; eval agrees with infer."""
    model, feat, target = load("separate"), np.arange(4, dtype=np.int32), np.arange(4, dtype=np.int32) + 1
    state = model.fresh_state()
    shares, plain = model.infer(feat, state)
    assert model.evaluate(feat, target, state).loss == pytest.approx(float(-np.log(shares[np.arange(4), target]).mean()))
    tensors, found = model.save(), []
    for step in (0, 1, 0):
        model.restore({**tensors, "step": np.array(step, np.int32)})
        found.append(model.train(feat, target, state)[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - plain).max() > 1e-3
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_only_rows_in_the_batch_change_in_train_sampled() -> None:
    model, feat, target = load("adam"), np.array([1, 2, 3, 4], np.int32), np.array([5, 6, 7, 8], np.int32)
    negatives = np.full(16, 9, np.int32)
    state = np.full((4, 8), 0.5, np.float32)
    model.train(feat, target, state)  # momentum everywhere
    before = model.save()
    model.train_sampled(feat, target, state, negatives)
    after = model.save()
    for name, rows in (("output", {5, 6, 7, 8, 9}), ("kernel_r", {1, 2, 3, 4}), ("output_m", {5, 6, 7, 8, 9})):
        changed = set(np.flatnonzero((after[name] != before[name]).any(axis=1)).tolist())
        assert changed == rows, name


def test_answers_only() -> None:
    model = load("answers")
    assert len(model.recommend([100])) == 20
    with pytest.raises(ModelError, match="no signature 'learn': its weights are stored as int8"):
        model.learn_one(np.zeros(1, np.int32), np.zeros(1, np.int32), model.fresh_state(1))
    with pytest.raises(ModelError, match="no signature 'restore'"):
        model.restore(model.save())


@pytest.mark.parametrize("name", ["separate", "answers"])
def test_small_weights_are_those_the_card_knows(name: str) -> None:
    model, (card, _) = load(name), read_bundle(path_of(name))
    weights = model.save()
    assert {n: digest(weights[n]) for n in card.digests} == card.digests
    table = weights["output"][:, :-1]
    if name == "answers":
        steps = table / (np.abs(table).max(axis=1, keepdims=True) / 127)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    else:
        np.testing.assert_array_equal(table.astype(np.float16).astype(np.float32), table)


def test_the_items_travel_as_an_archive_that_others_can_read() -> None:
    path, items = path_of(), read_item_list(Dataset(models() / "shared"))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["items.txt", "support.txt"]
        assert archive.read("items.txt").decode().split() == list(items.ids)
        assert archive.read("support.txt").decode().split() == list(map(str, items.support))
    card, catalogue = read_bundle(path)
    assert card.items == catalogue.hash == items.hash
    assert b"TFLITE_METADATA" in path.read_bytes()
    assert b"M001" in path.read_bytes()


def test_a_changed_item_list_is_refused(tmp_path: Path) -> None:
    content, path = path_of().read_bytes(), tmp_path / "changed.tflite"
    path.write_bytes(content.replace(b"100\n103\n", b"103\n100\n"))
    with pytest.raises(ModelError, match="items"):
        OnDeviceModel(path)


@pytest.mark.parametrize("sampled", [False, True])
def test_learning_from_batches(sampled: bool) -> None:
    model = load("adagrad")
    losses = learn_batches(model, models() / "adagrad", steps=3 * STEPS, sampled=sampled)
    assert len(losses) == 3 * STEPS
    assert np.mean(losses[-STEPS:]) < np.mean(losses[:STEPS])
    assert model.save()["step"] == 3 * STEPS


def test_batches_of_other_items_are_refused() -> None:
    model = load()
    with pytest.raises(ModelError, match="wider is made for other items"):
        learn_batches(model, models() / "wider")
    assert model.save()["step"] == 0


def test_ids_may_be_words(tmp_path: Path) -> None:
    dataset = fresh(tmp_path)
    words = [f"Schuh {n} «é»" for n in range(ITEMS)]
    pl.read_parquet(dataset.items).with_columns(item_id=pl.Series(words)).write_parquet(dataset.items)
    items = read_item_list(dataset)
    assert items.ids == tuple(words)
    assert Catalogue.of(words, items.support).hash == items.hash
    for wrong in (["a\nb", "c"], ["a", "a"], ["", "b"]):
        with pytest.raises(DatasetError, match="An item id"):
            Catalogue.of(wrong, np.ones(2, np.int64))


def test_the_protocol_travels_in_the_card() -> None:
    card, _ = read_bundle(path_of())
    document = json.loads(card.to_json())
    assert document["format"] == 6
    assert document["use"] == {"passes": 3, "cache_share": 0.05, "between": "reset", "seen": "show"}
    assert document["learning"] == {"rate": 0.1, "share": 0.25, "pull": 0.005}  # 4 lanes
    assert document["runtime"] == "2.6"
    assert document["protocol"] == {}  # these batches come from no split
    assert document["version"]


def test_a_files_own_amounts_are_those_of_its_training() -> None:
    """Adam's steps are as long as its rate, so it keeps the one of training."""
    assert LearnSettings.of(ModelSettings(optimizer="adagrad", learning_rate=0.3), 32) == LearnSettings(0.1, 1 / 32, 0.005)
    assert LearnSettings.of(ModelSettings(optimizer="adam", learning_rate=0.003), 1) == LearnSettings(0.003, 1, 0.005)
    assert load("adagrad").card.learning == LearnSettings(0.1, 1 / 4, 0.005)
