"""The network in numpy: what it is made of, its predictions, and its file. Nothing here needs TensorFlow.

For a user u and an item i with embeddings p, q and features f:

    h = relu(W_n ... relu(W_1 [p_u, q_i, f_u, f_i] + b_1) ... + b_n)        (dropout after each, in training)
    z = W h + b + V (p_u * q_i) + b_u + b_i

Biases and the product of the embeddings are those of a biased matrix factorisation (Koren, Bell and Volinsky 2009, equation
5); the layers see what embeddings cannot know: genres, year, and of which kind the items are that the user has rated. With
the task `rate` z is the rating; with `classify` it is a logit for each class of rating.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.options import NetworkShape
from pocketrec.errors import SettingsError
from pocketrec.schema import Float32, Int32
from pocketrec.settings import Rule, setting
from pocketrec.storage import networks
from pocketrec.storage.networks import NetworkFile

PAIRS_PER_BLOCK = 1 << 15


def _given(help: str, least: float | None = None) -> Any:
    """A setting that is always given: it follows from the data."""
    return field(kw_only=True, metadata={"rule": Rule(help, least=least)})


@dataclass(frozen=True)
class DnnSettings(networks.NetworkSettings, NetworkShape):
    """What a network is made of; code 0 of users and items is among their codes.

    Attributes:
        user_columns: features of a user.
        item_columns: features of an item.
        lowest: rating of the train set.
        highest: rating of the train set.
        values: the rating of each class, ascending; none with the task `rate`.

    Raises:
        SettingsError: a setting no network can have.
    """

    user_columns: int = _given("Features of a user.", least=0)
    item_columns: int = _given("Features of an item.", least=0)
    lowest: float = _given("Lowest rating.")
    highest: float = _given("Highest rating.")
    values: tuple[float, ...] = setting((), "The rating of each class.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task == "classify" and len(self.values) < 2:
            raise SettingsError(
                "the ratings have no classes.", expected="2 to 100 different ratings, such as half stars", do="--task rate"
            )

    @property
    def outputs(self) -> int:
        """Numbers that come out: a rating, or a logit for each class."""
        return len(self.values) if self.task == "classify" else 1

    @property
    def inputs(self) -> int:
        """Width of what the first dense layer gets."""
        return 2 * self.embedding_size + self.user_columns + self.item_columns

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The weights by name."""
        size, outputs = self.embedding_size, self.outputs
        shapes: dict[str, tuple[int, ...]] = {
            "user": (self.n_users, size), "item": (self.n_items, size),
            "user_bias": (self.n_users, outputs), "item_bias": (self.n_items, outputs),
            "user_features": (self.n_users, self.user_columns), "item_features": (self.n_items, self.item_columns),
        }  # fmt: skip
        before = self.inputs
        for number, after in enumerate(self.layers, 1):
            shapes |= {f"kernel_{number}": (before, after), f"bias_{number}": (after,)}
            before = after
        return shapes | {"kernel_out": (before, outputs), "bias_out": (outputs,), "product": (size, outputs)}


class Network(networks.Network[DnnSettings]):
    """A trained network."""

    def outputs(self, users: Int32, items: Int32) -> Float32:
        """What comes out for users and items side by side, float32 (n, outputs)."""
        parts = (slice(first, first + PAIRS_PER_BLOCK) for first in range(0, len(users), PAIRS_PER_BLOCK))
        blocks = [self._outputs(users[part], items[part]) for part in parts]
        return np.concatenate(blocks) if blocks else np.empty((0, self.settings.outputs), np.float32)

    def _outputs(self, users: Int32, items: Int32) -> Float32:
        w = self.weights
        user, item = w["user"][users], w["item"][items]
        hidden = np.concatenate([user, item, w["user_features"][users], w["item_features"][items]], axis=1)
        for number in range(1, len(self.settings.layers) + 1):
            hidden = np.maximum(hidden @ w[f"kernel_{number}"] + w[f"bias_{number}"], 0)
        found: Float32 = (
            hidden @ w["kernel_out"] + w["bias_out"] + (user * item) @ w["product"]
            + w["user_bias"][users] + w["item_bias"][items]
        )  # fmt: skip
        return found

    def ratings(self, users: Int32, items: Int32) -> Float32:
        """The ratings that are expected, within those that are given, float32 (n,)."""
        return expected_rating(self.settings, self.outputs(users, items))


def probabilities(logits: Float32) -> Float32:
    """Of each class, (n, classes)."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Float32 = odds / odds.sum(axis=1, keepdims=True)
    return shares


def expected_rating(settings: DnnSettings, outputs: Float32) -> Float32:
    """The rating that outputs stand for: cut to what is given; of classes the mean by their probabilities."""
    if settings.task == "rate":
        return np.clip(outputs[:, 0], np.float32(settings.lowest), np.float32(settings.highest))
    means: Float32 = probabilities(outputs) @ np.asarray(settings.values, np.float32)
    return means


def class_of(settings: DnnSettings, ratings: Float32) -> Int32:
    """The nearest class of each rating, int32 (n,)."""
    values = np.asarray(settings.values, np.float32)
    return np.searchsorted((values[1:] + values[:-1]) / 2, ratings, side="right").astype(np.int32)


def read_network(place: DnnDataset) -> NetworkFile[Network]:
    """The trained network of a dataset; the errors are those of `storage.networks.read_network`."""
    return networks.read_network(place, DnnSettings, Network)
