"""How good the models of `ncf` are, beside other factorisations: HR@10 and NDCG@10, with 99 negatives and in full.

    pip install -e '.[all,bench]'
    python benchmarks/ncf_accuracy.py ml-100k.inter ml-latest-small.zip

Each model is tuned on the validation positives (`ncf prep --validation`: NDCG@10 among 99 negatives), then trained with
these settings on the whole train set and judged on the test positives, once a seed, all on the same rows. The epochs of
networks are those that were best in tuning. BPR (Rendle et al. 2009, with a bias an item) and ALS (Hu et al. 2008) are
those of the package implicit, with 32 numbers a user and an item.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from pocketrec.ncf import prep, train
from pocketrec.ncf.interactions import Interactions, read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.network import read_network
from pocketrec.ncf.options import NcfPrepSettings, NcfTrainSettings
from pocketrec.ncf.producer import Producer
from pocketrec.ncf.ranking import Popularity, Scorer, full, rows_to_rank, sampled
from rows import put

RESULTS = Path(__file__).parent / "results" / "ncf_accuracy.csv"
TOP, NEGATIVES = 10, 99
FACTORS = 32
"""Of BPR and ALS."""
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "popularity": {},
    "BPR": {"learning_rate": (0.01, 0.03, 0.1), "regularization": (0.01, 0.03, 0.1), "iterations": (100, 300, 600)},
    "ALS": {"alpha": (1.0, 4.0, 16.0, 64.0), "regularization": (1.0, 3.0, 10.0, 30.0, 100.0), "iterations": (15,)},
    "NeuMF": {
        "num_factors": (16,),
        "layers": ((32, 16, 8),),
        "learning_rate": (0.0005, 0.001),
        "mf_regularization": (3e-7, 1e-6, 3e-6),
        "train_epochs": (24,),
    },
    "GMF": {
        "kind": ("gmf",),
        "num_factors": (64,),
        "num_neg": (8,),
        "mf_regularization": (3e-6, 1e-5, 3e-5),
        "train_epochs": (24,),
    },
    "iALS": {
        "kind": ("ials",),
        "num_factors": (64,),
        "regularization": (0.003, 0.01, 0.03),
        "unobserved_weight": (0.1, 0.3, 1.0),
        "train_epochs": (16,),
    },
    "EASE": {"kind": ("ease",), "regularization": (100.0, 300.0, 1000.0)},
}
OTHERS = ("BPR", "ALS")
"""Those of implicit."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One model, trained once.

    Attributes:
        data: the file of ratings.
        model: one of `GRIDS`.
        settings: JSON.
        on: valid, while tuning, or test.
        seed: of the training and of the sampled negatives.
        hr: HR@10 among 99 sampled negatives.
        ndcg: NDCG@10 among them.
        hr_full: HR@10 among all unseen items.
        ndcg_full: NDCG@10 among them.
    """

    data: str
    model: str
    settings: str
    on: str
    seed: int
    hr: float
    ndcg: float
    hr_full: float
    ndcg_full: float


class Factors:
    """Scores are products of a user's numbers and an item's."""

    def __init__(self, users: Floats, items: Floats) -> None:
        self.users, self.items = users, items

    def pairs(self, users: Any, items: Any) -> Floats:
        """(n,) scores of users and items side by side."""
        scores: Floats = (self.users[users] * self.items[items]).sum(axis=1)
        return scores

    def all_items(self, users: Any) -> Floats:
        """(n, I) scores of every item."""
        scores: Floats = self.users[users] @ self.items.T
        return scores


class Task:
    """A set of ratings with one kind of split."""

    def __init__(self, ratings: Path, folder: Path, on: str) -> None:
        self.data, self.folder, self.on = ratings.name, folder / on, on
        prep.prep(ratings, self.folder, NcfPrepSettings(validation=on == "valid"))
        self.interactions: Interactions = read_interactions(NcfDataset(self.folder))

    def row(self, model: str, settings: dict[str, Any], seed: int) -> Row:
        """Train once and judge."""
        scorer, settings = self.trained(model, settings, seed)
        training = NcfTrainSettings(eval_negatives=NEGATIVES, seed=seed)
        source = Producer(self.interactions, training)
        among = sampled(scorer, rows_to_rank(self.interactions, source, self.on, training), TOP, ml_perf=True)
        whole = full(scorer, self.interactions, self.on, TOP)
        numbers = (round(value, 5) for value in (among.hr, among.ndcg, whole.hr, whole.ndcg))
        return Row(self.data, model, json.dumps(settings), self.on, seed, *numbers)

    def trained(self, model: str, settings: dict[str, Any], seed: int) -> tuple[Scorer, dict[str, Any]]:
        """A scorer, and its settings with the epochs that were kept."""
        if model == "popularity":
            return Popularity(self.interactions), settings
        if model in OTHERS:
            return self._factors(model, settings, seed), settings
        keep: Any = None if self.on == "valid" else "last"
        training = NcfTrainSettings(**settings, eval_negatives=NEGATIVES, ml_perf=True, seed=seed, keep=keep)
        report = train.train(self.folder, training)
        return read_network(NcfDataset(self.folder)).network, {**settings, "train_epochs": report.kept}

    def _factors(self, model: str, settings: dict[str, Any], seed: int) -> Factors:
        from implicit.cpu.als import AlternatingLeastSquares
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from scipy.sparse import csr_matrix

        known = self.interactions
        ones = np.ones(len(known.items), np.float32)
        rated = csr_matrix((ones, known.items, known.starts), shape=(known.n_users, known.n_items))
        rated.sort_indices()
        kind = {"BPR": BayesianPersonalizedRanking, "ALS": AlternatingLeastSquares}[model]
        made = kind(factors=FACTORS, random_state=seed, num_threads=1, **settings)
        made.fit(rated, show_progress=False)
        return Factors(made.user_factors, made.item_factors)


def choices(grid: dict[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Every combination."""
    for values in product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def compared(ratings: Path, folder: Path, models: list[str], seeds: list[int]) -> Iterator[Row]:
    """Tune each model, then train it with the best settings."""
    tuning, final = (Task(ratings, folder, on) for on in ("valid", "test"))
    for model in models:
        tried = []
        for settings in choices(GRIDS[model]):
            tried.append(tuning.row(model, settings, seeds[0]))
            yield tried[-1]
        best = json.loads(max(tried, key=lambda row: row.ndcg).settings)
        for seed in seeds:
            yield final.row(model, best, seed)


