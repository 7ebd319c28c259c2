"""What a model file says about itself: `pocketrec inspect MODEL`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketrec.lite.contract import ModelSpec
from pocketrec.lite.runtime import read_bundle


@dataclass(frozen=True)
class ModelReport:
    """A model file: what it says about itself.

    Attributes:
        model: the file.
        bytes: its size.
        version: of the pocketrec that wrote it.
        settings: what it was made with.
        protocol: how the data was prepared: settings of `split` and `batches`.
        items: XXH3-128 of its item ids.
        first_items: the ids of codes 0, 1, 2, ...
        signatures: by name: inputs and outputs with their dtypes and shapes.
    """

    model: Path
    bytes: int
    version: str
    settings: ModelSpec
    protocol: Mapping[str, Any]
    items: str
    first_items: tuple[str, ...]
    signatures: Mapping[str, str]


def inspect_model(model: Path | str) -> ModelReport:
    """Look at a model file; LiteRT is not needed.

    Raises:
        ModelError: the model is damaged, or is not pocketrec's.
    """
    path = Path(model)
    card, items = read_bundle(path)
    signatures = {
        name: " -> ".join(", ".join(f"{key} {spec}" for key, spec in side.items()) or "nothing" for side in sides)
        for name, sides in card.settings.signatures.items()
    }
    return ModelReport(
        path, path.stat().st_size, card.version, card.settings, card.protocol, items.hash, items.ids[:3], signatures
    )
