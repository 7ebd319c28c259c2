"""What a training run of the rating DNN is made of, checked before anything is begun."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from pocketrec.errors import SettingsError


@dataclass(frozen=True)
class DnnTraining:
    """Options of `dnn train` that determine the weights after each epoch.

    Attributes:
        batch_size: ratings of a batch.
        learning_rate: of Adam.
        dropout: share of the numbers between dense layers that are left out in training.
        regularization: L2 of the embeddings.
        bias_regularization: L2 of the biases of users and items.
        seed: of weights, dropout and the order of the ratings.
    """

    batch_size: int = 256
    learning_rate: float = 0.001
    dropout: float = 0.2
    regularization: float = 3e-3
    bias_regularization: float = 1e-5
    seed: int = 42

    @property
    def l2(self) -> tuple[float, float]:
        """Of embeddings and of biases."""
        return self.regularization, self.bias_regularization

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            SettingsError: with what would do.
        """
        for name, fits, expected in (
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("learning_rate", self.learning_rate > 0, "a finite number above 0"),
            ("dropout", 0 <= self.dropout < 1, "a share from 0 to below 1"),
            ("regularization", self.regularization >= 0, "0 or more"),
            ("bias_regularization", self.bias_regularization >= 0, "0 or more"),
            ("seed", 0 <= self.seed < 2**31, "0 to 2^31-1"),
        ):
            if not (fits and math.isfinite(getattr(self, name))):
                raise SettingsError(f"{name} is {getattr(self, name)}.", expected=expected)

    def settings(self) -> dict[str, Any]:
        """Plain values, for manifests."""
        return asdict(self)
