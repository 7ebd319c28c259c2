"""Where NCF's files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pocketrec.storage.layout import Side


@dataclass(frozen=True)
class NcfDataset(Side):
    """The NCF side of a dataset folder (`--dataset DIR`). It need not exist yet."""

    name: ClassVar[str] = "ncf"

    @property
    def interactions(self) -> Path:
        """The split: train_items.npy, train_starts.npy, test.npy, valid.npy, users.parquet, items.parquet."""
        return self.final / "interactions"

    @property
    def users(self) -> Path:
        """The user index: user_id, user_idx, support (train rows)."""
        return self.interactions / "users.parquet"

    @property
    def items(self) -> Path:
        """The item index: item_id, item_idx, support (train rows)."""
        return self.interactions / "items.parquet"

    @property
    def epochs(self) -> Path:
        """Training epochs and evaluation sets as npy shards, where they were asked for."""
        return self.final / "epochs"

    @property
    def network(self) -> Path:
        """The trained weights and what they belong to."""
        return self.model / "neumf.npz"

    @property
    def tflite(self) -> Path:
        """The exported network."""
        return self.model / "neumf.tflite"
