"""What export and its judge agree on: the signature of a rating DNN's .tflite.

| signature | inputs | outputs |
|---|---|---|
| predict | user int32 (1,), items int32 (n,) | ratings float32 (n,) |

With the task `classify` there are also probabilities, float32 (n, classes). Codes are those of users.parquet and
items.parquet, and 0 for a user or an item that is not there; n may be any number from 1 on.
"""

from __future__ import annotations

from pocketrec.dnn.network import DnnSettings
from pocketrec.lite.contract import TensorSpec
from pocketrec.lite.plain_checks import ANY, Signatures

KIND = "dnn"


def signatures_of(settings: DnnSettings) -> Signatures:
    """Signature name -> (inputs, outputs) by name."""
    outputs = {"ratings": TensorSpec((ANY,))}
    if settings.task == "classify":
        outputs["probabilities"] = TensorSpec((ANY, settings.outputs))
    return {"predict": ({"user": TensorSpec((1,), "int32"), "items": TensorSpec((ANY,), "int32")}, outputs)}
