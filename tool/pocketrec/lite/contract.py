"""What export and verify agree on: names, shapes and dtypes of a GRU4Rec .tflite, and the settings it carries in itself.

This is the interface, not the arithmetic: the maker (`gru4rec/tf/model.py`) and the judge (`judge/reference.py`) each
write down the arithmetic for themselves and share nothing but this page.

The settings travel inside the file as the metadata entry `pocketrec`, a JSON object, together with a digest of each initial
weight. A .tflite therefore says which optimizer its train signature claims to apply, and whether its weights are still the
ones that were written, wherever it was copied to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from pocketrec.errors import ModelError, SettingsError
from pocketrec.lite.options import Gru4RecSettings, ModelSettings
from pocketrec.settings import Rule

METADATA = "pocketrec"
"""Name of the metadata entry in the flatbuffer."""

FORMAT = 3
"""Raised when an older file can no longer be judged by the rules below."""


STEP = "step"
"""int32 scalar beside the weights: optimizer steps done. It also numbers the dropout masks."""

SALTS = {"input": 0x1B873593, "hidden": 0x2545F491}
"""Tells the two dropout masks of a step apart."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a signature: its shape and numpy dtype name."""

    shape: Shape
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class ModelSpec(ModelSettings):
    """A model's settings and the number of its items: together they fix every tensor and every signature.

    Attributes:
        n_items: items of the index, and so classes of the softmax.

    Raises:
        SettingsError: a setting that no model can have.
    """

    n_items: int = field(kw_only=True, metadata={"rule": Rule("Items of the index.", least=1)})

    @classmethod
    def of(cls, settings: Gru4RecSettings, n_items: int) -> ModelSpec:
        """Settings for so many items; what they do not say of a file is as usual."""
        return cls(n_items=n_items, **asdict(ModelSettings.part_of(settings)))

    @property
    def k(self) -> int:
        """Items that recommend returns: `top_k`, or all there are."""
        return min(self.top_k, self.n_items)

    @property
    def trainable(self) -> bool:
        """Whether the file has the signatures that learn and restore."""
        return self.storage != "int8"

    @property
    def tables(self) -> tuple[str, ...]:
        """The weights with a row an item that the GRU's input is looked up in."""
        inputs = {"none": ("kernel_z", "kernel_r", "kernel_h"), "separate": ("embedding",), "shared": ("output",)}
        return inputs[self.embedding]

    @property
    def weights(self) -> dict[str, Shape]:
        """The trained tensors by name; the gates' columns stand in the order z, r, h."""
        n, h = self.n_items, self.hidden_size
        tables = {name: (n, h) for name in self.tables if name != "output"}
        inner = {} if self.embedding == "none" else {"input": (h, 3 * h)}
        return {
            **tables,  # kernel_*: row i is item i's share of a gate; embedding: row i is item i's vector
            **inner,
            "recurrent": (h, 3 * h),
            "bias": (2, 3 * h),  # row 0: input side; row 1: recurrent side (reset_after, as in Keras)
            "output": (n, h + 1),  # row i: item i's vector and, last, its bias
        }

    @property
    def slots(self) -> tuple[str, ...]:
        """What the optimizer keeps beside each weight; the slot `m` of the weight `output` is the tensor `output_m`."""
        adagrad = ("acc", "mom") if self.momentum else ("acc",)
        if not self.trainable:
            return ()
        return {"adam": ("m", "v"), "adagrad": adagrad, "sgd": ()}[self.optimizer]

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(math.prod(shape) for shape in self.weights.values())

    @property
    def state(self) -> dict[str, TensorSpec]:
        """Everything training changes, by name: weights, slots, step. What save returns and restore takes."""
        weights = {name: TensorSpec(shape) for name, shape in self.weights.items()}
        slots = {f"{name}_{slot}": spec for name, spec in weights.items() for slot in self.slots}
        return {**weights, **slots, STEP: TensorSpec((), "int32")}

    @property
    def signatures(self) -> dict[str, tuple[dict[str, TensorSpec], dict[str, TensorSpec]]]:
        """Signature name -> (inputs, outputs) by name."""
        scalar, integer = TensorSpec(()), TensorSpec((), "int32")
        b, one = self._lanes(self.batch_size), self._lanes(1)
        taught = {"loss": scalar, "state": b["initstate"]}
        scores = TensorSpec((self.batch_size, self.n_items))
        answers = {
            "infer": (_only(b, "feat", "initstate"), {"output": scores, "state": b["initstate"]}),
            "eval": ({**b, "top_k": integer}, {"loss": scalar, "recall": scalar, "mrr": scalar}),
            "recommend": (
                _only(one, "feat", "initstate"),
                {"items": TensorSpec((self.k,), "int32"), "scores": TensorSpec((self.k,)), "state": one["initstate"]},
            ),
            "save": ({}, self.state),
        }
        if not self.trainable:
            return answers
        return {
            "train": (b, taught),
            **answers,
            "train_sampled": ({**b, "negatives": TensorSpec((self.negatives,), "int32")}, taught),
            "train_one": (one, {"loss": scalar, "state": one["initstate"]}),
            "restore": (self.state, {STEP: integer}),
        }

    def _lanes(self, count: int) -> dict[str, TensorSpec]:
        codes = TensorSpec((count,), "int32")
        return {"feat": codes, "target": codes, "initstate": TensorSpec((count, self.hidden_size))}


def _only(specs: Mapping[str, TensorSpec], *names: str) -> dict[str, TensorSpec]:
    return {name: specs[name] for name in names}


@dataclass(frozen=True)
class Card:
    """The metadata entry of a model file.

    Attributes:
        settings: what it was made with.
        digests: XXH3-64 of the bytes of every initial weight.
        items: XXH3-128 of its item ids, `Catalogue.hash`.
        protocol: how the data was prepared: the settings of `split` and `batches`, as far as they are known.
        version: of the pocketrec that wrote it.
    """

    settings: ModelSpec
    digests: Mapping[str, str]
    items: str
    protocol: Mapping[str, Any]
    version: str

    def to_json(self) -> str:
        """Text that is equal for equal content."""
        document = {"format": FORMAT, **asdict(self)}
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
            settings = ModelSpec(**document["settings"])
            digests = {name: str(document["digests"][name]) for name in settings.weights}
            protocol, texts = dict(document["protocol"]), (str(document[name]) for name in ("items", "version"))
            return cls(settings, digests, next(texts), protocol, next(texts))
        except (ValueError, KeyError, TypeError, AttributeError, SettingsError) as error:
            raise ModelError(
                f"The metadata entry {METADATA!r} cannot be read ({error.__class__.__name__}: {error}).",
                expected="the settings that `pocketrec export` writes into the file",
                do="pocketrec export",
            ) from error


def digest(weight: npt.NDArray[np.float32]) -> str:
    """XXH3-64 of a tensor's bytes, row by row, little-endian."""
    return xxhash.xxh3_64(weight.astype("<f4", copy=False).tobytes()).hexdigest()
