"""What pocketrec must produce, computed the slow and obvious way in pandas and plain Python.

Written from the description of the original's steps 1_1 and 1_2 alone and shares no code with pocketrec, so that the two
can only agree by both being right. Ids and times stay integers; floats appear where the original's do, in the hold-out's
comparison and in print.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Int32s = NDArray[np.int32]


@dataclass(frozen=True)
class Prepared:
    """The four sets of the split, in the order of the log: columns SessionId, ItemId, TimeMs (int64 each).

    Attributes:
        txt: train_full, test, train_tr, train_valid -> the bytes of rsc15_{name}.txt.
        counts: the block of counts the original prints.
    """

    train_full: pd.DataFrame
    test: pd.DataFrame
    train_tr: pd.DataFrame
    train_valid: pd.DataFrame
    txt: dict[str, bytes]
    counts: str


def prepare(
    log: Path, *, holdout_seconds: float = 86400, min_session_length: int = 2, min_item_support: int = 5
) -> Prepared:
    """Steps 1 to 6 of the original's preparation.

    Raises:
        ValueError: no click is left to train on (train_full or train_tr is empty).
    """
    clicks = read_log(log)
    clicks = keep_frequent(clicks, "SessionId", min_session_length)
    clicks = keep_frequent(clicks, "ItemId", min_item_support)
    clicks = keep_frequent(clicks, "SessionId", min_session_length)
    train_full, test = hold_out(clicks, holdout_seconds, min_session_length)
    train_tr, train_valid = hold_out(train_full, holdout_seconds, min_session_length)
    sets = {"train_full": train_full, "test": test, "train_tr": train_tr, "train_valid": train_valid}
    titles = {
        "train_full": "Full train set",
        "test": "Test set",
        "train_tr": "Train set",
        "train_valid": "Validation set",
    }
    return Prepared(
        **sets,
        txt={name: rsc15_bytes(frame) for name, frame in sets.items()},
        counts="".join(count_block(titles[name], frame) for name, frame in sets.items()),
    )


def read_log(log: Path) -> pd.DataFrame:
    """Columns 0 to 2 of a headerless log, in its order; times as integer milliseconds since the epoch (UTC)."""
    raw = pd.read_csv(
        log,
        header=None,
        usecols=[0, 1, 2],
        names=["SessionId", "Timestamp", "ItemId"],
        dtype={"SessionId": "int64", "Timestamp": str, "ItemId": "int64"},
    )
    times = [milliseconds(text) for text in raw["Timestamp"]]
    return pd.DataFrame({"SessionId": raw["SessionId"], "ItemId": raw["ItemId"], "TimeMs": np.array(times, dtype=np.int64)})


def milliseconds(timestamp: str) -> int:
    """2014-04-07T10:51:09.277Z -> 1396867869277."""
    return (datetime.fromisoformat(timestamp) - EPOCH) // timedelta(milliseconds=1)


def keep_frequent(clicks: pd.DataFrame, column: str, least: int) -> pd.DataFrame:
    """The clicks whose value in `column` occurs at least `least` times, in unchanged order."""
    occurrences = Counter(clicks[column].tolist())
    return where(clicks, [occurrences[value] >= least for value in clicks[column].tolist()])


def where(frame: pd.DataFrame, flags: list[bool]) -> pd.DataFrame:
    """The flagged rows. As an array, since an empty list would make pandas select columns."""
    return frame[np.array(flags, dtype=bool)]


def hold_out(clicks: pd.DataFrame, holdout_seconds: float, min_session_length: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Steps 4 and 5: (earlier sessions, sessions that end in the last `holdout_seconds` and know only earlier items)."""
    if clicks.empty:
        raise ValueError("no click is left to split")
    cut = int(clicks["TimeMs"].max()) / 1000 - holdout_seconds  # float seconds, as the original has them
    ends: dict[int, int] = {}
    for session, time in zip(clicks["SessionId"].tolist(), clicks["TimeMs"].tolist(), strict=True):
        ends[session] = max(time, ends.get(session, time))
    is_early = [ends[session] / 1000 < cut for session in clicks["SessionId"].tolist()]
    early, late = where(clicks, is_early), where(clicks, [not flag for flag in is_early])
    if early.empty:
        raise ValueError("the hold-out leaves no click to train on")
    known = set(early["ItemId"].tolist())
    late = where(late, [item in known for item in late["ItemId"].tolist()])
    return early, keep_frequent(late, "SessionId", min_session_length)


def time_text(ms: int) -> str:
    """The shortest float that round-trips, always with a fraction.

    Python divides two integers to the nearest float and prints the shortest text of it. A time of the years 1 to 9999
    has at most 15 digits in milliseconds, so that text is those digits; below 1e16 it never has an exponent either.
    """
    return repr(ms / 1000)


def rsc15_bytes(frame: pd.DataFrame) -> bytes:
    """The frame as one of the original's tab-separated files."""
    lines = ["SessionId\tItemId\tTime\n"]
    for session, item, ms in rows(frame):
        lines.append(f"{session}\t{item}\t{time_text(ms)}\n")
    return "".join(lines).encode()


