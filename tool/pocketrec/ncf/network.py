"""The network in numpy: what it is made of, its scores, and its file. Nothing here needs TensorFlow.

NeuMF (He et al. 2017, "Neural Collaborative Filtering", equation 12), as TensorFlow's official recipe has it: one table for
users and one for items, each row the factors of GMF followed by those of the MLP.

    gmf = p_u * q_i                                  (elementwise)
    mlp = relu(W_n ... relu(W_1 [m_u, m_i] + b_1) ... + b_n)
    score = w . [gmf, mlp] + b                       (a logit)

`gmf` and `mlp` alone leave out the other half. Which class a file's model has, `linear` ones included, is said at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.linear import Ease, EaseSettings, Factors, FactorSettings
from pocketrec.ncf.options import NetworkShape
from pocketrec.schema import Float32, Int32
from pocketrec.storage import networks
from pocketrec.storage.networks import NetworkFile
from pocketrec.storage.tensors import Tensors

CELLS_PER_BLOCK = 1 << 22
"""Numbers of the widest layer that are in memory at a time."""


@dataclass(frozen=True)
class NetworkSettings(networks.NetworkSettings, NetworkShape):
    """What a network is made of, U users and I items."""

    @property
    def mf_dim(self) -> int:
        """Factors of GMF in each table."""
        return 0 if self.kind == "mlp" else self.num_factors

    @property
    def mlp_dim(self) -> int:
        """Factors of the MLP in each table."""
        return 0 if self.kind == "gmf" else self.layers[0] // 2

    @property
    def dense(self) -> tuple[int, ...]:
        """Widths of the MLP's layers after its input."""
        return () if self.kind == "gmf" else self.layers[1:]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The weights by name."""
        width = self.mf_dim + self.mlp_dim
        shapes: dict[str, tuple[int, ...]] = {"user": (self.n_users, width), "item": (self.n_items, width)}
        before = 2 * self.mlp_dim
        for number, after in enumerate(self.dense, 1):
            shapes |= {f"kernel_{number}": (before, after), f"bias_{number}": (after,)}
            before = after
        return shapes | {"kernel_out": (self.mf_dim + before, 1), "bias_out": (1,)}


class Network(networks.Network[NetworkSettings]):
    """A trained network: scores of pairs and of all items."""

    def pairs(self, users: Int32, items: Int32) -> Float32:
        """Scores of users and items side by side, float32 (n,)."""
        step = max(1, CELLS_PER_BLOCK // max(self.settings.layers[0], self.settings.num_factors))
        blocks = [
            self._pairs(users[first : first + step], items[first : first + step]) for first in range(0, len(users), step)
        ]
        return np.concatenate(blocks) if blocks else np.empty(0, np.float32)

    def _pairs(self, users: Int32, items: Int32) -> Float32:
        mf = self.settings.mf_dim
        user, item = self.weights["user"][users], self.weights["item"][items]
        hidden = np.concatenate([user[:, mf:], item[:, mf:]], axis=1)
        if self.settings.dense:
            hidden = _relu(hidden @ self.weights["kernel_1"] + self.weights["bias_1"])
        return self._score(user[:, :mf] * item[:, :mf], hidden)

    def all_items(self, users: Int32) -> Float32:
        """Scores of every item for some users, float32 (n, I).

        The first layer is linear in the user's half and the item's half, so each is multiplied once, not once a pair.
        """
        scores = np.empty((len(users), self.settings.n_items), np.float32)
        for row, user in enumerate(users):
            scores[row] = self._one_user(int(user))
        return scores

    def _one_user(self, user: int) -> Float32:
        mf, own, items = self.settings.mf_dim, self.weights["user"][user], self.weights["item"]
        gmf = own[:mf] * items[:, :mf]
        if not self.settings.dense:
            mine = np.broadcast_to(own[mf:], (len(items), self.settings.mlp_dim))
            return self._score(gmf, np.concatenate([mine, items[:, mf:]], axis=1))
        kernel, theirs = self._first_layer
        return self._score(gmf, _relu(own[mf:] @ kernel + theirs))

    @cached_property
    def _first_layer(self) -> tuple[Float32, Float32]:
        """Its kernel for the user's half, and what each item's half adds to it."""
        half, kernel, items = self.settings.mlp_dim, self.weights["kernel_1"], self.weights["item"]
        return kernel[:half], items[:, self.settings.mf_dim :] @ kernel[half:] + self.weights["bias_1"]

    def _score(self, gmf: Float32, hidden: Float32) -> Float32:
        for number in range(2, len(self.settings.dense) + 1):
            hidden = _relu(hidden @ self.weights[f"kernel_{number}"] + self.weights[f"bias_{number}"])
        mf, kernel = self.settings.mf_dim, self.weights["kernel_out"][:, 0]
        return gmf @ kernel[:mf] + hidden @ kernel[mf:] + self.weights["bias_out"]


def _relu(values: Float32) -> Float32:
    return np.maximum(values, 0, out=values)


AnySettings = NetworkSettings | FactorSettings | EaseSettings
AnyNetwork = Network | Factors | Ease


def settings_of(**found: Any) -> AnySettings:
    """The settings of a model from what JSON has of them; those of a network of before have no other kind."""
    kinds: dict[Any, type[AnySettings]] = {"ials": FactorSettings, "ease": EaseSettings}
    return kinds.get(found.get("kind"), NetworkSettings)(**found)


def network_of(settings: AnySettings, weights: Tensors) -> AnyNetwork:
    """The model of such settings with these weights."""
    if isinstance(settings, FactorSettings):
        return Factors(settings, weights)
    if isinstance(settings, EaseSettings):
        return Ease(settings, weights)
    return Network(settings, weights)


def read_network(place: NcfDataset) -> NetworkFile[AnyNetwork]:
    """The trained network of a dataset; the errors are those of `storage.networks.read_network`."""
    return networks.read_network(place, settings_of, network_of)
