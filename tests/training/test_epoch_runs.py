"""Runs of epochs: what is kept, what a checkpoint has, and that a damaged one is never gone on from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.storage.tensors import Tensors
from pocketrec.training.epoch_runs import KEEP_LAST, Checkpoints, Epoch, History, run_epochs

IDENTITY = {"named": {"layers": (8, 4), "seed": 3}, "split": "0f" * 16}


class Counter:
    """A trainer whose weights are the number of epochs it has been trained for."""

    def __init__(self) -> None:
        self.number = np.zeros((), np.int64)

    def weights(self) -> Tensors:
        return {"bias": np.full(3, self.number, np.float32), "kernel": np.full((2, 3), self.number, np.float32)}

    def state(self) -> Tensors:
        return {"model_0": self.number, "optimizer_0": np.arange(5, dtype=np.uint32) + np.uint32(self.number)}

    def restore(self, state: Tensors) -> None:
        self.number = state["model_0"]

    def epoch(self, score: float | None) -> Epoch:
        self.number = self.number + 1
        return Epoch({"epoch": int(self.number), "loss": 1 / float(self.number)}, score, {"loss": 1 / float(self.number)})


@contextlib.contextmanager
def silent() -> Iterator[Callable[..., None]]:
    yield lambda *_, **__: None


def run(folder: Path, scores: list[float | None], **options: Any) -> tuple[Counter, History, int]:
    trainer, checkpoints = Counter(), Checkpoints(folder, IDENTITY, **options)
    found = run_epochs(
        trainer, checkpoints, len(scores), lambda number: trainer.epoch(scores[number]), lambda _: False, silent()
    )
    return trainer, *found


def test_the_best_epoch_is_kept_and_more_epochs_go_on(tmp_path: Path) -> None:
    _, history, resumed = run(tmp_path, [1.0, 3.0, None, 2.0], every=2)
    assert (history.kept, history.score, resumed) == (2, 3.0, 0)
    assert history.weights["bias"].tolist() == [2, 2, 2]
    trainer, history, resumed = run(tmp_path, [0.0, 0.0, 0.0, 0.0, 4.0], every=2)
    assert (history.kept, resumed, int(trainer.number)) == (5, 4, 5)
    assert [path.name for path in Checkpoints(tmp_path, {}).paths()] == [f"epoch-000{n}.safetensors" for n in (5, 4, 2)]
    _, history, resumed = run(tmp_path, [KEEP_LAST] * 3, every=1)
    assert (history.kept, resumed) == (3, 2)


def test_checkpoints_of_another_run_are_not_gone_on_from(tmp_path: Path) -> None:
    run(tmp_path, [1.0, 2.0])
    (tmp_path / "epoch-0009.npz").write_bytes(b"what pocketrec 0.1 wrote")
    other = Checkpoints(tmp_path, {**IDENTITY, "split": "another"}, keep=1)
    assert other.resume(Counter(), 9) == History()
    trainer = Counter()
    run_epochs(trainer, other, 1, lambda _: trainer.epoch(1.0), lambda _: False, silent())
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0001.safetensors"]
    Checkpoints(tmp_path, IDENTITY).clear(own=True)
    assert list(tmp_path.iterdir())
    other.clear(own=True)
    assert not tmp_path.exists()


def same(one: History, other: History) -> bool:
    told = [json.dumps([history.epochs, history.score, history.kept]) for history in (one, other)]
    weights = [{name: (str(w.dtype), w.shape, w.tobytes()) for name, w in h.weights.items()} for h in (one, other)]
    return told[0] == told[1] and weights[0] == weights[1]


def test_any_flipped_bit_of_a_checkpoint_is_noticed_and_the_older_one_is_taken(tmp_path: Path) -> None:
    """All bits of the header, where the history and the names are, and every 7th of the tensors.

    A few bits make no difference, such as that between e-05 and E-05: then nothing that is read may differ either.
    """
    _, expected, _ = run(tmp_path, [1.0, 2.0])
    newest = Checkpoints(tmp_path, IDENTITY).path(2)
    whole = newest.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    assert len(whole) - header > 50
    harmless = 0
    for bit in (*range(8 * header), *range(8 * header, 8 * len(whole), 7)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << (bit % 8)
        newest.write_bytes(flipped)
        trainer = Counter()
        history = Checkpoints(tmp_path, IDENTITY).resume(trainer, 9)
        if len(history.epochs) == 2:
            harmless += 1
            assert same(history, expected), f"bit {bit}"
            assert int(trainer.number) == 2, f"bit {bit}"
        else:
            assert (len(history.epochs), int(trainer.number)) == (1, 1), f"bit {bit}"
    assert harmless < 20


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_cut_checkpoint_is_passed_over(tmp_path: Path, length: int) -> None:
    run(tmp_path, [1.0, 2.0])
    newest = Checkpoints(tmp_path, IDENTITY).path(2)
    newest.write_bytes(newest.read_bytes()[:length])
    assert len(Checkpoints(tmp_path, IDENTITY).resume(Counter(), 9).epochs) == 1
