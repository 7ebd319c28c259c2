"""What a user can choose about NCF, under the names of TensorFlow's official NCF where that has the same option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pocketrec.errors import SettingsError
from pocketrec.ingestion.options import RatingSettings
from pocketrec.lite.options import FixedSettings, ModelSettings
from pocketrec.settings import Settings, again, setting

Protocol = Literal["leave-one-out", "time"]
Kind = Literal["neumf", "gmf", "mlp", "ials", "ease"]
Keep = Literal["best", "last"]
Dtype = Literal["fp32", "fp16", "bf16"]
Strategy = Literal["one_device", "mirrored"]
OnPositives = Literal["test", "valid"]

USERS_PER_BATCH = 100
"""Of an evaluation batch, where nobody asks for another size."""
LINEAR = ("ials", "ease")
"""Models that are solved with numpy; the others are networks that TensorFlow trains."""
_DEFAULTS: dict[str, dict[str, Any]] = {
    "num_factors": {"ials": 64, "": 8},
    "regularization": {"ease": 300.0, "": 0.01},
    "keep": {"ials": "last", "ease": "last", "": "best"},
}
"""Of settings whose default is another one for another model; "" stands for the models that are not named."""
_NETWORKS_ONLY = {
    "learning_rate", "beta1", "beta2", "epsilon", "mf_regularization", "mlp_regularization", "dtype", "loss_scale",
    "enable_xla", "distribution_strategy", "keras_use_ctl",
}  # fmt: skip
_OF_OTHERS: dict[str, set[str]] = {
    "ials": {*_NETWORKS_ONLY, "neighbours"},
    "ease": {*_NETWORKS_ONLY, "unobserved_weight", "keep"},
    "": {"regularization", "unobserved_weight", "neighbours"},
}
"""Settings that change nothing of a model."""


@dataclass(frozen=True)
class NcfPrepSettings(RatingSettings):
    """How ratings are read and split."""

    min_ratings: int = again(RatingSettings, "min_ratings", 20)
    split: Protocol = setting(
        "leave-one-out",
        "Which ratings are held out for the test: the last of each user; or, with time, all from one moment on, so that "
        "nothing is trained on that came after a test rating.",
    )
    holdout: float = setting(
        0.1, "With --split time: the share of all ratings that is held out for the test.", above=0, below=0.5
    )
    validation: bool = setting(
        False, "Hold out one more rating of each user, by which train keeps the best epoch and settings are chosen."
    )

    @property
    def split_settings(self) -> dict[str, Any]:
        """What determines the split of ratings that have been read, for its record."""
        found = super().split_settings
        return {name: value for name, value in found.items() if name != "holdout" or self.split == "time"}


@dataclass(frozen=True)
class NcfMakeSettings(Settings):
    """What determines training examples and evaluation sets.

    Raises:
        SettingsError: a value that cannot be, or an evaluation batch that does not hold whole users.
    """

    batch_size: int = setting(
        1024, "Examples of a training batch, B. Larger ones are faster and learn less in an epoch.", least=1
    )
    train_epochs: int = setting(20, "Epochs: passes over all training ratings.", least=1)
    num_neg: int = setting(
        4, "Negatives for each training rating: items that its user has not rated, drawn anew in each epoch.", least=0
    )
    eval_negatives: int = setting(
        999,
        "Negatives that each held-out rating is ranked among. The official NCF takes 999, the paper 99: figures with "
        "different numbers cannot be compared.",
        least=1,
    )
    eval_batch_size: int | None = setting(
        None,
        "Rows of an evaluation batch, a multiple of 1 + --eval-negatives; 100 users if it is not given. It changes no "
        "figure, only the shape of what `ncf batches` writes.",
    )
    seed: int = setting(
        42, "Of all random numbers: the same seed gives the same bytes, another one another run.", least=0, most=2**32 - 1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        users_of_batch(self.evaluation_batch, self.eval_negatives)

    @property
    def evaluation_batch(self) -> int:
        """Rows of an evaluation batch."""
        return USERS_PER_BATCH * (self.eval_negatives + 1) if self.eval_batch_size is None else self.eval_batch_size


def users_of_batch(rows: int, negatives: int) -> int:
    """How many users an evaluation batch of so many rows has.

    Raises:
        SettingsError: it does not hold whole users.
    """
    each = negatives + 1
    if rows < each or rows % each:
        near = max(1, rows // each) * each
        raise SettingsError(
            f"an evaluation batch of {rows:,} does not hold whole users: each has {each:,} rows, a positive and "
            f"{negatives:,} negatives.",
            expected=f"a multiple of {each:,}, such as {near:,} or {near + each:,}",
        )
    return rows // each


@dataclass(frozen=True)
class NetworkShape(Settings):
    """What a network is made of, but for the number of users and items.

    Raises:
        SettingsError: a setting that no network can have.
    """

    num_factors: int = setting(
        None,
        "GMF and ials: numbers a user and an item have; 8 if it is not given, 64 for ials. More fit more data, and overfit "
        "little data.",
        least=1,
    )
    layers: tuple[int, ...] = setting(
        (64, 32, 16, 8),
        "MLP: widths of its layers. The first is its input, half of it the user's and half the item's, so it is even.",
        least=1,
    )
    kind: Kind = setting(
        "neumf",
        "The model: the network neumf; one of its halves alone, gmf (no layers) or mlp; or one that is solved without "
        "TensorFlow, ials or ease. ials is the quickest, and as accurate as any.",
        option="--model",
    )

    def __post_init__(self) -> None:
        for name, by_kind in _DEFAULTS.items():
            if getattr(self, name, "") is None:
                object.__setattr__(self, name, by_kind.get(self.kind, by_kind[""]))
        super().__post_init__()
        if not self.layers:
            raise SettingsError("layers is empty.", expected="a width or more")
        if self.layers[0] % 2:
            odd = self.layers[0]
            raise SettingsError(
                f"the first layer is {odd}, which is odd: half of it is the user's and half the item's.",
                expected=f"an even number, such as {odd - 1 or 2} or {odd + 1}",
                do=f"--layers {','.join(map(str, (odd + 1, *self.layers[1:])))}",
            )


@dataclass(frozen=True)
class NcfTrainSettings(NcfMakeSettings, NetworkShape):
    """The network and how it learns.

    Raises:
        SettingsError: a value that cannot be, or values that do not fit each other.
    """

    learning_rate: float = setting(
        0.001, "Size of a step of the optimizer, Adam. Raise it with the batch size, lower it if the loss jumps.", above=0
    )
    beta1: float = setting(
        0.9, "Adam: share of its mean of gradients that a step keeps of the steps before. Rarely changed.", least=0, below=1
    )
    beta2: float = setting(0.999, "Adam: the same for its mean of squared gradients. Rarely changed.", least=0, below=1)
    epsilon: float = setting(
        1e-8, "Adam: added to what it divides by. Raise it if training is unstable, with fp16 above all.", above=0
    )
    mf_regularization: float = setting(
        0.0, "L2 penalty of the tables of users and items. Raise it (1e-6) if validation gets worse while the loss falls.",
        least=0,
    )  # fmt: skip
    mlp_regularization: tuple[float, ...] = setting(
        (), "L2 penalty of each layer of --layers, as many numbers; zeros if it is not given.", least=0
    )
    regularization: float = setting(
        None,
        "ials, ease: penalty of the squares of what is solved for; 0.01 for ials, 300 for ease. Raise it for fewer "
        "ratings: 0.003 is good for ials on a million, 0.01 on a hundred thousand.",
        above=0,
    )
    unobserved_weight: float = setting(
        0.2, "ials: weight of a pair that is not rated beside one that is. Lower it (0.1) for many items.", above=0
    )
    neighbours: int = setting(
        200,
        "ease: how many of each item's weights for other items are kept, the largest. More make a larger model, 8 bytes "
        "each, and hardly a better one.",
        least=1,
        most=1 << 20,
    )
    keep: Keep = setting(
        None,
        "Which epoch is kept: the best on the validation positives, for which the latest training rating of each user is "
        "held out where prep held out none; or the last. best if it is not given, last for ials and ease, which hardly get "
        "worse.",
    )
    epochs_between_evals: int = setting(
        1, "Evaluate after every so many epochs, and after the last. Raise it where evaluations take long.", least=1
    )
    early_stopping: bool = setting(False, "Stop as soon as an evaluation reaches --hr-threshold.")
    hr_threshold: float = setting(1.0, "With --early-stopping: the HR@10 to stop at, a share.", above=0, most=1)
    ml_perf: bool = setting(
        False, "Evaluate by the rules of MLPerf: a negative that was drawn twice counts once. Figures are a little higher."
    )
    dtype: Dtype = setting(
        "fp32", "Arithmetic: fp32; or mixed precision, fp16 or bf16, which is faster on GPUs that have it."
    )
    loss_scale: float = setting(
        0.0,
        "With --dtype fp16: what the loss is multiplied with, so that small gradients are not lost; 0: found on the way.",
        least=0,
    )
    enable_xla: bool = setting(False, "Compile the training step with XLA: a slower start, and faster steps on some GPUs.")
    distribution_strategy: Strategy = setting("one_device", "Train on one device, or mirrored on all GPUs of this machine.")
    keras_use_ctl: bool = setting(
        False, "Train in a loop of its own instead of Keras' fit. The result is the same; fit is faster."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mlp_regularization and len(self.mlp_regularization) != len(self.layers):
            raise SettingsError(
                f"mlp_regularization has {len(self.mlp_regularization)} numbers for {len(self.layers)} layers.",
                expected="one for each layer",
            )

    @property
    def learning(self) -> dict[str, Any]:
        """What determines the trained weights besides the network's shape, for records."""
        elsewhere = {*NetworkShape.__dataclass_fields__, "neighbours", "eval_batch_size"}
        elsewhere |= _OF_OTHERS.get(self.kind, _OF_OTHERS[""])
        return {name: value for name, value in asdict(self).items() if name not in elsewhere}


