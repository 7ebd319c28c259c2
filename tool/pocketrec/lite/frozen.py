"""Frozen models, without variables, which answer and do not learn: their card, and how they are run.

Those of `pocketrec ncf` and `pocketrec dnn` are such; the GRU4Rec of `export` is not. A file has signatures whose lengths
the app chooses, and the same with lengths that were fixed at export, for runtimes that cannot change a shape: such a list
is filled up with `NONE`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from pocketrec.errors import DatasetError, ModelError, SettingsError
from pocketrec.lite.catalogue import Catalogue, read_catalogue
from pocketrec.lite.contract import ANY, METADATA, Signature, Signatures, TensorSpec
from pocketrec.lite.first_run import LEAST_MEMORY, Call, try_calls
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.interpreter import Runner
from pocketrec.lite.options import FixedSettings
from pocketrec.schema import Int32
from pocketrec.storage.networks import SettingsT
from pocketrec.storage.tensors import Tensors
from pocketrec.version import __version__

FORMAT, WITHOUT_IDS = 2, 1
"""Of the card. Files of the format before have no ids and no signatures of fixed lengths; they are still run. A card of
that format does not name it."""

NONE = -1
"""Stands for no item, in lists of a fixed length."""
FixedT = TypeVar("FixedT", bound=FixedSettings)


@dataclass(frozen=True)
class FrozenCard(Generic[SettingsT, FixedT]):
    """The metadata entry `pocketrec`: which kind of model, what it is made of, and the split whose codes it uses.

    Attributes:
        kind: ncf or dnn.
        settings: what the network is made of.
        split: content of the split.
        fixed: the lengths of the signatures that have fixed ones; None in a file of format 1, which has none.
        items: `Catalogue.hash` of its items; "" in a file of format 1.
        users: `Catalogue.users_hash` of its users; "" in a file of format 1.
        version: the version of pocketrec that wrote the file; "" in a file of format 1.
        runtime: the first version of TensorFlow Lite that has all operators of the file; "" in a file of format 1.
    """

    kind: str
    settings: SettingsT
    split: str
    fixed: FixedT | None
    items: str = ""
    users: str = ""
    version: str = __version__
    runtime: str = ""

    def to_json(self) -> str:
        """Text that is equal for equal content."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(
        cls, text: bytes | str, kind: str, settings: Callable[..., SettingsT], fixed: Callable[..., FixedT]
    ) -> FrozenCard[SettingsT, FixedT]:
        """Read what `to_json` wrote for a kind of model with such settings and such fixed lengths.

        Raises:
            ModelError: it is something else, or of another format.
        """
        do = f"pocketrec {kind} export"
        try:
            document = json.loads(text)
            if (found := document.get("format", WITHOUT_IDS)) in (FORMAT, WITHOUT_IDS):
                if document["kind"] != kind:
                    raise ValueError(f"a model of kind {document['kind']!r}")
                for name in ("n_users", "n_items"):
                    codes = document["settings"][name]
                    if type(codes) is not int or not 0 < codes < 2**31:  # codes are int32
                        raise ValueError(f"{name} is {codes!r}")
                made, split = settings(**document["settings"]), str(document["split"])
                if found == WITHOUT_IDS:
                    return cls(kind, made, split, None, version="")
                texts = (str(document[name]) for name in ("items", "users", "version", "runtime"))
                return cls(kind, made, split, fixed(**document["fixed"]), *texts)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, SettingsError) as error:
            raise ModelError(
                f"The metadata entry cannot be read ({error.__class__.__name__}: {error}).",
                expected=f"the card that `{do}` writes",
                do=do,
            ) from error
        raise ModelError(
            f"The metadata entry is a card of format {found!r}.",
            expected=f"format {WITHOUT_IDS} or {FORMAT}, which this pocketrec reads",
            do=f"use the pocketrec that exported the model, or export it again: {do}",
        )


def read_ids(path: Path, card: FrozenCard[Any, Any]) -> Catalogue | None:
    """The ids in a model file; None in one of format 1.

    Raises:
        ModelError: they are missing or damaged, or are not those that the card names.
    """
    if card.fixed is None:
        return None
    do = f"pocketrec {card.kind} export"
    ids, made = read_catalogue(path, do), card.settings
    if (len(ids.ids), len(ids.users), ids.hash, ids.users_hash) != (made.n_items, made.n_users, card.items, card.users):
        raise ModelError(
            f"The ids in {path} are not those it was exported for.",
            expected=f"{made.n_items:,} items with the hash {card.items}, {made.n_users:,} users with {card.users}",
            do=do,
        )
    return ids


