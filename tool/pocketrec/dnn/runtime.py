"""An exported rating DNN at work, with LiteRT and numpy alone: the calls an app makes, in Python."""

from __future__ import annotations

from pocketrec.dnn.network import DnnSettings
from pocketrec.dnn.options import DnnExportSettings
from pocketrec.lite.contract import ANY, Signatures, TensorSpec
from pocketrec.lite.frozen import FrozenModel
from pocketrec.schema import Float32, Int32

KIND = "dnn"
PREDICT, PREDICT_FIXED = "predict", "predict_fixed"


def signatures_of(settings: DnnSettings, fixed: DnnExportSettings | None) -> Signatures:
    """Signature name -> (inputs, outputs) by name; `fixed` is None for a file that has no fixed lengths."""
    found: Signatures = {}
    for name, length in ((PREDICT_FIXED, fixed.fixed_items if fixed else None), (PREDICT, ANY)):
        if length is not None:
            outputs = {"ratings": TensorSpec((length,))}
            if settings.task == "classify":
                outputs["probabilities"] = TensorSpec((length, settings.outputs))
            inputs = {"user": TensorSpec((1,), "int32"), "items": TensorSpec((length,), "int32")}
            found = {**found, name: (inputs, outputs)}
    return found


class DnnModel(FrozenModel[DnnSettings, DnnExportSettings]):
    """A model file, loaded."""

    kind, made_of, fixed_by = KIND, DnnSettings, DnnExportSettings

    def signatures(self) -> Signatures:
        return signatures_of(self.card.settings, self.card.fixed)

    def predict(self, user: int, items: Int32) -> tuple[Float32, Float32 | None]:
        """Ratings that a user is expected to give some items, (n,); with `classify` probabilities, (n, classes), too."""
        found = self.run(PREDICT, user=self.user_input(user), items=self.items_input(items))
        return found["ratings"], found.get("probabilities")

    def predict_fixed(self, user: int, items: Int32) -> tuple[Float32, Float32 | None]:
        """`predict` as runtimes do it that cannot change a shape: so many items a call as are fixed in the file."""
        found = self.in_blocks(PREDICT_FIXED, user, items)
        return found["ratings"], found.get("probabilities")
