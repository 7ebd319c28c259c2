"""Settings of a GRU4Rec: of the network and its training, of the exported file, and of its verification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pocketrec.errors import SettingsError
from pocketrec.settings import Settings, again, setting
from pocketrec.storage.layout import DEFAULT_LANES

Embedding = Literal["none", "separate", "shared"]
Loss = Literal["cross-entropy", "bpr-max"]
Storage = Literal["float32", "float16", "int8"]
Optimizer = Literal["adam", "adagrad", "sgd"]


@dataclass(frozen=True)
class Gru4RecSettings(Settings):
    """Settings of the network and of its training. The items come from the dataset."""

    batch_size: int = setting(
        DEFAULT_LANES,
        "Lanes (sessions side by side) of a training batch, B; fixed in the file. A model that learns from one user only "
        "may have any number; a smaller one needs less memory.",
        least=1,
    )
    hidden_size: int = setting(
        100, "Units of the GRU, H. More units can remember more of a session, but train more slowly.", least=1
    )
    embedding: Embedding = setting(
        "none",
        "Input of the GRU for an item: none, a one-hot vector; separate, H numbers from a table of its own; shared, H "
        "numbers from the output layer, which makes the smallest file and is usually the most accurate.",
    )
    optimizer: Optimizer = setting(
        "adam",
        "Rule that changes the weights by their gradients: adam; adagrad, as in the official GRU4Rec; sgd, which needs the "
        "least memory.",
    )
    learning_rate: float = setting(
        0.001, "Size of the optimizer's steps. Lower it if the loss jumps or becomes NaN; adagrad needs about 0.1.", above=0
    )
    momentum: float = setting(
        0.0, "Share of the previous step that is added to the next one, below 1; only for adagrad.", least=0, below=1
    )
    dropout_embedding: float = setting(
        0.0,
        "Share of the GRU's input that each training step sets to 0 (from 0 to below 1). Raise it if the loss falls but "
        "the accuracy on train_valid does not rise.",
        least=0,
        below=1,
    )
    dropout_hidden: float = setting(
        0.0,
        "Share of the state that each training step sets to 0 before it scores items (from 0 to below 1). The state that "
        "is passed on is complete.",
        least=0,
        below=1,
    )
    loss: Loss = setting(
        "cross-entropy",
        "Loss over drawn items, for the command train and for train_sampled on the device: cross-entropy or bpr-max. The "
        "signature train on the device always uses the cross-entropy over all items.",
    )
    negatives: int = setting(
        2048,
        "Items drawn in each step as wrong answers, S, in addition to the targets of the batch. More are slower, but "
        "closer to a loss over all items.",
        least=1,
    )
    sample_alpha: float = setting(
        0.75,
        "Items are drawn with a probability proportional to their clicks to this power: 0, all items equally often; 1, as "
        "often as they are clicked.",
        least=0,
    )
    logq: float = setting(
        1.0,
        "Strength of the logQ correction, which corrects the cross-entropy for how often an item is drawn: 0, none; 1, "
        "full.",
        least=0,
    )
    bpreg: float = setting(
        1.0, "Weight of the score regularisation in bpr-max, 0 or more; higher keeps scores smaller.", least=0
    )
    elu: float = setting(
        0.5, "Alpha of the ELU function that bpr-max applies to the scores, 0 or more; 0 leaves them unchanged.", least=0
    )
    seed: int = setting(
        42,
        "Seed of the initial weights, the dropout and the drawn items. The same seed gives the same bytes.",
        least=0,
        below=2**63,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum and self.optimizer != "adagrad":
            raise SettingsError(f"momentum is {self.momentum!r}.", expected="0 with adam and sgd")


@dataclass(frozen=True)
class ModelSettings(Gru4RecSettings):
    """Settings of a model file: the network, and what is fixed at export."""

    top_k: int = setting(20, "Most items that recommend (of ncf: recommend_fixed) can return; fixed in the file.", least=1)
    storage: Storage = setting(
        "float32",
        "How weights are stored in the file: float32; float16, half the size; int8, a quarter, but such a model cannot "
        "learn.",
        option="--weights",
    )
    journal: int = setting(
        256,
        "Clicks of its user that a model keeps on the device, J: to learn from, and in its state cache; and how many items "
        "recommend_user can hide. Fixed in the file.",
        least=8,
        most=1 << 12,
    )


LARGEST_AMOUNT = 1000.0
"""Most that a rate or a share can be: what is larger leads away from every weight."""


@dataclass(frozen=True)
class LearnSettings(Settings):
    """How much a call of the signature `learn` changes. Each is an input of the call; a file's own are in its card.

    One click is a share of what a batch was in training, so one odd click cannot undo what many people's clicks have made.
    And after each step, weights go a little back to the shipped ones, so that many odd clicks cannot, either.
    """

    rate: float = setting(0.2, "Size of the optimizer's step, in place of learning_rate.", least=0, most=LARGEST_AMOUNT)
    share: float = setting(
        1 / DEFAULT_LANES,
        "What the click's gradient is multiplied by: 1 / lanes of training.",
        least=0,
        most=LARGEST_AMOUNT,
    )
    pull: float = setting(
        0.01, "Share of the way back to its shipped value that each weight goes after the step.", least=0, most=1
    )

    @classmethod
    def of(cls, settings: Gru4RecSettings, lanes: int) -> LearnSettings:
        """For a model that was trained in batches of `lanes`.

        Adam's steps are as long as its rate, however small a gradient is; so it keeps the rate that it was trained with.
        """
        rate = min(settings.learning_rate, LARGEST_AMOUNT) if settings.optimizer == "adam" else cls.rate
        return cls(rate, 1 / lanes)


MOST_SHARE = 0.9
"""The largest share of a state cache: the scores of what it does not hold are those of the network less a logarithm."""

Between = Literal["reset", "carry"]
Seen = Literal["show", "hide"]


@dataclass(frozen=True)
class UserSettings(Settings):
    """How a model is used for its user; in the file, from which each runtime takes its defaults."""

    passes: int = setting(3, "Passes over a user's journal in which learn learns it.", least=1, most=100)
    cache_share: float = setting(
        0.05,
        "Weight of the state cache in a recommendation: of the items that this user went on to from states like the "
        "present one. 0: none.",
        least=0,
        most=MOST_SHARE,
    )
    between: Between = setting(
        "reset",
        "State between two sessions of a user: reset, where each session of the log begins anew; carry, where a session of "
        "the log is all that one person has done.",
    )
    seen: Seen = setting(
        "show",
        "Items that are in the session already: show, they may be recommended again; hide, they are left out.",
    )

    def hides(self, asked: bool | None) -> bool:
        """Whether items of the session are left out: as is asked for, or as the file says if that is None."""
        return self.seen == "hide" if asked is None else asked


@dataclass(frozen=True)
class ExportSettings(Settings):
    """`UserSettings` where the log may say what they are."""

    passes: int = again(UserSettings, "passes", UserSettings.passes)
    cache_share: float = again(UserSettings, "cache_share", UserSettings.cache_share)
    between: Literal["log", "reset", "carry"] = setting(
        "log",
        "State between two sessions of a user: reset, where each session of the log begins anew; carry, where a session of "
        "the log is all that one person has done; log, carry if the column of sessions is named like people (user_id).",
    )
    seen: Literal["log", "show", "hide"] = setting(
        "log",
        "Items that are in the session already: show, they may be recommended again; hide, they are left out; log, hide if "
        "fewer than 1 % of the log's next clicks are on an item that the session has had.",
    )


@dataclass(frozen=True)
class FixedSettings(Settings):
    """Lengths that are fixed in the file of a model that answers and does not learn (`lite.frozen`)."""

    fixed_items: int = setting(
        100,
        "Items of a call of score_fixed or predict_fixed, for runtimes that cannot change a shape, CompiledModel and "
        "browsers among them. A shorter list is filled up with -1, a longer one takes several calls.",
        least=1,
        most=1 << 20,
    )


@dataclass(frozen=True)
class VerifySettings(Settings):
    """Settings of the verification of a model."""

    batch_size: int = again(Gru4RecSettings, "batch_size", DEFAULT_LANES)
    steps: int = setting(
        40,
        "Training steps of the loss curve, 8 or more. The first few steps of the batches are repeated, to see whether the "
        "loss falls.",
        least=8,
    )
    threads: int = setting(2, "Threads of the LiteRT interpreter; as many as the device has fast cores.", least=1)


@dataclass(frozen=True)
class ServeSettings(Settings):
    """Settings of the page that a model is served with."""

    port: int = setting(
        8740,
        "Port on 127.0.0.1, or the next free one; 0 for any. The browser keeps what is learned for each port.",
        least=0,
        most=65535,
    )
    open: bool = setting(False, "Open the page in the browser.")
    runtime: Path | None = setting(
        None,
        "Folder of LiteRT.js: @litertjs/core itself, or the one in which npm has installed it. Without it: node_modules "
        "of this folder or of one above it.",
        metavar="FOLDER",
    )
