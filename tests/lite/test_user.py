"""A model and its user: the journal, what is learned of it, the state cache, and what is on the disk."""

from __future__ import annotations

import json
import stat
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lite_support import models
from pocketrec.errors import ModelError, SpaceError
from pocketrec.lite.journal import Journal
from pocketrec.lite.judge.reference import Reference
from pocketrec.lite.on_device import JOURNAL, LEARNED, Learned, OnDeviceModel
from pocketrec.storage.layout import Dataset

HABIT = [100, 103, 130, 160, 100, 103]
"""A session that comes again and again; ids are 100 + 3 * code."""
OTHERS = [[109, 127, 133], [4711, 100, 139, 4712, 142], [4713], [151, 151]]


def path_of(name: str = "shared") -> Path:
    return Dataset(models() / name).tflite(4)


def load(name: str = "shared", user: Path | None = None) -> OnDeviceModel:
    return OnDeviceModel(path_of(name), 1, user=user, trusted=True)


def known(model: OnDeviceModel, sessions: Sequence[Sequence[object]]) -> OnDeviceModel:
    for session in sessions:
        model.observe(session)
    return model


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


@given(
    st.lists(st.lists(st.integers(0, 3) | st.text(max_size=3), min_size=1, max_size=12), max_size=12), st.integers(1, 20)
)
def test_a_journal_keeps_the_newest_clicks(sessions: list[list[object]], limit: int) -> None:
    """Whole sessions, but for one that is too long by itself; and its file says the same."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / JOURNAL
        journal = Journal(path, limit)
        for number, session in enumerate(sessions, 1):
            journal.add(session)
            texts = [tuple(map(str, one)) for one in sessions[:number]]
            kept = journal.sessions
            clicks = sum(map(len, kept))
            assert clicks <= limit
            if len(kept) == 1:
                assert kept[0] == texts[-1][-limit:]
            else:
                assert list(kept) == texts[-len(kept) :]
            older = texts[: -len(kept)]
            assert not older or clicks + len(older[-1]) > limit
            assert Journal(path, limit).sessions == kept
            for since in range(number + 1):
                assert journal.newer_than(since) == kept[max(0, len(kept) - (number - since)) :] if since < number else True
        assert journal.observed == len(sessions)


def test_a_journal_is_private_and_can_be_deleted(tmp_path: Path) -> None:
    model = known(load(user=tmp_path / "user"), OTHERS)
    path = tmp_path / "user" / JOURNAL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert model.learn(keep="always").kept
    assert {one.name for one in path.parent.iterdir()} == {JOURNAL, LEARNED}
    shipped = load()
    model.forget()
    assert list(path.parent.iterdir()) == []
    assert same(model.save(), shipped.save())
    assert model.recommend(HABIT) == shipped.recommend(HABIT)
    assert model.journal.sessions == ()


@pytest.mark.parametrize(
    "content",
    [
        "", "{}", "[]", "\xff", '{"format": 2, "observed": 0}', '{"format": 1, "observed": 0}\n["a"]',
        *(f'{{"format": 1, "observed": 1}}\n{line}' for line in ("[1]", "[]", '"a"', '["a"')),
    ],
)  # fmt: skip
def test_a_damaged_journal_is_named_and_stays(tmp_path: Path, content: str) -> None:
    (tmp_path / JOURNAL).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError, match=r"journal.jsonl cannot be read[\s\S]*delete it"):
        load(user=tmp_path)
    assert (tmp_path / JOURNAL).read_bytes() == content.encode("latin-1")


def test_observing_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="The session has no items"):
        load().observe([])


@pytest.mark.parametrize("name", ["shared", "adam", "separate-sgd"])
@pytest.mark.parametrize("between", ["reset", "carry"])
def test_learning_the_journal_is_what_the_judge_computes(name: str, between: Any) -> None:
    """Three passes over all transitions in order, each with the rate, share and pull of the file."""
    model = load(name)
    model.use = replace(model.use, between=between)
    reference = Reference(model.settings, model.save(), model.items.log_support)
    known(model, [*OTHERS, HABIT])
    sessions = [[model.items.codes[str(one)] for one in some if str(one) in model.items.codes] for some in [*OTHERS, HABIT]]
    if between == "carry":
        sessions = [[code for some in sessions for code in some]]
    for _ in range(3):
        for codes in sessions:
            state = model.fresh_state(1)
            for feat, target in pairwise(codes):
                step = (np.array([feat], np.int32), np.array([target], np.int32), state)
                _, state = reference.learn_one(*step, **asdict(model.card.learning))
    assert model.learn(keep="always") == Learned(
        kept=True, cached=True, transitions=sum(len(some) - 1 for some in sessions if some)
    )
    wanted = reference.save()
    for key, value in model.save().items():
        np.testing.assert_allclose(value, wanted[key], rtol=2e-3, atol=2e-5, err_msg=key)


def test_what_is_learned_depends_on_the_journal_alone(tmp_path: Path) -> None:
    """Learning twice is learning once, and learning in between changes nothing; nor does opening the files again."""
    once = known(load(), [*OTHERS, *[HABIT] * 8])
    found = once.learn()
    assert found.kept
    model = known(load(user=tmp_path), OTHERS)
    model.learn(keep="always")
    known(model, [HABIT] * 8)
    assert model.learn() == model.learn() == found
    again = load(user=tmp_path)
    for other in (model, again):
        assert same(once.save(), other.save())
        assert same(once._cache, other._cache)
        assert other.recommend([100, 103]) == once.recommend([100, 103])
    known(again, [HABIT])  # after a stop, what was observed since is in the cache, too
    assert same(again._cache, load(user=tmp_path)._cache)


def test_what_does_not_help_is_rolled_back(tmp_path: Path) -> None:
    """The newest quarter contradicts the rest, so the model is as it was shipped, to the bit."""
    model = known(load(user=tmp_path), [[100, 103] * 8, [100, 103] * 8, [106 + 9 * place for place in range(11)]])
    found = model.learn()
    assert not found.kept
    assert found.after == found.before
    assert same(model.save(), load().save())
    assert load(user=tmp_path).learned == found
    assert (tmp_path / LEARNED).stat().st_size < path_of().stat().st_size  # no weights
    assert model.learn(keep="always").kept
    assert not same(model.save(), load().save())


@pytest.mark.parametrize("between", ["reset", "carry"])
def test_the_losses_that_decide_are_what_the_judge_computes(between: Any) -> None:
    """Of each transition by itself, without and with the cache of those before it, from any one on."""
    model = known(load(), [*OTHERS, HABIT, HABIT])
    model.use = replace(model.use, between=between, cache_share=0.3)
    reference = Reference(model.settings, model.save(), model.items.log_support)
    states: list[Any] = []
    targets: list[int] = []
    wanted = []
    for codes in model._sequences():
        state = model.fresh_state(1)
        for code, target in pairwise(codes):
            feat, cache = np.array([code], np.int32), (np.array(states), np.array(targets, np.int32))
            plain, after = reference.recommend(feat, state)
            mixed = reference.recommend_user(feat, state, *cache, 0.3, np.zeros(0, np.int32))[0] if states else plain
            chances = [np.exp(some - some.max()) for some in (plain, mixed)]
            rank = int((plain >= plain[target]).sum())
            losses = [-np.log(some[target] / some.sum()) for some in chances]
            wanted.append([*losses, 1 / rank if rank <= model.settings.k else 0])
            states.append(after[0])
            targets.append(target)
            state = after
    for begin in (0, 3, len(wanted) - 1):
        np.testing.assert_allclose(np.stack(model._judge(model._sequences(), begin), axis=1), wanted[begin:], atol=1e-4)


@pytest.mark.parametrize("sessions", [[], [[4711, 4712]], [[100]], [[100, 103, 100]]], ids=["no", "unknown", "one", "few"])
def test_too_little_to_learn_from_changes_nothing(sessions: list[list[int]]) -> None:
    model = known(load(), sessions)
    assert model.learn() == Learned(kept=False, cached=False, transitions=2 if sessions == [[100, 103, 100]] else 0)
    assert same(model.save(), load().save())


def test_a_cache_recommends_what_came_next(tmp_path: Path) -> None:
    """As the judge computes it from the pairs of the journal; also where all scores are asked for."""
    model = known(load(user=tmp_path), [*OTHERS, HABIT])
    plain = model.recommend([100, 103])
    assert plain == load().recommend([100, 103])  # as long as nobody knows whether a cache helps
    model.learned = Learned(kept=False, cached=True, transitions=9)
    reference = Reference(model.settings, model.save(), model.items.log_support)
    states, items = [], []
    for session in [*OTHERS, HABIT]:
        state, codes = model.fresh_state(1), [model.items.codes[str(one)] for one in session if one < 4711]
        for code, after in pairwise(codes):
            state = reference.recommend(np.array([code], np.int32), state)[1]
            states.append(state[0])
            items.append(after)
    cache = (np.array(states), np.array(items, np.int32), 0.05)
    state = model.fresh_state(1)
    for code in (0, 1):
        before, state = state, reference.recommend(np.array([code], np.int32), state)[1]
    wanted, _ = reference.recommend_user(np.array([1], np.int32), before, *cache, np.array([10], np.int32))
    order = np.argsort(-wanted)
    found = model.recommend([100, 103], exclude=[130])
    assert [int(one.item) for one in found] == [100 + 3 * int(code) for code in order[:20]]
    np.testing.assert_allclose([one.score for one in found], wanted[order[:20]], atol=1e-4)
    few = model.recommend([100, 103], exclude=[100 + 3 * code for code in range(37)])
    assert [int(one.item) for one in few] == [100 + 3 * int(code) for code in order if code > 36]
    model.use = replace(model.use, cache_share=0)
    found = model.recommend([100, 103])
    assert [one.item for one in found] == [one.item for one in plain]
    np.testing.assert_allclose([one.score for one in found], [one.score for one in plain], atol=1e-5)


def test_a_cache_that_would_not_have_helped_has_no_share() -> None:
    """Here nobody comes back to an item."""
    model = known(load(), [[100 + 3 * (10 * number + place) for place in range(10)] for number in range(4)])
    found = model.learn()
    assert not found.cached
    if not found.kept:
        assert model.recommend([100]) == load().recommend([100])


def test_a_cache_keeps_the_newest_pairs() -> None:
    model = load()
    for number in range(80):
        model.observe([100 + 3 * (number % 40), 103, 106 + number % 7, 109, 112])
    size = model.settings.journal
    assert model._cache["cache_items"].shape == (size,)
    assert (model._cache["cache_items"] >= 0).all()
    assert sum(map(len, model.journal.sessions)) <= size


def test_seen_items_are_left_out_as_the_file_says() -> None:
    model = load("adam")  # a log of random clicks: many repeats
    assert model.use.seen == "show"
    session = [int(one.item) for one in model.recommend([100])][:6]
    shown = {int(one.item) for one in model.recommend(session, exclude_seen=False)}
    assert model.recommend(session) == model.recommend(session, exclude_seen=False)
    hidden = {int(one.item) for one in model.recommend(session, exclude_seen=True)}
    assert hidden.isdisjoint(session)
    assert not shown.isdisjoint(session)
    model.use = replace(model.use, seen="hide")
    assert {int(one.item) for one in model.recommend(session)} == hidden
    model.observe(session)
    assert not {int(one.item) for one in model.recommend([217])}.isdisjoint(session)
    model.use = replace(model.use, between="carry")  # now all that this person did is one sequence
    assert {int(one.item) for one in model.recommend([217])}.isdisjoint(session)


def test_sessions_go_on_from_each_other_where_training_did() -> None:
    whole, parts = load(), load()
    for model in (whole, parts):
        model.use = replace(model.use, between="carry", cache_share=0)
    known(parts, [[109, 127], [133, 100]])
    assert parts.recommend([103, 106]) == whole.recommend([109, 127, 133, 100, 103, 106])
    assert parts._cache["cache_items"][-3:].tolist() == [model.items.codes[one] for one in ("127", "133", "100")]


def test_a_model_for_another_catalogue_learns_the_journal_again(tmp_path: Path) -> None:
    """Where the app's new file has replaced the old one, the user's folder opens as shipped, and learns when it is told."""
    sessions = [[100, 103, 106, 109, 112, 115]] * 6
    model = known(load("adam", tmp_path), sessions)
    model.learn(keep="always")
    new = models() / "of7.tflite"
    opened = OnDeviceModel(new, 1, user=tmp_path, trusted=True)
    shipped = OnDeviceModel(new, 1, trusted=True)
    assert same(opened.save(), shipped.save())
    assert len(opened.journal.sessions) == 6
    for other in (model.rebase(new, trusted=True, keep="always"), known(load(), sessions).rebase(new, keep="always")):
        assert not same(other.save(), shipped.save())
        assert same(other.save(), OnDeviceModel(new, 1, user=tmp_path, trusted=True).save())


def test_a_failure_leaves_the_model_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = known(load(user=tmp_path), [HABIT] * 3)
    model.learn(keep="always")
    before, files = model.save(), {one: one.read_bytes() for one in tmp_path.iterdir()}
    kept = model.journal.sessions

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("pocketrec.storage.files.os.fsync", fail)
        with pytest.raises(SpaceError):
            model.observe([109, 112])
        assert model.journal.sessions == kept
        with pytest.raises(SpaceError):
            model.learn(keep="always")
    assert same(model.save(), before)
    assert {one: one.read_bytes() for one in tmp_path.iterdir()} == files
    known(model, [[109, 112, 109, 112]])
    with monkeypatch.context() as broken:
        broken.setattr(model, "learn_one", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            model.learn()
    assert same(model.save(), before)


def test_damaged_learning_is_named(tmp_path: Path) -> None:
    model = known(load(user=tmp_path), [HABIT])
    model.learn(keep="always")
    content = (tmp_path / LEARNED).read_bytes()
    for cut in (0, len(content) - 1):
        (tmp_path / LEARNED).write_bytes(content[:cut])
        with pytest.raises(ModelError, match=r"learned.safetensors cannot be read"):
            load(user=tmp_path)


def test_recommendations_wait_while_a_model_learns() -> None:
    """No caller sees a model that has learned half of the journal."""
    model = known(load(), [HABIT] * 20)
    before = model.recommend([100, 103])
    found: list[Any] = []
    learning = threading.Thread(target=lambda: found.append(model.learn(keep="always")))
    learning.start()
    answers = [model.recommend([100, 103]) for _ in range(20)]
    learning.join()
    assert found[0].kept
    after = model.recommend([100, 103])
    assert before != after
    assert all(one in (before, after) for one in answers)


def test_a_file_that_only_answers_has_a_cache() -> None:
    model = known(load("answers"), [HABIT] * 3)
    shipped = load("answers").recommend([100, 103])
    model.use = replace(model.use, cache_share=0.9)
    found = model.learn()
    assert (found.kept, found.cached) == (False, True)
    assert model.recommend([100, 103], 1)[0].item == "130" != shipped[0].item


def test_a_journal_of_the_file_can_be_read_by_anyone(tmp_path: Path) -> None:
    """Its form is written down: an object, then a session a line."""
    known(load(user=tmp_path), [HABIT, ["ä", "b\nc"]])
    lines = (tmp_path / JOURNAL).read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"format": 1, "observed": 2}, [str(one) for one in HABIT], ["ä", "b\nc"],
    ]  # fmt: skip
