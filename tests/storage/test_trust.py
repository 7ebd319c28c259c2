"""Nothing lost, nothing outside the folder: what others have put where pocketrec writes, and logs that change meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketrec
from apart import call_apart
from conftest import call
from log_support import csv_of_text_ids
from ncf_support import two_camps, write_dat
from pocketrec.errors import DatasetError, FolderError, LogError
from pocketrec.gru4rec.checkpoints import claim_checkpoints
from pocketrec.ingestion import ingest as module
from pocketrec.ingestion.ingest import ingest
from pocketrec.ingestion.parts import Parts
from pocketrec.lite.judge.verify import claim_verdict
from pocketrec.progress import Advance
from pocketrec.sources.options import ReadSettings, SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.layout import Dataset
from pocketrec.storage.lock import HOLDER, LOCK
from pocketrec.storage.manifest import MANIFEST, hash_of_log, json_digest, read_manifest, read_records
from pocketrec.storage.tensors import write_tensors
from pocketrec.training.epoch_runs import Checkpoints

NEEDS_TENSORFLOW = pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
OPTIONS = ("--batch-size", "8", "--min-item-support", "2", "--holdout", "20d")
WRITTEN = (
    "rejects.csv", "parquet/clicks/mine.dat", "parquet/clicks/part=0000/mine.parquet", "parquet/roles/mine",
    "parquet/sequences/x.npy", "rsc15/rsc15_test.txt", "rsc15/rsc15_train_full.txt", "final/feats_bs8.npy",
    "final/masks_valid_bs8.txt", "final/items.parquet",
    LOCK, HOLDER,
)  # fmt: skip
"""Paths that prep would write, or whose folder it would replace."""
FOLDERS = ("parquet", "parquet/clicks", "parquet/roles", "parquet/sequences", "rsc15", "final", "model")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth(tmp_path_factory.mktemp("log") / "clicks.dat", SynthSettings(clicks=3000, seed=4)).path


@pytest.fixture(scope="module")
def dataset(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What prep makes of the log, undisturbed."""
    root = tmp_path_factory.mktemp("plain") / "d"
    assert call("prep", log, "--dataset", root, *OPTIONS)[0] == 0
    return root


@pytest.fixture(scope="module")
def plain(dataset: Path) -> dict[str, bytes]:
    """Its files."""
    return made(dataset)


def made(root: Path) -> dict[str, bytes]:
    """All files but the manifests, which name the log and the folder."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def snapshot(folder: Path) -> dict[str, object]:
    """Everything below a folder: kinds, contents, targets of links."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        what = path.readlink() if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else stat.S_IFMT(mode)
        found[str(path.relative_to(folder))] = what
    return found


@pytest.mark.parametrize("name", WRITTEN)
def test_a_strangers_file_is_never_replaced(log: Path, tmp_path: Path, name: str, plain: dict[str, bytes]) -> None:
    """Also beside a dataset that is there; with the file gone, the same command makes what it makes undisturbed."""
    path = tmp_path / "d" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    before = snapshot(tmp_path)
    code, out, err = call("prep", log, "--dataset", tmp_path / "d", *OPTIONS)
    assert (code, out) == (1, ""), err
    assert str(path) in err
    assert "move it away" in err
    after = snapshot(tmp_path)
    assert {where: after.get(where) for where in before} == before
    path.unlink()
    assert call("prep", log, "--dataset", tmp_path / "d", *OPTIONS)[0] == 0
    assert made(tmp_path / "d") == plain