def count_block(title: str, frame: pd.DataFrame) -> str:
    """The four lines the original prints for one set."""
    sessions, items = frame["SessionId"].nunique(), frame["ItemId"].nunique()
    return f"{title}\n\tEvents: {len(frame)}\n\tSessions: {sessions}\n\tItems: {items}\n"


def rows(frame: pd.DataFrame) -> list[tuple[int, int, int]]:
    """(session, item, ms) of each row as Python integers."""
    columns = (frame[name].tolist() for name in ("SessionId", "ItemId", "TimeMs"))
    return list(zip(*columns, strict=True))


def item_index(train_tr: pd.DataFrame) -> dict[int, int]:
    """Item id -> 0.. in order of first appearance."""
    index: dict[int, int] = {}
    for item in train_tr["ItemId"].tolist():
        index.setdefault(item, len(index))
    return index


def item_support(train_tr: pd.DataFrame) -> dict[int, int]:
    """Item id -> its number of clicks in train_tr."""
    return dict(Counter(train_tr["ItemId"].tolist()))


@dataclass(frozen=True)
class Batches:
    """Session-parallel mini-batches.

    Attributes:
        feats: item codes, int32 (steps, B); 0 where a lane has no session.
        targets: the code of the next click, int32 (steps, B); -1 where a lane has no session.
        masks: 0 where the state of a lane is to be reset before the step or does not matter, else 1; int32 (steps, B).
        dropped: transitions (pairs of consecutive clicks) of the set that are in no step.
    """

    feats: Int32s
    targets: Int32s
    masks: Int32s
    dropped: int


@dataclass
class Lane:
    """One column of the batches: what is left of the session it plays, its current click first."""

    clicks: list[int]
    is_new: bool = True  # no step of this session has been emitted yet

    @property
    def is_idle(self) -> bool:
        return not self.clicks


def batches(
    frame: pd.DataFrame,
    item_index: dict[int, int],
    B: int,  # noqa: N803 - the name everything written about it uses
    *,
    resets: Literal["once", "repeated"] = "once",
    tail: Literal["drop", "pad"] = "drop",
) -> Batches:
    """The block loop of the original's step 1_2.

    A session of one click (possible only with min_session_length=1) takes a lane for a block of no steps, as it does in
    the original; the lanes beside it keep their pending reset, which the original forgets.

    Raises:
        ValueError: there are fewer sessions than lanes and the tail is dropped.
    """
    sessions = sessions_of(frame, item_index)
    transitions = sum(len(clicks) - 1 for clicks in sessions)
    if tail == "drop" and len(sessions) < B:
        raise ValueError(f"{len(sessions)} sessions do not fill {B} lanes")
    waiting = iter(sessions)
    lanes = [Lane(next(waiting, [])) for _ in range(B)]
    steps: list[list[tuple[int, int, int]]] = []  # a step is (feat, target, mask) of each lane
    while any(not lane.is_idle for lane in lanes):
        steps += block(lanes, is_first=not steps, resets=resets)
        if not refill(lanes, waiting, pad=tail == "pad"):
            break
    table = np.array(steps, dtype=np.int32).reshape(len(steps), B, 3)
    emitted = int((table[:, :, 1] >= 0).sum())
    feats, targets, masks = (np.ascontiguousarray(table[:, :, k]) for k in range(3))
    return Batches(feats, targets, masks, transitions - emitted)


def sessions_of(frame: pd.DataFrame, item_index: dict[int, int]) -> list[list[int]]:
    """The item codes of each session: sessions by id, clicks by time, equal times in the order of the frame."""
    by_id: dict[int, list[int]] = {}
    for session, item, _ in sorted(rows(frame), key=lambda row: (row[0], row[2])):  # sorted() is stable
        by_id.setdefault(session, []).append(item_index[item])
    return list(by_id.values())


def block(lanes: list[Lane], *, is_first: bool, resets: str) -> list[list[tuple[int, int, int]]]:
    """Emit steps until the lane with the fewest clicks is at its last one, and move every lane on."""
    took = [lane.is_new for lane in lanes]
    shortest = min(len(lane.clicks) for lane in lanes if not lane.is_idle)
    steps = []
    for k in range(shortest - 1):
        step = []
        for lane, has_taken in zip(lanes, took, strict=True):
            resets_here = has_taken and not is_first and (resets == "repeated" or k == 0)
            step.append((0, -1, 0) if lane.is_idle else (lane.clicks[0], lane.clicks[1], 0 if resets_here else 1))
        for lane in lanes:
            lane.clicks = lane.clicks[1:]
            lane.is_new = False
        steps.append(step)
    return steps


def refill(lanes: list[Lane], waiting: Any, *, pad: bool) -> bool:
    """Give every lane at its end the next session, in ascending order; False: one is needed and none is left."""
    for lane in lanes:
        if len(lane.clicks) > 1:
            continue
        lane.clicks, lane.is_new = next(waiting, []), True
        if lane.is_idle and not pad:
            return False
    return True


def npy_bytes(array: NDArray[Any]) -> bytes:
    """The file np.save writes."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def txt_bytes(array: NDArray[Any]) -> bytes:
    """One step a line, values separated by commas, a newline at the end of each."""
    return "".join(",".join(str(int(value)) for value in step) + "\n" for step in array).encode()