@dataclass(frozen=True)
class Preset:
    """Settings of `NcfTrainSettings` that go together, and what they are for."""

    purpose: str
    values: Mapping[str, Any]


PresetName = Literal["official", "paper", "accurate", "mlperf"]
PRESETS: dict[PresetName, Preset] = {
    "official": Preset("TensorFlow's official NCF, to compare with it; the same as no preset", {}),
    "paper": Preset(
        "NeuMF of the NCF paper with 16 factors, for its figures on ml-1m",
        {"num_factors": 16, "layers": (64, 32, 16), "batch_size": 256, "eval_negatives": 99},
    ),
    "accurate": Preset(
        "the most accurate network on 100,000 ratings, GMF with 64 factors and 8 negatives",
        {"kind": "gmf", "num_factors": 64, "num_neg": 8, "mf_regularization": 1e-5},
    ),
    "mlperf": Preset(
        "large NeuMF in large batches, tuned for the 20 million ratings of ml-20m",
        {
            "num_factors": 64, "layers": (256, 256, 128, 64), "batch_size": 99_000, "train_epochs": 10,
            "learning_rate": 0.00382059, "beta1": 0.783529, "beta2": 0.909003, "epsilon": 1.45439e-07, "ml_perf": True,
        },
    ),
}  # fmt: skip
"""Of training, by name."""


