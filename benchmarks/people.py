"""Logs whose users come back: who they are, and models trained without some of them.

A log is one of these, told apart by its first line; packed as `pocketrec prep` takes it:

    user,session,time,item               `pocketrec synth --users N`
    user_id:token  item_id:token  ...    MovieLens 100k as the recbole wheel has it, tab separated: a user is one session
    userId,movieId,rating,timestamp      MovieLens, `ratings.csv` or the zip around it: a user is one session
    USERS,ITEMS                          Tmall as SHAN's repository has it: a line a user, `user,session@session@...`, the
                                         items of a session joined by `:`, sessions in order, no clock

Clicks of a MovieLens user in one second are in an order that is drawn: in the file they are in that of the items' ids.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pocketrec.sources.movielens import RATINGS
from pocketrec.sources.streams import open_log

FOLDS, LANES, HELD_OUT = 3, 32, 0.02
FIRST_SECOND, SESSION_SECONDS = 1_000_000_000, 3600
COLUMNS = "session=session,item=item,time=time"
SETTINGS = "--average 0 --dropout-embedding .4 --dropout-hidden .3 --sample-alpha .5"

Session = list[str]
"""Item ids, in order."""


@dataclass(frozen=True)
class People:
    """Users, each with sessions in order of time; `carry`: a user is one session, so the state goes on within it."""

    name: str
    users: list[list[Session]]
    carry: bool

    def fold(self, fold: int, seed: int) -> tuple[list[list[Session]], list[list[Session]]]:
        """Users of a fold, and the other ones in the order in which they arrive, both drawn."""
        order = np.random.default_rng(seed).permutation(len(self.users))
        inside = np.arange(len(order)) % FOLDS == fold
        return [self.users[one] for one in order[inside]], [self.users[one] for one in order[~inside]]


def read_people(log: Path, seed: int = 0) -> People:
    """Read a log; `seed` draws the order of ratings in one second."""
    with open_log(log, RATINGS) as stream:
        text = stream.file.read()
    head = text[: text.index(b"\n")].decode().strip()
    name, read = log.name.partition(".")[0], next((read for start, read in KINDS.items() if head.startswith(start)), None)
    if read is None:
        return People(name, _tmall(text), carry=False)
    frame = read(text, seed)
    rows = zip(*(frame[one].to_list() for one in ("user", "session", "item")), strict=True)
    users = [
        [[item for *_, item in session] for _, session in groupby(user, key=lambda row: row[1])]
        for _, user in groupby(rows, key=lambda row: row[0])
    ]
    return People(name, users, carry=read is not _synthetic)


def _tmall(text: bytes) -> list[list[Session]]:
    lines = text.decode().splitlines()[1:]
    return [[one.split(":") for one in line.partition(",")[2].split("@")] for line in lines]


def _ratings(text: bytes, seed: int, separator: str = ",") -> pl.DataFrame:
    frame = pl.read_csv(io.BytesIO(text), separator=separator, infer_schema=False)
    user, item, _, time = (pl.col(name) for name in frame.columns)
    frame = frame.select(user=user, session=user, time=time.cast(pl.Int64), item=item)
    drawn = pl.Series("drawn", np.random.default_rng(seed).random(len(frame)))
    return frame.with_columns(drawn).sort(pl.col("user").cast(pl.Int64), "time", "drawn")


def _synthetic(text: bytes, _: int) -> pl.DataFrame:
    frame = pl.read_csv(io.BytesIO(text), schema_overrides={"item": pl.String})
    start = pl.col("time").min().over("session")
    return frame.sort("user", start, "session", "time", maintain_order=True)


KINDS: dict[str, Callable[[bytes, int], pl.DataFrame]] = {
    "user,session,time,item": _synthetic,
    "user_id:token": lambda text, seed: _ratings(text, seed, "\t"),
    "userId,movieId,rating,timestamp": _ratings,
}


def model_of(others: Sequence[list[Session]], work: Path, support: int, epochs: int) -> Path:
    """A model of these users, by `prep`, `train` and `export`: the epoch that is best on the last users.

    2 % of the sessions are held out for the test, and 2 % to choose the epoch by. A model of the same log and settings that
    was made in this folder is taken as it is.
    """
    work.mkdir(parents=True, exist_ok=True)
    log, made = work / "others.csv", work / "made.json"
    held_out = f"{max(1, round(HELD_OUT * write_log(others, log))) * SESSION_SECONDS}s"
    about = {"log": hashlib.sha256(log.read_bytes()).hexdigest(), "support": support, "epochs": epochs, "train": SETTINGS}
    if made.exists() and (found := json.loads(made.read_text()))["about"] == about:
        return work / str(found["model"])
    shape = ("--formats", "npy", "--tail", "pad", "--session-order", "time", "--min-item-support", str(support))
    lanes, data = ("--batch-size", str(LANES)), ("--dataset", str(work / "data"))
    _command("prep", str(log), "--columns", COLUMNS, "--holdout", held_out, *lanes, *shape, *data)
    trained = _command("train", *lanes, "--epochs", str(epochs), *SETTINGS.split(), *data)
    model = Path(_command("export", "--batch-size", "1", "--from", trained["checkpoint"], *data)["path"])
    made.write_text(json.dumps({"about": about, "model": str(model.relative_to(work))}))
    return model


def write_log(users: Sequence[list[Session]], log: Path) -> int:
    """Write users as a click log, and return the number of sessions.

    The clock is made up: one user after the other, one session an hour, a click a second.
    """
    sessions = [session for user in users for session in user]
    lengths = np.array([len(session) for session in sessions])
    number = np.repeat(np.arange(len(sessions)), lengths)
    place = np.arange(len(number)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = [item for session in sessions for item in session]
    pl.DataFrame({"session": number, "time": FIRST_SECOND + number * SESSION_SECONDS + place, "item": items}).write_csv(log)
    return len(sessions)


def _command(*words: str) -> dict[str, Any]:
    """Run a command of pocketrec; its report."""
    run = subprocess.run([sys.executable, "-m", "pocketrec.cli", *words, "--json"], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    found: dict[str, Any] = json.loads(run.stdout)
    return found
