"""The rating DNN in Keras 3: one definition, `layers_of` and `joined`, built in both styles of TensorFlow 2.

`functional` makes a keras.Model of tensors that run through the layers, `RatingDnn` is a subclass of keras.Model whose
`call` sends them through; the same weights give the same outputs. `dnn.network` has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from pocketrec.dnn.network import DnnSettings
from pocketrec.dnn.options import DnnTrainSettings
from pocketrec.storage.tensors import Tensors

INPUTS = ("user", "item")
_SPREAD = 0.05
"""Standard deviation of the embeddings in the beginning."""


def layers_of(settings: DnnSettings, training: DnnTrainSettings) -> dict[str, Any]:
    """The layers by name; of `training` the dropout, the L2 penalties and the seed are used."""
    made: dict[str, Any] = {}
    embedding = keras.layers.Embedding
    for number, name in enumerate(INPUTS):
        rows, columns = settings.shapes[f"{name}_features"]
        spread = keras.initializers.RandomNormal(0.0, _SPREAD, seed=training.seed + number)
        penalties = training.regularization, training.bias_regularization
        l2, bias_l2 = (keras.regularizers.L2(one) if one else None for one in penalties)
        made[f"{name}_embedding"] = embedding(rows, settings.embedding_size, spread, l2, name=f"{name}_embedding")
        made[f"{name}_bias"] = embedding(rows, settings.outputs, "zeros", bias_l2, name=f"{name}_bias")
        made[f"{name}_features"] = embedding(rows, columns, "zeros", trainable=False, name=f"{name}_features")
    for number, units in enumerate(settings.layers, 1):
        start = keras.initializers.GlorotUniform(training.seed + 10 + number)
        made[f"dense_{number}"] = keras.layers.Dense(
            units, activation="relu", kernel_initializer=start, name=f"dense_{number}"
        )
        made[f"dropout_{number}"] = keras.layers.Dropout(
            training.dropout, seed=training.seed + 100 + number, name=f"dropout_{number}"
        )
    start = keras.initializers.GlorotUniform(training.seed + 10)
    made["out"] = keras.layers.Dense(settings.outputs, kernel_initializer=start, name="out")
    made["product"] = keras.layers.Dense(settings.outputs, use_bias=False, kernel_initializer="ones", name="product")
    made |= {name: layer(name=name) for name, layer in _JOINTS.items()}
    return made


_JOINTS = {"joined": keras.layers.Concatenate, "multiplied": keras.layers.Multiply, "rating": keras.layers.Add}


def joined(layers: Mapping[str, Any], inputs: Mapping[str, Any], training: bool | None = None) -> Any:
    """Send inputs `user` and `item`, int32 (n,), through the layers; float32 (n, outputs) comes out."""
    user, item = (layers[f"{name}_embedding"](inputs[name]) for name in INPUTS)
    features = [layers[f"{name}_features"](inputs[name]) for name in INPUTS]
    hidden, number = layers["joined"]([user, item, *features]), 1
    while f"dense_{number}" in layers:
        hidden = layers[f"dropout_{number}"](layers[f"dense_{number}"](hidden), training=training)
        number += 1
    parts = [layers["out"](hidden), layers["product"](layers["multiplied"]([user, item]))]
    return layers["rating"]([*parts, *(layers[f"{name}_bias"](inputs[name]) for name in INPUTS)])


def functional(settings: DnnSettings, training: DnnTrainSettings | None = None) -> Any:
    """The functional style."""
    inputs = {name: keras.Input((), dtype="int32", name=name) for name in INPUTS}
    layers = layers_of(settings, training or DnnTrainSettings())
    return keras.Model(inputs, joined(layers, inputs), name="rating_dnn")


@keras.saving.register_keras_serializable("pocketrec")
class RatingDnn(keras.Model):  # type: ignore[misc]
    """The subclassed style."""

    def __init__(self, settings: DnnSettings, training: DnnTrainSettings | None = None, **options: Any) -> None:
        super().__init__(**{"name": "rating_dnn", **options})
        self.settings, self.training_options = settings, training or DnnTrainSettings()
        self.parts = layers_of(settings, self.training_options)

    def build(self, input_shape: Any = None) -> None:  # noqa: ARG002
        """Make the weights: a call with symbols does."""
        joined(self.parts, {name: keras.KerasTensor((None,), "int32") for name in INPUTS})
        self.built = True

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> Any:
        """As `joined`."""
        return joined(self.parts, inputs, training)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """A layer by its name."""
        return self.parts[name] if name in self.parts else super().get_layer(name, index)

    def get_config(self) -> dict[str, Any]:
        """Plain values, from which `from_config` makes the model again."""
        return {"settings": asdict(self.settings), "training": asdict(self.training_options), "name": self.name}

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> RatingDnn:  # noqa: ARG003
        """The model of `get_config`'s values."""
        options = {name: value for name, value in config.items() if name not in ("settings", "training")}
        return cls(DnnSettings(**config["settings"]), DnnTrainSettings(**config["training"]), **options)


def start(model: Any, settings: DnnSettings, features: Mapping[str, Any], mean: float) -> None:
    """Put in what is known before training: features, and the mean rating; rows of codes without train rows are zeros.

    `features` of `user` and `item` are as prep wrote them: their first column is 0 where there is no train row.
    """
    named = _named(model, settings)
    for name in INPUTS:
        rows = np.asarray(features[name], np.float32)
        named[f"{name}_features"].assign(rows)
        named[name].assign(named[name].numpy() * (rows[:, :1] > 0))
    if settings.task == "rate":
        named["bias_out"].assign([mean])


def weights_of(model: Any, settings: DnnSettings) -> Tensors:
    """Its weights by the names of `DnnSettings.shapes`."""
    found = {name: np.array(variable.numpy()) for name, variable in _named(model, settings).items()}
    assert {name: array.shape for name, array in found.items()} == settings.shapes
    return found


def set_weights(model: Any, settings: DnnSettings, weights: Tensors) -> None:
    """Put weights into a model of either style."""
    for name, variable in _named(model, settings).items():
        variable.assign(weights[name])


def _named(model: Any, settings: DnnSettings) -> dict[str, Any]:
    layer = model.get_layer
    named = {name: layer(f"{name}_embedding").embeddings for name in INPUTS}
    named |= {f"{name}_{what}": layer(f"{name}_{what}").embeddings for name in INPUTS for what in ("bias", "features")}
    for number in range(1, len(settings.layers) + 1):
        dense = layer(f"dense_{number}")
        named |= {f"kernel_{number}": dense.kernel, f"bias_{number}": dense.bias}
    return named | {
        "kernel_out": layer("out").kernel, "bias_out": layer("out").bias, "product": layer("product").kernel,
    }  # fmt: skip
