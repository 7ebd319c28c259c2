"""Where NCF's files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pocketrec.storage.networks import NetworkSide


@dataclass(frozen=True)
class NcfDataset(NetworkSide):
    """The NCF side of a dataset folder (`--dataset DIR`). It need not exist yet.

    The split is train_items.npy, train_starts.npy, test.npy, valid.npy, users.parquet and items.parquet.
    """

    name: ClassVar[str] = "ncf"
    split_name: ClassVar[str] = "interactions"
    network_name: ClassVar[str] = "neumf"

    @property
    def epochs(self) -> Path:
        """Training epochs and evaluation sets as npy shards, where they were asked for."""
        return self.final / "epochs"
