"""Where the rating DNN's files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pocketrec.storage.layout import Side


@dataclass(frozen=True)
class DnnDataset(Side):
    """The side of a dataset folder that the rating DNN has."""

    name: ClassVar[str] = "dnn"

    @property
    def ratings(self) -> Path:
        """The split: {train,valid,test}_{pairs,ratings}.npy, {user,item}_features.npy, users.parquet, items.parquet."""
        return self.final / "ratings"

    @property
    def users(self) -> Path:
        """The user index: user_id, user_idx, support (train rows); code 0 is nobody's."""
        return self.ratings / "users.parquet"

    @property
    def items(self) -> Path:
        """The item index: item_id, item_idx, support, title, year, genres, tags; code 0 is nothing's."""
        return self.ratings / "items.parquet"

    @property
    def network(self) -> Path:
        """The trained weights and what they belong to."""
        return self.model / "dnn.npz"

    @property
    def keras(self) -> Path:
        """The same network as a whole Keras model."""
        return self.model / "dnn.keras"

    @property
    def tflite(self) -> Path:
        """The exported network."""
        return self.model / "dnn.tflite"

    @property
    def picture(self) -> Path:
        """Loss by epoch, and predicted beside true ratings."""
        return self.model / "dnn.png"
