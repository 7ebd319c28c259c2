"""Damage of any kind to any file is noticed, named with its cure, and the cure is one."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import pocketrec
from conftest import call
from pocketrec.errors import DatasetError
from pocketrec.ingestion.parts import Parts, read_column
from pocketrec.lite.inputs import open_batches, read_item_list
from pocketrec.schema import SESSION
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.item_index import read_items
from pocketrec.storage.layout import Dataset
from pocketrec.storage.verify_data import VerifyDataReport, verify_data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "a dataset"
    synth(root / "clicks.dat", SynthSettings(clicks=20_000, seed=3))
    pocketrec.prep(
        root / "clicks.dat", root, batching=BatchSettings(batch_size=16), splitting=SplitSettings(holdout=2 * 86400.0)
    )
    return root


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Dataset:
    """A copy, to be damaged."""
    shutil.copytree(made, tmp_path / "a dataset")
    return Dataset(tmp_path / "a dataset")


def overwrite(path: Path) -> None:
    """The same size, another byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x5A
    path.write_bytes(content)


def wipe(path: Path) -> None:
    """The same size, nothing in it: what a file system may leave after the power went."""
    path.write_bytes(bytes(path.stat().st_size))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


DAMAGE: dict[str, Callable[[Path], None]] = {"gone": Path.unlink, "cut": cut, "changed": overwrite, "wiped": wipe}
FILES: dict[str, Callable[[Dataset], Path]] = {
    "ingest": lambda where: min(where.clicks.rglob("*.parquet")),
    "roles": lambda where: min(where.roles.glob("*.npy")),
    "vocabulary": lambda where: where.roles / "items.parquet",
    "split": lambda where: where.split_txt("train_tr"),
    "npy": lambda where: where.batches("targets", 16),
    "txt": lambda where: where.batches("masks", 16, split="test", form="txt"),
    "items": lambda where: where.items,
}
each_damage = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
each_file = pytest.mark.parametrize("file", FILES.values(), ids=FILES)


def damaged(report: VerifyDataReport) -> list[tuple[Path, str]]:
    return [(file.path, stage.rebuild) for stage in report.stages for file in stage.damaged]


def test_a_whole_dataset(dataset: Dataset) -> None:
    report = verify_data(dataset.root)
    assert report.passed
    assert [stage.key for stage in report.stages] == ["ingest", "roles", "sequences", "split", "batches_bs16"]
    assert [(stage.damaged, stage.rebuild) for stage in report.stages] == [((), "")] * 5
    assert [stage.files for stage in report.stages][2:] == [6, 4, 19]
    code, out, err = call("verify-data", "--dataset", dataset.root)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == [stage.key for stage in report.stages]
    assert all("whole" in line for line in out.splitlines())


@each_damage
@each_file
def test_damage_is_found_and_the_command_mends_it(
    dataset: Dataset, file: Callable[[Dataset], Path], damage: Callable[[Path], None]
) -> None:
    path = file(dataset)
    damage(path)
    report = verify_data(dataset.root)
    assert not report.passed
    ((found, rebuild),) = damaged(report)
    assert found == path
    code, out, _ = call("verify-data", "--dataset", dataset.root)
    assert code == 1
    assert str(path) in out
    assert rebuild in out
    program, *words = shlex.split(rebuild)
    assert program == "pocketrec"
    assert call(*words)[0] == 0
    assert verify_data(dataset.root).passed
    again = pocketrec.prep(
        dataset.root.parent / "a dataset" / "clicks.dat",
        dataset.root,
        batching=BatchSettings(batch_size=16),
        splitting=SplitSettings(holdout=172800.0),
    )
    assert (again.ingest.reused, again.split.reused, again.batches.reused) == (True, True, True), "the same bytes again"


def test_json_says_the_same(dataset: Dataset) -> None:
    overwrite(dataset.items)
    code, out, err = call("verify-data", "--dataset", dataset.root, "--json")
    assert (code, err) == (1, "")
    report = json.loads(out)
    assert report["passed"] is False
    assert [file["path"] for stage in report["stages"] for file in stage["damaged"]] == [str(dataset.items)]


