"""What TensorFlow computes against numpy in float64: every loss with its gradient, every optimizer, masks, logQ by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

tf = pytest.importorskip("tensorflow")

from pocketrec.gru4rec.tf import dropout, losses  # noqa: E402
from pocketrec.gru4rec.tf.model import Gru4Rec  # noqa: E402
from pocketrec.gru4rec.tf.optimizers import make_rule  # noqa: E402
from pocketrec.gru4rec.tf.sparse_model import SparseGru4Rec  # noqa: E402
from pocketrec.lite.contract import ModelSpec  # noqa: E402
from pocketrec.lite.judge import formulas  # noqa: E402
from pocketrec.lite.options import Embedding, Optimizer  # noqa: E402

Array = npt.NDArray[np.float64]
LANES, EXTRA, H, ITEMS = 5, 7, 4, 11
TARGETS = [[3, 0, 3, 10, 1], [3, -1, -1, 10, 1], [-1, 4, -1, -1, -1], [-1] * 5]
"""An item twice, a padded tail, one lane left, none left."""

SETTINGS = ModelSpec(
    n_items=ITEMS,
    batch_size=LANES,
    hidden_size=H,
    embedding="shared",
    optimizer="adagrad",
    learning_rate=0.1,
    negatives=EXTRA,
)
SUPPORT = np.arange(1, ITEMS + 1) ** 2


def draw(*shape: int) -> Array:
    found: Array = np.random.default_rng(7).standard_normal(shape).astype(np.float32).astype(np.float64)
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_the_softmax_over_all_items(target: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK", 4)  # three chunks
    state, output, codes = draw(LANES, H), draw(ITEMS, H + 1), np.array(target, np.int32)
    lanes = losses.lanes_of(tf.constant(codes))
    loss, d_state, d_output = losses.full_softmax(tf.constant(state, tf.float32), tf.constant(output, tf.float32), lanes)
    wanted, errors = formulas.cross_entropy(formulas.scores_of(state, output), codes)
    own = np.zeros_like(output)
    np.add.at(own, lanes.item.numpy(), losses.targets_part(tf.constant(state, tf.float32), lanes).numpy())
    assert float(loss) == pytest.approx(wanted, abs=1e-6)
    np.testing.assert_allclose(d_state, errors @ output[:, :-1], atol=1e-6)
    np.testing.assert_allclose(d_output + own, formulas.output_gradient(state, errors), atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_the_sampled_cross_entropy(target: list[int]) -> None:
    state, rows, codes = draw(LANES, H), draw(LANES + EXTRA, H + 1), np.array(target, np.int32)
    often, lanes = draw(LANES + EXTRA), losses.lanes_of(tf.constant(codes))
    correction = losses.absence(lanes, EXTRA) - tf.constant(often, tf.float32)
    seen, candidates = tf.constant(state, tf.float32), tf.constant(rows, tf.float32)
    loss, d_state, d_rows = losses.sampled_cross_entropy(seen, candidates, correction, lanes)
    there = np.concatenate([codes >= 0, np.ones(EXTRA, bool)])
    scores = np.where(there, formulas.scores_of(state, rows) - often, -np.inf)
    wanted, errors = formulas.cross_entropy(scores, np.where(codes >= 0, np.arange(LANES), -1))
    assert float(loss) == pytest.approx(wanted, abs=1e-5)
    np.testing.assert_allclose(d_state, errors @ rows, atol=1e-6)
    np.testing.assert_allclose(d_rows, formulas.output_gradient(state, errors), atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("bpreg", "elu"), [(0.7, 0.5), (0.0, 0.0)])
def test_bpr_max(target: list[int], bpreg: float, elu: float) -> None:
    scores, codes = draw(LANES, LANES + EXTRA), np.array(target, np.int32)
    lanes = losses.lanes_of(tf.constant(codes))
    absent, own = losses.absence(lanes, EXTRA), tf.constant(np.diagonal(scores), tf.float32)
    loss, found = losses.bpr_max(tf.constant(scores, tf.float32), own, absent, lanes, bpreg=bpreg, elu=elu)
    known = np.where(np.concatenate([codes >= 0, np.ones(EXTRA, bool)]), scores, -np.inf)
    wanted, gradient = formulas.bpr_max(known, np.where(codes >= 0, np.arange(LANES), -1), bpreg, elu)
    assert float(loss) == pytest.approx(wanted, abs=1e-5)
    np.testing.assert_allclose(found, gradient, atol=1e-6)


@pytest.mark.parametrize(("optimizer", "momentum"), [("adam", 0.0), ("adagrad", 0.0), ("adagrad", 0.4), ("sgd", 0.0)])
def test_three_steps_of_every_optimizer(optimizer: Optimizer, momentum: float) -> None:
    settings = replace(SETTINGS, optimizer=optimizer, momentum=momentum)
    wanted, weight = draw(3, 4), tf.constant(draw(3, 4), tf.float32)
    slots, there = ({slot: np.zeros((3, 4)) for slot in settings.slots} for _ in range(2))
    for step in (1, 2, 3):
        gradient = draw(step, 3, 4)[-1]
        change, slots = make_rule(settings, tf.constant(step))(tf.constant(gradient, tf.float32), slots)
        weight -= change
        if optimizer == "adam":
            formulas.adam(wanted, gradient, 0.1, step, **there)
        elif optimizer == "adagrad":
            formulas.adagrad(wanted, gradient, 0.1, momentum, **there)
        else:
            wanted -= 0.1 * gradient
    np.testing.assert_allclose(weight, wanted, atol=1e-5)
    for slot, value in there.items():
        np.testing.assert_allclose(slots[slot], value, rtol=1e-5, atol=1e-7, err_msg=slot)


@pytest.mark.parametrize("embedding", ["none", "shared"])
def test_dropout_is_the_same_by_step_and_for_many_steps(embedding: Embedding) -> None:
    """TensorFlow a step at a time, numpy for twenty steps at once, and the judge's loop over lanes and units."""
    settings = replace(SETTINGS, embedding=embedding, dropout_embedding=0.1, dropout_hidden=0.4, seed=2**40 + 3)
    many = dropout.keep_shares_of(7, 20, settings, LANES)
    for number in range(20):
        one = dropout.keep_shares(tf.constant(7 + number), settings, LANES)
        slow = formulas.dropout_masks(settings, LANES, 7 + number)
        for layer, wanted in (("input", slow.vectors), ("hidden", slow.state)):
            np.testing.assert_allclose(one[layer], wanted, rtol=1e-6)
            np.testing.assert_array_equal(many[layer][number], one[layer])
    assert dropout.keep_shares_of(7, 20, SETTINGS, LANES) == {}


