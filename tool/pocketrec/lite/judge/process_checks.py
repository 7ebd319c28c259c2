"""The rungs that run the model in another process: it loads, it learns, and `restore` brings back what it learned."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from pocketrec.lite.judge.case import Case, Trial
from pocketrec.lite.judge.ladder import Fault, NotAsked, settle
from pocketrec.lite.judge.number_checks import learner
from pocketrec.lite.judge.worker import fingerprints, next_step
from pocketrec.lite.processes import run_python
from pocketrec.progress import Advance
from pocketrec.storage.tensors import Tensors

ROWS = 10
"""Real steps of a round, at most; every round trains on the same ones."""

NOISE = 1.2e-7
"""A mean loss has fallen if it fell by more than this share of itself, the precision of float32. More is not needed: a
model that does not learn gives exactly the same losses on the same steps."""

SECONDS_PER_STEP = 60.0
"""A worker that needs longer than this for a step, on average, is stopped."""


def check_load(case: Case) -> str:
    """In a separate process LiteRT loads the file, trains (or only infers), and can call every other signature."""
    rows = case.batches.head(training_rows(case))
    arrays = {"feats": rows.feats, "targets": rows.targets, "masks": rows.masks}
    trainable = case.card.settings.trainable
    steps = case.settings.steps if trainable else len(rows)
    with case.progress.task("verify", steps, "steps") as advance:
        found = _worker(case, "run", arrays, steps, advance)
    if trainable:
        case.trial = Trial(**found)
    what = "steps" if trainable else "steps of infer"
    return f"{steps} {what} with {case.settings.threads} threads, {found['peak_bytes'] / 1e6:,.0f} MB at most"


def training_rows(case: Case) -> int:
    """Number of steps of a round: `ROWS` at most, and few enough for four rounds."""
    return max(1, min(ROWS, len(case.batches), case.settings.steps // 4))


def check_learning(case: Case) -> str:
    """All losses are finite, and the mean loss of a round is lower in the last round than in the first.

    Rounds have the same steps, so it does not matter how hard these are.
    """
    if case.trial is None:
        raise NotAsked("the model cannot learn")
    losses, rows = case.trial.losses, training_rows(case)
    wrong = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
    if wrong:
        raise Fault(f"the loss of step {wrong[0]} is {losses[wrong[0]]} ({len(wrong)} of {len(losses)} are not finite)")
    rounds = len(losses) // rows
    first, last = (float(np.mean(losses[n * rows : (n + 1) * rows])) for n in (0, rounds - 1))
    if case.n_items == 1:
        raise NotAsked("there is one item, which is always right: the loss is 0 and cannot fall")
    means = {"train": (first, last), **case.trial.rounds}
    faults = [
        f"{name}: the mean loss of the same steps was {first:.6f} in the first round and {last:.6f} in the last"
        for name, (first, last) in means.items()
        if not last < first - NOISE * abs(first)
    ]
    settle(faults)
    return "; ".join(f"{name}: {first:.4f} to {last:.4f}" for name, (first, last) in means.items())


def check_restore(case: Case) -> str:
    """After save here and restore in a new process, all tensors and the next training step are the same, bit for bit."""
    model, rows = learner(case), case.batches.head(1)
    feat, target = rows.feats[0], rows.targets[0]
    model.train(feat, target, model.fresh_state())  # so that the slots are not 0
    tensors = model.save()
    arrays = {**tensors, "feat": feat, "target": target, "state": model.fresh_state()}
    theirs = _worker(case, "resume", arrays, steps=1)
    ours = {"restored": fingerprints(tensors), "next": next_step(model, feat, target, model.fresh_state())}
    faults = [
        f"{name} is not the same {when}"
        for part, when in (("restored", "after restore"), ("next", "after the next step"))
        for name, value in ours[part].items()
        if theirs[part].get(name) != value
    ]
    settle(faults)
    return f"{len(tensors)} tensors and the next step are the same, bit for bit, in a new process"


def _worker(case: Case, task: str, arrays: Tensors, steps: int, advance: Advance = lambda _: None) -> dict[str, Any]:
    """Run a task of `judge/worker.py` and return its result; if the process dies, that is a fault of the model."""
    stored, arguments, result = (case.folder / f"{task}{end}" for end in (".npz", ".json", ".out.json"))
    np.savez(stored, **arrays)  # type: ignore[arg-type]
    given = {"arrays": stored, "model": case.path.absolute(), "result": result, "threads": case.settings.threads}
    arguments.write_text(json.dumps({**given, "steps": steps}, default=str))
    command = ["-m", "pocketrec.lite.judge.worker", task, str(arguments)]
    ending = run_python(command, SECONDS_PER_STEP * (steps + 1), advance)
    stored.unlink()
    if ending or not result.exists():
        raise Fault(f"the process that ran the model {ending or 'wrote no result'}")
    found: dict[str, Any] = json.loads(result.read_text())
    return found
