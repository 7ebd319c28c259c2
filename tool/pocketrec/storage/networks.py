"""Arrays and a JSON card in one .npz, written whole or not at all; and the file of a trained network, which is one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pocketrec.errors import DatasetError, SettingsError
from pocketrec.storage.files import staged_file

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, SettingsError)
"""What reading a file raises that is not what was written."""


def write_arrays(path: Path, card: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write them; what is in `path` is replaced when all is on the disk."""
    with staged_file(path) as staged, staged.open("wb") as file:
        np.savez(file, card=np.array(json.dumps(card, sort_keys=True)), **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> tuple[dict[str, Any], Arrays]:
    """The card and the arrays.

    Raises:
        one of `DAMAGE`: the file is missing, cut, or another.
    """
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:  # numpy leaves a cut file open
        arrays = dict(stored)
    return json.loads(str(arrays.pop("card"))), arrays


class Settings(Protocol):
    """What a network is made of; a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The weights by name."""


class Trained(Protocol):
    """A network in numpy."""

    @property
    def settings(self) -> Any:
        """`Settings`."""

    @property
    def weights(self) -> Mapping[str, Array]:
        """By the names of its settings' shapes."""


SettingsT = TypeVar("SettingsT", bound=Settings)
NetworkT = TypeVar("NetworkT", bound=Trained)


def settings_from(kind: Callable[..., SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Settings from what JSON made of them, which knows no tuples.

    Raises:
        TypeError, SettingsError: they are of another kind.
    """
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


@dataclass(frozen=True)
class NetworkFile(Generic[NetworkT]):
    """A network and what it was made from.

    Attributes:
        network: the weights.
        split: content of the split it was trained on.
        training: the options of training.
        epochs: finished.
    """

    network: NetworkT
    split: str
    training: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0

    def write(self, path: Path) -> None:
        """Write it as an .npz of the weights and a JSON card, whole or not at all."""
        settings = asdict(self.network.settings)
        card = {"settings": settings, "split": self.split, "training": dict(self.training), "epochs": self.epochs}
        write_arrays(path, card, self.network.weights)


def read_network_file(
    path: Path,
    kind: Callable[..., SettingsT],
    made: Callable[[SettingsT, Arrays], NetworkT],
    *,
    split: str,
    train: str,
    do: str,
) -> NetworkFile[NetworkT]:
    """A network for a split.

    Args:
        path: what `NetworkFile.write` wrote.
        kind: of its settings.
        made: the network of settings and weights.
        split: content of the split it must be for.
        train: the name of the command that trains such networks.
        do: the command that makes this one.

    Raises:
        DatasetError: it is missing, damaged, or for another split.
    """
    expected = f"a network of `{train}`"
    if not path.is_file():
        raise DatasetError(f"{path} is missing.", expected="a trained network", do=do)
    try:
        card, weights = read_arrays(path)
        settings = settings_from(kind, card["settings"])
        wrong = [name for name, shape in settings.shapes.items() if weights[name].shape != shape]
        found = NetworkFile(made(settings, weights), card["split"], card["training"], card["epochs"])
    except DAMAGE as error:
        why = f"{error.__class__.__name__}: {error}"
        raise DatasetError(f"{path} cannot be read ({why}).", expected=expected, do=do) from error
    if wrong:
        raise DatasetError(f"{path}: {', '.join(wrong)} has another shape.", expected=expected, do=do)
    if found.split != split:
        raise DatasetError(
            f"{path} was trained on another split, whose codes mean other users and items.",
            expected="the split that is there now",
            do=do,
        )
    return found