def test_a_damaged_manifest_is_damage(dataset: Dataset) -> None:
    (dataset.rsc15 / "manifest.json").write_text("{")
    report = verify_data(dataset.root)
    (path, cure), *more = damaged(report)
    assert (path, more) == (dataset.rsc15 / "manifest.json", [])
    assert cure.startswith("move the file away")
    assert [stage.key for stage in report.stages] == ["ingest", "roles", "sequences", "rsc15/manifest.json", "batches_bs16"]


def test_folders_without_a_dataset(tmp_path: Path) -> None:
    assert verify_data(tmp_path).stages == ()
    assert "nothing finished yet" in call("verify-data", "--dataset", tmp_path)[1]
    with pytest.raises(DatasetError, match="is not a folder"):
        verify_data(tmp_path / "nothing")


def test_progress_comes_to_its_total(dataset: Dataset) -> None:
    from contextlib import AbstractContextManager, nullcontext

    class Watch:
        total = done = 0

        def add(self, count: int) -> None:
            self.done += count

        def task(self, what: str, total: int, unit: str = "bytes") -> AbstractContextManager[Callable[[int], None]]:
            assert (what, unit) == ("verify", "bytes")
            self.total = total
            return nullcontext(self.add)

    watch = Watch()
    verify_data(dataset.root, progress=watch)
    assert watch.done == watch.total > 100_000


@each_damage
@pytest.mark.parametrize("file", ["ingest", "roles", "vocabulary"])
def test_batches_name_the_damaged_file_and_its_command(dataset: Dataset, file: str, damage: Callable[[Path], None]) -> None:
    path = FILES[file](dataset)
    damage(path)
    with pytest.raises(DatasetError) as error:
        pocketrec.batches(dataset.root, BatchSettings(batch_size=16), fresh=True)
    assert str(path) in error.value.wrong
    assert f"pocketrec {'ingest' if file == 'ingest' else 'split'} " in error.value.do
    assert "--fresh" in error.value.do


@each_damage
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "txt only"])
def test_split_names_the_damaged_part(dataset: Dataset, fresh: bool, damage: Callable[[Path], None]) -> None:
    path = FILES["ingest"](dataset)
    damage(path)
    if not fresh:
        dataset.split_txt("test").unlink()
    with pytest.raises(DatasetError) as error:
        pocketrec.split(dataset.root, SplitSettings(holdout=172800.0), fresh=fresh)
    assert str(path) in error.value.wrong
    assert error.value.do.startswith("pocketrec ingest ")


@pytest.mark.parametrize("damage", [overwrite, wipe])
def test_split_does_not_write_text_from_damaged_roles(dataset: Dataset, damage: Callable[[Path], None]) -> None:
    path = FILES["roles"](dataset)
    damage(path)
    dataset.split_txt("test").unlink()
    with pytest.raises(DatasetError) as error:
        pocketrec.split(dataset.root, SplitSettings(holdout=172800.0))
    assert str(path) in error.value.wrong
    assert error.value.do.startswith("pocketrec split ")


@pytest.mark.parametrize("damage", [wipe, cut, Path.unlink], ids=["wiped", "cut", "gone"])
def test_readers_turn_what_polars_and_numpy_say_into_a_message(dataset: Dataset, damage: Callable[[Path], None]) -> None:
    """Each on its own, for a file that is damaged while a stage runs."""
    part = Parts(Dataset(dataset.root)).folders[0]
    for path in (min(part.iterdir()), dataset.batches("feats", 16), dataset.items, dataset.roles / "items.parquet"):
        damage(path)
    for read, name, command in (
        (lambda: read_column(part, SESSION), part.name, "ingest"),
        (lambda: open_batches(dataset, 16), "feats_bs16.npy", "batches"),
        (lambda: read_item_list(dataset), "items.parquet", "batches"),
        (lambda: read_items(dataset.roles / "items.parquet", ("item_id",)), "roles/items.parquet", "split"),
    ):
        with pytest.raises(DatasetError) as error:
            read()
        assert name in error.value.wrong
        assert f"pocketrec {command} " in error.value.do


def test_a_part_with_other_columns(dataset: Dataset) -> None:
    path = FILES["ingest"](dataset)
    pl.DataFrame({"other": np.arange(3)}).write_parquet(path)
    with pytest.raises(DatasetError, match="cannot be read") as error:
        read_column(path.parent, SESSION)
    assert str(path) in error.value.wrong
