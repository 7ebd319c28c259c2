"""What a user can choose about the rating DNN."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from pocketrec.errors import SettingsError
from pocketrec.ingestion.options import USER, RatingSettings, columns_setting
from pocketrec.lite.options import FixedSettings
from pocketrec.schema import ITEM, RATING, TIME
from pocketrec.settings import Settings, setting
from pocketrec.sources.options import Columns

Split = Literal["random", "user", "time"]
Task = Literal["rate", "classify"]
OnSet = Literal["test", "valid", "train"]


@dataclass(frozen=True)
class DnnPrepSettings(RatingSettings):
    """How ratings are read and split.

    Raises:
        SettingsError: a value that cannot be, or shares that leave nothing to train on.
    """

    column_names: ClassVar[tuple[str, ...]] = (USER, ITEM, TIME, RATING)

    columns: Columns | None = columns_setting(*column_names)
    split: Split = setting(
        "random",
        "Which ratings are held out: any, at random; a share of each user's, at random; or, with time, all from one moment "
        "on, as in real use.",
    )
    test: float = setting(0.2, "Share of all ratings that is held out for the test.", above=0, below=1)
    validation: float = setting(
        0.1, "Share of all ratings that is held out to choose epochs and settings by; 0 for none.", least=0
    )
    tags: int = setting(
        0, "So many of the most frequent tags of tags.csv become features of the items, a column each.", least=0, most=1000
    )
    seed: int = setting(
        42, "Of the random split: the same seed gives the same files, another one another split.", least=0, most=2**32 - 1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation >= 1 - self.test:
            raise SettingsError(
                f"validation is {self.validation}.", expected="a share, which leaves some for training beside the test"
            )


@dataclass(frozen=True)
class NetworkShape(Settings):
    """What a network is made of, but for what the data determines.

    Raises:
        SettingsError: a setting that no network can have.
    """

    embedding_size: int = setting(
        64, "Learned numbers a user and an item have. More fit more data, and overfit little data.", least=1
    )
    layers: tuple[int, ...] = setting((128, 64), "Widths of the dense layers, from the input on.", least=1)
    task: Task = setting(
        "rate", "Predict the rating; or, with classify, the probability of each value that a rating can have."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers:
            raise SettingsError("layers is empty.", expected="a width or more")


@dataclass(frozen=True)
class DnnTrainSettings(NetworkShape):
    """The network and how it learns."""

    epochs: int = setting(
        50, "Passes over all training ratings, at most. A run with more epochs goes on from the checkpoints.", least=1
    )
    patience: int = setting(
        5, "Stop after so many epochs in which the validation set was not predicted better; 0: never.", least=0
    )
    batch_size: int = setting(256, "Ratings of a batch. Larger ones are faster and learn less in an epoch.", least=1)
    learning_rate: float = setting(
        0.001, "Size of a step of the optimizer, Adam. Lower it if the loss jumps or becomes NaN.", above=0
    )
    dropout: float = setting(
        0.2,
        "Share of each dense layer's outputs that a training step leaves out. Raise it if validation gets worse while the "
        "training error falls.",
        least=0,
        below=1,
    )
    regularization: float = setting(
        3e-3, "L2 penalty of the embeddings. Raise it for little data, lower it for much.", least=0
    )
    bias_regularization: float = setting(1e-5, "L2 penalty of the biases of users and items. Rarely changed.", least=0)
    seed: int = setting(
        42,
        "Of the first weights, the dropout and the order of the ratings: the same seed gives the same network.",
        least=0,
        most=2**31 - 1,
    )
    checkpoint_every: int = setting(
        5, "Write a checkpoint after every so many epochs, and after the last. A stopped run goes on from it.", least=1
    )

    @property
    def learning(self) -> dict[str, Any]:
        """What determines the weights after each epoch and where training stops, for records."""
        return {name: value for name, value in asdict(self).items() if name not in ("epochs", "checkpoint_every")}


@dataclass(frozen=True)
class DnnExportSettings(FixedSettings):
    """Lengths that are fixed in the file."""


@dataclass(frozen=True)
class DnnMeasureSettings(Settings):
    """What is measured."""

    on: OnSet = setting("test", "The ratings to predict; valid while settings are still being chosen.")


@dataclass(frozen=True)
class DnnPredictSettings(Settings):
    """What is asked for a prediction."""

    tflite: bool = setting(False, "Ask the exported model, on LiteRT, instead of the trained network.")
