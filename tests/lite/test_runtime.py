"""The model at work on LiteRT, and the numpy reference it is held against."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lite_support import ITEMS, models
from pocketrec.errors import ModelError, SettingsError
from pocketrec.lite.judge.reference import Reference
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.storage.layout import Dataset
from pocketrec.storage.tensors import Tensors

Codes = npt.NDArray[np.int32]


def load(name: str = "adam", batch_size: int = 4) -> OnDeviceModel:
    return OnDeviceModel(Dataset(models() / name).tflite(batch_size))


def codes(*values: int) -> Codes:
    return np.array(values, np.int32)


def reference_of(model: OnDeviceModel) -> Reference:
    return Reference(model.settings, model.save(), model.items.log_support)


def test_a_target_of_minus_one_adds_no_loss_and_no_gradient() -> None:
    """SGD, so that the change of the weights is the gradient: each of four lanes weighs a quarter."""
    one, other = load("sgd"), load("sgd")
    before = one.save()
    state = np.full((4, 8), 0.25, np.float32)
    loss, _ = one.train(codes(1, 2, 3, 4), codes(5, 6, 7, -1), state)
    elsewhere, _ = other.train(
        codes(1, 2, 3, 30), codes(5, 6, 7, -1), state * codes(1, 1, 1, -3)[:, None].astype(np.float32)
    )
    assert loss == elsewhere
    after, others = one.save(), other.save()
    for name in one.settings.weights:
        np.testing.assert_array_equal(after[name], others[name])
    np.testing.assert_array_equal(after["kernel_h"][4], before["kernel_h"][4])
    assert np.any(after["kernel_h"][3] != before["kernel_h"][3])
    shares, _ = Reference(one.settings, before, one.items.log_support).infer(codes(1, 2, 3), state[:3])
    assert loss == pytest.approx(-np.log(shares[np.arange(3), [5, 6, 7]]).sum() / 4, abs=1e-6)


def test_no_target_at_all_teaches_nothing() -> None:
    model = load("sgd")
    before = model.save()
    loss, state = model.train(codes(1, 2, 3, 4), codes(-1, -1, -1, -1), model.fresh_state())
    assert loss == 0
    assert np.any(state)
    after = model.save()
    for name in model.settings.weights:
        np.testing.assert_array_equal(after[name], before[name])
    metrics = model.evaluate(codes(1, 2, 3, 4), codes(-1, -1, -1, -1), state)
    assert (metrics.loss, metrics.recall, metrics.mrr) == (0, 0, 0)


TRAINED = [("adam", 4), ("adam", 1), ("adagrad", 4), ("sgd", 4), ("separate", 4), ("shared", 4)]


@pytest.mark.parametrize(("name", "batch_size"), TRAINED)
def test_training_equals_numpy(name: str, batch_size: int) -> None:
    model, rng = load(name, batch_size), np.random.default_rng(3)
    reference = reference_of(model)
    mine = theirs = model.fresh_state()
    for _ in range(20):
        feat, target = rng.integers(0, ITEMS, (2, batch_size), dtype=np.int32)
        keep = (rng.random((batch_size, 1)) > 0.3).astype(np.float32)
        loss, mine = model.train(feat, target, keep * mine)
        expected, theirs = reference.train(feat, target, keep * theirs)
        assert loss == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(mine, theirs, atol=1e-5)
    for tensor, value in reference.tensors.items():
        np.testing.assert_allclose(model.save()[tensor], value, atol=2e-5, rtol=2e-4, err_msg=tensor)


def after(name: str, amounts: dict[str, float] | None = None, more: int = 0) -> tuple[Tensors, Tensors, float, Any]:
    """The shipped tensors; those after three clicks and more of train_one, and one of learn; the last loss and state."""
    model, feat, target, begun = load(name), codes(3), codes(7), np.full((1, 8), 0.25, np.float32)
    shipped = model.save()
    for _ in range(3 + more):
        loss, state = model.train_one(feat, target, begun)
    if amounts is not None:
        loss, state = model.learn_one(feat, target, begun, **amounts)
    return shipped, model.save(), loss, state


WHOLE = {"sgd": 0.5, "adagrad": 0.05, "adam": 0.001, "shared": 0.05}
"""Models without dropout, and the learning rate of each."""


@pytest.mark.parametrize("name", WHOLE)
def test_learn_with_a_whole_gradient_and_no_pull_is_train_one(name: str) -> None:
    _, one, loss, state = after(name, more=1)
    _, other, same_loss, same_state = after(name, {"rate": WHOLE[name], "share": 1, "pull": 0})
    assert loss == same_loss
    np.testing.assert_array_equal(state, same_state)
    for tensor, value in one.items():
        np.testing.assert_allclose(other[tensor], value, rtol=1e-6, atol=1e-9, err_msg=tensor)


@pytest.mark.parametrize("name", [*WHOLE, "separate"])
def test_a_pull_of_1_leads_back_to_the_shipped_weights(name: str) -> None:
    shipped, moved, *_ = after(name)
    back = after(name, {"pull": 1})[1]
    half = after(name, {"rate": 0, "pull": 0.5})[1]
    for weight in load(name).settings.weights:
        assert np.abs(moved[weight] - shipped[weight]).max() > 1e-4
        np.testing.assert_allclose(back[weight], shipped[weight], atol=1e-6, err_msg=weight)
        if name != "shared":  # momentum goes on without a rate
            np.testing.assert_allclose(half[weight], (moved[weight] + shipped[weight]) / 2, atol=1e-6, err_msg=weight)


@pytest.mark.parametrize("still", [{"rate": 0, "pull": 0}, {"share": 0, "pull": 0}])
@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_without_a_rate_or_a_share_no_weight_changes(name: str, still: dict[str, float]) -> None:
    """Of optimizers without a memory of where they were going."""
    before = after(name)[1]
    _, same, loss, _ = after(name, still)
    assert loss > 0
    assert same["step"] == before["step"] + 1
    for weight in load(name).settings.weights:
        np.testing.assert_array_equal(same[weight], before[weight], err_msg=weight)


def test_half_a_share_is_half_a_step() -> None:
    before = after("sgd")[1]
    whole, half = (after("sgd", {"rate": 0.5, "share": share, "pull": 0})[1] for share in (1, 0.5))
    for weight in load("sgd").settings.weights:
        np.testing.assert_allclose(half[weight], (whole[weight] + before[weight]) / 2, atol=1e-7, err_msg=weight)


def test_learn_leaves_nothing_out() -> None:
    """The state of a model with dropout is that of infer, which train_one's is not."""
    model, state = load("separate"), np.full((1, 8), 0.25, np.float32)
    _, plain = model.infer(codes(3, 3, 3, 3), np.repeat(state, 4, axis=0))
    _, learned = model.learn_one(codes(3), codes(7), state, pull=0)
    np.testing.assert_allclose(learned[0], plain[0], atol=1e-6)


