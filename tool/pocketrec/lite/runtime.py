"""Runs a GRU4Rec .tflite with LiteRT and numpy only: its signatures. What an app calls is `lite.on_device`.

model = LiteModel("gru4rec_bs512.tflite")
state = model.fresh_state()
for feat, target, mask in zip(feats, targets, masks):
    loss, state = model.train(feat, target, mask[:, None] * state)
model.save_to("weights.safetensors")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.errors import ModelError
from pocketrec.lite.bundle import calls_of, memory_of, read_bundle
from pocketrec.lite.catalogue import codes_of
from pocketrec.lite.contract import LAST_STEP, STEP, TensorSpec
from pocketrec.lite.first_run import try_calls
from pocketrec.lite.interpreter import Runner
from pocketrec.schema import Float32, Int32
from pocketrec.storage.space import room
from pocketrec.storage.tensors import TensorFile, Tensors, read_tensors, write_tensors


@dataclass(frozen=True)
class Metrics:
    """Means over the lanes that have a target; 0 if no lane has one.

    Attributes:
        loss: cross-entropy, in nats.
        recall: share of lanes whose target has rank k or better.
        mrr: mean of 1 / rank, where ranks beyond k count as 0. Rank = number of items that score at least as high as the
            target, itself included.
    """

    loss: float
    recall: float
    mrr: float


class LiteModel:
    """A loaded model file, and its signatures as methods. What it learns is in memory only, until `save_to` writes it.

    A lane is one of B sessions that are computed side by side; a state is the GRU's memory of a session, H numbers.

    Args:
        path: a .tflite that `pocketrec export` made.
        threads: how many threads the interpreter uses.
        trusted: open the file in this process at once, as an app does that trusts its own file. Otherwise one that no
            manifest beside it describes is first tried in a process of its own, which a damaged file may kill
            (`lite.first_run`); opening it for the first time takes 0.3 s longer for a model of 40 items and 4 lanes, 4 s
            longer for one of 12,000 items and 512 lanes.

    Attributes:
        card: the settings in the file.
        items: the items of the model.

    Raises:
        MissingExtraError: LiteRT is not installed.
        ModelError: the file is damaged, was not made by pocketrec, or LiteRT cannot run it.
    """

    def __init__(self, path: Path | str, threads: int = 2, *, trusted: bool = False) -> None:
        self.path = Path(path)
        self.card, self.items = read_bundle(self.path)
        self.settings = self.card.settings
        if not trusted:
            memory = memory_of(self.settings)
            try_calls(self.path, calls_of(self.card), threads, do="pocketrec export", memory=memory)
        self._signatures = self.card.signatures
        self._threads = threads
        self._runner = self._as_shipped()

    def _as_shipped(self) -> Runner:
        """The file opened anew, without anything that was learned."""
        check = f"pocketrec verify --model {self.path}"
        return Runner(self.path, self._threads, self._signatures, do="pocketrec export", check=check)

    def recommend_next(self, code: int, state: Float32) -> tuple[Int32, Float32, Float32]:
        """Go one item further in one session: the best next items and their scores, (k,), and the new state, (1, H)."""
        return self._best_of("recommend", feat=np.array([code], np.int32), initstate=state)

    def recommend_user(
        self, feat: Int32, state: Float32, cache_states: Float32, cache_items: Int32, cache_share: Float32, hide: Int32
    ) -> tuple[Int32, Float32, Float32]:
        """`recommend_next` with a state cache and without hidden items, see `ModelSpec.cache`.

        Where there are fewer than k others, hidden items come last; their scores are below `HIDDEN / 2`.
        """
        cache = {"cache_states": cache_states, "cache_items": cache_items, "cache_share": cache_share, "hide": hide}
        return self._best_of("recommend_user", feat=feat, initstate=state, **cache)

    def _best_of(self, signature: str, **inputs: Any) -> tuple[Int32, Float32, Float32]:
        found = self._run(signature, **inputs)
        if not 0 <= found["items"].min() <= found["items"].max() < self.settings.n_items:
            raise ModelError(
                f"{self.path}: a recommended item is {found['items'].tolist()}.",
                expected=f"0 to {self.settings.n_items - 1}; the file is damaged, or was changed",
                do=f"pocketrec verify --model {self.path}",
            )
        return found["items"], found["scores"], found["state"]

    def codes_of(self, session: Sequence[object]) -> Int32:
        """The codes of item ids; ids that the model does not know are skipped.

        Raises:
            ModelError: the model knows none of them.
        """
        return np.array(codes_of(self.items.codes, session, self.path), np.int32)

    def check_items(self, item_hash: str, what: object) -> None:
        """Check that `what` is made for the items of this model.

        Raises:
            ModelError: `item_hash`, a `Catalogue.hash`, is not that of the model.
        """
        if item_hash != self.card.items:
            raise ModelError(
                f"{what} is made for other items than {self.path}.",
                expected=f"item hash {self.card.items}; it has {item_hash}",
                do="pocketrec export, with the dataset that the batches come from",
            )

    def fresh_state(self, lanes: int | None = None) -> Float32:
        """The state before the first item of a session: zeros, (lanes, H). There are B lanes if `lanes` is not given."""
        return np.zeros((lanes or self.settings.batch_size, self.settings.hidden_size), np.float32)

    def train(self, feat: Int32, target: Int32, state: Float32) -> tuple[float, Float32]:
        """Learn from one step of B lanes.

        Args:
            feat: code of the current item of each lane, (B,).
            target: code of the next item of each lane, (B,); -1 where there is none.
            state: state of each lane, (B, H); zeros for a lane that begins a session.

        Returns:
            The loss before the update (sum over the lanes divided by B, in nats), and the new state, (B, H).
        """
        return self._learn("train", feat=feat, target=target, initstate=state)

    def train_one(self, feat: Int32, target: Int32, state: Float32) -> tuple[float, Float32]:
        """`train` for one session: the shapes are (1,), (1,) and (1, H)."""
        return self._learn("train_one", feat=feat, target=target, initstate=state)

    def learn_one(
        self,
        feat: Int32,
        target: Int32,
        state: Float32,
        *,
        rate: float | None = None,
        share: float | None = None,
        pull: float | None = None,
    ) -> tuple[float, Float32]:
        """`train_one` as a user's own clicks need it: weighed as in a batch, and held near the shipped weights.

        Args:
            feat: as in `train_one`.
            target: as in `train_one`.
            state: as in `train_one`.
            rate: size of the optimizer's step; that of the file (`card.learning`) if not given, and so for the others.
            share: what the click's gradient is multiplied by.
            pull: share of the way back to its shipped value that each weight goes after the step, 0 to 1.

        Raises:
            ModelError: the file is of an earlier pocketrec, or cannot learn.
            SettingsError: one of the amounts cannot be.
        """
        given = {"rate": rate, "share": share, "pull": pull}
        chosen = replace(self.card.learning, **{name: one for name, one in given.items() if one is not None})
        amounts = {name: np.array([one], np.float32) for name, one in asdict(chosen).items()}
        return self._learn("learn", feat=feat, target=target, initstate=state, **amounts)

    def train_sampled(self, feat: Int32, target: Int32, state: Float32, negatives: Int32) -> tuple[float, Float32]:
        """`train` with fewer items to score: the targets of the batch, and `negatives`, (S,), drawn by a `Sampler`."""
        return self._learn("train_sampled", feat=feat, target=target, initstate=state, negatives=negatives)

    def _learn(self, signature: str, **inputs: Any) -> tuple[float, Float32]:
        found = self._run(signature, **inputs)
        return float(found["loss"]), found["state"]

    def infer(self, feat: Int32, state: Float32) -> tuple[Float32, Float32]:
        """Probabilities of the next item, (B, n_items), and the new state, (B, H)."""
        found = self._run("infer", feat=feat, initstate=state)
        return found["output"], found["state"]

    def evaluate(self, feat: Int32, target: Int32, state: Float32, top_k: int = 20) -> Metrics:
        """Loss, Recall@k and MRR@k of one step, k = `top_k`; nothing is learned. Arguments as in `train`."""
        found = self._run("eval", feat=feat, target=target, initstate=state, top_k=np.int32(top_k))
        return Metrics(float(found["loss"]), float(found["recall"]), float(found["mrr"]))

    def save(self) -> Tensors:
        """Copies of the weights, the optimizer's slots and the step, by name; they may be of any value."""
        return self._run(
            "save", **{name: np.zeros(spec.shape, spec.dtype) for name, spec in self._signatures["save"][0].items()}
        )

    def restore(self, tensors: Tensors) -> None:
        """Go back to what `save` returned, bit for bit.

        Raises:
            ModelError: a tensor is missing, has the wrong shape or dtype, or numbers that are not finite.
        """
        for name, spec in self.settings.state.items():
            found = TensorSpec.of(tensors[name]) if name in tensors else "missing"
            if found != spec:
                raise ModelError(
                    f"The tensor {name!r} to restore is {found}.", expected=str(spec), do="use what save() returned"
                )
        self._check_finite(tensors, "to restore ")
        self._run("restore", **{name: tensors[name] for name in self.settings.state})

    def save_to(self, path: Path | str) -> None:
        """Write what `save` returns to a file (see `storage.tensors`), completely or not at all.

        Raises:
            FolderError: the file cannot be written.
            SpaceError: the disk is full.
            ModelError: the model has numbers that are not finite; an earlier file stays.
        """
        self._save_to(Path(path), self.save())

    def _save_to(self, path: Path, tensors: Tensors, about: Mapping[str, Any] = {}) -> None:
        self._check_finite(tensors, "")
        about = {**about, "items": self.card.items, "settings": asdict(self.settings)}
        with room(path.parent, "save_to"):
            write_tensors(path, "learned", about, tensors)

    def restore_from(self, path: Path | str) -> None:
        """Restore from a file that `save_to` wrote.

        Raises:
            ModelError: the file is missing or damaged, or belongs to a model with other items or settings.
        """
        file = self._read_learned(Path(path))
        if not self._fits(file.about):
            names = ("items", "settings")
            raise ModelError(
                f"{path} belongs to another model than {self.path}: {[file.about.get(name) for name in names]}.",
                expected=f"the items and settings of the model: {[self.card.items, asdict(self.settings)]}",
                do="the model file that it was saved with",
            )
        self.restore(file.tensors)

    @staticmethod
    def _read_learned(path: Path) -> TensorFile:
        return read_tensors(path, "learned", what="a file that save_to wrote", do="save_to, on a model that has learned")

    def _fits(self, about: Mapping[str, Any]) -> bool:
        """Whether a file that `save_to` wrote belongs to a model of these items and settings; earlier ones had fewer."""
        own, found = asdict(self.settings), about.get("settings")
        return about.get("items") == self.card.items and isinstance(found, dict) and {**own, **found} == own

    def _check_finite(self, tensors: Tensors, what: str) -> None:
        wrong = next((name for name in self.settings.state if not np.isfinite(tensors.get(name, 0)).all()), "")
        if wrong:
            raise ModelError(
                f"The tensor {wrong!r} {what}has numbers that are not finite.",
                expected="finite numbers",
                do="go back to what was saved before",
            )
        if not 0 <= (step := int(tensors.get(STEP, 0))) <= LAST_STEP:
            raise ModelError(
                f"The count {STEP!r} {what}is {step}.", expected=f"0 to {LAST_STEP}", do="use what save() returned"
            )

    def _run(self, signature: str, **inputs: Any) -> Tensors:
        if signature not in self._signatures:
            if self.settings.trainable:
                raise ModelError(
                    f"{self.path} has no signature {signature!r}: it is of an earlier pocketrec.",
                    expected="a model of this version",
                    do="pocketrec export, with --from the checkpoint that it was made from",
                )
            raise ModelError(
                f"{self.path} has no signature {signature!r}: its weights are stored as {self.settings.storage}.",
                expected="a model that can learn",
                do="pocketrec export --weights float32 (or float16)",
            )
        self._check_codes(inputs)
        return self._runner.run(signature, inputs)

    def _check_codes(self, inputs: Mapping[str, Any]) -> None:
        """Refuse item codes outside the tables: LiteRT would read memory that is not theirs."""
        for name, lowest in (("feat", 0), ("target", -1), ("negatives", 0), ("cache_items", -1), ("hide", -1)):
            codes = inputs.get(name)
            if codes is not None and codes.size and not (lowest <= codes.min() and codes.max() < self.settings.n_items):
                raise ModelError(
                    f"{name} holds item codes from {codes.min()} to {codes.max()}.",
                    expected=f"{lowest} to {self.settings.n_items - 1}",
                    do="use the item index the model was exported with",
                )


class LiteScorer:
    """Scores next items by a model's `infer`, for `evaluate`: a score is a probability. It begins with fresh states."""

    def __init__(self, model: LiteModel) -> None:
        self.name, self.lanes = f"{model.path.name} (LiteRT)", model.settings.batch_size
        self._model, self._state = model, model.fresh_state()

    def scores(self, feat: Int32, mask: Int32) -> Float32:
        """Scores of all items after one more item in each lane, (lanes, n_items); see `gru4rec.scoring.Scorer`."""
        found, self._state = self._model.infer(feat, mask[:, None].astype(np.float32) * self._state)
        return found
