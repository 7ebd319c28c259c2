"""Options of the command line that are one of a few words."""

from __future__ import annotations

from enum import StrEnum


class BadRows(StrEnum):
    """What happens at a line that is no click."""

    stop = "stop"
    set_aside = "set-aside"


class Resets(StrEnum):
    """When a mask asks for a reset."""

    once = "once"
    repeated = "repeated"


class Tail(StrEnum):
    """What happens when sessions run out."""

    drop = "drop"
    pad = "pad"


class SessionOrder(StrEnum):
    """In which order sessions are taken."""

    id = "id"
    time = "time"


class TrainOn(StrEnum):
    """What is trained on."""

    train_tr = "train_tr"
    train_full = "train_full"


class Ties(StrEnum):
    """How items count that score as much as the next item."""

    standard = "standard"
    conservative = "conservative"
    median = "median"


class Set(StrEnum):
    """The sets that can be measured on."""

    train_tr = "train_tr"
    train_valid = "train_valid"
    test = "test"


class Optimizer(StrEnum):
    """The optimizers an exported model can have."""

    adam = "adam"
    adagrad = "adagrad"
    sgd = "sgd"


class Embedding(StrEnum):
    """How an item goes into the GRU."""

    none = "none"
    separate = "separate"
    shared = "shared"


class Loss(StrEnum):
    """The losses of train_sampled."""

    cross_entropy = "cross-entropy"
    bpr_max = "bpr-max"


class Weights(StrEnum):
    """How weights are stored in the file."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


class Order(StrEnum):
    """The order of rows in a synthetic log."""

    grouped = "grouped"
    interleaved = "interleaved"
    shuffled = "shuffled"