@pytest.mark.parametrize("wrong", [{"rate": -1}, {"share": math.nan}, {"pull": 1.5}, {"rate": 1001}])
def test_amounts_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))} is"):
        load().learn_one(codes(1), codes(2), np.zeros((1, 8), np.float32), **wrong)


def test_strangers_do_not_lead_far_away() -> None:
    """3,000 clicks that no one means: with the file's own amounts, weights stay finite and near the shipped ones."""
    model, rng, state = load("shared"), np.random.default_rng(9), np.zeros((1, 8), np.float32)
    shipped = model.save()
    for feat, target in rng.integers(0, ITEMS, (3000, 2, 1), dtype=np.int32):
        _, state = model.learn_one(feat, target, state)
    for name in model.settings.weights:
        assert np.abs(model.save()[name] - shipped[name]).max() < 2, name


def test_loss_is_the_mean_categorical_cross_entropy() -> None:
    model = load()
    feat, target, state = codes(0, 1, 2, 2), codes(3, 3, 39, 0), model.fresh_state()
    probabilities, _ = model.infer(feat, state)
    expected = float(-np.log(probabilities[np.arange(4), target]).mean())
    assert model.evaluate(feat, target, state).loss == pytest.approx(expected, rel=1e-6)
    assert model.train(feat, target, state)[0] == pytest.approx(expected, rel=1e-6)


