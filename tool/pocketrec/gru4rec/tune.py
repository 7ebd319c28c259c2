"""`pocketrec tune`: settings of a training that fit the log, by successive halving.

Some settings are drawn from `SPACE`, with a seed. All are trained for a quarter of the epochs; the better half by MRR@20
on train_valid goes on to half of the epochs, and the better half of these to the end. A setting counts by its best epoch,
whose weights are kept. Of those that were trained to the end, each is tried with the session's own items left out, too, and
the best of all is measured once on test.

Each setting is a training of its own in DIR/model/tune/NN, with its checkpoints. So a tune that was stopped goes on where
it was, and the same command later trains nothing again. DIR/model/tune/tune.csv is the table, and tune.png the picture.
"""

from __future__ import annotations

import csv
import importlib.util
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.errors import DatasetError, ModelError, SettingsError, require
from pocketrec.gru4rec.evaluate import open_scorer
from pocketrec.gru4rec.options import TrainSettings, TuneSettings
from pocketrec.gru4rec.ranking import JUDGED_AT, Accuracy, Ranking
from pocketrec.gru4rec.scoring import WithoutOwn, rank, rank_with_and_without_own
from pocketrec.gru4rec.train import Training
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.inputs import read_item_list
from pocketrec.progress import SILENT, Progress
from pocketrec.sessions.sequences import read_sequences
from pocketrec.settings import options_for
from pocketrec.storage.files import staged_file
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import hold
from pocketrec.storage.manifest import claim_for_good
from pocketrec.storage.space import room

SPACE: Mapping[str, tuple[float, ...]] = {
    "dropout_embedding": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    "dropout_hidden": (0.0, 0.1, 0.2, 0.3, 0.4),
    "momentum": (0.0, 0.1, 0.2, 0.3),
    "sample_alpha": (0.25, 0.5, 0.75, 1.0),
    "learning_rate": (0.05, 0.07, 0.1, 0.15),
}
"""Setting -> values that are drawn; momentum with adagrad alone, and the learning rate in shares of ten times the given."""
TABLE, PICTURE = "tune.csv", "tune.png"


@dataclass(frozen=True)
class Trial:
    """One of the settings that were tried.

    Attributes:
        number: from 1; its training is in DIR/model/tune/NN.
        settings: those that are tuned, by name.
        validation: MRR@20 on train_valid after each epoch; () if the training has diverged.
        checkpoint: the weights of its best epoch.
    """

    number: int
    settings: Mapping[str, float]
    validation: tuple[float, ...]
    checkpoint: Path

    @property
    def best(self) -> float:
        """MRR@20 after the best epoch."""
        return max(self.validation, default=-math.inf)

    @property
    def epoch(self) -> int:
        """The best epoch, from 1; 0 if there is none."""
        return 1 + int(np.argmax(self.validation)) if self.validation else 0


@dataclass(frozen=True)
class TuneReport:
    """What was tried, and the best.

    Attributes:
        dataset: the dataset folder.
        trials: all, the best first.
        own: whether the session's own items stay among the candidates, by MRR@20 on train_valid.
        accuracy: of the best on test, measured once.
        options: words of the command line for `train` with the best settings and its best number of epochs.
        table: tune.csv.
        picture: tune.png; None if matplotlib is not installed.
    """

    dataset: Path
    trials: tuple[Trial, ...]
    own: bool
    accuracy: Accuracy
    options: tuple[str, ...]
    table: Path
    picture: Path | None


@dataclass(frozen=True)
class _TrialHome(Dataset):
    """A dataset whose models are those of one trial."""

    number: int = 0

    @property
    def model(self) -> Path:
        """Its checkpoints, and their manifest."""
        return _folder(Dataset(self.root)) / f"{self.number:02d}"


def tune(
    dataset: Path | str = "dataset",
    settings: TuneSettings = TuneSettings(),
    training: TrainSettings = TrainSettings(),
    *,
    progress: Progress = SILENT,
) -> TuneReport:
    """Find settings for the batches of a dataset.

    Args:
        dataset: a dataset folder in which `batches` was run, with train_tr as the set that is trained on.
        settings: how much is tried.
        training: what all trials have in common; of what is tuned, the values of the first trial.
        progress: is told about the transitions trained on.

    Raises:
        DatasetError: the batches are missing or damaged, or nothing is held out to choose by.
        ModelError: every training has diverged.
        MissingExtraError: TensorFlow is not installed.
        BusyError, SpaceError, FolderError: the dataset folder is in use, full, or cannot be written.
    """
    require("train a model", "tensorflow")
    where = Dataset(Path(dataset))
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it wonders that there are several models in one process
    with hold(dataset, "tune"), room(where.model, "tune"):
        drawn = list(draw(settings, training))
        trials = _halved(where, drawn, training, progress)
        if not trials[0].epoch:
            raise ModelError("All trainings have diverged.", expected="a loss that falls", do="a lower --learning-rate")
        items = read_item_list(where)
        best, own = _best(where, trials, items)
        trials = (best, *(one for one in trials if one is not best))
        scorer = open_scorer(best.checkpoint, items, where)[0]
        accuracy = rank(scorer if own else WithoutOwn(scorer), where, "test", Ranking()).accuracy(scorer.name)
        chosen = replace(_with(training, best.settings), epochs=best.epoch)
        table = _folder(where) / TABLE
        claim_for_good(table.parent, "tune", (TABLE, PICTURE), lambda _: False)
        _write_table(table, trials)
        picture = _drawn(_folder(where) / PICTURE, trials)
    return TuneReport(where.root, trials, own, accuracy, tuple(options_for(chosen, changed=True)), table, picture)


