"""A model and its user: what an app calls, in Python.

model = OnDeviceModel("gru4rec_bs512.tflite", user="user")
model.recommend(["214536502", "214536500"], top=5)     # the session so far
model.observe(["214536502", "214536500", "214536506"])  # a session that has ended: kept in the user's journal
model.learn()                                          # now and then, for example at night while the phone is charged

What belongs to the user is in the folder `user`: journal.jsonl, the newest sessions, and learned.safetensors, what was
learned of them. `learn` always begins with the weights of the file, so what a model knows of its user depends on nothing
but the file and the journal: learning twice is learning once, what has left the journal is forgotten, and a model for a new
catalogue, opened on the same folder, learns the same journal.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pocketrec.errors import ModelError
from pocketrec.lite.catalogue import known_codes, wanted_items
from pocketrec.lite.contract import CACHE_TENSORS, HIDDEN, SHARPNESS
from pocketrec.lite.journal import Journal
from pocketrec.lite.options import UserSettings
from pocketrec.lite.runtime import LiteModel
from pocketrec.schema import Float32, Int32
from pocketrec.storage.tensors import Tensors

Keep = Literal["better", "always"]
JOURNAL, LEARNED = "journal.jsonl", "learned.safetensors"
HELD_OUT, LEAST_HELD = 4, 8
"""The newest transitions of a journal are held out to see whether learning helps: one in so many, but at least so many, or
half of all. A quarter of a short journal says too little: of 11 transitions, 3. Where more are held out, their ranks count,
too: what is learned of a user who never comes back to an item can lower the loss and put what is used up first."""
LEAST_JUDGED = 4
"""With fewer transitions nothing is learned, since nobody could say whether it helps."""


@dataclass(frozen=True)
class Recommendation:
    """A recommended item: its id as text, and its score (a logit: higher is better)."""

    item: str
    score: float


@dataclass(frozen=True)
class Learned:
    """What came of `OnDeviceModel.learn`.

    Attributes:
        kept: whether the weights have learned; otherwise they are those that were shipped.
        cached: whether the state cache has its share in recommendations.
        transitions: pairs of an item and the next one in the journal.
        before: mean loss of the transitions that were held out with the weights as shipped, in nats; with the state cache
            if that is kept. None if none were held out.
        after: the same with the weights that are kept, as far as they were learned of the others.
    """

    kept: bool
    cached: bool
    transitions: int
    before: float | None = None
    after: float | None = None


class _Judged(NamedTuple):
    """How a model predicts transitions: their losses without a state cache, and with one of all before each, in nats; and
    the reciprocal ranks without it, 0 beyond the k best. (n,) each.
    """

    plain: Float32
    mixed: Float32
    ranks: Float32


class OnDeviceModel(LiteModel):
    """A loaded model file and its user. Any number of threads may call it; each call waits for those before it.

    Args:
        path: as in `LiteModel`.
        threads: as in `LiteModel`.
        user: folder of the user's journal and of what was learned; made when there is something to write. None: in memory.
        use: how the model is used for its user; as the file says if not given.
        trusted: as in `LiteModel`.

    Attributes:
        use: how the model is used for its user; what is replaced holds from the next call on.
        journal: the newest sessions of the user.
        learned: what came of the last `learn`; None where there was none. Until then the state cache has no share.

    Raises:
        MissingExtraError: LiteRT is not installed.
        ModelError: the file or one of the user's is damaged, or LiteRT cannot run it. What was learned by another model
            file is not used; `learn` learns the journal again.
    """

    def __init__(
        self,
        path: Path | str,
        threads: int = 2,
        *,
        user: Path | str | None = None,
        use: UserSettings | None = None,
        trusted: bool = False,
    ) -> None:
        super().__init__(path, threads, trusted=trusted)
        self.use = use or self.card.use
        self._user, self._lock = None if user is None else Path(user), threading.RLock()
        self.journal = Journal(self._user and self._user / JOURNAL, self.settings.journal)
        self.learned: Learned | None = None
        self._resume()

    def recommend(
        self,
        session: Sequence[object],
        top: int | None = None,
        *,
        exclude: Collection[object] = (),
        allow: Collection[object] | None = None,
        exclude_seen: bool | None = None,
    ) -> list[Recommendation]:
        """Recommend next items for a session, best first.

        Args:
            session: the item ids so far, in order; ids that the model does not know are skipped.
            top: how many items; at most the number fixed at export, which is also the default.
            exclude: ids of items that are left out, such as what is sold out.
            allow: ids of the only items that there may be; None for all. There may be fewer than `top` then.
            exclude_seen: whether the items of the session are left out; where sessions go on from each other
                (`use.between`), those of the journal, too. As the file says if not given.

        Raises:
            ModelError: the model knows none of the items, or cannot return so many.
        """
        if top is not None and not 1 <= top <= self.settings.k:
            raise ModelError(f"{top} items are asked for.", expected=f"1 to {self.settings.k}, fixed when it was exported")
        count = top or self.settings.k
        with self._lock:
            codes, state = self.codes_of(session), self._begin
            if self.use.hides(exclude_seen):
                exclude = [*exclude, *session, *(chain(*self.journal.sessions) if self._carries else ())]
            wanted = wanted_items(self.items.codes, self.settings.n_items, exclude, allow)
            state = self._walk(codes[:-1], state)[-1:]
            items, scores = self._best(int(codes[-1]), state, np.flatnonzero(~wanted).astype(np.int32))
            if (wanted[items] & (scores > HIDDEN / 2)).sum() < min(count, int(wanted.sum())):  # the graph gives too few
                items, scores = self._all_scores(int(codes[-1]), state)
            kept = wanted[items] & (scores > HIDDEN / 2)
        best = list(zip(items[kept], scores[kept], strict=True))[:count]
        return [Recommendation(self.items.ids[item], float(score)) for item, score in best]

    def observe(self, session: Sequence[object]) -> None:
        """Keep a session of the user that has ended, in the journal and in the state cache.

        The items need not be known to the model: one for another catalogue may know them.

        Raises:
            ModelError: there are no items.
            FolderError, SpaceError: the journal cannot be written; it stays as it was.
        """
        if not session:
            raise ModelError("The session has no items.", expected="the ids of the items that were clicked, in order")
        with self._lock:
            self._remember(self._known(self.journal.add(session)))

    def learn(self, *, keep: Keep = "better") -> Learned:
        """Learn the journal: the weights of the file, in `use.passes` passes of the signature `learn`, and the state cache.

        What was learned before, by this or by other calls, is replaced. A file of int8 has the state cache alone.

        Args:
            keep: better, the state cache if it predicts the transitions of the journal better, each by those before it;
                and the learned weights if they predict the newest quarter of the transitions no worse, after the others
                were learned; then the quarter is learned, too (see `HELD_OUT`). always: both, without looking.

        Raises:
            ModelError: the file is of an earlier pocketrec, or comes to numbers that are not finite; the model stays as it
                was.
            FolderError, SpaceError: what was learned cannot be written; the model stays as it was.
        """
        with self._lock:
            try:
                self.learned = self._learn_journal(keep)
                self._refresh()
                weights = self.save() if self.learned.kept else {}
                self._check_finite(weights, "")
                if self._user is not None:
                    self._write(self._user / LEARNED, weights)
            except BaseException:
                self._reopen()
                raise
            return self.learned

    def forget(self) -> None:
        """Delete all that belongs to the user, and go back to the model as it was shipped."""
        with self._lock:
            self.journal.forget()
            if self._user is not None:
                (self._user / LEARNED).unlink(missing_ok=True)
            self._reopen()

    def rebase(self, path: Path | str, *, keep: Keep = "better", trusted: bool = False) -> OnDeviceModel:
        """The user's model for another file, such as one for a new catalogue: it learns the journal again.

        This model should not be used any more: both have the same folder.
        """
        with self._lock:
            model = OnDeviceModel(path, self._threads, user=self._user, trusted=trusted)
            if self._user is None:
                model.journal.take(self.journal)
                model._refresh()
        model.learn(keep=keep)
        return model

    def save_to(self, path: Path | str) -> None:
        """Write the weights, the optimizer's slots and the state cache to a file, as `LiteModel.save_to` does."""
        self._write(Path(path), self.save())

    def _write(self, path: Path, weights: Tensors) -> None:
        learned = self.learned and asdict(self.learned)
        about = {"base": self.card.base, "observed": self.journal.observed, "learned": learned}
        self._save_to(path, {**weights, **self._cache}, about)

    @property
    def _share(self) -> float:
        """Of the state cache in a recommendation."""
        there = self.learned is not None and self.learned.cached and bool((self._cache["cache_items"] >= 0).any())
        return self.use.cache_share if there else 0.0

    @property
    def _carries(self) -> bool:
        return self.use.between == "carry"

    @property
    def _begin(self) -> Float32:
        """The state before the first item of a session, (1, H)."""
        return self._cache["cache_state"] if self._carries else self.fresh_state(1)

    def _reopen(self) -> None:
        """Begin anew with the file, and go to what was learned last."""
        self._runner = self._as_shipped()
        self._resume()

    def _resume(self) -> None:
        """From the model as shipped go to what was learned last, and along the sessions that came since."""
        self._cache, self.learned, since = self._empty_cache(), None, 0
        path = self._user and self._user / LEARNED
        if path and path.exists():
            file = self._read_learned(path)
            if file.about.get("base") == self.card.base:
                self.learned, since = Learned(**file.about["learned"]), int(file.about["observed"])
                self._cache = {name: file.tensors[name] for name in CACHE_TENSORS}
                if self.learned.kept:
                    self.restore(file.tensors)
        self._catch_up(since)

    def _catch_up(self, since: int) -> None:
        """Go along the sessions that were observed since there were so many."""
        for session in self.journal.newer_than(since):
            self._remember(self._known(session))

    def _known(self, session: Sequence[str]) -> Int32:
        return np.array(known_codes(self.items.codes, session), np.int32)

    def _sequences(self) -> list[Int32]:
        """The item codes of what the model sees as one sequence each: a session, or the whole journal."""
        sessions = [self._known(one) for one in self.journal.sessions]
        return [np.concatenate(sessions)] if self._carries and sessions else sessions

    def _learn_journal(self, keep: Keep) -> Learned:
        learns, caches = "learn" in self._signatures, "recommend_user" in self._signatures
        if not (learns or caches):
            self._run("learn")  # says why
        sequences = self._sequences()
        count = sum(max(len(codes) - 1, 0) for codes in sequences)
        self._runner, losses = self._as_shipped(), {}
        if keep == "always":
            kept, cached = learns and count > 0, caches and count > 0
        elif count < LEAST_JUDGED:
            kept = cached = False
        else:
            shipped = self._judge(sequences)
            cached = caches and bool(shipped.mixed.mean() <= shipped.plain.mean())
            held = min(max(count // HELD_OUT, LEAST_HELD), count // 2)
            before = after = shipped[cached][-held:].mean()
            kept = False
            if learns:
                self._learn_all(sequences, count - held)
                learned = self._judge(sequences, count - held)
                found = learned[cached].mean()
                kept = bool(found <= before)  # not so for NaN
                kept &= held <= LEAST_HELD or bool(learned.ranks.mean() >= shipped.ranks[-held:].mean())
                after = found if kept else before
                self._runner = self._as_shipped()
            losses = {"before": float(before), "after": float(after)}
        if kept:
            self._learn_all(sequences, count)
        return Learned(kept, cached, count, **losses)

    def _learn_all(self, sequences: Sequence[Int32], end: int) -> None:
        """Learn the first `end` transitions in all passes."""
        amounts = asdict(self.card.learning)
        for _ in range(self.use.passes):
            left = end
            for codes in sequences:
                state, some = self.fresh_state(1), codes[: left + 1]
                for feat, target in zip(some[:-1, None], some[1:, None], strict=True):
                    _, state = self.learn_one(feat, target, state, **amounts)
                left -= max(len(some) - 1, 0)

    def _judge(self, sequences: Sequence[Int32], begin: int = 0) -> _Judged:
        """How the model predicts the transitions from number `begin` on."""
        walked, lanes = [self._walk(codes, self.fresh_state(1)) for codes in sequences], self.settings.batch_size
        before, after = (np.concatenate([one[some] for one in walked]) for some in (slice(0, -2), slice(1, -1)))
        feats, targets = (np.concatenate([one[some] for one in sequences]) for some in (slice(0, -1), slice(1, None)))
        own, ranks = np.zeros((2, len(feats) - begin), np.float32)
        for first in range(begin, len(feats), lanes):
            feat, state = feats[first : first + lanes], before[first : first + lanes]
            rest = (0, lanes - len(feat))
            shares, _ = self.infer(np.pad(feat, rest), np.pad(state, (rest, (0, 0))))
            found, here = shares[np.arange(len(feat)), targets[first : first + lanes]], slice(first - begin, None)
            own[here][:lanes], ranks[here][:lanes] = found, (shares[: len(feat)] >= found[:, None]).sum(axis=1)
        numbers = np.arange(len(feats))
        weights = _likeness(after, after[begin:]) * (numbers < numbers[begin:, None])
        total = weights.sum(axis=1)
        given = (weights * (targets == targets[begin:, None])).sum(axis=1) / np.maximum(total, np.finfo(np.float32).tiny)
        share = self.use.cache_share * (total > 0)
        with np.errstate(divide="ignore"):
            mixed = -np.log((1 - share) * own + share * given)
            return _Judged(-np.log(own), mixed, np.where(ranks <= self.settings.k, 1 / ranks, 0))

    def _walk(self, codes: Int32, state: Float32) -> Float32:
        """The state that is given, and that after each item: (n + 1, H)."""
        states = [state]
        for code in codes:
            states.append(self.recommend_next(int(code), states[-1])[2])
        return np.concatenate(states)

    def _empty_cache(self) -> Tensors:
        cache = {name: self.settings.cache[name] for name in ("cache_states", "cache_items")}
        empty = {name: np.full(spec.shape, -1 if spec.dtype == "int32" else 0, spec.dtype) for name, spec in cache.items()}
        return dict(zip(CACHE_TENSORS, (*empty.values(), self.fresh_state(1)), strict=True))

    def _refresh(self) -> None:
        """Make the state cache anew from the journal."""
        self._cache = self._empty_cache()
        self._catch_up(0)

    def _remember(self, codes: Int32) -> None:
        """Go along a session: each state of it and the item that came next go into the cache, where the oldest leave it."""
        if not len(codes):
            return
        states = self._walk(codes, self._begin)
        first = 0 if self._carries and states[0].any() else 1  # the state before the first item says nothing of it
        added = {"cache_states": states[first:-1], "cache_items": codes[first:]}
        rows = {name: np.concatenate([self._cache[name], new])[-self.settings.journal :] for name, new in added.items()}
        self._cache = {**rows, "cache_state": states[-1:]}

    def _best(self, code: int, state: Float32, hidden: Int32) -> tuple[Int32, Float32]:
        """The best items and their scores, (k,) each, without as many of the `hidden` items as the graph can hide."""
        if "recommend_user" not in self._signatures:
            return self.recommend_next(code, state)[:2]
        hide = np.full(self.settings.journal, -1, np.int32)
        hide[: len(hidden)] = hidden[: len(hide)]
        share = np.array([self._share], np.float32)
        feat = np.array([code], np.int32)
        cache = (self._cache["cache_states"], self._cache["cache_items"])
        return self.recommend_user(feat, state, *cache, share, hide)[:2]

    def _all_scores(self, code: int, state: Float32) -> tuple[Int32, Float32]:
        """All items, best first, and their scores, by `infer`; that of one item says what the probabilities lack."""
        best, scores, after = self.recommend_next(code, state)
        lanes = self.settings.batch_size
        shares = self.infer(np.full(lanes, code, np.int32), np.repeat(state, lanes, axis=0))[0][0]
        level = scores[0] - np.log(shares[best[0]])
        shares = self._mixed(shares, after)
        with np.errstate(divide="ignore"):
            scores = np.log(shares) + level
        order = np.argsort(-shares, kind="stable").astype(np.int32)
        return order, scores[order]

    def _mixed(self, shares: Float32, state: Float32) -> Float32:
        """Probabilities of all items, with a share of what the state cache says (as `recommend_user` does)."""
        if not self._share:
            return shares
        there = self._cache["cache_items"] >= 0
        weights = _likeness(self._cache["cache_states"][there], state)[0]
        cached = np.bincount(self._cache["cache_items"][there], weights / weights.sum(), minlength=len(shares))
        return (1 - self._share) * shares + self._share * cached.astype(np.float32)


def _likeness(states: Float32, queries: Float32) -> Float32:
    """How much each of the states of a cache, (n, H), counts for each of some states, (m, H): (m, n), not yet divided."""
    lengths = np.linalg.norm(states, axis=1) * np.linalg.norm(queries, axis=1, keepdims=True)
    found: Float32 = np.exp(SHARPNESS * (queries @ states.T / np.maximum(lengths, 1e-15) - 1))
    return found
