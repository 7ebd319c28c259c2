"""Does learning on the device help the one whose device it is? Recall@20 and MRR@20 of people's next clicks.

    python benchmarks/on_device.py measure LOG --fold 1 --work W     # train on the users of other folds, measure on these
    python benchmarks/on_device.py drift LOG --fold 1 --work W       # the same after 15,000 clicks of strangers
    python benchmarks/on_device.py table W                           # results/on_device.csv from all that was measured in W

Users are dealt into three folds; the model of a fold has seen none of its users. Of each user the first half is learned and
the second half asked: half of the sessions, or of the clicks where a user is one session (`people`). A click is asked for
with the clicks of its session before it, among all items, by `OnDeviceModel.recommend` on LiteRT, with one thread. Items
that the model does not know are left out before.

Recipes are compared on the same clicks. The placebo is the same recipe on the first half of somebody else. An interval
holds 95 % of 2,000 draws of as many users, with replacement; a user is worse or better off when the mean of the reciprocal
ranks of the asked clicks has moved by .05.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from people import People, Session, model_of, read_people
from pocketrec.lite.on_device import Learned, OnDeviceModel
from pocketrec.lite.runtime import LiteModel
from pocketrec.schema import Float64
from pocketrec.storage.files import staged_file

RESULTS = Path(__file__).parent / "results" / "on_device.csv"
TOP, SEED, DRAWS, MOVED = 20, 1, 2000, 0.05
LEAST_LEARNED = 4
"""Fewest next clicks in the half that is learned."""
MOST_ASKED = 20
"""Clicks of a session that are asked for at most: a MovieLens user has hundreds, and each is asked with all before it."""
STRANGERS = 15_000
"""Clicks of strangers that are learned one after the other in `drift`."""


@dataclass(frozen=True)
class User:
    """The sessions to learn from, and those to ask for, items known to the model alone."""

    learned: list[Session]
    asked: list[Session]

    @property
    def repeats(self) -> bool:
        """Whether an item is in two of the sessions to learn from."""
        return sum(len(set(one)) for one in self.learned) > len({item for one in self.learned for item in one})


@dataclass(frozen=True)
class Score:
    """What came of asking for a user's clicks by one recipe: how many, those among the best 20, their reciprocal ranks."""

    user: int
    recipe: str
    seen: str
    asked: int
    hits: int
    reciprocal: float


@dataclass(frozen=True)
class Row:
    """A recipe against another one on the same users: means of the recipe, changes with 95 % intervals, shares of users."""

    log: str
    users: int
    asked: int
    recipe: str
    seen: str
    against: str
    recall: float
    mrr: float
    recall_change: float
    recall_low: float
    recall_high: float
    mrr_change: float
    mrr_low: float
    mrr_high: float
    worse: float
    better: float


