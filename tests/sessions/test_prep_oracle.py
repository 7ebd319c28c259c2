"""The whole preparation against the oracle, byte for byte."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from conftest import Click, logs, shrink_limits, write_log
from pocketrec.errors import SettingsError
from pocketrec.ingestion.ingest import ingest
from pocketrec.sessions.batches import batches
from pocketrec.sessions.options import BatchSettings, Form, SplitSettings
from pocketrec.sessions.prep import prep
from pocketrec.sessions.split import split
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.layout import Dataset

SETS = ("train_full", "test", "train_tr", "train_valid")
Resets = Literal["once", "repeated"]
Tail = Literal["drop", "pad"]


def check_split(log: Path, where: Dataset, holdout: float, support: int, length: int = 2) -> oracle.Prepared | None:
    """Ingest and split; compare with the oracle, or see that both find nothing to train on."""
    ingest(log, where.root)
    try:
        expected = oracle.prepare(log, holdout_seconds=holdout, min_item_support=support, min_session_length=length)
    except ValueError:
        with pytest.raises(SettingsError):
            split(where.root, SplitSettings(holdout=holdout, min_item_support=support, min_session_length=length))
        assert not where.rsc15.exists()
        return None
    report = split(where.root, SplitSettings(holdout=holdout, min_item_support=support, min_session_length=length))
    assert report.block() + "\n" == expected.counts
    for name in SETS:
        assert where.split_txt(name).read_bytes() == expected.txt[name], name
    return expected


def in_index(frame: pd.DataFrame, index: dict[int, int]) -> pd.DataFrame:
    """Test knows the items of train_full, the index those of train_tr: what is left of a set between the two."""
    return oracle.keep_frequent(oracle.where(frame, [item in index for item in frame["ItemId"]]), "SessionId", 2)


def check_batches(where: Dataset, expected: oracle.Prepared, size: int, resets: Resets, tail: Tail) -> None:
    index = oracle.item_index(expected.train_tr)
    if tail == "drop" and expected.train_tr["SessionId"].nunique() < size:
        with pytest.raises(SettingsError, match=str(size)):
            batches(where.root, BatchSettings(batch_size=size, resets=resets, tail=tail))
        assert not where.final.exists()
        return
    report = batches(where.root, BatchSettings(batch_size=size, resets=resets, tail=tail))
    for name in ("train_tr", "train_valid", "test"):
        frame = in_index(getattr(expected, name), index)
        padded = frame["SessionId"].nunique() < size
        wanted = oracle.batches(frame, index, size, resets=resets, tail="pad" if padded else tail)
        assert report.sets[name].dropped == wanted.dropped
        assert report.sets[name].unknown == len(getattr(expected, name)) - len(frame)
        assert report.sets[name].padded == padded
        assert report.sets[name].steps == len(wanted.feats)
        assert report.sets[name].transitions + wanted.dropped == len(frame) - frame["SessionId"].nunique()
        for array in ("feats", "targets", "masks"):
            values = getattr(wanted, array)
            assert where.batches(array, size, split=name).read_bytes() == oracle.npy_bytes(values), (name, array)
            assert where.batches(array, size, split=name, form="txt").read_bytes() == oracle.txt_bytes(values), (
                name,
                array,
            )
    items = pl.read_parquet(where.items)
    support = oracle.item_support(expected.train_tr)
    assert items.rows() == [(item, code, support[item]) for item, code in index.items()]


@pytest.mark.usefixtures("small_parts")
@settings(max_examples=20)
@given(
    clicks=logs(max_sessions=16),
    holdout=st.sampled_from([5.0, 0.5, 12.0, 20.0]),
    support=st.sampled_from([1, 2, 5]),
    length=st.sampled_from([2, 2, 3]),
    size=st.integers(1, 64) | st.integers(1, 6),
    resets=st.sampled_from(["once", "repeated"]),
    tail=st.sampled_from(["drop", "pad"]),
)
def test_any_log_gives_the_oracles_bytes(
    clicks: list[Click], holdout: float, support: int, length: int, size: int, resets: Resets, tail: Tail
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        where = Dataset(folder / "dataset")
        expected = check_split(write_log(folder / "clicks.dat", clicks), where, holdout, support, length)
        if expected:
            check_batches(where, expected, size, resets, tail)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("order", ["grouped", "interleaved", "shuffled"])
@pytest.mark.parametrize("small", ["one run", "several runs", ""])
def test_a_larger_log_in_every_order(tmp_path: Path, order: str, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts, slices and blocks, and one of each; B from 1 to more than some sets have sessions."""
    if small:
        shrink_limits(monkeypatch, small)
    log = tmp_path / "clicks.dat"
    clicks = {"several runs": 400, "one run": 1000, "": 12_000}[small]
    synth(log, SynthSettings(clicks=clicks, seed=7, order=order))  # type: ignore[arg-type]
    where = Dataset(tmp_path / "dataset")
    expected = check_split(log, where, holdout=86400.0 * 20, support=3)
    assert expected
    for size, resets, tail in ((1, "once", "drop"), (4, "repeated", "drop"), (64, "once", "pad"), (50, "repeated", "pad")):
        check_batches(where, expected, size, resets, tail)  # type: ignore[arg-type]