def step_of(model: Any, feat: Any, target: Any, state: Any, drawn: Any, mask: Any = None) -> tuple[float, Any]:
    """One step of a model of either kind; the state after it."""
    codes = [np.array(one, np.int32) for one in (feat, target, drawn)]
    if isinstance(model, SparseGru4Rec):
        masks = np.ones(len(feat), np.int32) if mask is None else np.array(mask, np.int32)
        steps = model.prepare(codes[0][None], codes[1][None], masks[None], codes[2][None], done=int(model.step))
        losses_, after = model.train_block(steps, state)
        return float(losses_[0]), after
    found = model.train_sampled(*(tf.constant(one) for one in (codes[0], codes[1], state, codes[2])))
    return float(found["loss"]), found["state"].numpy()


@pytest.mark.parametrize("kind", [Gru4Rec, SparseGru4Rec])
def test_logq_by_hand(kind: Any) -> None:
    """Equal scores: a candidate weighs 1 over its chance, support or support ** alpha; the drawn item is there twice."""
    settings = replace(SETTINGS, batch_size=1, negatives=2, sample_alpha=0.5)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in settings.weights.items()}
    for drawn, weight in (([3, 3], 2 / 16**0.5), ([3, 2], 1 / 16**0.5 + 1 / 9**0.5)):
        loss, _ = step_of(kind(settings, zeros, SUPPORT), [1], [2], np.zeros((1, H), np.float32), drawn)
        assert loss == pytest.approx(-np.log((1 / 9) / (1 / 9 + weight)), abs=1e-6)


def test_a_mask_of_0_is_a_fresh_state() -> None:
    state, feat, target = draw(LANES, H).astype(np.float32), [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]
    reset = state * np.array([1, 0, 1, 1, 0])[:, None]
    drawn = list(range(EXTRA))
    loss, after = step_of(SparseGru4Rec(SETTINGS, support=SUPPORT), feat, target, state, drawn, mask=[1, 0, 1, 1, 0])
    wanted, there = step_of(SparseGru4Rec(SETTINGS, support=SUPPORT), feat, target, reset.astype(np.float32), drawn)
    other, _ = step_of(SparseGru4Rec(SETTINGS, support=SUPPORT), feat, target, state, drawn)
    assert loss == wanted != other
    np.testing.assert_array_equal(after, there)


@pytest.mark.parametrize("items", [1, 3, ITEMS])
@pytest.mark.parametrize("embedding", ["none", "shared"])
def test_rows_in_place_are_the_whole_tables_of_the_other_model(items: int, embedding: Embedding) -> None:
    """With few items every drawn one is a target or an input, and nothing is left for the second half of the candidates."""
    lanes, hidden = 64, 8  # fewer are not given to oneDNN, which knows operations that refuse what is empty
    settings = replace(SETTINGS, n_items=items, batch_size=lanes, hidden_size=hidden, embedding=embedding)
    whole, in_place = (kind(settings, support=SUPPORT[:items]) for kind in (Gru4Rec, SparseGru4Rec))
    rng, here, there = np.random.default_rng(3), *[np.zeros((lanes, hidden), np.float32)] * 2
    for _ in range(6):
        feat, target, drawn = (rng.integers(low, items, size) for low, size in ((0, lanes), (-1, lanes), (0, EXTRA)))
        loss, here = step_of(in_place, feat, target, here, drawn)
        wanted, there = step_of(whole, feat, target, there, drawn)
        assert loss == pytest.approx(wanted, abs=1e-5)
    for name, value in in_place.tensors().items():
        np.testing.assert_allclose(value, whole.save(tf.constant([0]))[name], atol=1e-4, err_msg=name)
