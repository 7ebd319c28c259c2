"""A GRU4Rec .tflite at work, with LiteRT and numpy alone: the calls an app makes, in Python.

model = OnDeviceModel(Path("gru4rec_bs512.tflite"))
state = model.fresh_state()
for feat, target, mask in zip(feats, targets, masks):
loss, state = model.train(feat, target, mask[:, None] * state)
np.savez("weights.npz", **model.save())
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.errors import MissingExtraError, ModelError
from pocketrec.lite.contract import METADATA, Card
from pocketrec.lite.flatbuffer import ModelFile, read_model
from pocketrec.lite.quiet import native_stderr_closed

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]
Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Metrics:
    """Means over the lanes that have a target; 0 where none has.

    Attributes:
        loss: cross-entropy, in nats.
        recall: share of lanes whose target is among the first k.
        mrr: mean of 1 / rank, 0 beyond k. Ties are conservative: rank = items that score at least the target's score.
    """

    loss: float
    recall: float
    mrr: float


class OnDeviceModel:
    """A model file, loaded. It keeps learning until it is thrown away; `save` and `restore` carry it over.

    Args:
        path: a .tflite that `pocketrec export` made.
        threads: of the interpreter.

    Raises:
        MissingExtraError: LiteRT is not installed.
        ModelError: the file is damaged, is not pocketrec's, or LiteRT cannot run it.
    """

    def __init__(self, path: Path | str, threads: int = 2) -> None:
        self.path = Path(path)
        model = read_model(self.path)
        self.settings = read_card(model, self.path).settings
        self._interpreter = _load(self.path, threads)
        self._runners: dict[str, Any] = {}

    def fresh_state(self) -> Floats:
        """The state before the first item of a session: zeros, (B, H)."""
        return np.zeros((self.settings.batch_size, self.settings.hidden_size), np.float32)

    def train(self, feat: Codes, target: Codes, state: Floats) -> tuple[float, Floats]:
        """Learn from one step of B lanes.

        Args:
            feat: the current item of each lane, int32 (B,).
            target: the next one; -1 where there is none.
            state: float32 (B, H), rows of lanes that begin a session already zero.

        Returns:
            The mean loss before the update, and the state after the items.
        """
        self._check_codes(feat=feat, target=target)
        found = self._run("train", feat=feat, target=target, initstate=state)
        return float(found["loss"]), found["state"]

    def infer(self, feat: Codes, state: Floats) -> tuple[Floats, Floats]:
        """Probabilities of the next item, (B, n_items), and the state after the items."""
        self._check_codes(feat=feat)
        found = self._run("infer", feat=feat, initstate=state)
        return found["output"], found["state"]

    def evaluate(self, feat: Codes, target: Codes, state: Floats, top_k: int = 20) -> Metrics:
        """Loss, Recall@k and MRR@k of one step; nothing is learned."""
        self._check_codes(feat=feat, target=target)
        found = self._run("eval", feat=feat, target=target, initstate=state, top_k=np.int32(top_k))
        return Metrics(float(found["loss"]), float(found["recall"]), float(found["mrr"]))

    def save(self) -> Tensors:
        """Weights, optimizer slots and step by name, as copies."""
        return self._run("save")

    def restore(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from what `save` returned, bit for bit.

        Raises:
            ModelError: a tensor is missing, or has another shape or dtype.
        """
        for name, spec in self.settings.state.items():
            found = tensors.get(name)
            if found is None or found.shape != spec.shape or found.dtype != spec.dtype:
                what = "missing" if found is None else f"{found.dtype}{list(found.shape)}"
                raise ModelError(
                    f"The tensor {name!r} to restore is {what}.", expected=str(spec), do="use what save() returned"
                )
        self._run("restore", **{name: tensors[name] for name in self.settings.state})

    def _run(self, signature: str, **inputs: Any) -> Tensors:
        try:
            if signature in self._runners:
                found: Tensors = self._runners[signature](**inputs)
            else:
                with native_stderr_closed():  # the delegate announces itself when memory is first allocated
                    self._runners[signature] = self._interpreter.get_signature_runner(signature)
                    found = self._runners[signature](**inputs)
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{self.path}: the signature {signature!r} failed: {error}",
                expected="a model and inputs that fit each other",
                do=f"pocketrec verify --model {self.path}",
            ) from error
        return found

    def _check_codes(self, **lanes: Codes) -> None:
        for name, codes in lanes.items():
            lowest = -1 if name == "target" else 0
            if codes.size and not (lowest <= codes.min() and codes.max() < self.settings.n_items):
                raise ModelError(
                    f"{name} holds item codes from {codes.min()} to {codes.max()}.",
                    expected=f"{lowest} to {self.settings.n_items - 1}",
                    do="use the item index the model was exported with",
                )


def read_card(model: ModelFile, path: Path) -> Card:
    """The settings a model file carries.

    Raises:
        ModelError: it carries none, or ones that cannot be read.
    """
    if METADATA not in model.metadata:
        raise ModelError(
            f"{path} has no metadata entry {METADATA!r}.",
            expected="a model of pocketrec, which carries its settings",
            do="pocketrec export",
        )
    return Card.from_json(model.metadata[METADATA])


def _load(path: Path, threads: int) -> Any:
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise MissingExtraError("ai-edge-litert", "lite", "run a .tflite")
    from ai_edge_litert.interpreter import Interpreter

    try:
        with native_stderr_closed():
            # Clustering moves reads of variables forward: 0.66 instead of 0.49 GB at full size, and no faster.
            return Interpreter(str(path), num_threads=threads, experimental_disable_delegate_clustering=True)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"LiteRT does not load {path}: {error}", expected="a .tflite of builtin operators", do="pocketrec export"
        ) from error
