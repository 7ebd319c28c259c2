"""Whatever a stage is killed by and whenever, what is there is true, and the same command finishes the work.

Two kinds of kills, in turn: once a random share of the run's bytes is written, and right before a random change to the
dataset's names (a rename, a removal, a file opened for writing), where moments too short to be hit by chance are. Both are
drawn from a seed; POCKETREC_KILLS sets how many, POCKETREC_KILLS_SEED which. POCKETREC_KILLS_OF=models takes the stages
that start TensorFlow, which are slow, instead of the ones that do not. A long run, which says what it killed:

    POCKETREC_KILLS=300 pytest tests/test_kill.py -s -k killed_stage
    POCKETREC_KILLS=240 POCKETREC_KILLS_OF=models pytest tests/test_kill.py -s -k killed_stage
"""

from __future__ import annotations

import gzip
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import pocketrec
import pocketrec.dnn.prep
import pocketrec.ncf.prep
from apart import start_apart
from conftest import call
from ncf_support import two_camps, write_dat
from pocketrec.dnn.layout import DnnDataset
from pocketrec.dnn.options import DnnPrepSettings
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.options import NcfPrepSettings
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sources.options import ReadSettings, SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.files import STAGED_SUFFIX, content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import Record, read_records

KILLS = int(os.environ.get("POCKETREC_KILLS", "14"))
SEED = int(os.environ.get("POCKETREC_KILLS_SEED", "1"))
MODELS = os.environ.get("POCKETREC_KILLS_OF", "") == "models"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Case:
    """A command, the dataset it finds, and what it makes of it when nobody disturbs it.

    Attributes:
        command: its words but for --dataset.
        before: the dataset folder it begins with; not to be changed.
        after: path -> content of every file at the end.
        records: of the finished dataset, by folder.
        written: bytes that the run writes.
        changes: to names, as `start_apart` counts them.
    """

    name: str
    command: tuple[str, ...]
    before: Path
    after: dict[str, str]
    records: dict[str, dict[str, Record]]
    written: int
    changes: int


def finish(dataset: Path, command: tuple[str, ...]) -> None:
    """Run a command to its end: in this process, where it is no one that starts TensorFlow."""
    if MODELS:
        finish_apart(dataset, command)
    else:
        code, _, err = call(*command, "--dataset", dataset)
        assert code == 0, err


def finish_apart(dataset: Path, command: tuple[str, ...]) -> tuple[int, int]:
    """Run a command to its end, in a process of its own: how many changes to names it made, and the bytes that it wrote."""
    code, _, err = start_apart((*command, "--dataset", str(dataset)), count=(dataset, 0, 0)).wait()
    assert code == 0, err
    changes, written = map(int, err.splitlines()[-1].split("="))
    return changes, written


def contents(dataset: Path) -> dict[str, str]:
    """Path -> content of every file but TensorBoard's, which have the time of day in them."""
    paths = [path for path in sorted(dataset.rglob("*")) if path.is_file() and path.parent.name != "summaries"]
    return {str(path.relative_to(dataset)): content_hash(path) for path in paths}


def records(dataset: Path) -> dict[str, dict[str, Record]]:
    sides = Dataset(dataset), Dataset(NcfDataset(dataset).home), Dataset(DnnDataset(dataset).home)
    return {str(folder.relative_to(dataset)): read_records(folder) for side in sides for folder in side.homes}


