"""Frozen models, without variables, which answer and do not learn: their card, and how they are run.

Those of `pocketrec ncf` and `pocketrec dnn` are such; the GRU4Rec of `export` is not.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic

import numpy as np

from pocketrec.errors import DatasetError, ModelError, SettingsError
from pocketrec.lite.contract import METADATA, Signature, TensorSpec
from pocketrec.lite.first_run import LEAST_MEMORY, Call, try_calls
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.interpreter import Runner
from pocketrec.schema import Int32
from pocketrec.storage.networks import SettingsT

FORMAT = 1
"""Of the card, and the only one that is read. A card of format 1 does not name its format; later ones will."""

ANY = -1
"""A length in a shape that the app chooses."""
Signatures = Mapping[str, tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]]
"""Signature name -> (inputs, outputs) by name."""


@dataclass(frozen=True)
class FrozenCard(Generic[SettingsT]):
    """The metadata entry `pocketrec`: which kind of model, what it is made of, and the split whose codes it uses."""

    kind: str
    settings: SettingsT
    split: str

    def to_json(self) -> str:
        """Text that is equal for equal content."""
        return json.dumps({"kind": self.kind, "settings": asdict(self.settings), "split": self.split}, sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes | str, kind: str, settings: Callable[..., SettingsT]) -> FrozenCard[SettingsT]:
        """Read what `to_json` wrote for a kind of model with such settings.

        Raises:
            ModelError: it is something else, or of another format.
        """
        do = f"pocketrec {kind} export"
        try:
            document = json.loads(text)
            if (found := document.get("format", FORMAT)) == FORMAT:
                if document["kind"] != kind:
                    raise ValueError(f"a model of kind {document['kind']!r}")
                made = settings(**document["settings"])
                for name, codes in (("n_users", made.n_users), ("n_items", made.n_items)):
                    if type(codes) is not int or not 0 < codes < 2**31:  # codes are int32
                        raise ValueError(f"{name} is {codes!r}")
                return cls(kind, made, str(document["split"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, SettingsError) as error:
            raise ModelError(
                f"The metadata entry cannot be read ({error.__class__.__name__}: {error}).",
                expected=f"the card that `{do}` writes",
                do=do,
            ) from error
        raise ModelError(
            f"The metadata entry is a card of format {found!r}.",
            expected=f"format {FORMAT}, the one that this pocketrec reads and writes",
            do=f"use the pocketrec that exported the model, or export it again: {do}",
        )


def frozen_faults(needed: Signatures, found: Mapping[str, Signature]) -> list[str]:
    """How the signatures of a file differ from those that it needs, a line for each difference."""
    faults = [f"no signature {name!r}" for name in needed if name not in found]
    for name in (one for one in needed if one in found):  # in their order: the first fault is the message
        for side, wanted, has in zip(("input", "output"), needed[name], found[name], strict=True):
            if set(wanted) != set(has):
                faults.append(f"{name}: {side}s are {', '.join(sorted(has))}, not {', '.join(sorted(wanted))}")
            faults += [
                f"{name}: {side} {tensor} is {has[tensor]}, not {spec}"
                for tensor, spec in wanted.items()
                if tensor in has and not _fits(spec, str(has[tensor]))
            ]
    return faults


def _fits(spec: TensorSpec, found: str) -> bool:
    """Whether a tensor is as it should be; the flatbuffer writes a length that may be any as 1 or -1, or leaves it out."""
    shapes = ([length if length != ANY else one for length in spec.shape] for one in (ANY, 1))
    forms = {str(TensorSpec(tuple(shape), spec.dtype)) for shape in shapes}
    return found in forms | ({f"{spec.dtype}[]"} if ANY in spec.shape else set())


MEMORY_PER_BYTE = 8
"""That calls for two items may take, for each byte of the file."""


class FrozenModel(ABC, Generic[SettingsT]):
    """A model file, loaded.

    Attributes:
        kind: ncf or dnn.
        made_of: makes the settings of such networks.
        card: what the file says of itself.
    """

    kind: ClassVar[str]
    made_of: ClassVar[Callable[..., Any]]
    card: FrozenCard[SettingsT]

    def __init__(self, path: Path | str, threads: int = 2, *, split: str | None = None, trusted: bool = False) -> None:
        """Args:
            path: a .tflite of `pocketrec {kind} export`.
            threads: of the interpreter.
            split: content of the split whose codes the caller uses; None where the caller has checked it.
            trusted: open the file in this process at once, as in `OnDeviceModel`.

        Raises:
            DatasetError: the file is missing, or uses the codes of another split.
            MissingExtraError: LiteRT is not installed.
            ModelError: the file is damaged, is of another kind, or LiteRT cannot run it.
        """
        self.path, self.do = Path(path), f"pocketrec {self.kind} export"
        if not self.path.is_file():
            raise DatasetError(f"{path} is missing.", expected="an exported network", do=self.do)
        file = read_model(self.path)
        card = file.metadata.get(METADATA)
        if card is None:
            raise ModelError(f"{path} carries no card.", expected="a model of pocketrec", do=self.do)
        self.card = FrozenCard.from_json(card, self.kind, type(self).made_of)
        if split is not None and self.card.split != split:
            raise DatasetError(
                f"{path} uses the codes of another split.", expected="the split that is there now", do=self.do
            )
        if faults := frozen_faults(self.signatures(), file.signatures):
            raise ModelError(f"{path}: {faults[0]}.", expected=f"the signatures of a model of {self.kind}", do=self.do)
        if not trusted:
            memory = LEAST_MEMORY + MEMORY_PER_BYTE * file.size
            try_calls(self.path, self._calls(file.signatures), threads, do=self.do, memory=memory)
        self._runner = Runner(self.path, threads, do=self.do, check=self.do)

    @abstractmethod
    def signatures(self) -> Signatures:
        """Those of a model of the card's settings."""

    def _calls(self, signatures: Mapping[str, Signature]) -> list[Call]:
        """Calls of all signatures of the file: for the last user, and for the first and the last item."""
        last = self.card.settings.n_items - 1
        fills = {"user": [self.card.settings.n_users - 1], "items": [0, last], "seen": [0, last]}
        calls = []
        for name, signature in signatures.items():
            inputs = {
                key: (TensorSpec((2,) if key in ("items", "seen") else spec.shape, spec.dtype), fills.get(key, [1]))
                for key, spec in signature.inputs.items()
            }
            calls.append(Call(name, inputs))
        return 2 * calls

    def run(self, signature: str, **inputs: Any) -> Any:
        """The outputs of a signature by name.

        Raises:
            ModelError: LiteRT does not run it, or an output has another shape than the signature says.
        """
        found = self._runner.run(signature, inputs)
        specs = self.signatures()[signature][1]
        lengths = {len(found[name]) for name, spec in specs.items() if ANY in spec.shape and np.ndim(found[name])}
        lengths |= {len(inputs["items"])} if "items" in inputs else set()
        for name, spec in specs.items():
            shape, dtype = np.shape(found[name]), str(np.asarray(found[name]).dtype)
            fits = len(shape) == len(spec.shape) and all(
                one in (ANY, size) for one, size in zip(spec.shape, shape, strict=True)
            )
            if not fits or dtype != spec.dtype or len(lengths) > 1:
                raise ModelError(
                    f"{self.path}: {name} of the signature {signature!r} is {TensorSpec(shape, dtype)}.",
                    expected=f"{spec.dtype} numbers, as many as there are items",
                    do=self.do,
                )
        return found

    def user_input(self, user: int) -> Int32:
        """The code of a user as an input, int32 (1,).

        Raises:
            ModelError: the model has no such user.
        """
        last = self.card.settings.n_users - 1
        if not 0 <= user <= last:
            raise ModelError(f"the model has no user with code {user}.", expected=f"0 to {last}")
        return np.array([user], np.int32)

    def items_input(self, items: Int32) -> Int32:
        """Codes of items as an input, as they are: int32 (n,), n of 1 or more.

        Raises:
            ModelError: there are no items, or the model does not have one of them.
        """
        last = self.card.settings.n_items - 1
        if not len(items) or items.min() < 0 or items.max() > last:
            raise ModelError(
                "there are no items, or the model does not have one of them.", expected=f"one code or more of 0 to {last}"
            )
        return items
