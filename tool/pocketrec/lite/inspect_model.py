"""`pocketrec inspect MODEL`: the settings, items and signatures of a model file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.runtime import read_bundle


@dataclass(frozen=True)
class ModelReport:
    """What is in a model file; `version`, `settings`, `protocol` and `items` as in `Card`.

    Attributes:
        model: the file.
        bytes: its size.
        runtime: the first TensorFlow Lite that runs it; "" where the file does not say so.
        first_items: the ids of the items with codes 0, 1 and 2.
        signatures: signature name -> "inputs -> outputs" with dtypes and shapes.
    """

    model: Path
    bytes: int
    runtime: str
    version: str
    settings: ModelSpec
    protocol: Mapping[str, Any]
    items: str
    first_items: tuple[str, ...]
    signatures: Mapping[str, str]


def inspect_model(model: Path | str) -> ModelReport:
    """Read what a model file says about itself; LiteRT is not needed.

    Raises:
        ModelError: the file is damaged, or was not made by pocketrec.
    """
    path = Path(model)
    card, items = read_bundle(path)
    signatures = {
        name: " -> ".join(", ".join(f"{key} {spec}" for key, spec in side.items()) or "nothing" for side in sides)
        for name, sides in card.signatures.items()
    }
    known = (card.version, card.settings, card.protocol, card.items)
    return ModelReport(path, path.stat().st_size, card.runtime, *known, items.ids[:3], signatures)
