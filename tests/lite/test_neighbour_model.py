"""Kept sessions as a file: written, measured, asked, taught new sessions, and damaged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import call
from neighbour_oracle import SlowNeighbours
from pocketrec.errors import ModelError
from pocketrec.gru4rec.evaluate import evaluate
from pocketrec.gru4rec.export_neighbours import export_neighbours
from pocketrec.gru4rec.options import NeighbourSettings, RankSettings
from pocketrec.lite.catalogue import Catalogue
from pocketrec.lite.neighbour_model import KnownSessions, NeighbourModel
from pocketrec.lite.neighbours import METHODS, Neighbourhood, SessionIndex
from pocketrec.lite.recommend import recommend
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.sessions.prep import prep
from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth
from pocketrec.storage.tensors import read_tensors, write_tensors

TRAIN = [[0, 1, 2], [2, 0], [1, 3, 1], [3, 0, 2], [0, 3]]
IDS = ("a", "b", "c", "d")
TIMES = [number * 86_400_000 for number in range(len(TRAIN))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    items = np.array([item for one in TRAIN for item in one], np.int32)
    index = SessionIndex.of(items, np.array([len(one) for one in TRAIN]), np.array(TIMES), 4)
    catalogue = Catalogue(IDS, np.bincount(items))
    KnownSessions("VSTAN", METHODS["VSTAN"], True, catalogue, index, {}).write(tmp_path / "vstan.safetensors")
    return tmp_path / "vstan.safetensors"


def test_it_recommends_what_the_oracle_does(path: Path) -> None:
    slow = SlowNeighbours(TRAIN, TIMES, 4).scores([2, 0], METHODS["VSTAN"])
    best = sorted((code for code in range(4) if slow[code]), key=lambda code: -slow[code])
    found = recommend(path, ["c", "a", "never seen"])
    assert [one.item for one in found.items] == [IDS[code] for code in best]
    assert [one.score for one in found.items] == pytest.approx([slow[code] for code in best], rel=1e-5)
    assert found.unknown == ("never seen",)
    left = recommend(path, ["c", "a"], top=1, exclude_seen=True)
    assert [one.item for one in left.items] == [next(IDS[code] for code in best if code not in (0, 2))]
    assert [one.item for one in NeighbourModel(path).recommend(["a"], allow=["d"])] == ["d"]
    with pytest.raises(ModelError, match="knows none"):
        recommend(path, ["never seen"])
    with pytest.raises(ModelError, match="0 items"):
        recommend(path, ["a"], top=0)


def test_a_session_is_learned_by_keeping_it_with_its_new_items(path: Path, tmp_path: Path) -> None:
    model = NeighbourModel(path)
    model.learn(["d", "new", "a"], began=7 * 86_400)
    model.learn(["new", "b"], began=0)  # no older than the newest
    train, times = [*TRAIN, [3, 4, 0], [4, 1]], [*TIMES, 7 * 86_400_000, 7 * 86_400_000]
    slow = SlowNeighbours(train, times, 5).scores([4], METHODS["VSTAN"])
    assert model.scores(model.codes_of(["new"])) == pytest.approx(slow, rel=1e-5)
    model.learn(["new", "c"])
    model.save_to(tmp_path / "mine.safetensors")
    again = NeighbourModel(tmp_path / "mine.safetensors")
    assert again.recommend(["new"]) == model.recommend(["new"])
    assert again.items.ids == (*IDS, "new")
    assert again.items.support.tolist() == [*(NeighbourModel(path).items.support + 1), 3]
    assert recommend(path, ["a"], weights=tmp_path / "mine.safetensors").items == tuple(again.recommend(["a"]))
    with pytest.raises(ModelError, match="cannot be learned"):
        model.learn(["a"])


def test_an_old_log_counts_beside_what_is_learned_today(path: Path, tmp_path: Path) -> None:
    """With a recency of 40 days, sessions of years ago would have no weight beside one of now."""
    replace(KnownSessions.read(path), settings=METHODS["STAN"]).write(tmp_path / "stan.safetensors")
    model = NeighbourModel(tmp_path / "stan.safetensors")
    before = model.recommend(["c"])
    model.learn(["a", "b"])
    assert [one.item for one in model.recommend(["c"])] == [one.item for one in before]


def test_own_items_are_left_out_as_is_asked_for_or_as_the_file_says(path: Path, tmp_path: Path) -> None:
    replace(KnownSessions.read(path), own=False).write(tmp_path / "hides.safetensors")
    for own, file in ((True, path), (False, tmp_path / "hides.safetensors")):
        for asked in (None, True, False):
            found = {one.item for one in recommend(file, ["c", "a"], exclude_seen=asked).items}
            assert bool(found & {"a", "c"}) == (own if asked is None else not asked)


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("items", "u1", [9] * 12),
        ("places", "u4", [1 << 20] * 12),
        ("sizes", "u1", [3, 2, 2, 3, 1]),
        ("sizes", "u1", [3, 0, 4, 3, 2]),
        ("lengths", "u1", [1, 2, 3, 3, 2]),
        ("times", "u1", [5, 4, 3, 2, 1]),
        ("times", "f4", [1, 2, 3, 4, 5]),
        ("support", "u1", [1, 2]),
        ("ids", "u1", [97, 10, 97, 10, 98, 10, 99]),
        ("ids", "u1", [255]),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_one_message(path: Path, name: str, kind: str, value: list[int]) -> None:
    file = read_tensors(path, "neighbours", what="", do="")
    about = {key: one for key, one in file.about.items() if key not in ("format", "kind", "xxh3")}
    write_tensors(path, "neighbours", about, {**file.tensors, name: np.array(value, kind)})
    with pytest.raises(ModelError, match="cannot be read"):
        NeighbourModel(path)


@pytest.mark.parametrize(
    "settings",
    [{"newest": 0}, {"neighbours": 1.5}, {"inside": 0}, {"shape": "round"}, {"idf": float("inf")}, {"again": -1}, {"x": 1}],
)
def test_settings_that_cannot_be_are_one_message(path: Path, settings: dict[str, object]) -> None:
    file = read_tensors(path, "neighbours", what="", do="")
    about = {key: one for key, one in file.about.items() if key not in ("format", "kind", "xxh3")}
    write_tensors(path, "neighbours", {**about, "settings": {**about["settings"], **settings}}, file.tensors)
    with pytest.raises(ModelError, match="cannot be read"):
        NeighbourModel(path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    synth(folder / "clicks.dat", SynthSettings(clicks=2000, seed=5))
    batching = BatchSettings(batch_size=8, formats=("npy",), tail="pad", train_on="train_full")
    prep(folder / "clicks.dat", folder / "d", batching=batching, splitting=SplitSettings(holdout=20 * 86400.0))
    return folder / "d"


def test_the_file_measures_what_the_baseline_does(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "d")
    code, out, err = call("export", "--model", "stan", "--tune", 2, "--dataset", tmp_path / "d")
    assert code == 0
    path = tmp_path / "d" / "model" / "stan.safetensors"
    assert str(path) in out
    assert "next clicks of train_valid" in err
    found = evaluate(tmp_path / "d", RankSettings(cutoffs=(20,), tune=2), model=path)
    baseline = next(one for one in found.models if one.name.startswith("STAN"))
    assert (found.models[0].recall, found.models[0].mrr) == (baseline.recall, baseline.mrr)
    assert export_neighbours(tmp_path / "d", NeighbourSettings(model="stan", tune=2)).reused
    assert (
        json.loads(call("export", "--model", "stan", "--tune", 0, "--dataset", tmp_path / "d", "--json")[1])["chosen_on"]
        == 0
    )
    assert call("export", "--model", "stan", "--from", path, "--dataset", tmp_path / "d")[0] == 2


def test_settings_without_a_length_are_kept(path: Path) -> None:
    known = KnownSessions.read(path)
    assert known.settings == METHODS["VSTAN"]
    assert known.settings != Neighbourhood()