def is_fixed(signature: tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]) -> bool:
    """Whether all shapes of a signature are known before it runs."""
    return not any(ANY in spec.shape for side in signature for spec in side.values())


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


class FrozenModel(ABC, Generic[SettingsT, FixedT]):
    """A model file, loaded.

    Attributes:
        kind: ncf or dnn.
        made_of: makes the settings of such networks.
        fixed_by: makes the lengths that are fixed in such a file.
        card: what the file says of itself.
        ids: the ids of its items and users; None in a file of format 1.
    """

    kind: ClassVar[str]
    made_of: ClassVar[Callable[..., Any]]
    fixed_by: ClassVar[Callable[..., Any]]
    card: FrozenCard[SettingsT, FixedT]

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
        self.card = FrozenCard.from_json(card, self.kind, type(self).made_of, type(self).fixed_by)
        if split is not None and self.card.split != split:
            raise DatasetError(
                f"{path} uses the codes of another split.", expected="the split that is there now", do=self.do
            )
        self.ids = read_ids(self.path, self.card)
        if faults := frozen_faults(self.signatures(), file.signatures):
            raise ModelError(f"{path}: {faults[0]}.", expected=f"the signatures of a model of {self.kind}", do=self.do)
        if not trusted:
            memory = LEAST_MEMORY + MEMORY_PER_BYTE * file.size
            try_calls(self.path, self._calls(), threads, do=self.do, memory=memory)
        self._runner = Runner(self.path, threads, self.signatures(), do=self.do, check=self.do)

    @abstractmethod
    def signatures(self) -> Signatures:
        """Those of a model of the card's settings. The first one is the first graph of the file."""

    def _calls(self) -> list[Call]:
        """Calls of all signatures: for the last user, and for the first and the last item."""
        last = self.card.settings.n_items - 1
        fills = {"user": [self.card.settings.n_users - 1], "items": [0, last], "seen": [0, last]}
        calls = []
        for name, (inputs, _) in self.signatures().items():
            lengths = {key: tuple(2 if one == ANY else one for one in spec.shape) for key, spec in inputs.items()}
            specs = {key: TensorSpec(lengths[key], spec.dtype) for key, spec in inputs.items()}
            calls.append(Call(name, {key: (spec, fills.get(key, [1])) for key, spec in specs.items()}))
        return 2 * calls

    def run(self, signature: str, **inputs: Any) -> Tensors:
        """The outputs of a signature by name.

        Raises:
            ModelError: LiteRT does not run it, or an output is not what the signature gives.
        """
        found = self._runner.run(signature, inputs)
        lengths = {name: len(found[name]) for name, spec in self.signatures()[signature][1].items() if ANY in spec.shape}
        lengths |= {"items": len(inputs["items"])} if "items" in inputs else {}
        if len(set(lengths.values())) > 1:
            raise ModelError(
                f"{self.path}: the lengths of the signature {signature!r} are {lengths}.",
                expected="as many numbers as there are items; the file is damaged, or was changed",
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

    @property
    def fixed(self) -> FixedT:
        """The lengths that are fixed in the file.

        Raises:
            ModelError: the file is of format 1, which has none.
        """
        if self.card.fixed is None:
            raise ModelError(
                f"{self.path} has no signatures of fixed lengths.", expected=f"a card of format {FORMAT}", do=self.do
            )
        return self.card.fixed

    def filled(self, codes: Int32, length: int) -> Int32:
        """A list of a fixed length: the codes, and `NONE` behind them, int32 (length,).

        Raises:
            ModelError: there are more codes.
        """
        if len(codes) > length:
            raise ModelError(
                f"there are {len(codes):,} items.", expected=f"at most {length:,}, fixed at export", do=self.do
            )
        return np.concatenate([codes, np.full(length - len(codes), NONE, np.int32)], dtype=np.int32)

    def in_blocks(self, signature: str, user: int, items: Int32) -> Tensors:
        """The outputs of a signature of a fixed number of items for any number, (n, ...) each, in calls of a block."""
        items, block = self.items_input(items), self.fixed.fixed_items
        parts = [items[first : first + block] for first in range(0, len(items), block)]
        found = [self.run(signature, user=self.user_input(user), items=self.filled(part, block)) for part in parts]
        return {
            name: np.concatenate([one[name][: len(part)] for one, part in zip(found, parts, strict=True)])
            for name in found[0]
        }
