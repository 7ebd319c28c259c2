"""The judge's formulas: gradients against finite differences, losses by hand, and masks against what dropout must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.judge.formulas import (
    Masks,
    adagrad,
    bpr_max,
    cross_entropy,
    dropout_masks,
    forward,
    inner_gradients,
    output_gradient,
    scores_of,
)
from pocketrec.lite.judge.reference import Reference
from pocketrec.lite.options import Embedding

Array = npt.NDArray[np.float64]
SMALL = ModelSpec(n_items=6, batch_size=4, hidden_size=3, embedding="shared", negatives=5)
FEAT, TARGET = np.array([2, 2, 5, 0], np.int32), np.array([1, 3, -1, 3], np.int32)


def draw(settings: ModelSpec) -> tuple[dict[str, Array], Array, Masks]:
    rng = np.random.default_rng(1)
    tensors = {name: rng.standard_normal(shape) for name, shape in settings.weights.items()}
    width = len(settings.tables) * settings.hidden_size
    masks = Masks((rng.random((4, width)) > 0.3) / 0.7, (rng.random((4, 3)) > 0.3) / 0.7)
    return tensors, rng.standard_normal((4, 3)), masks


@pytest.mark.parametrize("embedding", ["none", "separate", "shared"])
def test_gradients_are_those_of_the_loss(embedding: Embedding) -> None:
    """Central differences in float64; an item twice, a lane without a target, units left out."""
    settings = replace(SMALL, embedding=embedding)
    tensors, state, masks = draw(settings)

    def loss() -> float:
        step = forward(tensors, FEAT, state, masks, settings)
        return cross_entropy(scores_of(step.known, tensors["output"]), TARGET)[0]

    step = forward(tensors, FEAT, state, masks, settings)
    _, errors = cross_entropy(scores_of(step.known, tensors["output"]), TARGET)
    found = inner_gradients(tensors, step, FEAT, errors @ tensors["output"][:, :-1], settings)
    found["output"] = found.get("output", 0) + output_gradient(step.known, errors)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(found[name], differences(loss, tensor), atol=1e-8, err_msg=name)


def differences(loss: object, tensor: Array) -> Array:
    assert callable(loss)
    found = np.zeros_like(tensor)
    for index in np.ndindex(tensor.shape):
        kept, losses = tensor[index], []
        for change in (1e-6, -1e-6):
            tensor[index] = kept + change
            losses.append(loss())
        tensor[index] = kept
        found[index] = (losses[0] - losses[1]) / 2e-6
    return found


@pytest.mark.parametrize(("bpreg", "elu"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.3, 1.0)])
def test_the_gradient_of_bpr_max_is_that_of_its_loss(bpreg: float, elu: float) -> None:
    scores = np.random.default_rng(2).standard_normal((4, 9)) * 2
    scores[:, 2] = -np.inf  # the third lane has no target and puts up no candidate
    place = np.array([0, 1, -1, 3], np.int32)
    _, found = bpr_max(scores, place, bpreg, elu)
    present = np.isfinite(scores)
    expected = np.zeros_like(scores)
    for index in np.argwhere(present):
        kept, losses = scores[tuple(index)], []
        for change in (1e-6, -1e-6):
            scores[tuple(index)] = kept + change
            losses.append(bpr_max(scores, place, bpreg, elu)[0])
        scores[tuple(index)] = kept
        expected[tuple(index)] = (losses[0] - losses[1]) / 2e-6
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_bpr_max_by_hand() -> None:
    """Two candidates: the only negative has all of the softmax."""
    loss, _ = bpr_max(np.array([[2.0, 1.0]]), np.array([0], np.int32), bpreg=0.5, elu=0.0)
    assert loss == pytest.approx(-np.log(1 / (1 + np.exp(-1))) + 0.5 * 1)


def test_logq_by_hand() -> None:
    """Equal scores: the corrected softmax weighs a candidate with 1 over its chance, support or support ** alpha."""
    settings = replace(SMALL, batch_size=1, negatives=1, sample_alpha=0.5, optimizer="sgd")
    tensors = {name: np.zeros(shape, np.float32) for name, shape in settings.weights.items()}
    model = Reference(
        settings, {**tensors, "step": np.array(0, np.int32)}, np.log(np.array([1, 4, 9, 16, 25, 36], np.float32))
    )
    one = np.array([1], np.int32)
    loss, _ = model.train_sampled(one, np.array([2], np.int32), np.zeros((1, 3), np.float32), np.array([3], np.int32))
    assert loss == pytest.approx(-np.log((1 / 9) / (1 / 9 + 1 / 16**0.5)))


def test_adagrad_with_momentum_by_hand() -> None:
    weight, acc, mom = np.zeros(1), np.zeros(1), np.zeros(1)
    adagrad(weight, np.array([2.0]), 0.1, 0.5, acc=acc, mom=mom)
    assert (weight[0], acc[0]) == pytest.approx((-0.1, 4.0), abs=1e-6)
    adagrad(weight, np.array([0.0]), 0.1, 0.5, acc=acc, mom=mom)  # goes on by half of what it went
    assert (weight[0], acc[0]) == pytest.approx((-0.15, 4.0), abs=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_dropout_has_its_rate_and_knows_no_pattern(rate: float) -> None:
    """Shares and correlations within 5 standard errors: along lanes, units, steps, layers and seeds."""
    settings = ModelSpec(
        n_items=9, batch_size=64, hidden_size=50, embedding="separate", dropout_embedding=rate, dropout_hidden=rate
    )
    steps = [dropout_masks(settings, 64, step) for step in range(8)]
    kept = np.stack([masks.vectors for masks in steps]) > 0
    assert np.unique(steps[0].vectors).tolist() == pytest.approx([0, 1 / (1 - rate)])
    near = 5 * np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) < near
    others = {
        "step": (kept[1:], kept[:-1]),
        "lane": (kept[:, 1:], kept[:, :-1]),
        "unit": (kept[..., 1:], kept[..., :-1]),
        "layer": (kept, np.stack([masks.state for masks in steps]) > 0),
        "seed": (kept[0], dropout_masks(replace(settings, seed=43), 64, 0).vectors > 0),
    }
    for name, (a, b) in others.items():
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size), name
    for axis in range(3):  # no lane, unit or step is left out more often than chance allows
        shares = kept.mean(axis=tuple({0, 1, 2} - {axis}))
        assert np.abs(shares - (1 - rate)).max() < 5 * np.sqrt(rate * (1 - rate) * kept.shape[axis] / kept.size)


@given(step=st.integers(0, 2**31 - 1), seed=st.integers(0, 2**63 - 1))
def test_masks_are_a_function_of_seed_and_step(step: int, seed: int) -> None:
    settings = ModelSpec(n_items=9, batch_size=4, hidden_size=5, dropout_hidden=0.5, seed=seed)
    first, again = (dropout_masks(settings, 4, step) for _ in range(2))
    np.testing.assert_array_equal(first.state, again.state)
    np.testing.assert_array_equal(first.state[:2], dropout_masks(settings, 2, step).state)  # a lane has its own
    assert np.all(first.vectors == 1)
