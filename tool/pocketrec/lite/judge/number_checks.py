"""The rungs that compare numbers: the model against `reference.py`, which shares no line with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.lite.contract import STEP, digest
from pocketrec.lite.inputs import Batches
from pocketrec.lite.judge.case import Case
from pocketrec.lite.judge.ladder import Fault, NotAsked
from pocketrec.lite.judge.reference import Reference
from pocketrec.lite.runtime import OnDeviceModel, read_card
from pocketrec.lite.sampling import Sampler

STEPS = 6
LOSS = 2e-5
"""Allowed difference of a loss, as a share of it (or of 1)."""
STATE = 1e-5
"""Allowed difference of a state or a probability; both are at most 1."""
WEIGHT = 1e-5
"""Allowed difference of a weight, as a share of the tensor's largest; measured: 4e-7 at 40 items, 3e-6 at 37,484."""
RATE = 1e-2
"""What a weight may differ beyond that, as a share of the learning rate: Adam and Adagrad turn a small error of a small
gradient into a share of a whole step. Measured: 1.2e-3 (the real sample, bias); a wrong formula is off by 1."""
CLOSE = 1e-5
"""Scores closer than this share of the largest (or of 1) may stand in either order."""
SLOT = 2e-4
"""Allowed difference of a slot, as a share of the tensor's largest; measured: 2e-5."""


@dataclass(frozen=True)
class Difference:
    """How far two tensors are apart.

    Attributes:
        name: of the tensor.
        largest: difference of any element; infinity where one of them is not finite.
        allowed: how much that may be.
    """

    name: str
    largest: float
    allowed: float

    def __str__(self) -> str:
        return f"{self.name} {self.largest:.2g} (allowed {self.allowed:.2g})"


def check_weights(case: Case) -> str:
    """A fresh model holds the weights that export drew, slots of zeros, and has done no step."""
    assert case.file is not None
    card, tensors = read_card(case.file, case.path), case.tensors()
    faults = [
        f"{name} is not what export wrote (XXH3-64 {digest(tensors[name])}, written {written})"
        for name, written in card.digests.items()
        if digest(tensors[name]) != written
    ]
    slots = [name for name in tensors if name not in card.digests]
    faults += [f"{name} does not begin at 0" for name in slots if np.any(tensors[name])]
    if faults:
        raise Fault("\n".join(faults))
    return f"{len(card.digests)} weights as export drew them, {len(slots)} other tensors at 0"


def learner(case: Case) -> OnDeviceModel:
    """The model, if it can learn.

    Raises:
        NotAsked: it is for answers alone.
    """
    model = case.device()
    if not model.settings.trainable:
        raise NotAsked(f"weights stored as {model.settings.storage} are for answers alone")
    return model


def hard_steps(batches: Batches, count: int = STEPS) -> Batches:
    """Real steps, made to contain what goes wrong: an item twice in a step, again in a later one, no target, a reset."""
    rows = batches.head(count)
    feats, targets, masks = (np.resize(part, (count, part.shape[1])) for part in (rows.feats, rows.targets, rows.masks))
    feats[1, :2], targets[1, :2] = feats[1, 0], targets[1, 0]
    targets[2, -1] = -1
    masks[3, 0], masks[3, 1:] = 0, 1
    feats[4], targets[4] = feats[0], targets[0]
    return Batches(feats, targets, masks)


def check_arithmetic(case: Case) -> str:
    """train: loss, state, every weight and every slot equal the reference's after each of a few steps."""
    rows = hard_steps(case.batches)
    return _compare(learner(case), ((feat, target, mask, {}) for feat, target, mask in _steps(rows)), "train")


