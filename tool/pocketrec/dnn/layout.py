"""Where the rating DNN's files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pocketrec.storage.networks import NetworkSide


@dataclass(frozen=True)
class DnnDataset(NetworkSide):
    """The side of a dataset folder that the rating DNN has. It need not exist yet.

    The split is {train,valid,test}_{pairs,ratings}.npy, {user,item}_features.npy, features.json, users.parquet and
    items.parquet; the item index has title, year, genres and tags besides. Code 0 is that of unknown users and items.
    """

    name: ClassVar[str] = "dnn"
    split_name: ClassVar[str] = "ratings"
    network_name: ClassVar[str] = "dnn"

    @property
    def keras(self) -> Path:
        """The trained network as a whole Keras model."""
        return self.model / "dnn.keras"

    @property
    def picture(self) -> Path:
        """Loss by epoch, and predicted beside true ratings."""
        return self.model / "dnn.png"
