"""Settings of `train`, `evaluate` and `demo`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketrec.errors import SettingsError
from pocketrec.lite.options import Embedding, Gru4RecSettings, Optimizer, Seen
from pocketrec.settings import Settings, again, setting
from pocketrec.sources.options import SynthSettings

Ties = Literal["standard", "conservative", "median"]
SessionMethod = Literal["s-knn", "v-sknn", "stan", "vstan"]
DeviceModel = Literal["gru4rec", "s-knn", "v-sknn", "stan", "vstan"]
OnSet = Literal["train_tr", "train_valid", "test"]


@dataclass(frozen=True)
class TrainSettings(Gru4RecSettings):
    """Settings of a training on the desktop.

    Defaults are those of the official GRU4Rec, but for more dropout, more epochs, a mean of the weights, and rare items
    drawn more often. These were better on the logs that both were tried on (benchmarks/ACCURACY.md says which, and the
    official values).
    """

    batch_size: int = again(Gru4RecSettings, "batch_size", 32)
    embedding: Embedding = again(Gru4RecSettings, "embedding", "shared")
    optimizer: Optimizer = again(Gru4RecSettings, "optimizer", "adagrad")
    learning_rate: float = again(Gru4RecSettings, "learning_rate", 0.1)
    dropout_embedding: float = again(Gru4RecSettings, "dropout_embedding", 0.4)
    dropout_hidden: float = again(Gru4RecSettings, "dropout_hidden", 0.3)
    sample_alpha: float = again(Gru4RecSettings, "sample_alpha", 0.5)
    epochs: int = setting(
        10,
        "Passes over the batches, including those of an earlier run that is resumed. Try more if the accuracy on "
        "train_valid still rises.",
        least=1,
    )
    average: float = setting(
        0.06,
        "The weights that are measured and kept are a mean over about so large a share of the steps so far, the latest. 0: "
        "the weights after the last step.",
        least=0,
        most=1,
    )


@dataclass(frozen=True)
class TuneSettings(Settings):
    """How much `tune` tries."""

    trials: int = setting(
        8,
        "Settings that are tried: all for a quarter of the epochs, the better half for half of them, the better quarter to "
        "the end.",
        least=1,
    )
    tune_seed: int = setting(0, "Seed of the settings that are drawn; --seed is that of the trainings.", least=0)


@dataclass(frozen=True)
class RankSettings(Settings):
    """What to measure, and how."""

    on: OnSet = setting("test", "Set to measure on: test; train_valid while you still choose settings; or train_tr.")
    cutoffs: tuple[int, ...] = setting(
        (1, 5, 10, 20), "Values N of Recall@N and MRR@N, each 1 or more.", least=1, metavar="N,N,..."
    )
    ties: Ties = setting(
        "conservative",
        "How many of the items with the same score as the next item rank above it: standard, none; median, half; "
        "conservative, all.",
    )
    seen: Seen = setting(
        "show",
        "Items that are in the session already: show, the model may expect them again; hide, it is measured without them, "
        "as recommend --exclude-seen shows it. Choose on train_valid. For baselines and a blend it is chosen there.",
    )
    baselines: bool = setting(
        True,
        "Also measure the baselines: popularity, own items, items that followed, and sessions like this one (S-KNN, "
        "V-SKNN, STAN, VSTAN).",
        option="--anchors",
    )
    tune: int = setting(
        1,
        "Settings tried on train_valid for each method that looks for sessions like this one: 1, its usual ones; 30, a "
        "random search, which takes minutes. Each is tried with own items and without them, the best also with more weight "
        "for them. 0: nothing is chosen.",
        least=0,
        metavar="TRIES",
    )
    seed: int = setting(42, "Seed of the settings that --tune draws.", least=0)
    blend: SessionMethod | None = setting(
        None,
        "Also measure the model blended with sessions like this one: vstan, stan, v-sknn or s-knn. The weight is chosen on "
        "train_valid, or is that of --blend-weight.",
    )
    blend_weight: float | None = setting(
        None,
        "Weight of the sessions in --blend, 0 to 1, for a model that was trained on train_valid.",
        least=0,
        most=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cutoffs:
            raise SettingsError("no cutoff is named.", expected="one N or more, each 1 or more")


@dataclass(frozen=True)
class NeighbourSettings(Settings):
    """What `export` writes besides a GRU4Rec: sessions that recommend without training."""

    model: DeviceModel = setting(
        "gru4rec",
        "gru4rec, a network as .tflite; or sessions that recommend without training: vstan, stan, v-sknn or s-knn.",
    )
    tune: int = again(RankSettings, "tune", 30)
    seed: int = again(RankSettings, "seed", 42)


@dataclass(frozen=True)
class DemoSettings(Settings):
    """Settings of the demo."""

    clicks: int = setting(100_000, "Clicks of the synthetic log, 20,000 or more. More take longer.", least=20_000)
    seed: int = again(SynthSettings, "seed", 0)
