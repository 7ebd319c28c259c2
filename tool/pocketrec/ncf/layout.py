"""Where NCF's files are. A dataset folder may hold clicks and ratings: DIR/ncf is a dataset folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketrec.layout import Dataset


@dataclass(frozen=True)
class NcfDataset:
    """The NCF side of a dataset folder (`--dataset DIR`). It need not exist yet."""

    root: Path

    @property
    def home(self) -> Path:
        """Everything below is in here; it is held and ingested into as a dataset folder."""
        return self.root / "ncf"

    @property
    def final(self) -> Path:
        """What prep made, and its manifest."""
        return Dataset(self.home).final

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
    def model(self) -> Path:
        """Models, their checkpoints and verdicts."""
        return Dataset(self.home).model

    @property
    def network(self) -> Path:
        """The trained weights and what they belong to."""
        return self.model / "neumf.npz"

    @property
    def tflite(self) -> Path:
        """The exported network."""
        return self.model / "neumf.tflite"
