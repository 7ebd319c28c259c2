"""The rungs that compare numbers: the model's against those of `reference.py`, which shares no code with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.lite.contract import HIDDEN, STEP, ModelSpec, digest
from pocketrec.lite.judge.case import Case
from pocketrec.lite.judge.ladder import Fault, NotAsked, settle
from pocketrec.lite.judge.reference import Reference
from pocketrec.lite.options import LARGEST_AMOUNT, MOST_SHARE, LearnSettings
from pocketrec.lite.runtime import LiteModel
from pocketrec.lite.sampling import Sampler
from pocketrec.schema import Float32, Int32

STEPS = 6
"""Steps over which the model and the reference are compared."""
LOSS = 2e-5
"""Allowed difference of a loss, as a share of the loss, or absolute if the loss is below 1."""
STATE = 1e-5
"""Allowed difference of a state or a probability; both are at most 1."""
WEIGHT = 1e-5
"""Allowed difference of a weight, as a share of the tensor's largest number. Measured: 4e-7 at 40 items, 3e-6 at 37,484."""
RATE = 1e-2
"""What a weight may differ in addition, as a share of the learning rate: Adam and Adagrad divide by the size of the
gradient, so a rounding error of a small gradient becomes a visible share of a step. Measured: 1.2e-3 (the real sample,
bias); with a wrong formula it is about 1."""
CLOSE = 1e-5
"""Scores that differ by less than this share of the largest score (or of 1) may be in either order."""
SLOT = 2e-4
"""Allowed difference of a slot, as a share of the tensor's largest number. Measured: 2e-5."""

AMOUNTS = ((1.0, 1.0, 0.0), (0.5, 0.25, 0.005), (1.0, 0.5, 0.25), (0.0, 1.0, 0.5), (2.0, 1 / 64, 0.0), (1.0, 1.0, 0.1))
"""What `learn` is called with in each step: the rate as a multiple of the model's, the share, the pull. The first is
`train_one` without dropout."""


@dataclass(frozen=True)
class Difference:
    """How much two tensors differ.

    Attributes:
        name: the name of the tensor.
        largest: the largest difference of two elements; infinity if one of them is NaN or infinite.
        allowed: the limit of `largest`.
    """

    name: str
    largest: float
    allowed: float

    @classmethod
    def of(cls, name: str, found: Any, expected: Any, allowed: float) -> Difference:
        """Compare two arrays or numbers."""
        largest = float(np.max(np.abs(np.asarray(found) - np.asarray(expected))))
        return cls(name, largest if np.isfinite(largest) else np.inf, allowed)

    @property
    def too_large(self) -> bool:
        """Whether it is above the limit, or the limit is NaN."""
        return not self.largest <= self.allowed

    def __str__(self) -> str:
        return f"{self.name} {self.largest:.2g} (allowed {self.allowed:.2g})"


def check_weights(case: Case) -> str:
    """A newly loaded model has the weights that export wrote; its slots and its step too, or 0 where it was not trained."""
    card, tensors = case.card, case.device().save()
    faults = [
        f"{name} is not what export wrote (XXH3-64 {digest(tensors[name])}, written {written})"
        for name, written in card.digests.items()
        if digest(tensors[name]) != written
    ]
    slots = [name for name in tensors if name not in card.digests]
    faults += [f"{name} does not begin at 0" for name in slots if np.any(tensors[name])]
    settle(faults)
    written = f"{len(card.digests)} weights as export wrote them"
    return f"{written}, {len(slots)} other tensors at 0" if slots else written.replace("weights", "tensors")


def learner(case: Case) -> LiteModel:
    """The model, newly loaded; raises `NotAsked` if it cannot learn."""
    model = case.device()
    if not model.settings.trainable:
        raise NotAsked(f"a model with weights stored as {model.settings.storage} cannot learn")
    return model


Step = tuple[Int32, Int32, Int32]
"""(feat, target, mask)."""


def _hard_steps(case: Case) -> list[Step]:
    """(feat, target, mask) of real steps, changed to have an item twice in a step and again later, no target, a reset."""
    rows = case.batches.head(STEPS)
    feats, targets, masks = (np.resize(part, (STEPS, part.shape[1])) for part in (rows.feats, rows.targets, rows.masks))
    feats[1, :2], targets[1, :2] = feats[1, 0], targets[1, 0]
    targets[2, -1] = -1
    masks[3, 0], masks[3, 1:] = 0, 1
    feats[4], targets[4] = feats[0], targets[0]
    return list(zip(feats, targets, masks, strict=True))


def check_arithmetic(case: Case) -> str:
    """train: after each of a few steps the loss, the state, all weights and all slots equal the reference's."""
    return _compare(learner(case), _hard_steps(case), "train")


