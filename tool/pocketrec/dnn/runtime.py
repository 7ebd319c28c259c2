"""An exported rating DNN at work, with LiteRT and numpy alone: the calls an app makes, in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocketrec.dnn.network import DnnSettings
from pocketrec.errors import ModelError
from pocketrec.lite.contract import TensorSpec
from pocketrec.lite.frozen import PlainModel
from pocketrec.lite.judge.frozen_checks import ANY, Signatures
from pocketrec.schema import Float32, Int32


class DnnModel(PlainModel[DnnSettings]):
    """A model file, loaded."""

    def __init__(self, path: Path | str, threads: int = 2, *, split: str | None = None) -> None:
        """See `PlainModel`."""
        super().__init__(path, KIND, DnnSettings, threads, split)

    def predict(self, user: int, items: Int32) -> tuple[Float32, Float32 | None]:
        """Ratings that a user is expected to give some items, (n,); with `classify` probabilities, (n, classes), too."""
        settings = self.card.settings
        if not 0 <= user < settings.n_users:
            raise ModelError(f"user code {user} is none.", expected=f"0 to {settings.n_users - 1}")
        if not len(items) or items.min() < 0 or items.max() >= settings.n_items:
            raise ModelError(
                "some item codes are none, or there are no items.", expected=f"one or more of 0 to {settings.n_items - 1}"
            )
        found = self.run("predict", user=np.array([user], np.int32), items=items)
        return found["ratings"], found.get("probabilities")


KIND = "dnn"


def signatures_of(settings: DnnSettings) -> Signatures:
    """Signature name -> (inputs, outputs) by name."""
    outputs = {"ratings": TensorSpec((ANY,))}
    if settings.task == "classify":
        outputs["probabilities"] = TensorSpec((ANY, settings.outputs))
    return {"predict": ({"user": TensorSpec((1,), "int32"), "items": TensorSpec((ANY,), "int32")}, outputs)}
