"""What export and verify agree on: names, shapes and dtypes in a GRU4Rec .tflite, and the settings stored in it.

This is the interface, not the arithmetic: the maker (`gru4rec/tf/model.py`) and the judge (`judge/reference.py`) each have
their own implementation of the arithmetic. They share only this module and `options.py`.

The settings are stored in the file as the metadata entry `pocketrec`, a JSON object, together with a hash of each initial
weight. So a copy of the file still says which optimizer it applies, and whether its weights were changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import xxhash

from pocketrec.errors import ModelError, SettingsError
from pocketrec.lite.options import Gru4RecSettings, LearnSettings, ModelSettings, UserSettings
from pocketrec.schema import Float32
from pocketrec.settings import Rule, rules_of

METADATA = "pocketrec"
"""Name of the metadata entry in the flatbuffer."""

FORMAT = 6
"""Format of the card. It gets a higher number when the rules below no longer fit older files."""
NO_ZERO, NO_LEARN, NO_USER = EARLIER = 3, 4, 5
"""Formats that are still run. Files up to the first have a `save` without input, which Java and Kotlin refuse; files up to
the second have no `learn`; files up to the third have no `recommend_user`."""

ZERO = "zero"
"""The input of `save`, which changes nothing: some runtimes refuse a signature without inputs."""
STEP = "step"
"""Name of an int32 scalar beside the weights: optimizer steps done so far. The dropout masks depend on it, too."""

LAST_STEP = 2**31 - 2
"""The largest count of steps after which there can be another."""

CACHE_TENSORS = ("cache_states", "cache_items", "cache_state")
"""What a file that was learned on a device has beside weights: the state cache, and the state after the last session."""
SHARPNESS = 10.0
"""Of the state cache: a state whose cosine with the present one is c has the weight exp(SHARPNESS (c - 1))."""
HIDDEN = -1e30
"""What is added to the score of a hidden item: one that is recommended with less than half of this is none."""

MAX_NUMBERS = 2**31 - 1
"""In one tensor: LiteRT counts them with 32 bits. So settings in a file, which are only text, cannot ask for any memory."""

SALTS = {"input": 0x1B873593, "hidden": 0x2545F491}
"""Go into the hash that makes dropout masks, so that the two layers of a step have different masks."""

ANY = -1
"""A length in a shape that a caller chooses."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype (its numpy name) of a tensor."""

    shape: Shape
    dtype: str = "float32"

    @classmethod
    def of(cls, value: Any) -> TensorSpec:
        """Those of a number or an array."""
        return cls(np.shape(value), str(np.asarray(value).dtype))

    def takes(self, other: TensorSpec) -> bool:
        """Whether `other` is of this shape and dtype; a length of `ANY` is any."""
        same = len(other.shape) == len(self.shape) and other.dtype == self.dtype
        return same and all(length in (ANY, size) for size, length in zip(other.shape, self.shape, strict=True))

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


