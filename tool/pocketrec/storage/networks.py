"""Networks of `ncf` and `dnn`: the side of a dataset folder that one is trained on, and its file of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from pocketrec.errors import DatasetError, ModelError, SettingsError
from pocketrec.schema import Array
from pocketrec.settings import Rule, Settings
from pocketrec.storage import repair
from pocketrec.storage.layout import Side
from pocketrec.storage.manifest import Record
from pocketrec.storage.tensors import Tensors, read_tensors, write_tensors
from pocketrec.version import __version__


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """What a network is made of, as far as all networks are.

    Attributes:
        n_users: codes of users are 0 .. n_users - 1.
        n_items: codes of items are 0 .. n_items - 1.
    """

    codes: ClassVar[tuple[str, ...]] = ()
    """Names of the weights that are whole numbers, int32; the others are float32."""

    n_users: int = field(kw_only=True, metadata={"rule": Rule("Codes of users.", least=1)})
    n_items: int = field(kw_only=True, metadata={"rule": Rule("Codes of items.", least=1)})

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each weight by name; features of users and items, named so, are not trained."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if not name.endswith("_features"))


SettingsT = TypeVar("SettingsT", bound=NetworkSettings)


class Network(Generic[SettingsT]):
    """A trained network in numpy."""

    def __init__(self, settings: SettingsT, weights: Mapping[str, Array]) -> None:
        """The weights are by the names of `settings.shapes`, in any type of numbers."""
        self.settings = settings
        self.weights: Tensors = {
            name: np.asarray(weights[name], np.int32 if name in settings.codes else np.float32) for name in settings.shapes
        }


NetworkT = TypeVar("NetworkT", bound=Network[Any])


@dataclass(frozen=True)
class NetworkSide(Side):
    """A side of a dataset folder that has ratings, their split, and a network that is trained on it."""

    split_name: ClassVar[str]
    """Of the folder of the split."""
    network_name: ClassVar[str]
    """Of the network's files, without their endings."""

    @property
    def split(self) -> Path:
        """The folder of the split, which prep writes."""
        return self.final / self.split_name

    @property
    def users(self) -> Path:
        """The user index: user_id, user_idx, support (train ratings)."""
        return self.split / "users.parquet"

    @property
    def items(self) -> Path:
        """The item index: item_id, item_idx, support (train ratings)."""
        return self.split / "items.parquet"

    @property
    def network(self) -> Path:
        """The trained weights and what they belong to."""
        return self.model / f"{self.network_name}.safetensors"

    @property
    def tflite(self) -> Path:
        """The exported network."""
        return self.model / f"{self.network_name}.tflite"

    @property
    def prep_command(self) -> str:
        """A command that makes the split; where a record knows the one that did, messages name that."""
        return repair.command_line(self.root, self.name, "prep", "RATINGS", "--fresh")

    def prepared(self) -> Record:
        """What prep says it wrote; a DatasetError if nothing is there, or a file is missing or cut."""
        do = repair.command_line(self.root, self.name, "prep", "RATINGS")
        nothing = DatasetError(f"{self.split} has no split ratings.", expected="what prep writes there", do=do)
        return repair.whole_record(self.final, f"{self.name}_prep", nothing)


@dataclass(frozen=True)
class NetworkFile(Generic[NetworkT]):
    """A network, the content of the split it was trained on, the settings of training, and the epochs that are finished."""

    network: NetworkT
    split: str
    training: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0

    def write(self, path: Path) -> None:
        """Write it whole, or leave the earlier file as it was."""
        settings = asdict(self.network.settings)
        about = {"settings": settings, "split": self.split, "training": dict(self.training), "epochs": self.epochs}
        write_tensors(path, "network", about, self.network.weights)


def read_network(
    side: NetworkSide, settings: Callable[..., SettingsT], network: Callable[[SettingsT, Tensors], NetworkT]
) -> NetworkFile[NetworkT]:
    """The trained network of a side of a dataset folder, for the split that is there now.

    `settings` makes its settings of what JSON has of them, `network` the network of settings and weights. Raised are a
    DatasetError if there is no split, or another one than it was trained on; and a ModelError if there is no network, or
    its file is damaged or of an unknown format.
    """
    split, path = side.prepared().content, side.network
    do, expected = repair.command_line(side.root, side.name, "train"), f"a network of `{side.name} train`"
    earlier = path.with_suffix(".npz")
    if not path.exists() and earlier.is_file():
        raise ModelError(
            f"{path} is missing. The network that is there, {earlier}, was written by pocketrec 0.1, and pocketrec "
            f"{__version__} does not read .npz files.",
            expected=expected,
            do=repair.rebuild_command_of(earlier) or do,
        )
    file = read_tensors(path, "network", what=expected, do=repair.rebuild_command_of(path) or do)
    try:
        made = settings(**file.about["settings"])
        if wrong := [name for name, shape in made.shapes.items() if file.tensors[name].shape != shape]:
            raise ValueError(f"{', '.join(wrong)} has another shape")
        found = NetworkFile(network(made, file.tensors), file.about["split"], file.about["training"], file.about["epochs"])
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        why = f"{error.__class__.__name__}: {error}"
        raise ModelError(f"{path} cannot be read ({why}).", expected=expected, do=do) from error
    if found.split != split:
        raise DatasetError(
            f"{path} was trained on another split, whose codes mean other users and items.",
            expected="the split that is there now",
            do=do,
        )
    return found