def main(
    ratings: Annotated[list[Path], typer.Argument(help="Files that `ncf prep` reads.")],
    models: Annotated[str, typer.Option(help="Which.")] = ",".join(GRIDS),
    seeds: Annotated[str, typer.Option(help="Of the final trainings; the first also tunes.")] = "1,2,3",
    out: Annotated[Path, typer.Option(help="The CSV; rows of the same training are replaced.")] = RESULTS,
) -> None:
    """Tune and judge; write every training, and print means over the seeds."""
    for path in ratings:
        with tempfile.TemporaryDirectory() as folder:
            for model in models.split(","):
                found = []
                for row in compared(path, Path(folder), [model], [int(seed) for seed in seeds.split(",")]):
                    found.append(row)
                    typer.echo(f"{row.on:<5} {row.model:<10} {row.hr:.4f} {row.ndcg:.4f}  {row.settings}", err=True)
                put(out, found, ("data", "model", "settings", "on", "seed"))
                typer.echo(summary(found))


def summary(rows: list[Row]) -> str:
    """A line of the README's table."""
    final = [row for row in rows if row.on == "test"]
    means = [float(np.mean([getattr(row, name) for row in final])) for name in ("hr", "ndcg", "hr_full", "ndcg_full")]
    return "| {} | {} | {:.3f} / {:.3f} | {:.3f} / {:.3f} |".format(final[0].data, final[0].model, *means)


if __name__ == "__main__":
    typer.run(main)