def times(dataset: Path, kept: dict[str, dict[str, Record]]) -> dict[str, int]:
    """When the files of some records were changed."""
    files = {f"{folder}/{name}" for folder, ones in kept.items() for one in ones.values() for name in one.files}
    return {name: (dataset / name).stat().st_mtime_ns for name in sorted(files) if not name.endswith("final/items.parquet")}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Each stage for the first time and over what an older run left, and `prep` over a dataset of another log."""
    root = tmp_path_factory.mktemp("kill")
    log, older_log = root / "clicks.dat", root / "older.dat"
    synth(log, SynthSettings(clicks=50_000, seed=5))
    synth(older_log, SynthSettings(clicks=20_000, seed=6))
    older = root / "older"
    pocketrec.prep(older_log, older, batching=BatchSettings(batch_size=32))
    pocketrec.prep(older_log, older, batching=BatchSettings(batch_size=16))
    empty, ingested, divided = root / "empty", root / "ingested", root / "divided"
    empty.mkdir()
    pocketrec.ingest(log, ingested)
    shutil.copytree(ingested, divided)
    pocketrec.split(divided)
    over = root / "over"  # everything is there, of the same log, with other settings
    shutil.copytree(divided, over)
    pocketrec.split(over, SplitSettings(holdout=2 * 86400.0))
    pocketrec.batches(over, BatchSettings(batch_size=32))
    pocketrec.batches(over, BatchSettings(batch_size=16))
    divided_again = root / "divided_again"  # the split is newer than the batches
    shutil.copytree(over, divided_again)
    pocketrec.split(divided_again)
    packed, aside = root / "clicks.gz", root / "aside"  # with lines set aside before
    lines = log.read_bytes().splitlines(keepends=True)
    packed.write_bytes(gzip.compress(b"".join([*lines[:9], b"bad\n", *lines[9:]]), 1))
    pocketrec.ingest(packed, aside, ReadSettings(bad_rows="set-aside", timezone="Asia/Shanghai"))
    ratings, rated = write_dat(root / "ratings.dat", two_camps()), root / "rated"
    ncf_prep, dnn_prep = ("ncf", "prep", str(ratings), "--min-ratings", "5"), ("dnn", "prep", str(ratings))
    pocketrec.ncf.prep.prep(ratings, rated, NcfPrepSettings(min_ratings=3))
    pocketrec.dnn.prep.prep(ratings, rated, DnnPrepSettings(split="time"))
    ncf_batches = ("ncf", "batches", "--train-epochs", "3", "--batch-size", "64", "--eval-negatives", "20")
    batches = ("batches", "--batch-size", "32")
    given: list[tuple[str, tuple[str, ...], Path]] = [
        ("ingest", ("ingest", str(log)), empty),
        ("split", ("split",), ingested),
        ("batches", batches, divided),
        ("ingest over another log", ("ingest", str(log)), older),
        ("ingest of an archive", ("ingest", str(packed), "--bad-rows", "set-aside"), aside),
        ("split over other settings", ("split",), over),
        ("batches over another split", batches, divided_again),
        ("split --fresh", ("split", "--fresh"), divided),
        ("prep over another log", ("prep", str(log), "--batch-size", "32"), older),
        ("ncf prep", ncf_prep, empty),
        ("ncf prep over other settings", ncf_prep, rated),
        ("ncf batches", ncf_batches, rated),
        ("dnn prep", dnn_prep, empty),
        ("dnn prep over other settings", dnn_prep, rated),
    ]
    return [undisturbed(root, *one) for one in (modelling(root, log, rated) if MODELS else given)]


def modelling(root: Path, log: Path, rated: Path) -> list[tuple[str, tuple[str, ...], Path]]:
    """The stages that start TensorFlow, on datasets with few steps; the trainings keep more than one checkpoint."""
    small, trained, fitted = root / "small", root / "trained", root / "fitted"
    pocketrec.prep(
        log, small, batching=BatchSettings(batch_size=64, formats=("npy",)), splitting=SplitSettings(min_item_support=200)
    )
    sizes = ("--batch-size", "64", "--hidden-size", "8")
    shutil.copytree(small, trained)
    train = ("train", *sizes, "--epochs", "3")
    finish(trained, train)
    ncf = (
        "ncf", "train", "--train-epochs", "2", "--batch-size", "64", "--eval-negatives", "20", "--num-factors", "4",
        "--layers", "8,4",
    )  # fmt: skip
    dnn = ("dnn", "train", "--epochs", "2", "--batch-size", "64", "--embedding-size", "4", "--layers", "8,4")
    shutil.copytree(rated, fitted)
    finish(fitted, ncf)
    finish(fitted, dnn)
    return [
        ("export", ("export", *sizes), small),
        ("train", train, small),
        ("train over other settings", (*train, "--seed", "3", "--fresh"), trained),
        ("export of a checkpoint", ("export", "--from", str(trained / "model" / "gru4rec_bs64.safetensors")), trained),
        ("ncf train", ncf, rated),
        ("ncf export", ("ncf", "export"), fitted),
        ("dnn train", dnn, rated),
        ("dnn export", ("dnn", "export"), fitted),
    ]


def undisturbed(root: Path, name: str, command: tuple[str, ...], before: Path) -> Case:
    """Run a command to its end; what it leaves is true, too."""
    dataset = root / "undisturbed"
    shutil.copytree(before, dataset)
    changes, written = finish_apart(dataset, command)
    after, found = contents(dataset), records(dataset)
    assert pocketrec.verify_data(dataset).passed, name
    if MODELS:  # tests/test_integrity.py does it for the others
        rebuild_damaged(dataset, after)
    shutil.rmtree(dataset)
    return Case(name, command, before, after, found, written, changes)


def rebuild_damaged(dataset: Path, after: dict[str, str]) -> None:
    """Damage a model of each stage; the command that `verify-data` names makes the same bytes again."""
    for home in dataset / "model", NcfDataset(dataset).model, DnnDataset(dataset).model:
        for record in read_records(home).values():
            path = home / next(iter(record.files))
            path.write_bytes(path.read_bytes()[:-1])
            (stage,) = (one for one in pocketrec.verify_data(dataset).stages if one.damaged)
            program = [sys.executable, "-m", "pocketrec.cli", *shlex.split(stage.rebuild)[1:]]
            done = subprocess.run(program, check=False, capture_output=True, text=True)
            assert done.returncode == 0, (stage.rebuild, done.stderr)
            assert contents(dataset) == after, stage.rebuild


def kill_at_a_moment(case: Case, dataset: Path, number: signal.Signals, chance: random.Random) -> str:
    """Once a share of what the run writes is written; earlier if the run was over before this process had its turn."""
    share = chance.uniform(0.0, 1.0)
    while True:
        process = start_apart((*case.command, "--dataset", str(dataset)))
        while not process.ended and process.written <= share * case.written:
            time.sleep(0.001)
        process.send(number)
        code, _, _ = process.wait()
        if code or share < 0.01:
            return f"at {share:.0%} of {case.written:,} bytes, exit {code}"
        shutil.rmtree(dataset)
        shutil.copytree(case.before, dataset)
        share *= 0.7


def kill_at_a_change(case: Case, dataset: Path, number: signal.Signals, chance: random.Random) -> str:
    at = chance.randint(1, case.changes)
    code, _, _ = start_apart((*case.command, "--dataset", str(dataset)), count=(dataset, at, number)).wait()
    return f"before change {at} of {case.changes}, exit {code}"


Kill = Callable[[Case, Path, signal.Signals, random.Random], str]
KINDS: tuple[Kill, ...] = (kill_at_a_change, kill_at_a_moment)


@pytest.mark.parametrize("trial", range(KILLS))
def test_a_killed_stage(cases: list[Case], tmp_path: Path, trial: int) -> None:
    chance = random.Random(f"{SEED} {trial}")
    case, number, kill = cases[trial % len(cases)], chance.choice(SIGNALS), KINDS[(trial // len(cases) + trial) % 2]
    dataset = tmp_path / "dataset"
    shutil.copytree(case.before, dataset)
    told = f"{case.name}, {number.name} {kill(case, dataset, number, chance)}"
    print(told, "left", sum(1 for _ in dataset.rglob(f"*{STAGED_SUFFIX}")))  # for pytest -s
    report = pocketrec.verify_data(dataset)
    assert report.passed, (told, [stage for stage in report.stages if stage.damaged])
    left = records(dataset)
    finished = {
        folder: {key: one for key, one in ones.items() if case.records[folder].get(key) == one}
        for folder, ones in left.items()
    }
    before = times(dataset, finished if "--fresh" not in case.command else {})
    finish(dataset, case.command)
    assert {name for name in contents(dataset) if STAGED_SUFFIX in name} == set(), told
    assert not list(dataset.rglob(f"*{STAGED_SUFFIX}")), told
    assert contents(dataset) == case.after, told
    after = times(dataset, finished)
    assert {name for name, when in before.items() if after[name] != when} == set(), f"{told}: done again"


@pytest.mark.parametrize("command", [("ingest",), ("split",), ("batches", "--batch-size", "16")], ids=lambda one: one[0])
def test_a_stage_that_is_up_to_date_removes_what_another_run_left(
    cases: list[Case], tmp_path: Path, command: tuple[str, ...]
) -> None:
    """A `--fresh` run was killed, and the next one finds that nothing is to be done."""
    over = next(case.before for case in cases if case.name == "split over other settings")
    dataset = tmp_path / "dataset"
    shutil.copytree(over, dataset)
    where = Dataset(dataset)
    log = read_records(where.clicks.parent)["ingest"].counts["log"]
    staged = {
        "ingest": [where.clicks.with_name("clicks.incomplete")],
        "split": [where.roles.with_name("roles.incomplete"), where.rsc15 / "rsc15_test.txt.incomplete"],
        "batches": [where.final / "feats_bs16.npy.incomplete"],
    }[command[0]]
    for path in staged:
        if path.suffixes[-2:] == [".txt", STAGED_SUFFIX] or path.parent == where.final:
            path.write_bytes(b"half")
        else:
            path.mkdir()
            (path / "half").write_bytes(b"half")
    settings = ("--holdout", "2d") if command[0] == "split" else ()
    words = (*command, log) if command[0] == "ingest" else command
    kept = times(dataset, records(dataset))
    finish(dataset, (*words, *settings))
    assert not list(dataset.rglob(f"*{STAGED_SUFFIX}"))
    assert times(dataset, records(dataset)) == kept
