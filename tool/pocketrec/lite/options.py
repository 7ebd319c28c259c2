"""What a user can choose about a GRU4Rec: the network, the file it is exported to, and how that is verified."""

from __future__ import annotations

from dataclasses import dataclass
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
    """What a GRU4Rec is made of, and how it learns; its items come from the dataset."""

    batch_size: int = setting(
        DEFAULT_LANES,
        "Lanes of the batches that it trains on, B; fixed in the file. For a model that learns from one user alone any "
        "number will do; a smaller one makes a smaller model in memory.",
        least=1,
    )
    hidden_size: int = setting(
        100, "Units of the GRU, H: how much is remembered of a session. More learn more, and slower.", least=1
    )
    embedding: Embedding = setting(
        "none",
        "How an item goes into the GRU: none, one-hot; separate, by a table of H numbers an item; shared, by the rows of "
        "the output layer, which is the smallest file and usually the most accurate.",
    )
    optimizer: Optimizer = setting("adam", "What turns gradients into steps: adam, adagrad or sgd.")
    learning_rate: float = setting(
        0.001, "Size of the optimizer's steps. Lower it where the loss jumps or becomes NaN; .1 suits adagrad.", above=0
    )
    momentum: float = setting(
        0.0, "Share of the last step that is taken again, from 0 to below 1; for adagrad alone.", least=0, below=1
    )
    dropout_embedding: float = setting(
        0.0,
        "Share of an item's numbers that a training step leaves out, from 0 to below 1. Raise it where the loss falls and"
        " the validation does not.",
        least=0,
        below=1,
    )
    dropout_hidden: float = setting(
        0.0,
        "Share of the hidden state that a training step leaves out of the scores (not out of the state), from 0 to below "
        "1.",
        least=0,
        below=1,
    )
    loss: Loss = setting(
        "cross-entropy",
        "The loss with drawn items (of `train`, and of train_sampled on the device): cross-entropy or bpr-max. The "
        "signature train always has the cross-entropy over all items.",
    )
    negatives: int = setting(
        2048, "Items drawn for a step beside the batch's own targets, S. More are slower and nearer to all items.", least=1
    )
    sample_alpha: float = setting(
        0.75,
        "They are drawn with a chance ~ clicks of the item to this power: 0 all alike, 1 as often as clicked.",
        least=0,
    )
    logq: float = setting(
        1.0,
        "Share of the logQ correction, which takes out of the cross-entropy how often an item is drawn; 0: none.",
        least=0,
    )
    bpreg: float = setting(1.0, "Weight of the score regularisation in bpr-max, 0 or more.", least=0)
    elu: float = setting(
        0.5, "With bpr-max, alpha of the elu that scores go through; 0: they are taken as they are.", least=0
    )
    seed: int = setting(
        42,
        "Of the first weights, the dropout and the drawn items: the same seed gives the same bytes.",
        least=0,
        below=2**63,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum and self.optimizer != "adagrad":
            raise SettingsError(f"momentum is {self.momentum!r}.", expected="0 with adam and sgd")


@dataclass(frozen=True)
class ModelSettings(Gru4RecSettings):
    """What a model file is made with: the network, and what is fixed when it is exported."""

    top_k: int = setting(20, "Items that `recommend` returns at most; fixed in the file.", least=1)
    storage: Storage = setting(
        "float32",
        "How weights are stored in the file: float32; float16, half the size; int8, a quarter, for a model that answers and"
        " cannot learn.",
        option="--weights",
    )


@dataclass(frozen=True)
class VerifySettings(Settings):
    """How a model is verified."""

    batch_size: int = again(Gru4RecSettings, "batch_size", DEFAULT_LANES)
    steps: int = setting(
        40,
        "Training steps for the curve of the loss, on the first few real steps, round after round: fewer than 8 cannot "
        "show a loss that falls.",
        least=8,
    )
    threads: int = setting(2, "Threads of the interpreter, as on a device of so many fast cores.", least=1)