@pytest.mark.parametrize(("order", "clicks"), [("grouped", 50_000), ("shuffled", 150_000)])
def test_a_log_of_the_size_that_people_try_first(tmp_path: Path, order: str, clicks: int) -> None:
    """With the settings that people use."""
    log = tmp_path / "clicks.dat"
    synth(log, SynthSettings(clicks=clicks, seed=7, order=order))  # type: ignore[arg-type]
    where = Dataset(tmp_path / "dataset")
    expected = check_split(log, where, holdout=86400.0, support=5)
    assert expected
    check_batches(where, expected, 512, "once", "drop")
    check_batches(where, expected, 32, "repeated", "pad")


def test_the_real_sample(tmp_path: Path, yoochoose_sample: Path) -> None:
    where = Dataset(tmp_path / "dataset")
    expected = check_split(yoochoose_sample, where, holdout=3 * 3600.0, support=5)
    assert expected
    sessions = [getattr(expected, name)["SessionId"].nunique() for name in SETS]
    assert sessions == [264, 6, 214, 49]
    check_batches(where, expected, 32, "once", "drop")
    check_batches(where, expected, 4, "repeated", "drop")


def test_the_real_sample_with_a_days_holdout_has_nothing_to_train_on(tmp_path: Path, yoochoose_sample: Path) -> None:
    ingest(yoochoose_sample, tmp_path)
    with pytest.raises(SettingsError, match=r"24\.4 hours") as error:
        split(tmp_path)
    assert "--holdout 3h" in str(error.value)


def test_repeated_masks_differ_from_once_where_a_block_has_several_steps(tmp_path: Path) -> None:
    """Two lanes; session 3 is taken at step 1 and lasts two steps during which no lane ends."""
    log = write_log(
        tmp_path / "clicks.dat",
        [
            Click(session, 1000 * session + k, 7)
            for session, length in ((1, 2), (2, 4), (3, 4), (9, 2))
            for k in range(length)
        ]
        + [Click(s, 90_000 + s, 7) for s in (10, 10)]
        + [Click(s, 200_000 + s, 7) for s in (11, 11)],
    )
    ingest(log, tmp_path / "d")
    split(tmp_path / "d", SplitSettings(holdout=60, min_item_support=1))
    masks = {}
    for resets in ("once", "repeated"):
        batches(tmp_path / "d", BatchSettings(batch_size=2, resets=resets))
        masks[resets] = np.load(Dataset(tmp_path / "d").batches("masks", 2)).tolist()
    assert masks["once"] == [[1, 1], [0, 1], [1, 1], [1, 0]]
    assert masks["repeated"] == [[1, 1], [0, 1], [0, 1], [1, 0]]


def test_a_format_that_is_not_asked_for_any_more_is_removed(tmp_path: Path) -> None:
    """Its files would be listed by no record, and in the way of the next run."""
    clicks = [Click(one, 10**12 + one * 10**7 + k, k % 3) for one in range(40) for k in range(3)]
    log, splitting = write_log(tmp_path / "clicks.dat", clicks), SplitSettings(holdout=20_000.0, min_item_support=1)
    formats: tuple[Form, ...]
    for formats in (("txt", "npy"), ("npy",), ("txt", "npy")):
        prep(log, tmp_path, splitting=splitting, batching=BatchSettings(batch_size=2, formats=formats))
        found = {path.suffix for path in (tmp_path / "final").glob("*_bs2.*")}
        assert found == {f".{form}" for form in formats}