def draw(settings: TuneSettings, training: TrainSettings) -> Iterator[dict[str, float]]:
    """The settings that are tried: those given, and others that are drawn, each once; the same for the same seed."""
    names = [name for name in SPACE if name != "momentum" or training.optimizer == "adagrad"]
    first = {name: getattr(training, name) for name in names}
    scale = {"learning_rate": training.learning_rate / 0.1}
    draws, seen = np.random.default_rng(settings.tune_seed), [first]
    yield first
    for _ in range(100 * settings.trials):
        one = {name: float(draws.choice(SPACE[name])) * scale.get(name, 1) for name in names}
        if len(seen) < settings.trials and one not in seen:
            seen.append(one)
            yield one


def rungs(trials: int, epochs: int) -> list[tuple[int, int]]:
    """Successive halving: how many trainings there are at each rung, and to which epoch they are trained."""
    found: dict[int, int] = {}
    for share in (1, 2, 4):
        found.setdefault(math.ceil(epochs * share / 4), math.ceil(trials / share))
    return [(count, epoch) for epoch, count in found.items()]


def _with(training: TrainSettings, tuned: Mapping[str, Any]) -> TrainSettings:
    return replace(training, **tuned)


def _halved(
    where: Dataset, drawn: list[dict[str, float]], training: TrainSettings, progress: Progress
) -> tuple[Trial, ...]:
    left = list(range(len(drawn)))
    trials: dict[int, Trial] = {}
    for count, epochs in rungs(len(drawn), training.epochs):
        left = sorted(left, key=lambda number: -trials[number].best if trials else number)[:count]
        for number in left:
            trials[number] = _trained(where, number + 1, drawn[number], replace(training, epochs=epochs), progress)
    # Those that went further come first; of these the better ones.
    return tuple(sorted(trials.values(), key=lambda one: (one.number - 1 not in left, -one.best, one.number)))


def _trained(where: Dataset, number: int, tuned: dict[str, float], training: TrainSettings, progress: Progress) -> Trial:
    home = _TrialHome(where.root, number)
    job = Training(home, _with(training, tuned), None)
    if not job.judged:
        raise DatasetError(
            f"Nothing of {where.root} is held out to choose settings by.",
            expected="batches of train_tr, and a train_valid with an event",
            do=f"pocketrec batches --dataset {where.root} --batch-size {training.batch_size} --train-on train_tr",
        )
    try:
        found = job.run(training.epochs, False, lambda *_, **__: None, progress)
    except ModelError:  # it has diverged: the last of all
        return Trial(number, tuned, (), job.kept)
    except SettingsError as error:  # of an earlier tune, with other settings
        raise SettingsError(
            error.wrong, expected=error.expected, do=f"remove {_folder(where)}, or tune as before"
        ) from error
    return Trial(number, tuned, found.validation[: training.epochs], found.checkpoint)


def _best(where: Dataset, trials: tuple[Trial, ...], items: Catalogue) -> tuple[Trial, bool]:
    """The best by MRR@20 on train_valid of those that went furthest, and whether own items are better left in."""
    last = [one for one in trials if len(one.validation) == len(trials[0].validation)]
    found: dict[tuple[int, bool], float] = {}
    for place, one in enumerate(last):
        scorer = open_scorer(one.checkpoint, items, where)[0]
        both = rank_with_and_without_own(scorer, read_sequences(where, "train_valid"), (JUDGED_AT,))
        for own, ranking in zip((True, False), both, strict=True):
            found[place, own] = ranking.accuracy("").mrr[JUDGED_AT]
    place, own = max(found, key=lambda key: found[key])
    return last[place], own


def _folder(where: Dataset) -> Path:
    return where.model / "tune"


def _write_table(path: Path, trials: tuple[Trial, ...]) -> None:
    """One row a trial, the best first."""
    columns = ["trial", *trials[0].settings, "epochs", "best_epoch", f"mrr_{JUDGED_AT}_train_valid"]
    with staged_file(path) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        for one in trials:
            rows.writerow([one.number, *one.settings.values(), len(one.validation), one.epoch, f"{one.best:.6f}"])


def _drawn(path: Path, trials: tuple[Trial, ...]) -> Path | None:
    """The picture: MRR@20 after each epoch, a line a trial, the best in colour."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for place, one in reversed(list(enumerate(trials))):
        look: dict[str, Any] = {"color": "#1c7ed6", "zorder": 3} if not place else {"color": "#adb5bd"}
        axes.plot(range(1, len(one.validation) + 1), one.validation, marker="o", markersize=3, **look)
    best = trials[0]
    words = "\n".join(f"{name.replace('_', ' ')} {value:g}" for name, value in best.settings.items())
    axes.annotate(
        f"epoch {best.epoch}, {best.best:.4f}\n{words}", (1, 0), xycoords="axes fraction", xytext=(-4, 6),
        textcoords="offset points", ha="right", va="bottom", fontsize=8, color="#1c7ed6",
    )  # fmt: skip
    axes.set_title(f"MRR@{JUDGED_AT} on train_valid by epoch, {len(trials)} settings", loc="left", fontsize=10)
    axes.set(xlabel="epoch", ylabel=f"MRR@{JUDGED_AT}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    with staged_file(path) as staged:
        figure.savefig(staged, format="png")
    return path
