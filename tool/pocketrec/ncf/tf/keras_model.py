"""NeuMF, GMF and the MLP in Keras 3, as TensorFlow's official recipe makes them; `ncf.network` has the formulas.

One table a side, of GMF's factors followed by the MLP's, glorot_uniform over the whole table and L2 on it; dense layers
with relu and glorot_uniform, L2 each; one linear output, lecun_uniform.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from pocketrec.ncf.network import NetworkSettings
from pocketrec.storage.tensors import Tensors


def build(settings: NetworkSettings, mf_regularization: float = 0.0, mlp_regularization: Sequence[float] = ()) -> Any:
    """The model: inputs `user` and `item`, int32 (n,); output a logit, float32 (n, 1).

    L2 is that of both tables, and of each layer; that of the first, which has no kernel, is not used, as in the original.
    """
    inputs = {name: keras.Input((), dtype="int32", name=name) for name in ("user", "item")}
    width, mf = settings.mf_dim + settings.mlp_dim, settings.mf_dim
    rows = [
        keras.layers.Embedding(
            count, width, embeddings_initializer="glorot_uniform", embeddings_regularizer=_l2(mf_regularization), name=name
        )(inputs[name.removeprefix("embedding_")])
        for name, count in (("embedding_user", settings.n_users), ("embedding_item", settings.n_items))
    ]
    parts = []
    if mf:
        parts.append(keras.layers.multiply([row[:, :mf] for row in rows]))
    if settings.mlp_dim:
        hidden = keras.layers.concatenate([row[:, mf:] for row in rows])
        for number, (units, l2) in enumerate(zip(settings.dense, [*mlp_regularization, *[0.0] * 99][1:], strict=False), 1):
            layer = keras.layers.Dense(units, activation="relu", kernel_regularizer=_l2(l2), name=f"dense_{number}")
            hidden = layer(hidden)
        parts.append(hidden)
    joined = keras.layers.concatenate(parts) if len(parts) > 1 else parts[0]
    output = keras.layers.Dense(1, kernel_initializer="lecun_uniform", dtype="float32", name="rating")(joined)
    return keras.Model(inputs, output, name=settings.kind)


def weights_of(model: Any, settings: NetworkSettings) -> Tensors:
    """Its weights by the names of `NetworkSettings.shapes`."""
    layer = model.get_layer
    found = {"user": layer("embedding_user").embeddings, "item": layer("embedding_item").embeddings}
    for number in range(1, len(settings.dense) + 1):
        dense = layer(f"dense_{number}")
        found |= {f"kernel_{number}": dense.kernel, f"bias_{number}": dense.bias}
    found |= {"kernel_out": layer("rating").kernel, "bias_out": layer("rating").bias}
    assert {name: tuple(variable.shape) for name, variable in found.items()} == settings.shapes
    return {name: variable.numpy() for name, variable in found.items()}


def _l2(weight: float) -> Any:
    return keras.regularizers.L2(weight) if weight else None
