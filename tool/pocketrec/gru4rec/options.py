"""What a user can choose about training, measuring and demonstrating a GRU4Rec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketrec.errors import SettingsError
from pocketrec.lite.options import Embedding, Gru4RecSettings, Optimizer
from pocketrec.settings import Settings, again, setting
from pocketrec.sources.options import SynthSettings

Ties = Literal["standard", "conservative", "median"]
OnSet = Literal["train_tr", "train_valid", "test"]


@dataclass(frozen=True)
class TrainSettings(Gru4RecSettings):
    """What is trained on the desktop: the settings of the official GRU4Rec, as far as it has one for all data."""

    batch_size: int = again(Gru4RecSettings, "batch_size", 32)
    embedding: Embedding = again(Gru4RecSettings, "embedding", "shared")
    optimizer: Optimizer = again(Gru4RecSettings, "optimizer", "adagrad")
    learning_rate: float = again(Gru4RecSettings, "learning_rate", 0.1)
    dropout_embedding: float = again(Gru4RecSettings, "dropout_embedding", 0.1)
    epochs: int = setting(
        5,
        "Passes over the batches, those of an earlier run included. More are tried where the validation still improves.",
        least=1,
    )


@dataclass(frozen=True)
class RankSettings(Settings):
    """What is measured, and how."""

    on: OnSet = setting("test", "The set to measure on; train_valid while settings are still being chosen.")
    cutoffs: tuple[int, ...] = setting((1, 5, 10, 20), "Every N of Recall@N and MRR@N.", least=1, metavar="N,N,...")
    ties: Ties = setting(
        "conservative",
        "How items count that score as much as the next item: standard, none of them is better; median, half; "
        "conservative, all.",
    )
    anchors: bool = setting(True, "Measure popularity, the last item and co-occurrence, too.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cutoffs:
            raise SettingsError("no cutoff is named.", expected="one N or more, each 1 or more")


@dataclass(frozen=True)
class DemoSettings(Settings):
    """What the demo is made from."""

    clicks: int = setting(100_000, "Rows of the synthetic log.", least=20_000)
    seed: int = again(SynthSettings, "seed", 0)