class Signature(NamedTuple):
    """A function of a model that an app can call: its input and output tensors by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


Signatures = Mapping[str, tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]]
"""Signature name -> (inputs, outputs) by name."""


@dataclass(frozen=True)
class ModelSpec(ModelSettings):
    """A model's settings and its number of items, which together determine all tensors and signatures."""

    n_items: int = field(kw_only=True, metadata={"rule": Rule("Number of items in the item index.", least=1)})

    def __post_init__(self) -> None:
        super().__post_init__()
        rows, columns = max(self.n_items, self.batch_size), 3 * self.hidden_size + 1
        if rows * columns > MAX_NUMBERS:
            raise SettingsError(
                f"{rows:,} items or lanes with a hidden_size of {self.hidden_size:,} need {rows * columns:,} numbers.",
                expected=f"at most {MAX_NUMBERS:,} numbers in a tensor",
            )

    @classmethod
    def of(cls, settings: Gru4RecSettings, n_items: int) -> ModelSpec:
        """Settings for `n_items` items. `top_k` and `storage` have their defaults if `settings` does not have them."""
        return cls(n_items=n_items, **asdict(ModelSettings.part_of(settings)))

    @property
    def k(self) -> int:
        """Number of items that `recommend` returns: `top_k`, or all items if there are fewer."""
        return min(self.top_k, self.n_items)

    @property
    def trainable(self) -> bool:
        """Whether the file has the signatures train, train_sampled, train_one, learn and restore."""
        return self.storage != "int8"

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the weights in which the GRU's input is looked up; each has one row for each item."""
        inputs = {"none": ("kernel_z", "kernel_r", "kernel_h"), "separate": ("embedding",), "shared": ("output",)}
        return inputs[self.embedding]

    @property
    def weights(self) -> dict[str, Shape]:
        """Shapes of the trained tensors by name. Columns of gates are in the order z, r, h."""
        n, h = self.n_items, self.hidden_size
        tables = {name: (n, h) for name in self.tables if name != "output"}
        inner = {} if self.embedding == "none" else {"input": (h, 3 * h)}
        return {
            **tables,  # kernel_*: row i is what item i adds to a gate; embedding: row i is item i's vector
            **inner,
            "recurrent": (h, 3 * h),
            "bias": (2, 3 * h),  # row 0: input side; row 1: recurrent side (reset_after, as in Keras)
            "output": (n, h + 1),  # row i: item i's vector and, last, its bias
        }

    @property
    def slots(self) -> tuple[str, ...]:
        """What the optimizer stores for each weight, by name. Slot `m` of the weight `output` is the tensor `output_m`."""
        adagrad = ("acc", "mom") if self.momentum else ("acc",)
        if not self.trainable:
            return ()
        return {"adam": ("m", "v"), "adagrad": adagrad, "sgd": ()}[self.optimizer]

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(math.prod(shape) for shape in self.weights.values())

    @property
    def state(self) -> dict[str, TensorSpec]:
        """Everything that training changes, by name: weights, slots and step. `save` returns it, `restore` takes it."""
        weights = {name: TensorSpec(shape) for name, shape in self.weights.items()}
        slots = {f"{name}_{slot}": spec for name, spec in weights.items() for slot in self.slots}
        return {**weights, **slots, STEP: TensorSpec((), "int32")}

    @property
    def cache(self) -> dict[str, TensorSpec]:
        """The inputs of `recommend_user` beside those of `recommend`: a state cache, its share, and items to hide.

        Row i of the cache is a state of the user's and the item that came next, -1 for an empty row; `hide` is filled up
        with -1.
        """
        return {
            "cache_states": TensorSpec((self.journal, self.hidden_size)),
            "cache_items": TensorSpec((self.journal,), "int32"),
            "cache_share": TensorSpec((1,)),
            "hide": TensorSpec((self.journal,), "int32"),
        }

    @property
    def signatures(self) -> dict[str, Signature]:
        """The signatures by name."""
        scalar, integer = TensorSpec(()), TensorSpec((), "int32")
        codes, state = TensorSpec((self.batch_size,), "int32"), TensorSpec((self.batch_size, self.hidden_size))
        code, one_state = TensorSpec((1,), "int32"), TensorSpec((1, self.hidden_size))
        step = {"feat": codes, "target": codes, "initstate": state}
        learned = {"loss": scalar, "state": state}
        scores = TensorSpec((self.batch_size, self.n_items))
        best = {"items": TensorSpec((self.k,), "int32"), "scores": TensorSpec((self.k,)), "state": one_state}
        answers = {
            "infer": Signature({"feat": codes, "initstate": state}, {"output": scores, "state": state}),
            "eval": Signature({**step, "top_k": integer}, {"loss": scalar, "recall": scalar, "mrr": scalar}),
            "recommend": Signature({"feat": code, "initstate": one_state}, best),
            "recommend_user": Signature({"feat": code, "initstate": one_state, **self.cache}, best),
            "save": Signature({ZERO: code}, self.state),
        }
        if not self.trainable:
            return answers
        one_step = {"feat": code, "target": code, "initstate": one_state}
        learned_one = {"loss": scalar, "state": one_state}
        amounts = {name: TensorSpec((1,)) for name in rules_of(LearnSettings)}
        return {
            "train": Signature(step, learned),
            **answers,
            "train_sampled": Signature({**step, "negatives": TensorSpec((self.negatives,), "int32")}, learned),
            "train_one": Signature(one_step, learned_one),
            "learn": Signature({**one_step, **amounts}, learned_one),
            "restore": Signature(self.state, {STEP: integer}),
        }


