"""What export and its judge agree on: the signatures of an NCF .tflite.

| signature | inputs | outputs |
|---|---|---|
| score | user int32 (1,), items int32 (n,) | scores float32 (n,) |
| recommend | user int32 (1,), seen int32 (m,), top int32 () | items int32 (top,), scores float32 (top,), best first |

Codes are those of users.parquet and items.parquet; n, m and top may be any number from 1 on.
"""

from __future__ import annotations

from pocketrec.lite.contract import TensorSpec
from pocketrec.lite.plain_checks import ANY

KIND = "ncf"
_ONE, _MANY, _SCALAR = TensorSpec((1,), "int32"), TensorSpec((ANY,), "int32"), TensorSpec((), "int32")
SIGNATURES = {
    "score": ({"user": _ONE, "items": _MANY}, {"scores": TensorSpec((ANY,))}),
    "recommend": (
        {"user": _ONE, "seen": _MANY, "top": _SCALAR},
        {"items": _MANY, "scores": TensorSpec((ANY,))},
    ),
}
