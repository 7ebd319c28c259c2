"""Does learning on the device help? Recall@20 and MRR@20 of users' next clicks, as shipped and after learning.

    pocketrec train --dataset D && pocketrec export --dataset D --from D/model/gru4rec_bs32.safetensors --batch-size 32
    python benchmarks/on_device.py D D/model/gru4rec_bs32.tflite

The log has sessions but no users, so users are made from test sessions, which the model has not seen, in four ways:

    one session         a session of 8 clicks or more is a user: learn from its first half, measure on its second half
    same first item     3 or more sessions that begin with the same item are a user: learn from the earlier half of them,
                        measure on the later half. Such a user has a taste by construction, so learning looks better here
    any sessions        groups of the same sizes, drawn at random: a user without a taste, from whom nothing can be learned
    all in turn         one device that sees all sessions in order of time: measure on each, then learn from it

Everything runs on LiteRT through `OnDeviceModel`, with the optimizer and its slots as exported; `recommend` gives the 20
best items. After each user the exported model is restored. `entered` and `left` count next clicks that are among the best
20 only after learning, and only before it. Each way is measured twice: with `train_one`, whose gradient is that of one
click, and with `train` with a target in one lane only, whose gradient is a click's share of a batch. Adagrad divides by the
gradients seen in training, which were shares of batches of B: so a step of `train_one` is up to B times as large.
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.schema import Int32
from pocketrec.sessions.sequences import read_sequences
from pocketrec.storage.files import staged_file
from pocketrec.storage.layout import Dataset

RESULTS = Path(__file__).parent / "results" / "on_device.csv"
TOP, LONG, MANY = 20, 8, 3


@dataclass(frozen=True)
class User:
    """Sessions to learn from, and sessions to measure on, each with the number of first clicks that are not measured."""

    earlier: list[Int32]
    later: list[tuple[Int32, int]]


@dataclass(frozen=True)
class Row:
    """The result for one way to make users, one signature and one number of passes."""

    users: str
    signature: str
    passes: int
    count: int
    learned_clicks: int
    events: int
    recall_shipped: float
    recall_learned: float
    mrr_shipped: float
    mrr_learned: float
    entered: int
    left: int
    ms_a_click: float


@dataclass(frozen=True)
class How:
    """How to learn: by which signature, in how many passes."""

    signature: str
    passes: int


@dataclass
class Tally:
    """Ranks of the next clicks, before and after learning; infinite beyond the best 20."""

    shipped: list[float] = field(default_factory=list)
    learned: list[float] = field(default_factory=list)
    clicks: int = 0
    seconds: float = 0.0


def ranks(model: OnDeviceModel, session: Int32, skip: int = 0) -> list[float]:
    """The rank of each next click of a session; the first `skip` clicks only change the state."""
    found, state = [], model.fresh_state(1)
    for place, (code, target) in enumerate(pairwise(session)):
        items, _, state = model.recommend_next(int(code), state)
        if place + 1 >= max(skip, 1):
            at = np.flatnonzero(items == target)
            found.append(float(at[0]) + 1 if len(at) else np.inf)
    return found


def learn(model: OnDeviceModel, sessions: Sequence[Int32], how: How, tally: Tally) -> None:
    """Learn from each next click of the sessions, in order, in `how.passes` passes."""
    began = time.perf_counter()
    for session in [one for _ in range(how.passes) for one in sessions if len(one) > 1]:
        if how.signature == "train_one":
            tally.clicks += len(model.learn([model.items.ids[code] for code in session]))
        else:
            tally.clicks += learn_in_a_lane(model, session)
    tally.seconds += time.perf_counter() - began


def learn_in_a_lane(model: OnDeviceModel, session: Int32) -> int:
    """Steps of `train` along a session, with no target in the other lanes; returns the number of steps."""
    feat, state = np.zeros(model.settings.batch_size, np.int32), model.fresh_state()
    target = np.full_like(feat, -1)
    for feat[0], target[0] in pairwise(session):
        _, state = model.train(feat, target, state)
    return len(session) - 1


def measure(model: OnDeviceModel, users: Sequence[User], how: How) -> Tally:
    """Measure users that each begin with the exported model."""
    tally, shipped = Tally(), model.save()
    for user in users:
        tally.shipped += [rank for session, skip in user.later for rank in ranks(model, session, skip)]
        learn(model, user.earlier, how, tally)
        tally.learned += [rank for session, skip in user.later for rank in ranks(model, session, skip)]
        model.restore(shipped)
    return tally


def in_turn(model: OnDeviceModel, sessions: Sequence[Int32], how: How) -> Tally:
    """Measure each session with the model that has learned from all sessions before it."""
    tally, shipped = Tally(), model.save()
    tally.shipped = [rank for session in sessions for rank in ranks(model, session)]
    for session in sessions:
        tally.learned += ranks(model, session)
        learn(model, [session], how, tally)
    model.restore(shipped)
    return tally


def long_sessions(sessions: Sequence[Int32]) -> list[User]:
    """Users "one session". The clicks learned from are seen again, so that both models know the whole session."""
    return [User([one[: len(one) // 2]], [(one, len(one) // 2)]) for one in sessions if len(one) >= LONG]


def of_groups(groups: Iterator[list[Int32]]) -> list[User]:
    """Users from groups of sessions: learn from the earlier half, measure on the later half."""
    return [User(some[: len(some) // 2], [(one, 0) for one in some[len(some) // 2 :]]) for some in groups]


def same_first_item(sessions: Sequence[Int32]) -> list[list[Int32]]:
    """Groups of `MANY` or more sessions with the same first item, in order of time."""
    groups = defaultdict(list)
    for one in sessions:
        groups[int(one[0])].append(one)
    return [some for some in groups.values() if len(some) >= MANY]


def dealt(groups: Sequence[list[Int32]], seed: int = 1) -> Iterator[list[Int32]]:
    """The same sessions in random groups of the same sizes."""
    every = [one for some in groups for one in some]
    order = iter(np.random.default_rng(seed).permutation(len(every)))
    for some in groups:
        yield [every[next(order)] for _ in some]


def row_of(name: str, how: How, count: int, tally: Tally) -> Row:
    """The means of a tally."""
    shipped, learned = np.array(tally.shipped), np.array(tally.learned)
    before, after = shipped <= TOP, learned <= TOP
    return Row(
        users=name,
        signature=how.signature,
        passes=how.passes,
        count=count,
        learned_clicks=tally.clicks,
        events=len(shipped),
        recall_shipped=round(float(before.mean()), 4),
        recall_learned=round(float(after.mean()), 4),
        mrr_shipped=round(float((1 / shipped).mean()), 4),
        mrr_learned=round(float((1 / learned).mean()), 4),
        entered=int((after & ~before).sum()),
        left=int((before & ~after).sum()),
        ms_a_click=round(1e3 * tally.seconds / max(tally.clicks, 1), 2),
    )


def main(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder that the model was trained on.")],
    model: Annotated[Path, typer.Argument(help="A .tflite that was exported from a checkpoint.")],
    passes: Annotated[str, typer.Option(help="Numbers of passes over the earlier sessions, separated by commas.")] = "1",
    out: Annotated[Path, typer.Option(help="CSV file to write.")] = RESULTS,
) -> None:
    """Measure all four ways to make users."""
    place, opened = Dataset(dataset), OnDeviceModel(model, threads=1)
    opened.check_items(read_item_list(place).hash, f"the dataset {dataset}")
    sessions = [one for items, lengths in read_sequences(place, "test") for one in np.split(items, np.cumsum(lengths)[:-1])]
    groups = same_first_item(sessions)
    kinds: dict[str, list[User]] = {
        "one session": long_sessions(sessions),
        "same first item": of_groups(iter(groups)),
        "any sessions": of_groups(dealt(groups)),
    }
    rows = []
    for how in [How(name, int(times)) for name in ("train_one", "train") for times in passes.split(",")]:
        runs: dict[str, Callable[[], Tally]] = {name: partial(measure, opened, users, how) for name, users in kinds.items()}
        runs["all in turn"] = partial(in_turn, opened, sessions, how)
        for name, run in runs.items():
            rows.append(row_of(name, how, len(kinds.get(name, sessions)), run()))
            typer.echo(rows[-1])
    with staged_file(out) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    typer.run(main)
