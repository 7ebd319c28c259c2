"""Does learning on the device help? Recall@20 and MRR@20 of users' next clicks, as shipped and after learning.

    pocketrec train --dataset D && pocketrec export --dataset D --from D/model/gru4rec_bs32.safetensors --batch-size 32
    python benchmarks/on_device.py D D/model/gru4rec_bs32.tflite

The log has sessions but no users, so users are made of test sessions, which the model never saw, in four ways:

    one session         a session of 8 clicks or more is a user: learn from its first half, measure on its second half
    same first item     3 or more sessions that begin with the same item are a user: learn from the earlier half of them,
                        measure on the later half. Such a user has a taste by construction, which flatters learning
    any sessions        the same numbers of sessions, dealt out by chance: a user without a taste, who can only do harm
    all in turn         one device that all sessions pass through in order of time: measure on each, then learn from it

Everything runs through `OnDeviceModel` on LiteRT, with the optimizer and its slots as shipped; `recommend` gives the 20
best. After each user the model is restored to what was shipped. `entered` and `left` count the next clicks that learning
brought among the best 20, and drove out. Each way is gone twice: by `train_one`, whose gradient is one click's, and by
`train` with a target in one lane alone, whose gradient is a click's share of a batch. Adagrad divides by what it saw in
training, shares of batches of B: a step of `train_one` is up to B times as long.
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
import numpy.typing as npt
import typer

from pocketrec.lite.inputs import read_item_list
from pocketrec.lite.runtime import OnDeviceModel
from pocketrec.sessions.sequences import read_sequences
from pocketrec.storage.files import staged_file
from pocketrec.storage.layout import Dataset

RESULTS = Path(__file__).parent / "results" / "on_device.csv"
TOP, LONG, MANY = 20, 8, 3

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class User:
    """Sessions to learn from, and sessions to measure on: of each the items, and how many of them are only looked at."""

    earlier: list[Codes]
    later: list[tuple[Codes, int]]


@dataclass(frozen=True)
class Row:
    """One way to make users, and one number of passes over their earlier sessions."""

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
    """To learn: which signature, and how many times over."""

    signature: str
    passes: int


@dataclass
class Tally:
    """Ranks of the next clicks, infinite beyond the best 20, as shipped and after learning."""

    shipped: list[float] = field(default_factory=list)
    learned: list[float] = field(default_factory=list)
    clicks: int = 0
    seconds: float = 0.0


def ranks(model: OnDeviceModel, session: Codes, skip: int = 0) -> list[float]:
    """Of each next click of a session; the first `skip` clicks only move the state."""
    found, state = [], model.fresh_state(1)
    for place, (code, target) in enumerate(pairwise(session)):
        items, _, state = model.recommend_next(int(code), state)
        if place + 1 >= max(skip, 1):
            at = np.flatnonzero(items == target)
            found.append(float(at[0]) + 1 if len(at) else np.inf)
    return found


def learn(model: OnDeviceModel, sessions: Sequence[Codes], how: How, tally: Tally) -> None:
    """A step for each next click of the sessions, in order, some times."""
    began = time.perf_counter()
    for session in [one for _ in range(how.passes) for one in sessions if len(one) > 1]:
        if how.signature == "train_one":
            tally.clicks += len(model.learn([model.items.ids[code] for code in session]))
        else:
            tally.clicks += learn_in_a_lane(model, session)
    tally.seconds += time.perf_counter() - began


def learn_in_a_lane(model: OnDeviceModel, session: Codes) -> int:
    """Steps of `train` along a session, the other lanes without a target; how many."""
    feat, state = np.zeros(model.settings.batch_size, np.int32), model.fresh_state()
    target = np.full_like(feat, -1)
    for feat[0], target[0] in pairwise(session):
        _, state = model.train(feat, target, state)
    return len(session) - 1


def measure(model: OnDeviceModel, users: Sequence[User], how: How) -> Tally:
    """Each user begins with the model as it was shipped."""
    tally, shipped = Tally(), model.save()
    for user in users:
        tally.shipped += [rank for session, skip in user.later for rank in ranks(model, session, skip)]
        learn(model, user.earlier, how, tally)
        tally.learned += [rank for session, skip in user.later for rank in ranks(model, session, skip)]
        model.restore(shipped)
    return tally


def in_turn(model: OnDeviceModel, sessions: Sequence[Codes], how: How) -> Tally:
    """Each session is measured by the model that learned from those before it."""
    tally, shipped = Tally(), model.save()
    tally.shipped = [rank for session in sessions for rank in ranks(model, session)]
    for session in sessions:
        tally.learned += ranks(model, session)
        learn(model, [session], how, tally)
    model.restore(shipped)
    return tally


def long_sessions(sessions: Sequence[Codes]) -> list[User]:
    """See above; the clicks learned from are looked at once more, so that both models know the whole session."""
    return [User([one[: len(one) // 2]], [(one, len(one) // 2)]) for one in sessions if len(one) >= LONG]


def of_groups(groups: Iterator[list[Codes]]) -> list[User]:
    """The earlier half of each group's sessions to learn from, the later half to measure on."""
    return [User(some[: len(some) // 2], [(one, 0) for one in some[len(some) // 2 :]]) for some in groups]


def same_first_item(sessions: Sequence[Codes]) -> list[list[Codes]]:
    """Groups of `MANY` or more, in order of time."""
    groups = defaultdict(list)
    for one in sessions:
        groups[int(one[0])].append(one)
    return [some for some in groups.values() if len(some) >= MANY]


def dealt(groups: Sequence[list[Codes]], seed: int = 1) -> Iterator[list[Codes]]:
    """The same sessions in groups of the same sizes, by chance."""
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
    dataset: Annotated[Path, typer.Argument(help="With the batches that the model was trained on.")],
    model: Annotated[Path, typer.Argument(help="A .tflite of a trained checkpoint.")],
    passes: Annotated[str, typer.Option(help="Over the earlier sessions, separated by commas.")] = "1",
    out: Annotated[Path, typer.Option(help="The CSV.")] = RESULTS,
) -> None:
    """Measure all kinds of users."""
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
