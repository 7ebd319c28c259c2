"""An exported network at work, with LiteRT and numpy alone: the calls an app makes, in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.errors import DatasetError, ModelError
from pocketrec.lite.contract import METADATA
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.interpreter import open_interpreter
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.ncf.contract import NcfCard
from pocketrec.schema import Int32

Floats = npt.NDArray[np.float32]
EXPORT = "pocketrec ncf export"


class NcfModel:
    """A model file, loaded."""

    def __init__(self, path: Path | str, threads: int = 2, *, split: str | None = None) -> None:
        """Args:
            path: a .tflite of `pocketrec ncf export`.
            threads: of the interpreter.
            split: content of the split whose codes it must speak; None if that is the caller's business.

        Raises:
            DatasetError: the file is missing, or speaks the codes of another split.
            MissingExtraError: LiteRT is not installed.
            ModelError: the file is damaged, is not NCF's, or LiteRT cannot run it.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise DatasetError(f"{path} is missing.", expected="an exported network", do=EXPORT)
        card = read_model(self.path).metadata.get(METADATA)
        if card is None:
            raise ModelError(f"{path} carries no card.", expected="a model of pocketrec", do=EXPORT)
        self.card = NcfCard.from_json(card)
        if split is not None and self.card.split != split:
            raise DatasetError(
                f"{path} speaks the codes of another split.", expected="the split that is there now", do=EXPORT
            )
        self._interpreter = open_interpreter(self.path, threads, do=EXPORT)

    def score(self, user: int, items: Int32) -> Floats:
        """Logits of some items for a user, (n,)."""
        self._check(items=items)
        scores: Floats = self._run("score", user=self._user(user), items=items)["scores"]
        return scores

    def recommend(self, user: int, seen: Int32, top: int) -> tuple[Int32, Floats]:
        """The best `top` items that are not among those seen, and their logits, best first."""
        self._check(items=seen)
        found = self._run("recommend", user=self._user(user), seen=seen, top=np.int32(top))
        return found["items"], found["scores"]

    def _user(self, user: int) -> Int32:
        if not 0 <= user < self.card.settings.n_users:
            raise ModelError(f"user code {user} is none.", expected=f"0 to {self.card.settings.n_users - 1}")
        return np.array([user], np.int32)

    def _check(self, items: Int32) -> None:
        last = self.card.settings.n_items - 1
        if not len(items) or items.min() < 0 or items.max() > last:
            raise ModelError("some item codes are none, or there are no items.", expected=f"one or more of 0 to {last}")

    def _run(self, signature: str, **inputs: Any) -> Any:
        try:
            with native_stderr_closed():
                return self._interpreter.get_signature_runner(signature)(**inputs)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.path}: the signature {signature!r} failed: {error}", do=EXPORT) from error