def test_loss_stays_finite_where_the_softmax_underflows() -> None:
    model = load()
    tensors = model.save()
    tensors["output"][:, -1] = np.linspace(0, 400, ITEMS)
    model.restore(tensors)
    loss, _ = model.train(codes(0, 0, 0, 0), codes(0, 0, 0, 0), model.fresh_state())
    assert loss == pytest.approx(400, rel=1e-3)


def test_metrics_are_cut_at_k_and_ties_are_conservative() -> None:
    model = load()
    tensors = model.save()
    tensors["output"][:] = 0
    tensors["output"][:3, -1] = 3, 2, 1  # the other 37 tie at 0
    model.restore(tensors)
    feat, state = codes(0, 1, 2, 3), model.fresh_state()
    target = codes(0, 1, 2, 20)  # ranks 1, 2, 3 and, behind all it ties with, 40
    assert model.evaluate(feat, target, state, 2).recall == pytest.approx(0.5)
    assert model.evaluate(feat, target, state, 2).mrr == pytest.approx((1 + 1 / 2) / 4)
    assert model.evaluate(feat, target, state, 39).recall == pytest.approx(0.75)
    assert model.evaluate(feat, target, state, 40).mrr == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 40) / 4)


def test_infer_and_evaluate_teach_nothing() -> None:
    model = load()
    before = model.save()
    model.infer(codes(1, 2, 3, 4), model.fresh_state())
    model.evaluate(codes(1, 2, 3, 4), codes(1, 2, 3, 4), model.fresh_state())
    for name, value in model.save().items():
        np.testing.assert_array_equal(value, before[name])


def test_restore_is_bitwise_and_refuses_what_save_did_not_return() -> None:
    model, other, rng = load(), load(), np.random.default_rng(5)
    for _ in range(5):
        feat, target = rng.integers(0, ITEMS, (2, 4), dtype=np.int32)
        model.train(feat, target, model.fresh_state())
    tensors = model.save()
    assert tensors["step"] == 5
    other.restore(tensors)
    for name, value in other.save().items():
        assert value.tobytes() == tensors[name].tobytes(), name
    with pytest.raises(ModelError, match=r"'output_m' to restore is missing"):
        other.restore({name: value for name, value in tensors.items() if name != "output_m"})
    with pytest.raises(ModelError, match=r"'output' to restore is float64"):
        other.restore({**tensors, "output": tensors["output"].astype(np.float64)})


@pytest.mark.parametrize(("feat", "target"), [(40, 0), (-1, 0), (0, 40), (0, -2)])
def test_codes_beyond_the_items_are_refused(feat: int, target: int) -> None:
    model = load("adam", 1)
    with pytest.raises(ModelError, match="item codes"):
        model.train(codes(feat), codes(target), model.fresh_state())


def test_inputs_of_another_shape_are_refused() -> None:
    with pytest.raises(ModelError, match="signature 'train' failed"):
        load().train(codes(1), codes(1), np.zeros((1, 8), np.float32))


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    for content in (b"", b"nonsense", b"\0" * 4096, b"\x1c\0\0\0TFL3" + b"\xff" * 4096):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"not an intact \.tflite"):
            OnDeviceModel(path)
    with pytest.raises(ModelError, match="is missing"):
        OnDeviceModel(tmp_path / "none.tflite")
