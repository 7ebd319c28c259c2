"""An exported rating DNN at work, with LiteRT and numpy alone: the calls an app makes, in Python."""

from __future__ import annotations

from pocketrec.dnn.network import DnnSettings
from pocketrec.lite.contract import TensorSpec
from pocketrec.lite.frozen import ANY, FrozenModel, Signatures
from pocketrec.schema import Float32, Int32

KIND = "dnn"


def signatures_of(settings: DnnSettings) -> Signatures:
    """Signature name -> (inputs, outputs) by name."""
    outputs = {"ratings": TensorSpec((ANY,))}
    if settings.task == "classify":
        outputs["probabilities"] = TensorSpec((ANY, settings.outputs))
    return {"predict": ({"user": TensorSpec((1,), "int32"), "items": TensorSpec((ANY,), "int32")}, outputs)}


class DnnModel(FrozenModel[DnnSettings]):
    """A model file, loaded."""

    kind, made_of = KIND, DnnSettings

    def signatures(self) -> Signatures:
        return signatures_of(self.card.settings)

    def predict(self, user: int, items: Int32) -> tuple[Float32, Float32 | None]:
        """Ratings that a user is expected to give some items, (n,); with `classify` probabilities, (n, classes), too."""
        found = self.run("predict", user=self.user_input(user), items=self.items_input(items))
        return found["ratings"], found.get("probabilities")
