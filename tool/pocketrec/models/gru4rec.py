"""GRU4Rec as a graph of TensorFlow Lite builtins: it trains where there is no TensorFlow.

One step of a GRU (reset_after, as in Keras) over one-hot items, a softmax over all items, and the backward pass written
out by hand, since the lowering of a derived one needs ops that LiteRT does not have. No gradient flows through time: the
state comes in from outside, as in the original.

    x = kernel[feat] + bias[0];  y = initstate @ recurrent + bias[1]              columns: z, r, h
    z = sigmoid(xz + yz);  r = sigmoid(xr + yr);  c = tanh(xh + r * yh)
    state = z * initstate + (1 - z) * c
    loss = mean over the lanes that have a target of -log softmax(state @ dense + dense_bias)[target]

A target of -1 is no target: the lane adds nothing to the loss, the metrics or the gradient, and is not counted in the mean,
so that a padded tail weighs each real transition alike. Where no lane has a target, loss and metrics are 0. With all
targets there, the loss is Keras' mean categorical cross-entropy.

Shaped by what LiteRT does fast and small (37,484 items, B=512, H=100): matrix products as BATCH_MATMUL (a FULLY_CONNECTED
with a computed right side takes 4 times as long), the kernel held as one variable a gate and the updates chained one after
the other (a variable is read, computed and assigned as whole tensors: three gates at once would be 0.2 GB more).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pocketrec.lite.contract import OPTIMIZERS, STEP, ModelSettings

Array = npt.NDArray[np.float32]
Tensor = Any  # TensorFlow has no types to offer
Gradients = dict[str, Callable[[], Tensor]]

GATES = ("z", "r", "h")


def initial_weights(settings: ModelSettings) -> dict[str, Array]:
    """Keras' initial values from a numpy generator: glorot uniform, orthogonal, zeros. Shapes: `ModelSettings.weights`."""
    rng = np.random.default_rng(settings.seed)
    shapes = settings.weights
    return {
        "kernel": _glorot_uniform(rng, shapes["kernel"]),
        "recurrent": _orthogonal(rng, shapes["recurrent"]),
        "bias": np.zeros(shapes["bias"], np.float32),
        "dense": _glorot_uniform(rng, shapes["dense"]),
        "dense_bias": np.zeros(shapes["dense_bias"], np.float32),
    }


def _glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    limit = np.float32(math.sqrt(6 / sum(shape)))
    return rng.random(shape, dtype=np.float32) * (2 * limit) - limit


def _orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    rows, columns = shape  # rows < columns: orthonormal rows
    q, r = np.linalg.qr(rng.standard_normal((columns, rows)))
    return np.ascontiguousarray((q * np.sign(np.diag(r))).T, dtype=np.float32)