@dataclass(frozen=True)
class NcfExportSettings(FixedSettings):
    """Lengths that are fixed in the file."""

    fixed_seen: int = setting(
        1000,
        "Items that recommend_fixed can leave out, filled up with -1: a user's whole history, or the newest of it.",
        least=1,
        most=1 << 20,
    )
    top_k: int = again(ModelSettings, "top_k", 20)


@dataclass(frozen=True)
class NcfRankSettings(Settings):
    """How held-out ratings are ranked."""

    on: OnPositives = setting("test", "The held-out ratings to rank; valid while settings are still being chosen.")
    top: int = setting(10, "k of HR@k and NDCG@k: how many of the best items a user would be shown.", least=1)
    eval_negatives: int | None = setting(
        None,
        "Negatives that each held-out rating is ranked among, 999 or 99; as many as in training if not given.",
        least=1,
    )
    ml_perf: bool = setting(True, "A negative that was drawn twice counts once.")
    full: bool = setting(True, "Also rank among all items that the user has not rated, which takes longer.")


@dataclass(frozen=True)
class NcfRecommendSettings(Settings):
    """What is recommended, and by what."""

    top: int = setting(10, "How many items.", least=1)
    tflite: bool = setting(False, "Ask the exported model, on LiteRT, instead of the trained network.")