@pytest.mark.parametrize(
    "name", ["notes.txt", "final/feats_bs64.npy", "final/mine.incomplete", "rsc15/other.txt", "model/mine.tflite"]
)
def test_what_is_not_in_the_way_stays(log: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "d" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    assert call("prep", log, "--dataset", tmp_path / "d", *OPTIONS)[0] == 0
    assert call("batches", "--dataset", tmp_path / "d", "--batch-size", 4, "--session-order", "time")[0] == 0
    assert path.read_text() == "mine"


@pytest.mark.parametrize("place", ["rejects.csv", "parquet/clicks/log.dat", "parquet/log.dat"])
def test_a_log_where_ingest_writes_is_not_deleted_by_it(log: Path, tmp_path: Path, place: str) -> None:
    inside = tmp_path / "d" / place
    inside.parent.mkdir(parents=True)
    shutil.copyfile(log, inside)
    code, out, err = call("ingest", inside, "--dataset", tmp_path / "d")
    assert (code, out) == (1, "")
    assert f"{inside} lies where ingest writes" in err
    assert inside.read_bytes() == log.read_bytes()


def test_rejects_that_are_a_folder_leave_the_earlier_ingest(log: Path, tmp_path: Path) -> None:
    ingest(log, tmp_path / "d")
    (tmp_path / "d" / "rejects.csv").mkdir()
    assert call("ingest", log, "--dataset", tmp_path / "d", "--fresh")[0] == 1
    assert "ingest" in read_records(tmp_path / "d" / "parquet")
    assert ingest(log, tmp_path / "d").reused


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
@pytest.mark.parametrize(
    "name", [*FOLDERS, *(f"{folder}/{MANIFEST}" for folder in ("parquet", "rsc15", "final")), LOCK, HOLDER]
)
def test_no_path_leads_out_and_none_is_waited_for(log: Path, dataset: Path, tmp_path: Path, name: str, kind: str) -> None:
    """In a process of its own, which ends; what is outside of the dataset folder stays as it is."""
    root, outside, path = tmp_path / "d", tmp_path / "outside", tmp_path / "d" / name
    outside.mkdir()
    (outside / "x.incomplete").write_text("theirs")
    (outside / "items.parquet.incomplete").write_text("theirs")
    target = outside if name in FOLDERS else outside / "x.incomplete"
    if name in FOLDERS or MANIFEST in name:
        shutil.copytree(dataset, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target if kind == "link" else outside / "nothing")
    before = snapshot(outside)
    commands = [["prep", str(log), *OPTIONS, "--fresh"]]
    if name not in (LOCK, HOLDER):
        commands += [["inspect"], ["verify-data"]]
    if not name.startswith((".", "rsc15/")):
        commands += [["batches", "--batch-size", "4"]]
    commands = [[*words, "--dataset", str(root)] for words in commands]
    for words, (code, out, err) in zip(commands, call_apart(commands), strict=True):
        assert code == 1, (words, err)
        assert str(path) in err + out, (words, err)
        assert "Traceback" not in err, (words, err)
    assert snapshot(outside) == before


@pytest.mark.parametrize("name", ["../../theirs", "/etc/passwd", "..", "a/../../b", "."])
@pytest.mark.parametrize("where", ["files", "claims"])
def test_a_manifest_names_nothing_outside(log: Path, tmp_path: Path, name: str, where: str) -> None:
    """With a hash that is right, as somebody would make it who means it."""
    root, theirs = tmp_path / "deep" / "d", tmp_path / "theirs"
    theirs.write_text("theirs")
    assert call("prep", log, "--dataset", root, *OPTIONS)[0] == 0
    path = root / "final" / MANIFEST
    document = json.loads(path.read_text())
    if where == "files":
        files = document["records"]["batches_bs8"]["files"]
        files[name] = files["items.parquet"]
        document["xxh3"] = json_digest(document["records"])
    else:
        document["claims"] = {"batches_bs4": [name]}
    path.write_text(json.dumps(document))
    for words in (("verify-data",), ("inspect",), ("batches", "--batch-size", 4, "--session-order", "time"), ("evaluate",)):
        code, out, err = call(*words, "--dataset", root)
        assert code == 1, words
        assert "leads out of the folder" in out + err
    assert theirs.read_text() == "theirs"


class Watcher:
    """A progress that does something at a tick, once."""

    def __init__(self, tick: int, act: Callable[[], None]) -> None:
        self.left, self.act = tick, act

    @contextlib.contextmanager
    def task(self, what: str, total: int, unit: str = "bytes") -> Iterator[Advance]:  # noqa: ARG002
        yield self.advance
        self.advance(0)

    def advance(self, _: int) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"999999,2014-09-29T12:00:00.000Z,214537850,0\n")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "append": appended,
    "truncate": lambda path: os.truncate(path, path.stat().st_size // 2),
    "truncate to nothing": lambda path: os.truncate(path, 0),
    "replace": lambda path: path.with_suffix(".new").rename(path),
    "remove": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reading", ["fast", "careful"])
@pytest.mark.parametrize("tick", [1, 2, 5])
def test_a_log_that_changes_while_it_is_read_is_not_taken(
    log: Path, tmp_path: Path, change: str, reading: str, tick: int
) -> None:
    """At each tick of the progress there is. What was ingested before stays, and the next ingest takes the log as it is
    then.
    """
    mine = tmp_path / "clicks.dat"
    shutil.copyfile(log, mine)
    text = log.read_text()
    if reading == "careful":
        mine.write_text(text.replace(".000Z", "Z").replace("Z,", "+00:00,", 1))
    mine.with_suffix(".new").write_text(text[: len(text) // 3].rpartition("\n")[0] + "\n")
    earlier = ingest(mine, tmp_path / "d")
    ticks = Watcher(10**6, lambda: None)
    ingest(mine, tmp_path / "counted", progress=ticks)
    watcher, watched = Watcher(tick, lambda: CHANGES[change](mine)), 10**6 - ticks.left >= tick
    with pytest.raises(LogError, match="changed while it was read") if watched else contextlib.nullcontext():
        ingest(mine, tmp_path / "d", fresh=True, progress=watcher)
    if not watched:
        assert watcher.left > 0, "there was no such tick, and nothing has changed"
        return
    assert read_records(tmp_path / "d" / "parquet")["ingest"].counts["rows"] == earlier.rows
    assert not list((tmp_path / "d").rglob("*.incomplete"))
    if change in ("append", "truncate", "replace"):
        found = ingest(mine, tmp_path / "d", ReadSettings(bad_rows="set-aside"))
        assert not found.reused
        assert found.rows + found.set_aside == len(mine.read_text().splitlines())


def test_a_line_appended_while_the_hash_is_made_is_noticed(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are read by then; the hash would be of another log."""
    mine = tmp_path / "clicks.dat"
    shutil.copyfile(log, mine)

    def late(logs: Sequence[Path]) -> str:
        appended(mine)
        return hash_of_log(logs)

    monkeypatch.setattr(module, "hash_of_log", late)
    with pytest.raises(LogError, match="changed while it was read"):
        ingest(mine, tmp_path / "d")
    assert not (tmp_path / "d" / "parquet").exists()


@pytest.mark.parametrize("other", ["another path", "another middle", "the same"])
def test_a_log_of_the_same_size_and_time_is_known_by_path_and_content(log: Path, tmp_path: Path, other: str) -> None:
    mine, root = tmp_path / "clicks.dat", tmp_path / "d"
    shutil.copyfile(log, mine)
    rows = ingest(mine, root).rows
    when = mine.stat().st_mtime_ns
    second = tmp_path / "second.dat" if other == "another path" else mine
    text = bytearray(log.read_bytes())
    if other != "the same":
        at = text.index(b"\n", len(text) // 2) + 1
        text[at : at + 1] = b"8" if text[at : at + 1] != b"8" else b"7"
    second.write_bytes(text)
    os.utime(second, ns=(when, when))
    found = ingest(second, root)
    assert found.reused == (other == "the same")
    assert found.rows == rows


NAMES = ("k?", "d[1]", "*", "a b", "{x}", "**")


@pytest.mark.parametrize("name", NAMES)
def test_no_path_is_a_pattern(log: Path, tmp_path: Path, name: str, plain: dict[str, bytes]) -> None:
    """The dataset folder and the log have the name, and stand beside what it would match as a pattern."""
    root, own = tmp_path / "h" / name, tmp_path / "h" / f"{name}.dat"
    other = synth(tmp_path / "other.dat", SynthSettings(clicks=2000, seed=9)).path
    for sibling in ("k1", "d1"):
        assert call("prep", other, "--dataset", tmp_path / "h" / sibling, *OPTIONS)[0] == 0
        shutil.copyfile(other, tmp_path / "h" / f"{sibling}.dat")
    shutil.copyfile(log, own)
    before = snapshot(tmp_path / "h" / "k1")
    code, _, err = call("prep", own, "--dataset", root, *OPTIONS)
    assert code == 0, err
    assert made(root) == plain
    for words in (("inspect",), ("verify-data",), ("evaluate",), ("batches", "--batch-size", 4), ("split", "--fresh")):
        code, _, err = call(*words, "--dataset", root)
        assert code == 0, (words, err)
    assert snapshot(tmp_path / "h" / "k1") == before


@pytest.mark.parametrize("name", NAMES[:3])
def test_text_ids_of_another_dataset_are_not_taken(tmp_path: Path, name: str) -> None:
    columns = ("--columns", "session=s,item=i,time=t", "--batch-size", 2, "--min-item-support", 1, "--tail", "pad")
    for root, prefix in (("k1", "other"), ("d1", "other"), (name, "own")):
        log = tmp_path / f"{root}.csv"
        log.write_bytes(csv_of_text_ids(prefix))
        code, _, err = call("prep", log, "--dataset", tmp_path / root, "--holdout", "5s", *columns)
        assert code == 0, err
    parts = Parts(Dataset(tmp_path / name))
    import numpy as np

    assert all(str(one).startswith("own") for one in parts.item_ids(np.arange(3)))


def test_a_parquet_log_of_an_odd_name(tmp_path: Path) -> None:
    import polars as pl

    pl.DataFrame({"s": [1, 1], "i": [5, 6], "t": [1_400_000_000, 1_400_000_001]}).write_parquet(tmp_path / "p[1].parquet")
    pl.DataFrame({"other": [1]}).write_parquet(tmp_path / "p1.parquet")
    code, _, err = call(
        "ingest", tmp_path / "p[1].parquet", "--columns", "session=s,item=i,time=t", "--dataset", tmp_path / "d"
    )
    assert code == 0, err


@pytest.mark.parametrize("number", [0, 2])
def test_another_format_is_exit_1_and_nothing_is_touched(log: Path, tmp_path: Path, number: int) -> None:
    root = tmp_path / "d"
    assert call("prep", log, "--dataset", root, *OPTIONS)[0] == 0
    for folder in ("parquet", "rsc15", "final"):
        path = root / folder / MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    before = snapshot(root)
    commands = (
        ("prep", log, "--batch-size", 4),
        ("batches", "--batch-size", 4),
        ("split", "--fresh"),
        ("inspect",),
        ("evaluate",),
    )
    for words in commands:
        code, out, err = call(*words, "--dataset", root)
        assert (code, out) == (1, ""), words
        assert f"is of format {number}" in err
        assert "format 1" in err
        assert snapshot(root) == before, words
    code, out, _ = call("verify-data", "--dataset", root)
    assert code == 1
    assert f"is of format {number}" in out


def test_what_was_claimed_by_a_run_that_was_stopped_is_replaced(log: Path, tmp_path: Path, plain: dict[str, bytes]) -> None:
    """As after a kill between the new names and the record; the claim is gone with the next record."""
    root = tmp_path / "d"
    assert call("prep", log, "--dataset", root, *OPTIONS)[0] == 0
    path = root / "final" / MANIFEST
    document = json.loads(path.read_text())
    document["claims"] = {"batches_bs8": list(document["records"].pop("batches_bs8")["files"])}
    document["xxh3"] = json_digest(document["records"])
    path.write_text(json.dumps(document))
    (root / "final" / "feats_bs8.npy").write_bytes(b"half")
    assert call("prep", log, "--dataset", root, *OPTIONS)[0] == 0
    assert made(root) == plain
    assert read_manifest(root / "final").claims == {}


def test_demo_does_not_replace_a_real_log(tmp_path: Path) -> None:
    real = tmp_path / "dataset" / "yoochoose-data" / "yoochoose-clicks.dat"
    real.parent.mkdir(parents=True)
    real.write_text("1,2014-04-07T10:51:09.277Z,214536502,0\n")
    with pytest.raises(FolderError, match="is in the way"):
        pocketrec.demo(tmp_path / "dataset")
    assert real.read_text().startswith("1,2014")


@pytest.mark.parametrize("text", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_ids_that_ingest_takes_are_taken_by_export(text: str) -> None:
    """Only a line feed ends a line of the model's list of items."""
    from pocketrec.lite.catalogue import Catalogue

    assert Catalogue.of([f"a{text}b", text], np.array([1, 2])).ids == (f"a{text}b", text)
    with pytest.raises(DatasetError):
        Catalogue.of(["a\nb"], np.array([1]))


@NEEDS_TENSORFLOW
def test_what_training_and_verify_write_replaces_nothing_of_a_stranger(tmp_path: Path) -> None:
    """Said before the minutes that a training takes."""
    ratings, home = tmp_path / "ratings.dat", tmp_path / "d"
    write_dat(ratings, two_camps())
    assert call("dnn", "prep", ratings, "--dataset", home)[0] == 0
    for name in ("dnn.safetensors", "dnn.keras", "dnn.png"):
        path = home / "dnn" / "model" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        code, _, err = call("dnn", "train", "--dataset", home, "--epochs", 1)
        assert code == 1
        assert f"{path} is in the way" in err
        assert path.read_bytes() == b"mine"
        path.unlink()


CLAIMED = {
    "train": ("gru4rec_bs8.safetensors", "gru4rec_bs8.last.safetensors"),
    "verify": ("verify.json", "verify.png"),
    "epochs": ("checkpoints/epoch-0001.safetensors", "checkpoints/epoch-0007.safetensors", "checkpoints/epoch-0001.npz"),
}
"""What gets no record, since every run changes it, by who writes it, relative to the folder of the model."""


def claim_all(writer: str, folder: Path) -> None:
    """Claim them, as the command does before it reads any."""
    if writer == "train":
        claim_checkpoints(Dataset(folder.parent), 8)
    elif writer == "verify":
        claim_verdict(folder)
    else:
        Checkpoints(folder / "checkpoints", {}).claim(3)


def write_ours(path: Path) -> None:
    """What pocketrec 0.1, which claimed nothing, may have written there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, card=np.array("{}"))
    elif path.suffix == ".safetensors":
        write_tensors(path, "training", {}, {"a": np.zeros(3)})
    else:
        path.write_bytes(b"a picture")
        path.with_suffix(".json").write_text('{"rungs": []}')


@pytest.mark.parametrize(("writer", "name"), [(writer, name) for writer, names in CLAIMED.items() for name in names])
def test_checkpoints_and_verdicts_replace_nothing_of_a_stranger(tmp_path: Path, writer: str, name: str) -> None:
    path = tmp_path / "model" / name
    path.parent.mkdir(parents=True)
    for theirs in (b"mine", b"[]", b"PK\x05\x06" + bytes(18)):
        path.write_bytes(theirs)
        with pytest.raises(FolderError, match=f"{path.name} is in the way"):
            claim_all(writer, tmp_path / "model")
        assert path.read_bytes() == theirs
        assert not (tmp_path / "model" / MANIFEST).exists()
    write_ours(path)
    claim_all(writer, tmp_path / "model")
    path.write_bytes(b"damaged")
    claim_all(writer, tmp_path / "model")
    assert name in read_manifest(tmp_path / "model").names


@NEEDS_TENSORFLOW
def test_train_says_whose_file_is_in_its_way(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "d")
    path = tmp_path / "d" / "model" / "gru4rec_bs8.last.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    code, _, err = call("train", "--dataset", tmp_path / "d", "--batch-size", 8, "--fresh")
    assert code == 1
    assert f"{path} is in the way" in err
    assert path.read_bytes() == b"mine"