def check_sampled(case: Case) -> str:
    """train_sampled: the same with drawn items, of which one is also a target and is there twice."""
    model, steps, given = learner(case), _hard_steps(case), []
    if case.n_items == 1:
        raise NotAsked("there is one item, so no other can be drawn: all gradients are 0, but for rounding")
    sampler = Sampler(model.items.support, model.settings.sample_alpha, seed=1)
    for _, target, _ in steps:
        drawn = sampler.draw(model.settings.negatives)
        drawn[: 1 + len(drawn) // 2 : max(1, len(drawn) // 2)] = max(0, int(target[0]))
        given.append({"negatives": drawn})
    return _compare(model, steps, "train_sampled", given=given)


def check_one(case: Case) -> str:
    """train_one: the same for one session, that of the first lane."""
    return _compare(learner(case), _session(case), "train_one", lanes=1)


def check_learn(case: Case) -> str:
    """learn: the same with other rates, shares of the gradient, and pulls to the shipped weights."""
    model = learner(case)
    if "learn" not in case.card.signatures:
        raise NotAsked("the file is of an earlier pocketrec, and has no signature 'learn'")
    rate = model.settings.learning_rate
    given = [asdict(LearnSettings(min(times * rate, LARGEST_AMOUNT), share, pull)) for times, share, pull in AMOUNTS]
    return _compare(model, _session(case), "learn_one", lanes=1, given=given)


def _session(case: Case) -> list[Step]:
    """The hard steps of the first lane alone."""
    return [(feat[:1], target[:1], mask[:1]) for feat, target, mask in _hard_steps(case)]


def _compare(
    model: LiteModel,
    steps: Sequence[Step],
    signature: str,
    lanes: int | None = None,
    given: Sequence[Mapping[str, Any]] = ({},) * STEPS,
) -> str:
    """Do the steps with the model and the reference; `given` are further inputs of each by name."""
    reference = Reference(model.settings, model.save(), model.items.log_support)
    ours: Callable[..., Any] = getattr(model, signature)
    expect: Callable[..., Any] = getattr(reference, "train" if signature == "train_one" else signature)
    mine = theirs = model.fresh_state(lanes)
    worst: dict[str, Difference] = {}
    for step, ((feat, target, mask), more) in enumerate(zip(steps, given, strict=True)):
        keep = mask[:, None].astype(np.float32)
        loss, mine = ours(feat, target, keep * mine, **more)
        expected, theirs = expect(feat, target, keep * theirs, **more)
        found = step_differences((loss, mine, model.save()), (expected, theirs, reference.save()), model.settings)
        faults = [f"step {step}: {difference}" for difference in found if difference.too_large]
        if faults:
            raise Fault("differs from numpy by more than allowed\n" + "\n".join(faults))
        worst |= {d.name: d for d in found if d.name not in worst or d.largest > worst[d.name].largest}
    closest = max(worst.values(), key=lambda d: d.largest / d.allowed if d.allowed else 0)
    return f"{STEPS} steps, {len(worst)} tensors; nearest to its limit: {closest}"


After = tuple[float, Float32, Mapping[str, npt.NDArray[Any]]]
"""What a training step leaves: its loss, the state, and all tensors by name."""


def step_differences(found: After, expected: After, settings: ModelSpec) -> list[Difference]:
    """Compare two computations of the same training step: the loss, the state, and each tensor of the expected one."""
    (loss, state, tensors), (wanted, wanted_state, wanted_tensors) = found, expected
    differences = [
        Difference.of("loss", loss, wanted, LOSS * max(1, abs(wanted))),
        Difference.of("state", state, wanted_state, STATE),
    ]
    for name, tensor in wanted_tensors.items():
        scale = float(np.abs(tensor).max())
        moves = name in settings.weights or name.endswith("_mom")  # a momentum is a sum of steps, as a weight is
        allowed = WEIGHT * scale + RATE * settings.learning_rate if moves else SLOT * scale
        differences.append(Difference.of(name, tensors[name], tensor, 0.5 if name == STEP else allowed))
    return differences


def check_answers(case: Case) -> str:
    """Infer and eval equal the reference's; where all scores are equal, each target has the last rank."""
    model, rng = case.device(), np.random.default_rng(0)
    tensors = model.save()
    reference = Reference(model.settings, tensors, model.items.log_support)
    feat, target, _ = _hard_steps(case)[2]  # the step with a lane without a target
    state = np.tanh(rng.standard_normal(model.fresh_state().shape, dtype=np.float32))
    (output, after), (probabilities, expected) = model.infer(feat, state), reference.infer(feat, state)
    allowed = min(STATE, 1e-4 * float(probabilities.max()))
    differences = [
        Difference.of("output", output, probabilities, allowed),
        Difference.of("state", after, expected, STATE),
    ]
    depths = sorted({1, min(20, case.n_items), max(1, case.n_items // 2), case.n_items})
    faults = [fault for k in depths for fault in _eval_faults(model, reference, feat, target, state, k, CLOSE)]
    if model.settings.trainable:
        tied = {**tensors, "output": np.zeros_like(tensors["output"])}
        model.restore(tied)
        same = Reference(model.settings, tied, model.items.log_support)
        faults += [f"all scores tied: {f}" for k in depths for f in _eval_faults(model, same, feat, target, state, k, 0)]
    faults += [f"infer: {difference}" for difference in differences if difference.too_large]
    settle(faults)
    ties = ", also with every score tied" if model.settings.trainable else ""
    return f"{', '.join(map(str, differences))}; recall and mrr at {', '.join(map(str, depths))}{ties}"


CACHED = ((0, 0), (1, 0), (5, 3), (1 << 16, 1 << 16))
"""Rows of a state cache, and hidden items, of the steps in turn; the last is all that there is room for."""
CACHE_SHARES = (0.05, 0.5, MOST_SHARE, 0.05, 0.0)


def check_recommend(case: Case) -> str:
    """recommend: along a session, the items with the reference's highest scores, in order, and these scores."""
    model = case.device()
    reference = Reference(model.settings, model.save(), model.items.log_support)
    mine = theirs = model.fresh_state(1)
    faults, worst = [], 0.0
    for step, (feat, _, _) in enumerate(_hard_steps(case)):
        items, scores, mine = model.recommend_next(int(feat[0]), mine)
        expected, theirs = reference.recommend(feat[:1], theirs)
        allowed = CLOSE * max(1.0, float(np.abs(expected).max()))
        best = np.sort(expected)[::-1][: len(scores)]
        pairs = (("scores", scores, best), ("items", expected[items], best), ("state", mine, theirs))
        found = [Difference.of(name, ours, wanted, allowed) for name, ours, wanted in pairs]
        worst = max(worst, *(one.largest for one in found))
        faults += [f"step {step}: {one}" for one in found if one.too_large]
        if len(set(items.tolist())) != len(items):
            faults.append(f"step {step}: an item is there twice")
    settle(faults)
    return f"the best {model.settings.k} along a session; off by {worst:.2g} at most"


def check_cache(case: Case) -> str:
    """recommend_user: the same with state caches of several shares and sizes, and with hidden items."""
    model, rng = case.device(), np.random.default_rng(1)
    if "recommend_user" not in case.card.signatures:
        raise NotAsked("the file is of an earlier pocketrec, and has no signature 'recommend_user'")
    settings = model.settings
    reference, specs = Reference(settings, model.save(), model.items.log_support), settings.cache
    state = model.fresh_state(1)
    faults, worst = [], 0.0
    for step, (feat, _, _) in enumerate(_hard_steps(case)):
        rows, hidden = (min(some, settings.journal) for some in CACHED[step % len(CACHED)])
        cache = {
            name: np.full(spec.shape, 0 if spec.dtype == "float32" else -1, spec.dtype) for name, spec in specs.items()
        }
        cache["cache_states"][:rows] = np.tanh(2 * rng.standard_normal((rows, settings.hidden_size)))
        cache["cache_items"][:rows] = rng.integers(-1, min(settings.n_items, 9), rows)  # some are there several times
        cache["cache_share"][:] = share = CACHE_SHARES[step % len(CACHE_SHARES)]
        cache["hide"][:hidden] = rng.integers(-1, settings.n_items, hidden)
        found = model.recommend_user(feat[:1], state, **cache)
        given = (cache["cache_states"], cache["cache_items"], share, cache["hide"])
        expected, after = reference.recommend_user(feat[:1], state, *given)
        best = np.sort(expected)[::-1][: settings.k]
        there = best > HIDDEN / 2  # where nearly all items are hidden, those come last
        allowed = CLOSE * max(1.0, float(np.abs(best[there]).max(initial=0)))
        pairs = [("hidden items", np.float32(found[1] > HIDDEN / 2), np.float32(there)), ("state", found[2], after)]
        if there.any():
            pairs += [("scores", found[1][there], best[there]), ("items", expected[found[0][there]], best[there])]
        differences = [Difference.of(name, ours, wanted, allowed) for name, ours, wanted in pairs]
        worst = max(worst, *(one.largest for one in differences))
        faults += [f"step {step}: {one}" for one in differences if one.too_large]
        state = found[2]
    settle(faults)
    return f"state caches of up to {settings.journal} rows, and hidden items; off by {worst:.2g} at most"


def _eval_faults(
    model: LiteModel, reference: Reference, feat: Int32, target: Int32, state: Float32, top_k: int, slack: float
) -> list[str]:
    """Scores that are nearly equal may be in either order, so a metric must be between the two that are possible."""
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
