"""Where things are inside a dataset folder. These names are a contract: scripts and apps rely on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

SPLITS = ("train_tr", "train_valid", "test")
"""The sets that become batches."""
DEFAULT_LANES = 512
"""Lanes of a mini-batch, B, where none are asked for: as many as the original has."""


@dataclass(frozen=True)
class Dataset:
    """A dataset folder (`--dataset DIR`). It need not exist yet."""

    root: Path

    @property
    def clicks(self) -> Path:
        """Parquet parts of the log: part=NNNN/*.parquet."""
        return self.root / "parquet" / "clicks"

    @property
    def rejects(self) -> Path:
        """Lines of the log that are no clicks, where `--bad-rows set-aside` found some: line, reason, text."""
        return self.root / "rejects.csv"

    @property
    def item_ids(self) -> Path:
        """The item ids of a log where they are text, in the order of their codes: item_id."""
        return self.root / "parquet" / "item_ids.parquet"

    @property
    def roles(self) -> Path:
        """Which row of `clicks` went into which set: part=NNNN.npy, uint8, row for row; and the vocabulary of train_tr."""
        return self.root / "parquet" / "roles"

    def roles_of(self, part: Path) -> Path:
        """The roles of the rows of one part of `clicks`."""
        return self.roles / f"{part.name}.npy"

    @property
    def sequences(self) -> Path:
        """The sets that become batches, as sessions in order: {set}_items.npy and {set}_lengths.npy."""
        return self.root / "parquet" / "sequences"

    @property
    def rsc15(self) -> Path:
        """The four txt files of the split."""
        return self.root / "rsc15"

    @property
    def final(self) -> Path:
        """Batches and the item index."""
        return self.root / "final"

    @property
    def model(self) -> Path:
        """Models and their verdicts."""
        return self.root / "model"

    @property
    def homes(self) -> tuple[Path, ...]:
        """The folders that pocketrec alone writes to; what else is in a dataset folder is not its own."""
        return self.clicks.parent, self.rsc15, self.final, self.model

    @property
    def items(self) -> Path:
        """The item index: item_id, item_idx, support."""
        return self.final / "items.parquet"

    def split_txt(self, name: str) -> Path:
        """`rsc15_{name}.txt`, name one of train_full, test, train_tr, train_valid."""
        return self.rsc15 / f"rsc15_{name}.txt"

    def batches(self, array: str, batch_size: int, *, split: str = "train_tr", form: str = "npy") -> Path:
        """A batch file: array is feats, targets or masks; split is one of `SPLITS`; form is npy or txt."""
        infix = {"train_tr": "", "train_valid": "_valid", "test": "_test"}[split]
        return self.final / f"{array}{infix}_bs{batch_size}.{form}"

    def checkpoint(self, batch_size: int, *, last: bool = False) -> Path:
        """What `train` keeps: the best weights, or where it was last."""
        return self.model / f"gru4rec_bs{batch_size}{'.last' if last else ''}.safetensors"

    def tflite(self, batch_size: int) -> Path:
        """The GRU4Rec for this batch size."""
        return self.model / f"gru4rec_bs{batch_size}.tflite"


SIDES = ("ncf", "dnn")
"""Folders of a dataset folder that are dataset folders of their own: it may hold clicks and ratings."""


@dataclass(frozen=True)
class Side:
    """One of `SIDES`, in a dataset folder (`--dataset DIR`). It need not exist yet."""

    root: Path
    name: ClassVar[str]

    @property
    def home(self) -> Path:
        """Everything of it is in here; it is held and ingested into as a dataset folder."""
        return self.root / self.name

    @property
    def final(self) -> Path:
        """What prep made, and its manifest."""
        return Dataset(self.home).final

    @property
    def model(self) -> Path:
        """Models, their checkpoints and verdicts."""
        return Dataset(self.home).model

    @property
    def checkpoints(self) -> Path:
        """Where a training that is not finished goes on from: epoch-NNNN.safetensors."""
        return self.model / "checkpoints"