@dataclass(frozen=True)
class Card:
    """The metadata entry of a model file.

    Attributes:
        settings: the settings that the model was made with.
        digests: name of each weight, and for a trained model of each slot and the step -> `digest` of its initial value.
        items: `Catalogue.hash` of its items.
        protocol: the settings of `split` and `batches` that the data was prepared with; empty where they are not known.
        version: the version of pocketrec that wrote the file.
        runtime: the first version of TensorFlow Lite that has all operators of the file; "" in files of format 3.
        learning: what `learn` is called with where an app does not choose otherwise.
        use: how the model is used for its user where an app does not choose otherwise.
        format: of the card.
    """

    settings: ModelSpec
    digests: Mapping[str, str]
    items: str
    protocol: Mapping[str, Any]
    version: str
    runtime: str = ""
    learning: LearnSettings = field(default_factory=LearnSettings)
    use: UserSettings = field(default_factory=UserSettings)
    format: int = FORMAT

    @property
    def signatures(self) -> dict[str, Signature]:
        """The signatures of the file by name."""
        found = self.settings.signatures
        if self.format <= NO_USER:
            del found["recommend_user"]
        if self.format <= NO_LEARN:
            found.pop("learn", None)
        if self.format <= NO_ZERO:
            found["save"] = Signature({}, self.settings.state)
        return found

    @property
    def base(self) -> str:
        """XXH3-128 of what identifies the model as it was shipped: its weights, settings and items. What was learned by
        another model is of no use to it.
        """
        about = [sorted(self.digests.items()), asdict(self.settings), self.items]
        return xxhash.xxh3_128(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The card as JSON text; equal cards have equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes | str) -> Card:
        """Read what `to_json` wrote.

        Raises:
            ModelError: the text is something else.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            if document["format"] not in (FORMAT, *EARLIER):
                raise ValueError(f"format {document['format']}, not {FORMAT}")
            settings = ModelSpec(**document["settings"])
            digests = {name: str(written) for name, written in document["digests"].items() if name in settings.state}
            if missing := settings.weights.keys() - digests:
                raise KeyError(min(missing))
            items, version, runtime = (str(document.get(key, "")) for key in ("items", "version", "runtime"))
            protocol, form = dict(document["protocol"]), int(document["format"])
            learning = LearnSettings(**document["learning"]) if form > NO_LEARN else LearnSettings()
            use = UserSettings(**document["use"]) if form > NO_USER else UserSettings()
            return cls(settings, digests, items, protocol, version, runtime, learning, use, form)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, SettingsError) as error:
            raise ModelError(
                f"The metadata entry {METADATA!r} cannot be read ({error.__class__.__name__}: {error}).",
                expected="the settings that `pocketrec export` writes into the file",
                do="pocketrec export",
            ) from error


def signature_faults(needed: Mapping[str, Signature], found: Mapping[str, Signature]) -> list[str]:
    """How the signatures of a file differ from those that it needs, a line for each difference."""
    faults = []
    for name, signature in needed.items():
        if name in found:
            faults += _tensor_faults(f"{name}: input", signature.inputs, found[name].inputs)
            faults += _tensor_faults(f"{name}: output", signature.outputs, found[name].outputs)
        else:
            faults.append(f"no signature {name!r}; there are {', '.join(map(repr, found)) or 'none'}")
    return faults


def _tensor_faults(where: str, needed: Mapping[str, TensorSpec], found: Mapping[str, TensorSpec]) -> list[str]:
    faults = [f"{where} {name} is missing" for name in needed if name not in found]
    faults += [f"{where} {name} is not expected" for name in found if name not in needed]
    both = ((name, spec, found[name]) for name, spec in needed.items() if name in found)
    return faults + [f"{where} {name} is {has}, not {spec}" for name, spec, has in both if spec != has]


def digest(weight: Float32) -> str:
    """XXH3-64, in hexadecimal, of a tensor's bytes: row by row, little-endian."""
    return xxhash.xxh3_64(weight.astype("<f4", copy=False).tobytes()).hexdigest()