class Gru4Rec(tf.Module):  # type: ignore[misc]
    """The network, its optimizer and its five signatures (see `ModelSettings.signatures`).

    Args:
        settings: sizes, optimizer, seed.
        weights: initial values in the shapes of `ModelSettings.weights`; drawn from the seed if not given.
    """

    def __init__(self, settings: ModelSettings, weights: Mapping[str, Array] | None = None) -> None:
        super().__init__(name="gru4rec")
        self.settings = settings
        self.initial = dict(weights or initial_weights(settings))
        parts = _split_gates(self.initial)
        self.weights = {name: _variable(name, value) for name, value in parts.items()}
        self.slots = {
            f"{name}_{slot}": _variable(f"{name}_{slot}", np.zeros_like(value))
            for name, value in parts.items()
            for slot in OPTIMIZERS[settings.optimizer]
        }
        self.step = _variable(STEP, np.int32(0))

    def signatures(self) -> dict[str, Tensor]:
        """The five concrete functions by name."""
        functions = {"train": self.train, "infer": self.infer, "eval": self.evaluate, "save": self.save}
        concrete = {
            name: tf.function(function).get_concrete_function(**_specs(self.settings.signatures[name][0]))
            for name, function in functions.items()
        }
        concrete["restore"] = self._restore_function()
        return concrete

    def train(self, feat: Tensor, target: Tensor, initstate: Tensor) -> dict[str, Tensor]:
        """One step of the optimizer: the loss before it, and the state after the items."""
        gates = self._gates(feat, initstate)
        state, output = gates["state"], self._output_layer()
        logits = tf.matmul(_with_one(state), output)  # (B, n_items)
        probabilities = tf.nn.softmax(logits)
        share, item = _lane_shares(target)
        own = tf.transpose(tf.gather(output, item, axis=1))  # (B, H + 1), the targets' columns
        score = tf.reduce_sum(_with_one(state) * own, axis=1)
        loss = tf.reduce_sum((_log_sum(logits, probabilities) - score) * share)
        d_state = (self._expected_output(probabilities, output) - own)[:, :-1] * share[:, None]
        d_input, d_inner = _gate_gradients(gates, initstate, d_state)
        gradients = {
            **self._output_gradients(probabilities, state, item, share),
            **self._input_gradients(feat, initstate, d_input, d_inner),
        }
        self._apply(gradients, after=[loss, state, *d_input, *d_inner])
        return {"loss": loss, "state": state}

    def infer(self, feat: Tensor, initstate: Tensor) -> dict[str, Tensor]:
        """Probabilities of the next item, and the state."""
        state = self._gates(feat, initstate)["state"]
        return {"output": tf.nn.softmax(self._logits(state)), "state": state}

    def evaluate(self, feat: Tensor, target: Tensor, initstate: Tensor, top_k: Tensor) -> dict[str, Tensor]:
        """Loss, Recall@k and MRR@k over the lanes with a target; rank = items that score at least the target's score."""
        logits = self._logits(self._gates(feat, initstate)["state"])
        share, item = _lane_shares(target)
        own = tf.gather(logits, item, batch_dims=1)
        loss = tf.reduce_sum((_log_sum(logits, tf.nn.softmax(logits)) - own) * share)
        rank = tf.reduce_sum(tf.cast(logits >= own[:, None], tf.float32), axis=1)  # exact up to 2**24 items
        hit = tf.cast(rank <= tf.cast(top_k, tf.float32), tf.float32) * share
        return {"loss": loss, "recall": tf.reduce_sum(hit), "mrr": tf.reduce_sum(hit / rank)}

    def save(self) -> dict[str, Tensor]:
        """Weights, slots and step as tensors."""
        values = {name: variable.read_value() for name, variable in {**self.weights, **self.slots}.items()}
        return {**_join_gates(values), STEP: self.step.read_value()}

    def _restore_function(self) -> Tensor:
        """Takes what `save` returns; LiteRT needs one named argument each, which only a flat list of specs gives."""
        specs = _specs(self.settings.signatures["restore"][0])
        names = list(specs)

        def restore(*tensors: Tensor) -> dict[str, Tensor]:
            values = _split_gates(dict(zip(names, tensors, strict=True)))
            variables = {**self.weights, **self.slots, STEP: self.step}
            done = [variables[name].assign(value, read_value=False) for name, value in values.items()]
            with tf.control_dependencies(done):
                return {STEP: self.step.read_value()}

        return tf.function(restore, input_signature=list(specs.values())).get_concrete_function()

    def _output_layer(self) -> Tensor:
        """`dense` with its bias as a last row, (H + 1, n_items): what goes through all items goes through once."""
        return tf.concat([self.weights["dense"].read_value(), self.weights["dense_bias"].read_value()[None]], axis=0)

    def _logits(self, state: Tensor) -> Tensor:
        return tf.matmul(_with_one(state), self._output_layer())

    def _gates(self, feat: Tensor, initstate: Tensor) -> dict[str, Tensor]:
        """The forward GRU step; every array (B, H)."""
        bias = tf.split(self.weights["bias"].read_value(), 3, axis=1)
        inner = tf.split(tf.matmul(initstate, self.weights["recurrent"].read_value()), 3, axis=1)
        x = [tf.gather(self.weights[f"kernel_{g}"].read_value(), feat) + b[0] for g, b in zip(GATES, bias, strict=True)]
        y = [part + b[1] for part, b in zip(inner, bias, strict=True)]
        z, r = tf.sigmoid(x[0] + y[0]), tf.sigmoid(x[1] + y[1])
        c = tf.tanh(x[2] + r * y[2])
        return {"z": z, "r": r, "c": c, "yh": y[2], "state": z * initstate + (1 - z) * c}

    def _expected_output(self, probabilities: Tensor, output: Tensor) -> Tensor:
        """Each lane's mean column of the output layer, (B, H + 1); less the target's own it is d(-log p)/d(state)."""
        lanes, (rows, n) = self.settings.batch_size, output.shape
        # Rank 3, or the converter makes a FULLY_CONNECTED of it.
        expected = tf.matmul(tf.reshape(probabilities, (1, lanes, n)), tf.reshape(output, (1, rows, n)), transpose_b=True)
        return tf.reshape(expected, (lanes, rows))

    def _output_gradients(self, probabilities: Tensor, state: Tensor, item: Tensor, share: Tensor) -> Gradients:
        """Of the softmax layer: the product with the probabilities, less the one-hot targets' scattered part."""
        n, hidden = self.settings.n_items, self.settings.hidden_size
        shared = _with_one(state) * share[:, None]
        expected = tf.matmul(shared, probabilities, transpose_a=True)  # (H + 1, n_items)
        hits = tf.scatter_nd(item[:, None], shared, (n, hidden + 1))
        both = expected - tf.transpose(hits)
        return {"dense": lambda: both[:hidden], "dense_bias": lambda: both[hidden]}

    def _input_gradients(self, feat: Tensor, initstate: Tensor, d_x: list[Tensor], d_y: list[Tensor]) -> Gradients:
        """Of the GRU; an item that occurs in several lanes gets the sum (SCATTER_ND adds)."""
        shape = (self.settings.n_items, self.settings.hidden_size)

        def scatter(part: Tensor) -> Callable[[], Tensor]:
            return lambda: tf.scatter_nd(feat[:, None], part, shape)

        return {
            **{f"kernel_{gate}": scatter(part) for gate, part in zip(GATES, d_x, strict=True)},
            "recurrent": lambda: tf.matmul(initstate, tf.concat(d_y, axis=1), transpose_a=True),
            "bias": lambda: tf.stack([tf.reduce_sum(tf.concat(d, axis=1), axis=0) for d in (d_x, d_y)]),
        }

    def _apply(self, gradients: Gradients, after: list[Tensor]) -> None:
        """Update every weight, one after the other: what one needs is gone before the next begins."""
        step = self.step.read_value() + 1
        update = getattr(self, f"_{self.settings.optimizer}")(tf.cast(step, tf.float32))
        done = [*after, self.step.assign(step, read_value=False)]
        for name, gradient in gradients.items():
            with tf.control_dependencies(done):
                done = update(name, tf.identity(gradient()))

    def _assign(self, name: str, change: Tensor, **slots: Tensor) -> list[Tensor]:
        weight = self.weights[name]
        done = [self.slots[f"{name}_{slot}"].assign(value, read_value=False) for slot, value in slots.items()]
        return [*done, weight.assign(weight.read_value() - change, read_value=False)]

    def _adam(self, step: Tensor) -> Callable[[str, Tensor], list[Tensor]]:
        """Keras' Adam (beta 0.9 and 0.999, epsilon 1e-7 outside the root), dense: unseen items move by their momentum too.

        m += 0.1 (g - m);  v += 0.001 (g^2 - v);  w -= lr sqrt(1 - 0.999^t) / (1 - 0.9^t) m / (sqrt(v) + 1e-7)
        (keras/src/optimizers/adam.py, `update_step`).
        """
        rate = self.settings.learning_rate * tf.sqrt(1 - tf.pow(0.999, step)) / (1 - tf.pow(0.9, step))

        def update(name: str, gradient: Tensor) -> list[Tensor]:
            m = 0.9 * self.slots[f"{name}_m"].read_value() + 0.1 * gradient
            v = 0.999 * self.slots[f"{name}_v"].read_value() + 0.001 * tf.square(gradient)
            return self._assign(name, rate * m / (tf.sqrt(v) + 1e-7), m=m, v=v)

        return update

    def _adagrad(self, step: Tensor) -> Callable[[str, Tensor], list[Tensor]]:  # noqa: ARG002
        """The official GRU4Rec's Adagrad: acc += g^2;  w -= lr g / sqrt(acc + 1e-6); acc starts at 0, no momentum."""

        def update(name: str, gradient: Tensor) -> list[Tensor]:
            acc = self.slots[f"{name}_acc"].read_value() + tf.square(gradient)
            return self._assign(name, self.settings.learning_rate * gradient / tf.sqrt(acc + 1e-6), acc=acc)

        return update

    def _sgd(self, step: Tensor) -> Callable[[str, Tensor], list[Tensor]]:  # noqa: ARG002
        """Plain gradient descent: w -= lr g."""
        return lambda name, gradient: self._assign(name, self.settings.learning_rate * gradient)


