"""Models without variables, that answer and do not learn: their card, and how they are run.

Those of `pocketrec ncf` and `pocketrec dnn` are such; the GRU4Rec of `export` is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic

from pocketrec.errors import DatasetError, ModelError, SettingsError
from pocketrec.lite.contract import METADATA
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.interpreter import open_interpreter
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.storage.networks import SettingsT, settings_from


@dataclass(frozen=True)
class PlainCard(Generic[SettingsT]):
    """The metadata entry `pocketrec`: which kind of model, what it is made of, and the split whose codes it speaks."""

    kind: str
    settings: SettingsT
    split: str

    def to_json(self) -> str:
        """Text that is equal for equal content."""
        return json.dumps({"kind": self.kind, "settings": asdict(self.settings), "split": self.split}, sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes | str, kind: str, settings: Callable[..., SettingsT]) -> PlainCard[SettingsT]:
        """Read what `to_json` wrote for a kind of model with such settings.

        Raises:
            ModelError: it is something else.
        """
        try:
            document = json.loads(text)
            if document["kind"] != kind:
                raise ValueError(f"a model of kind {document['kind']!r}")
            return cls(kind, settings_from(settings, document["settings"]), str(document["split"]))
        except (ValueError, KeyError, TypeError, SettingsError) as error:
            raise ModelError(
                f"The metadata entry cannot be read ({error.__class__.__name__}: {error}).",
                expected=f"the card that `pocketrec {kind} export` writes",
                do=f"pocketrec {kind} export",
            ) from error


class PlainModel(Generic[SettingsT]):
    """A model file, loaded."""

    def __init__(
        self, path: Path | str, kind: str, settings: Callable[..., SettingsT], threads: int = 2, split: str | None = None
    ) -> None:
        """Args:
            path: a .tflite of `pocketrec {kind} export`.
            kind: ncf or dnn.
            settings: of such networks.
            threads: of the interpreter.
            split: content of the split whose codes it must speak; None if that is the caller's business.

        Raises:
            DatasetError: the file is missing, or speaks the codes of another split.
            MissingExtraError: LiteRT is not installed.
            ModelError: the file is damaged, is of another kind, or LiteRT cannot run it.
        """
        self.path, self.do = Path(path), f"pocketrec {kind} export"
        if not self.path.is_file():
            raise DatasetError(f"{path} is missing.", expected="an exported network", do=self.do)
        card = read_model(self.path).metadata.get(METADATA)
        if card is None:
            raise ModelError(f"{path} carries no card.", expected="a model of pocketrec", do=self.do)
        self.card = PlainCard.from_json(card, kind, settings)
        if split is not None and self.card.split != split:
            raise DatasetError(
                f"{path} speaks the codes of another split.", expected="the split that is there now", do=self.do
            )
        self._interpreter = open_interpreter(self.path, threads, do=self.do)

    def run(self, signature: str, **inputs: Any) -> Any:
        """The outputs of a signature by name.

        Raises:
            ModelError: LiteRT does not run it.
        """
        try:
            with native_stderr_closed():
                return self._interpreter.get_signature_runner(signature)(**inputs)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.path}: the signature {signature!r} failed: {error}", do=self.do) from error
