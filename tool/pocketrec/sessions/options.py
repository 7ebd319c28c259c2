"""What a user can choose about sessions: the hold-out, and how sessions become mini-batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketrec.durations import exact_duration, parse_duration
from pocketrec.errors import SettingsError
from pocketrec.settings import Settings, setting
from pocketrec.storage.layout import DEFAULT_LANES

Resets = Literal["once", "repeated"]
Tail = Literal["drop", "pad"]
TrainOn = Literal["train_tr", "train_full"]
SessionOrder = Literal["id", "time"]
Form = Literal["txt", "npy"]


@dataclass(frozen=True)
class SplitSettings(Settings):
    """The choices of the protocol."""

    holdout: float = setting(
        86400.0,
        "Time held out at the end of the log for the test, and once more before it for the validation: 1d, 3h, 86400s (a "
        "number alone is seconds). Make it shorter for a log that spans a few days.",
        above=0,
        metavar="TIME",
        parse=parse_duration,
        text=exact_duration,
    )
    min_session_length: int = setting(
        2, "Fewest clicks of a session that is kept; a single click has no next one.", least=2
    )
    min_item_support: int = setting(
        5, "Fewest clicks of an item that is kept. Lower it for a small log, raise it to have fewer items.", least=1
    )


@dataclass(frozen=True)
class BatchSettings(Settings):
    """How sessions become mini-batches."""

    batch_size: int = setting(
        DEFAULT_LANES,
        "Lanes of a mini-batch, B: sessions side by side. Each array has B columns. A small log wants fewer (32, 128).",
        least=1,
    )
    formats: tuple[Form, ...] = setting(
        ("txt", "npy"),
        "Files to write: txt,npy or one of them. Training reads npy; txt is what the original writes.",
        metavar="LIST",
    )
    resets: Resets = setting(
        "once",
        "When a mask is 0, which resets the lane's state: once, on the step that starts a session; or repeated, the masks"
        " of the original, which repeat a row on each step until some lane ends and so reset states that should live on.",
    )
    tail: Tail = setting(
        "drop",
        "When sessions run out: drop what the other lanes still hold, as the original does; or pad, go on until all lanes"
        " are done, the empty ones with feat 0, target -1 and mask 0.",
    )
    session_order: SessionOrder = setting(
        "id",
        "Take sessions by id, as the original does; or by the time of their first click, as the official GRU4Rec does.",
    )
    train_on: TrainOn = setting(
        "train_tr",
        "The set that the train batches and the item index are made of: train_tr; or train_full, everything but the test,"
        " with nothing held out to choose an epoch by.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.formats:
            raise SettingsError("no format of batches is named.", expected="txt, npy or both")