def _variable(name: str, value: Any) -> Tensor:
    return tf.Variable(value, name=name)


def _specs(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in tensors.items()}


def _is_kernel(name: str) -> bool:
    return name == "kernel" or name.startswith("kernel_")


def _split_gates(values: Mapping[str, Any]) -> dict[str, Any]:
    """`kernel` (n, 3H) -> `kernel_z`, ... (n, H); `kernel_m` -> `kernel_z_m`, ...; the rest as it is."""
    parts: dict[str, Any] = {}
    for name, value in values.items():
        if _is_kernel(name):
            thirds = np.split(value, 3, axis=1) if isinstance(value, np.ndarray) else tf.split(value, 3, axis=1)
            parts |= {f"kernel_{gate}{name[6:]}": third for gate, third in zip(GATES, thirds, strict=True)}
        else:
            parts[name] = value
    return parts


def _join_gates(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `_split_gates`."""
    joined: dict[str, Tensor] = {}
    for name, value in values.items():
        if name.startswith("kernel_z"):
            joined["kernel" + name[8:]] = tf.concat([values[f"kernel_{gate}{name[8:]}"] for gate in GATES], axis=1)
        elif not _is_kernel(name):
            joined[name] = value
    return joined


def _lane_shares(target: Tensor) -> tuple[Tensor, Tensor]:
    """Each lane's weight in a mean over the lanes with a target (0 for the others), and a target that can be gathered."""
    counted = tf.cast(target >= 0, tf.float32)
    return counted / tf.maximum(tf.reduce_sum(counted), 1.0), tf.maximum(target, 0)


def _with_one(state: Tensor) -> Tensor:
    """(B, H) -> (B, H + 1): a unit that is always on, for the bias."""
    return tf.concat([state, tf.ones((state.shape[0], 1))], axis=1)


def _log_sum(logits: Tensor, probabilities: Tensor) -> Tensor:
    """log(sum(exp(logits))) a lane, without a second pass: the largest probability is 1 / sum(exp(logits - max))."""
    return tf.reduce_max(logits, axis=1) - tf.math.log(tf.reduce_max(probabilities, axis=1))


def _gate_gradients(gates: dict[str, Tensor], initstate: Tensor, d_state: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients before the gates' squashing, (z, r, h) on the input side and on the recurrent side; each (B, H)."""
    z, r, c, yh = (gates[name] for name in ("z", "r", "c", "yh"))
    d_z = d_state * (initstate - c) * z * (1 - z)
    d_h = d_state * (1 - z) * (1 - c * c)
    d_r = d_h * yh * r * (1 - r)
    return [d_z, d_r, d_h], [d_z, d_r, d_h * r]