def check_sampled(case: Case) -> str:
    """train_sampled: the same, with extra items of which one is a target and one is there twice."""
    model, rows = learner(case), hard_steps(case.batches)
    sampler = Sampler(model.items.support, model.settings.sample_alpha, seed=1)
    drawn_steps: list[Step] = []
    for feat, target, mask in _steps(rows):
        drawn = sampler.draw(model.settings.negatives)
        drawn[: 1 + len(drawn) // 2 : max(1, len(drawn) // 2)] = max(0, int(target[0]))
        drawn_steps.append((feat, target, mask, {"negatives": drawn}))
    return _compare(model, iter(drawn_steps), "train_sampled")


def check_one(case: Case) -> str:
    """train_one: the same for one session, clicks of the first lane."""
    rows = hard_steps(case.batches)
    steps: Iterator[Step] = ((feat[:1], target[:1], mask[:1], {}) for feat, target, mask in _steps(rows))
    return _compare(learner(case), steps, "train_one", lanes=1)


Codes = npt.NDArray[np.int32]
Step = tuple[Codes, Codes, Codes, dict[str, Codes]]


def _steps(rows: Batches) -> Iterator[tuple[Codes, Codes, Codes]]:
    return zip(rows.feats, rows.targets, rows.masks, strict=True)


def _compare(model: OnDeviceModel, steps: Iterator[Step], signature: str, lanes: int | None = None) -> str:
    reference = Reference(model.settings, model.save(), model.items.log_support)
    ours: Callable[..., Any] = getattr(model, signature)
    expect: Callable[..., Any] = getattr(reference, "train" if signature == "train_one" else signature)
    mine = theirs = model.fresh_state(lanes)
    worst: dict[str, Difference] = {}
    done = 0
    for feat, target, mask, more in steps:
        keep = mask[:, None].astype(np.float32)
        loss, mine = ours(feat, target, keep * mine, **more)
        expected, theirs = expect(feat, target, keep * theirs, **more)
        found = [
            _difference("loss", loss, expected, LOSS * max(1, abs(expected))),
            _difference("state", mine, theirs, STATE),
        ]
        found += _tensor_differences(model, reference)
        faults = [f"step {done}: {difference}" for difference in found if not difference.largest <= difference.allowed]
        if faults:
            raise Fault("differs from numpy by more than allowed\n" + "\n".join(faults))
        worst |= {d.name: d for d in found if d.name not in worst or d.largest > worst[d.name].largest}
        done += 1
    closest = max(worst.values(), key=lambda d: d.largest / d.allowed if d.allowed else 0)
    return f"{done} steps, {len(worst)} tensors; nearest to its limit: {closest}"


def _tensor_differences(model: OnDeviceModel, reference: Reference) -> list[Difference]:
    found = model.save()
    differences = [_difference(STEP, found[STEP], reference.step, 0.5)]
    for name, expected in reference.tensors.items():
        scale = float(np.abs(expected).max())
        moves = name in model.settings.weights or name.endswith("_mom")  # a momentum is made of steps, as a weight is
        allowed = WEIGHT * scale + RATE * model.settings.learning_rate if moves else SLOT * scale
        differences.append(_difference(name, found[name], expected, allowed))
    return differences


def _difference(name: str, found: Any, expected: Any, allowed: float) -> Difference:
    largest = float(np.max(np.abs(np.asarray(found) - np.asarray(expected))))
    return Difference(name, largest if np.isfinite(largest) else np.inf, allowed)


def check_answers(case: Case) -> str:
    """Infer and eval equal the reference's; with every score tied, ranks are the conservative ones."""
    model, rng = case.device(), np.random.default_rng(0)
    rows, tensors = hard_steps(case.batches), case.tensors()
    reference = Reference(model.settings, tensors, model.items.log_support)
    feat, target = rows.feats[2], rows.targets[2]  # the step with a lane without a target
    state = np.tanh(rng.standard_normal(model.fresh_state().shape, dtype=np.float32))
    differences = _infer_differences(model, reference, feat, state)
    depths = sorted({1, min(20, case.n_items), max(1, case.n_items // 2), case.n_items})
    faults = [fault for k in depths for fault in _eval_faults(model, reference, feat, target, state, k, CLOSE)]
    if model.settings.trainable:
        tied = {**tensors, "output": np.zeros_like(tensors["output"])}
        model.restore(tied)
        same = Reference(model.settings, tied, model.items.log_support)
        faults += [f"all scores tied: {f}" for k in depths for f in _eval_faults(model, same, feat, target, state, k, 0)]
    faults += [f"infer: {difference}" for difference in differences if not difference.largest <= difference.allowed]
    if faults:
        raise Fault("\n".join(faults))
    ties = ", also with every score tied" if model.settings.trainable else ""
    return f"{', '.join(map(str, differences))}; recall and mrr at {', '.join(map(str, depths))}{ties}"


def check_recommend(case: Case) -> str:
    """recommend: the items with the highest scores of the reference, in order, and their scores, along a session."""
    model = case.device()
    reference = Reference(model.settings, case.tensors(), model.items.log_support)
    mine = theirs = model.fresh_state(1)
    faults, worst = [], 0.0
    for step, feat in enumerate(hard_steps(case.batches).feats[:, 0]):
        items, scores, mine = model.recommend_next(int(feat), mine)
        expected, theirs = reference.recommend(np.array([feat], np.int32), theirs)
        allowed = CLOSE * max(1.0, float(np.abs(expected).max()))
        best = np.sort(expected)[::-1][: len(scores)]
        off = {
            "scores": np.abs(scores - best).max(),
            "items": np.abs(expected[items] - best).max(),
            "state": np.abs(mine - theirs).max(),
        }
        worst = max(worst, *map(float, off.values()))
        faults += [f"step {step}: {name} are off by {value:.2g}" for name, value in off.items() if not value <= allowed]
        if len(set(items.tolist())) != len(items):
            faults.append(f"step {step}: an item is there twice")
    if faults:
        raise Fault("\n".join(faults))
    return f"the best {model.settings.k} along a session; off by {worst:.2g} at most"


def _infer_differences(
    model: OnDeviceModel, reference: Reference, feat: npt.NDArray[np.int32], state: npt.NDArray[np.float32]
) -> list[Difference]:
    output, after = model.infer(feat, state)
    probabilities, expected = reference.infer(feat, state)
    allowed = min(STATE, 1e-4 * float(probabilities.max()))
    return [_difference("output", output, probabilities, allowed), _difference("state", after, expected, STATE)]


def _eval_faults(
    model: OnDeviceModel,
    reference: Reference,
    feat: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    state: npt.NDArray[np.float32],
    top_k: int,
    slack: float,
) -> list[str]:
    """A rank may be off by the items whose score is as good as tied; between those bounds the metrics must lie."""
    found = model.evaluate(feat, target, state, top_k)
    low, high, loss = reference.ranks(feat, target, state, slack)
    faults = [] if abs(found.loss - loss) <= LOSS * max(1, loss) else [f"loss {found.loss:.6f}, not {loss:.6f}"]
    for name, value, best, worst in (
        ("recall", found.recall, _mean(low <= top_k), _mean(high <= top_k)),
        ("mrr", found.mrr, _mean((low <= top_k) / low), _mean((high <= top_k) / high)),
    ):
        if not worst - 1e-6 <= value <= best + 1e-6:
            faults.append(f"eval: {name}@{top_k} is {value:.6f}, not from {worst:.6f} to {best:.6f}")
    return faults


def _mean(values: npt.NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
