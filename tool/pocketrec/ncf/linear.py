"""The models that are solved, not trained by steps, in numpy: what they are made of, and their scores.

| kind | score of an item for a user | solved in |
|---|---|---|
| ials | product of the user's factors and the item's | `als.py` |
| ease | sum of the weights that the user's train items have for the item | `ease.py` |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from pocketrec.errors import SettingsError
from pocketrec.ncf.options import NcfTrainSettings, NetworkShape
from pocketrec.schema import Float32, Int32
from pocketrec.settings import again, setting
from pocketrec.storage import networks

NUMBERS_PER_BLOCK = 1 << 22


@dataclass(frozen=True)
class FactorSettings(networks.NetworkSettings):
    """What an iALS is made of."""

    num_factors: int = again(NetworkShape, "num_factors", 64)
    kind: Literal["ials"] = again(NetworkShape, "kind", "ials")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The weights by name."""
        return {"user": (self.n_users, self.num_factors), "item": (self.n_items, self.num_factors)}


class Factors(networks.Network[FactorSettings]):
    """A solved iALS."""

    def pairs(self, users: Int32, items: Int32) -> Float32:
        """Scores of users and items side by side, float32 (n,)."""
        scores, step = np.empty(len(users), np.float32), max(1, NUMBERS_PER_BLOCK // self.settings.num_factors)
        for first in range(0, len(users), step):
            part = slice(first, first + step)
            np.einsum("nd,nd->n", self.weights["user"][users[part]], self.weights["item"][items[part]], out=scores[part])
        return scores

    def all_items(self, users: Int32) -> Float32:
        """Scores of every item for some users, float32 (n, I)."""
        scores: Float32 = self.weights["user"][users] @ self.weights["item"].T
        return scores


@dataclass(frozen=True)
class EaseSettings(networks.NetworkSettings):
    """What an EASE is made of.

    Attributes:
        neighbours: weights that are kept of each item, K; less than there are items.
        ratings: train rows of all users, P.
    """

    codes: ClassVar[tuple[str, ...]] = ("user_starts", "user_items", "neighbours")

    neighbours: int = again(NcfTrainSettings, "neighbours", 200)
    ratings: int = setting(1, "Train rows of all users.", least=1)
    kind: Literal["ease"] = again(NetworkShape, "kind", "ease")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours >= self.n_items:
            raise SettingsError(f"neighbours is {self.neighbours}.", expected="fewer than there are items")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The weights by name.

        `user_items` are the train items of all users, int32, and `user_starts` where each user's begin. Item i has the
        weights[i] for the items neighbours[i], int32.
        """
        rows = (self.n_items, self.neighbours)
        return {
            "user_starts": (self.n_users + 1,), "user_items": (self.ratings,), "neighbours": rows, "weights": rows,
        }  # fmt: skip


class Ease(networks.Network[EaseSettings]):
    """A solved EASE."""

    def pairs(self, users: Int32, items: Int32) -> Float32:
        """Scores of users and items side by side, float32 (n,)."""
        scores, order = np.empty(len(users), np.float32), np.argsort(users, kind="stable")
        each, begins = np.unique(users[order], return_index=True)
        for user, places in zip(each.tolist(), np.split(order, begins[1:]), strict=True):
            scores[places] = self._one_user(user)[items[places]]
        return scores

    def all_items(self, users: Int32) -> Float32:
        """Scores of every item for some users, float32 (n, I)."""
        scores = np.empty((len(users), self.settings.n_items), np.float32)
        for row, user in enumerate(users.tolist()):
            scores[row] = self._one_user(user)
        return scores

    def _one_user(self, user: int) -> Float32:
        first, last = self.weights["user_starts"][user : user + 2]
        own = self.weights["user_items"][first:last]
        neighbours, weights = self.weights["neighbours"][own].reshape(-1), self.weights["weights"][own].reshape(-1)
        return np.bincount(neighbours, weights, self.settings.n_items).astype(np.float32)
