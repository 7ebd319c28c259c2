"""Where things are inside a dataset folder. These names are a contract: scripts and apps rely on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pocketrec.errors import DatasetError, FolderError

OWN = re.compile(
    r"manifest\.json|clicks|scan|roles|sequences|item_ids\.parquet|items\.parquet|rejects\.csv|rsc15_\w+\.txt|gru4rec_bs\d+\S*"
    r"|(feats|targets|masks)\w*_bs\d+\.(npy|txt)|verify\.\w+|reports\.json|neumf\.\w+|dnn\.\w+|epoch-\d+\.\w+|extras|ratings|interactions|epochs"
)
"""The names that pocketrec gives to what it writes into `Dataset.homes`; whatever else is there is somebody else's."""
SPLITS = ("train_tr", "train_valid", "test")
"""The sets that become batches."""
DEFAULT_LANES = 512
"""Lanes of a mini-batch, B, if no other number is given: as many as the original has."""


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
        """Lines of the log that are not clicks, where `--bad-rows set-aside` found some: line, reason, text."""
        return self.root / "rejects.csv"

    @property
    def item_ids(self) -> Path:
        """The item ids of a log where they are text, in the order of their codes: item_id."""
        return self.root / "parquet" / "item_ids.parquet"

    @property
    def roles(self) -> Path:
        """The sets of each row of `clicks`: part=NNNN.npy, uint8, row for row; and items.parquet, the items of train_tr."""
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
        """The folders that only pocketrec writes to, each with a manifest, in the order of the stages that fill them."""
        return self.clicks.parent, self.rsc15, self.final, self.model

    @property
    def items(self) -> Path:
        """The item index: item_id, item_idx, support."""
        return self.final / "items.parquet"

    def check(self) -> None:
        """Raise a FolderError if a folder of pocketrec's is a link, which may lead out of the dataset folder, or a file."""
        for path in (*self.homes, self.clicks, self.roles, self.sequences, self.model / "checkpoints"):
            check_folder(path)

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
"""Folders in a dataset folder that are dataset folders themselves: those of ratings, beside the clicks."""


def check_folder(path: Path) -> Path:
    """The path of a folder, which need not exist; a FolderError if it is a link, which may lead anywhere, or a file."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        what = "link" if path.is_symlink() else "file"
        do = "name another folder with --dataset, or move it away"
        raise FolderError(f"{path} is a {what}.", expected="a folder", do=do)
    return path


def homes_in(dataset: Path | str) -> list[Dataset]:
    """A dataset folder, and after it those of its sides that exist; a DatasetError if the folder itself does not."""
    root = Path(dataset)
    if not root.is_dir():
        do = f"pocketrec prep CLICKS --dataset {root}"
        raise DatasetError(f"{root} is not a folder.", expected="a dataset folder", do=do)
    sides = (check_folder(root / name) for name in SIDES)
    homes = [Dataset(root), *(Dataset(side) for side in sides if side.is_dir())]
    for home in homes:
        home.check()
    return homes


@dataclass(frozen=True)
class Side:
    """One of `SIDES`, in a dataset folder (`--dataset DIR`). It need not exist yet."""

    root: Path
    name: ClassVar[str]

    @property
    def home(self) -> Path:
        """The folder of everything that belongs to it, a dataset folder itself; a FolderError if it is a link."""
        return check_folder(self.root / self.name)

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
