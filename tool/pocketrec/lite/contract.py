"""What export and verify agree on: names, shapes and dtypes of a GRU4Rec .tflite, and the settings it carries in itself.

This is the interface, not the arithmetic: the maker (`models/gru4rec.py`) and the judge (`verify.py`, `reference.py`) each
write down the arithmetic for themselves and share nothing but this page.

The settings travel inside the file as the metadata entry `pocketrec`, a JSON object, together with a digest of each initial
weight. A .tflite therefore says which optimizer its train signature claims to apply, and whether its weights are still the
ones that were written, wherever it was copied to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from pocketrec.errors import ModelError, SettingsError

METADATA = "pocketrec"
"""Name of the metadata entry in the flatbuffer."""

FORMAT = 1
"""Raised when an older file can no longer be judged by the rules below."""

OPTIMIZERS: Mapping[str, tuple[str, ...]] = {"adam": ("m", "v"), "adagrad": ("acc",), "sgd": ()}
"""Optimizer -> its slots; the slot `m` of the weight `kernel` is the tensor `kernel_m`."""

STEP = "step"
"""int32 scalar beside the weights: optimizer steps done."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a signature: its shape and numpy dtype name."""

    shape: Shape
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class ModelSettings:
    """What a GRU4Rec was made with.

    Attributes:
        n_items: items of the index, and so classes of the softmax.
        batch_size: B, lanes of a session-parallel batch.
        hidden_size: H, units of the GRU.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: of that optimizer.
        seed: of the initial weights.

    Raises:
        SettingsError: a setting no model can have.
    """

    n_items: int
    batch_size: int = 512
    hidden_size: int = 100
    optimizer: str = "adam"
    learning_rate: float = 0.001
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("n_items", "batch_size", "hidden_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}.", expected="1 or more")
        if self.optimizer not in OPTIMIZERS:
            raise SettingsError(f"optimizer is {self.optimizer!r}.", expected=f"one of {', '.join(OPTIMIZERS)}")
        if not 0 < self.learning_rate < float("inf"):
            raise SettingsError(f"learning_rate is {self.learning_rate}.", expected="a finite number above 0")
        if self.seed < 0:
            raise SettingsError(f"seed is {self.seed}.", expected="0 or more")

    @property
    def weights(self) -> dict[str, Shape]:
        """The trained tensors by name, in Keras' shapes; the gates' columns stand in the order z, r, h."""
        n, h = self.n_items, self.hidden_size
        return {
            "kernel": (n, 3 * h),  # row i: item i's share of the three gates
            "recurrent": (h, 3 * h),
            "bias": (2, 3 * h),  # row 0: input side; row 1: recurrent side (reset_after)
            "dense": (h, n),
            "dense_bias": (n,),
        }

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(math.prod(shape) for shape in self.weights.values())

    @property
    def state(self) -> dict[str, TensorSpec]:
        """Everything training changes, by name: weights, slots, step. What save returns and restore takes."""
        weights = {name: TensorSpec(shape) for name, shape in self.weights.items()}
        slots = {f"{name}_{s}": spec for name, spec in weights.items() for s in OPTIMIZERS[self.optimizer]}
        return {**weights, **slots, STEP: TensorSpec((), "int32")}

    @property
    def signatures(self) -> dict[str, tuple[dict[str, TensorSpec], dict[str, TensorSpec]]]:
        """Signature name -> (inputs, outputs) by name."""
        lanes, scalar = TensorSpec((self.batch_size,), "int32"), TensorSpec(())
        hidden = TensorSpec((self.batch_size, self.hidden_size))
        scores = TensorSpec((self.batch_size, self.n_items))
        pair = {"feat": lanes, "target": lanes, "initstate": hidden}
        return {
            "train": (pair, {"loss": scalar, "state": hidden}),
            "infer": ({"feat": lanes, "initstate": hidden}, {"output": scores, "state": hidden}),
            "eval": (
                {**pair, "top_k": TensorSpec((), "int32")},
                {"loss": scalar, "recall": scalar, "mrr": scalar},
            ),
            "save": ({}, self.state),
            "restore": (self.state, {STEP: TensorSpec((), "int32")}),
        }


@dataclass(frozen=True)
class Card:
    """The metadata entry: the settings, and XXH3-64 of the bytes of every initial weight."""

    settings: ModelSettings
    digests: Mapping[str, str]

    @classmethod
    def of(cls, settings: ModelSettings, weights: Mapping[str, npt.NDArray[np.float32]]) -> Card:
        """The card of a model with these initial weights."""
        return cls(settings, {name: digest(weights[name]) for name in settings.weights})

    def to_json(self) -> str:
        """Text that is equal for equal content."""
        document = {"format": FORMAT, "settings": asdict(self.settings), "weights": dict(self.digests)}
        return json.dumps(document, sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes | str) -> Card:
        """Read what `to_json` wrote.

        Raises:
            ModelError: it is something else.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']}, not {FORMAT}")
            settings = ModelSettings(**document["settings"])
            return cls(settings, {name: str(document["weights"][name]) for name in settings.weights})
        except (ValueError, KeyError, TypeError, AttributeError, SettingsError) as error:
            raise ModelError(
                f"The metadata entry {METADATA!r} cannot be read ({error.__class__.__name__}: {error}).",
                expected="the settings that `pocketrec export` writes into the file",
                do="pocketrec export",
            ) from error


def digest(weight: npt.NDArray[np.float32]) -> str:
    """XXH3-64 of a tensor's bytes, row by row, little-endian."""
    return xxhash.xxh3_64(weight.astype("<f4", copy=False).tobytes()).hexdigest()