def users_of(sessions: Iterable[list[Session]], model: LiteModel, *, carry: bool, repeats: bool) -> Iterator[User]:
    """The users with enough to learn from and to ask for; with `repeats`, who came back to an item in what is learned."""
    for user in sessions:
        known = [[item for item in session if item in model.items.codes] for session in user]
        known = [session for session in known if session]
        if carry and known:
            half = len(known[0]) // 2
            learned, asked = [known[0][:half][-model.settings.journal :]], [known[0][half:]]
        else:
            learned, asked = known[: len(known) // 2], known[len(known) // 2 :]
        found = User(learned, [session[: MOST_ASKED + 1] for session in asked if len(session) > 1])
        enough = sum(len(session) - 1 for session in learned) >= LEAST_LEARNED and found.asked
        if enough and (found.repeats or not repeats):
            yield found


class Bench:
    """Asks users what a model would recommend; each recipe begins with the model as shipped and an empty journal."""

    def __init__(self, model: OnDeviceModel) -> None:
        self.model, self.use = model, model.use

    def user(self, number: int, user: User, other: User, *, beside: bool) -> Iterator[Score]:
        """The recipes for one user; with `beside` also those that are only compared: the placebo learns from `other`."""
        ask = partial(self.ask, number, user)
        self._begin(user)
        yield from (ask("shipped"), ask("shipped", hide=True))
        self.model.learned = Learned(kept=False, cached=True, transitions=0)
        yield ask("cache")
        self.model.learn()
        yield from (ask("keep better"), ask("keep better", hide=True))
        self.model.learn(keep="always")
        yield from (ask("learn, cache"), ask("learn", cache=False))
        if not beside:
            return
        self.model.use = replace(self.model.use, passes=1)
        self.model.learn(keep="always")
        yield ask("learn, one pass", cache=False)
        self._begin(user)
        for session in user.learned:
            self._whole(session)
        yield ask("train_one")
        if self.model.use.between == "reset":  # a state that goes on would be that of somebody else
            self._begin(other)
            self.model.learn(keep="always")
            yield from (ask("placebo: learn, cache"), ask("placebo: learn", cache=False))

    def ask(self, number: int, user: User, recipe: str, *, cache: bool = True, hide: bool = False) -> Score:
        """Ask for a user's clicks with the model as it is now, with or without its state cache, and what was seen."""
        use = self.model.use
        self.model.use = use if cache else replace(use, cache_share=0.0)
        ranks = np.array(ranks_of(self.model, user, hide=hide))
        self.model.use = use
        hits, reciprocal = int(np.isfinite(ranks).sum()), float((1 / ranks).sum())
        return Score(number, recipe, "hide" if hide else "show", len(ranks), hits, reciprocal)

    def _begin(self, user: User) -> None:
        self.model.forget()
        self.model.use = self.use
        for session in user.learned:
            self.model.observe(session)

    def _whole(self, session: Session) -> None:
        """Learn a session by `train_one`, a whole gradient for each click."""
        codes, state = self.model.codes_of(session), self.model.fresh_state(1)
        for feat, target in zip(codes[:-1, None], codes[1:, None], strict=True):
            _, state = self.model.train_one(feat, target, state)


def ranks_of(model: OnDeviceModel, user: User, *, hide: bool = False) -> list[float]:
    """The rank of each click that is asked for; infinite beyond the best 20."""
    found = []
    for session in user.asked:
        for place in range(1, len(session)):
            best = [one.item for one in model.recommend(session[:place], TOP, exclude_seen=hide)]
            found.append(best.index(session[place]) + 1.0 if session[place] in best else np.inf)
    return found


def change(before: Float64, after: Float64, asked: Float64, rng: np.random.Generator) -> tuple[float, float, float]:
    """The change of the mean over all asked clicks, and its 95 % interval over draws of users.

    Args:
        before: sum over the asked clicks of each user, (users,).
        after: the same by another recipe.
        asked: number of clicks of each user.
        rng: draws the users.
    """
    moved = after - before
    drawn = rng.integers(0, len(moved), (DRAWS, len(moved)))
    low, high = np.quantile(moved[drawn].sum(axis=1) / asked[drawn].sum(axis=1), [0.025, 0.975])
    return float(moved.sum() / asked.sum()), float(low), float(high)


def compare(log: str, scores: pl.DataFrame, recipe: tuple[str, str], against: tuple[str, str]) -> Row:
    """A recipe against another, each with its `seen`, on the users that both were asked for."""
    one, other = (
        scores.filter(pl.col("recipe") == name, pl.col("seen") == seen).drop("recipe", "seen")
        for name, seen in (recipe, against)
    )
    pair = one.join(other, on=["fold", "user", "asked"], suffix="_before", validate="1:1").sort("fold", "user")
    get = {name: pair[name].to_numpy().astype(np.float64) for name in pair.columns}
    asked, rng = get["asked"], np.random.default_rng(SEED)
    recall = change(get["hits_before"], get["hits"], asked, rng)
    mrr = change(get["reciprocal_before"], get["reciprocal"], asked, rng)
    moved = (get["reciprocal"] - get["reciprocal_before"]) / asked
    figures = (get["hits"].sum() / asked.sum(), get["reciprocal"].sum() / asked.sum(), *recall, *mrr)
    shares = ((moved < -MOVED).mean(), (moved > MOVED).mean())
    rounded = [round(float(figure), 4) for figure in (*figures, *shares)]
    return Row(log, len(pair), int(asked.sum()), *recipe, ", ".join(against), *rounded)


def rows_of(log: str, scores: pl.DataFrame) -> Iterator[Row]:
    """Each recipe against the model as shipped, and each against its placebo."""
    plain = ("shipped", "show")
    found = scores.select("recipe", "seen").unique(maintain_order=True).rows()
    for recipe in sorted(found, key=lambda one: (one != plain, one[1] != "show", one[0])):
        yield compare(log, scores, recipe, plain)
    if ("shipped", "hide") in found:
        yield from (
            compare(log, scores, one, ("shipped", "hide")) for one in found if one[1] == "hide" and one[0] != "shipped"
        )
    for name in ("learn", "learn, cache"):
        if (f"placebo: {name}", "show") in found:
            yield compare(log, scores, (name, "show"), (f"placebo: {name}", "show"))


Log = Annotated[Path, typer.Argument(help="A log of one of the forms that people.py reads.")]
Work = Annotated[Path, typer.Option(help="Folder for models and scores.")]
Fold = Annotated[int, typer.Option(help="Fold of users that is measured, 0 to 2.")]
Count = Annotated[int, typer.Option(help="Users that are measured at most.")]
Skip = Annotated[
    int, typer.Option(help="Users of the fold that are left out, the first ones: on them settings were chosen.")
]
Repeats = Annotated[bool, typer.Option(help="Only users who came back to an item within the half that is learned.")]
Beside = Annotated[int, typer.Option(help="Users of whom placebo, one pass and train_one are measured, too.")]
Epochs = Annotated[int, typer.Option(help="Epochs of the model.")]
Support = Annotated[int, typer.Option(help="Fewest clicks of an item.")]
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Opened:
    """A fold: its people, the model of the other folds, its users with enough clicks, and the folder of its scores."""

    people: People
    model: OnDeviceModel
    users: list[User]
    folder: Path


def open_fold(log: Path, work: Path, fold: int, support: int, epochs: int, *, repeats: bool) -> Opened:
    """Train the model of a fold, unless that is done, and choose its users."""
    people = read_people(log)
    folder = work / f"{people.name}-{fold}"
    inside, others = people.fold(fold, SEED)
    model = OnDeviceModel(model_of(others, folder, support, epochs), threads=1, trusted=True)
    model.use = replace(model.use, between="carry" if people.carry else "reset")
    users = users_of(inside, model, carry=people.carry, repeats=repeats)
    return Opened(people, model, list(users), folder)


@app.command()
def measure(
    log: Log,
    work: Work,
    fold: Fold = 1,
    support: Support = 5,
    count: Count = 100_000,
    skip: Skip = 0,
    repeats: Repeats = False,
    epochs: Epochs = 7,
    beside: Beside = 100_000,
) -> None:
    """Measure all recipes on the users of a fold."""
    opened = open_fold(log, work, fold, support, epochs, repeats=repeats)
    bench, users = Bench(opened.model), opened.users[skip : skip + count]
    scores = []
    for number, user in enumerate(users):
        scores += list(bench.user(skip + number, user, users[number - 1], beside=number < beside))
    write_scores(opened.folder / f"scores-{skip}.csv", fold, scores)
    typer.echo(f"{opened.people.name} fold {fold}: {len(users)} users")


@app.command()
def drift(
    log: Log,
    work: Work,
    fold: Fold = 1,
    support: Support = 5,
    count: Count = 300,
    skip: Skip = 0,
    repeats: Repeats = False,
    epochs: Epochs = 7,
) -> None:
    """Ask users after a model has learned 15,000 clicks of others, click by click, with the pull and without."""
    opened = open_fold(log, work, fold, support, epochs, repeats=repeats)
    model, users = opened.model, opened.users[skip : skip + count]
    others = opened.users[:skip] + opened.users[skip + count :]
    strangers = [session for user in others for session in user.learned + user.asked]
    bench, scores = Bench(model), []
    for recipe, pull in (
        ("shipped", None),
        (f"{STRANGERS} strangers' steps", model.card.learning.pull),
        (f"{STRANGERS} strangers' steps, no pull", 0.0),
    ):
        model.forget()
        steps = 0 if pull is None else learn_strangers(model, strangers, pull)
        typer.echo(f"{recipe}: {steps} steps")
        for number, user in enumerate(users):
            scores.append(bench.ask(number, user, recipe))
    write_scores(opened.folder / "drift.csv", fold, scores)


def learn_strangers(model: OnDeviceModel, sessions: Sequence[Session], pull: float) -> int:
    """Learn sessions one after the other, and again from the first one; returns the number of steps."""
    steps = 0
    while steps < STRANGERS:
        for session in sessions:
            codes, state = model.codes_of(session), model.fresh_state(1)
            for feat, target in zip(codes[:-1, None], codes[1:, None], strict=True):
                _, state = model.learn_one(feat, target, state, pull=pull)
                steps += 1
            if steps >= STRANGERS:
                break
    return steps


def write_scores(path: Path, fold: int, scores: Sequence[Score]) -> None:
    """Write the scores of a fold, whole or not at all."""
    with staged_file(path) as staged:
        pl.DataFrame([{"fold": fold, **asdict(one)} for one in scores]).write_csv(staged)


@app.command()
def table(
    work: Annotated[Path, typer.Argument(help="Folder of `measure` and `drift`.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")] = RESULTS,
) -> None:
    """Write the table of all that was measured."""
    rows: list[Row] = []
    for kind in ("scores-*.csv", "drift.csv"):
        names = sorted({path.parent.name.rpartition("-")[0] for path in work.glob(f"*/{kind}")})
        for name in names:
            scores = pl.concat([pl.read_csv(path) for path in sorted(work.glob(f"{name}-?/{kind}"))])
            rows += rows_of(name, scores)
    with staged_file(out) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    for row in rows:
        typer.echo(" ".join(str(value) for value in asdict(row).values()))


if __name__ == "__main__":
    app()
