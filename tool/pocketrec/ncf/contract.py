"""What export and its judge agree on: the signatures of an NCF .tflite, and the card that it carries.

| signature | inputs | outputs |
|---|---|---|
| score | user int32 (1,), items int32 (n,) | scores float32 (n,) |
| recommend | user int32 (1,), seen int32 (m,), top int32 () | items int32 (top,), scores float32 (top,), best first |

Codes are those of users.parquet and items.parquet; n, m and top may be any number from 1 on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pocketrec.errors import ModelError, SettingsError
from pocketrec.lite.contract import TensorSpec
from pocketrec.ncf.network import NetworkSettings

KIND = "ncf"
ANY = -1
"""A length that the app chooses."""
_ONE, _MANY, _SCALAR = TensorSpec((1,), "int32"), TensorSpec((ANY,), "int32"), TensorSpec((), "int32")
SIGNATURES = {
    "score": ({"user": _ONE, "items": _MANY}, {"scores": TensorSpec((ANY,))}),
    "recommend": (
        {"user": _ONE, "seen": _MANY, "top": _SCALAR},
        {"items": _MANY, "scores": TensorSpec((ANY,))},
    ),
}
"""Signature name -> (inputs, outputs) by name."""


@dataclass(frozen=True)
class NcfCard:
    """The metadata entry `pocketrec`: what the network is made of, and the split whose codes it speaks."""

    settings: NetworkSettings
    split: str

    def to_json(self) -> str:
        """Text that is equal for equal content."""
        return json.dumps({"kind": KIND, "settings": asdict(self.settings), "split": self.split}, sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes | str) -> NcfCard:
        """Read what `to_json` wrote.

        Raises:
            ModelError: it is something else.
        """
        try:
            document = json.loads(text)
            if document["kind"] != KIND:
                raise ValueError(f"a model of kind {document['kind']!r}")
            settings = {**document["settings"], "layers": tuple(document["settings"]["layers"])}
            return cls(NetworkSettings(**settings), str(document["split"]))
        except (ValueError, KeyError, TypeError, SettingsError) as error:
            raise ModelError(
                f"The metadata entry cannot be read ({error.__class__.__name__}: {error}).",
                expected="the card that `pocketrec ncf export` writes",
                do="pocketrec ncf export",
            ) from error
