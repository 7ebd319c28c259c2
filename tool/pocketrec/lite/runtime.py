"""A GRU4Rec .tflite at work, with LiteRT and numpy alone: the calls an app makes, in Python.

model = OnDeviceModel(Path("gru4rec_bs512.tflite"))
state = model.fresh_state()
for feat, target, mask in zip(feats, targets, masks):
loss, state = model.train(feat, target, mask[:, None] * state)
model.save_to("weights.safetensors")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.errors import ModelError
from pocketrec.lite.catalogue import Catalogue, read_catalogue
from pocketrec.lite.contract import METADATA, Card
from pocketrec.lite.flatbuffer import ModelFile, read_model
from pocketrec.lite.interpreter import open_interpreter
from pocketrec.lite.quiet import native_stderr_closed
from pocketrec.storage.space import room
from pocketrec.storage.tensors import Tensors, read_tensors, write_tensors

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Metrics:
    """Means over the lanes that have a target; 0 where none has.

    Attributes:
        loss: cross-entropy, in nats.
        recall: share of lanes whose target is among the first k.
        mrr: mean of 1 / rank, 0 beyond k. Ties are conservative: rank = items that score at least the target's score.
    """

    loss: float
    recall: float
    mrr: float


@dataclass(frozen=True)
class Recommendation:
    """An item to show: its id as text, and its score (a logit: higher is better)."""

    item: str
    score: float


class OnDeviceModel:
    """A model file, loaded. It keeps learning until it is thrown away; `save` and `restore` carry it over.

    Args:
        path: a .tflite that `pocketrec export` made.
        threads: of the interpreter.

    Attributes:
        card: what the file says about itself.
        items: the ids of its items.

    Raises:
        MissingExtraError: LiteRT is not installed.
        ModelError: the file is damaged, is not pocketrec's, or LiteRT cannot run it.
    """

    def __init__(self, path: Path | str, threads: int = 2) -> None:
        self.path = Path(path)
        self.card, self.items = read_bundle(self.path)
        self.settings = self.card.settings
        self._interpreter = open_interpreter(self.path, threads, do="pocketrec export")
        self._runners: dict[str, Any] = {}

    def recommend(self, session: Sequence[object], top: int | None = None) -> list[Recommendation]:
        """What may come next, best first.

        Args:
            session: the item ids of a session so far, in order, as in the log; ids the model does not know are left out.
            top: how many; at most the number fixed at export, which is taken if not given.

        Raises:
            ModelError: the model knows none of the items, or returns fewer than asked for.
        """
        if top is not None and not 1 <= top <= self.settings.k:
            raise ModelError(f"{top} items are asked for.", expected=f"1 to {self.settings.k}, fixed when it was exported")
        items, scores = self.follow(self.codes_of(session))
        return [
            Recommendation(self.items.ids[item], float(score))
            for item, score in zip(items[:top], scores[:top], strict=True)
        ]

    def follow(self, codes: Codes) -> tuple[Codes, Floats]:
        """The signature `recommend` for one item of a session after the other: the last one's items and scores, (k,)."""
        state = self.fresh_state(1)
        for code in codes:
            items, scores, state = self.recommend_next(code, state)
        return items, scores

    def recommend_next(self, code: int, state: Floats) -> tuple[Codes, Floats, Floats]:
        """One more item of one session: the best next items and their scores, (k,), and the state, (1, H)."""
        feat = np.array([code], np.int32)
        self._check_codes(feat=feat)
        found = self._run("recommend", feat=feat, initstate=state)
        return found["items"], found["scores"], found["state"]

    def codes_of(self, session: Sequence[object]) -> Codes:
        """The codes of item ids; unknown ones are left out.

        Raises:
            ModelError: none is known.
        """
        codes = [self.items.codes[text] for text in map(str, session) if text in self.items.codes]
        if not codes:
            raise ModelError(
                f"{self.path} knows none of the items {', '.join(map(str, session)) or '(there are none)'}.",
                expected=f"ids of its {len(self.items.ids):,} items, {self.items.ids[0]} for one",
                do=f"pocketrec inspect {self.path}",
            )
        return np.array(codes, np.int32)

    def learn(self, session: Sequence[object]) -> list[float]:
        """Learn from one session: a step of `train_one` a click that has a next one; the losses before each, in nats."""
        codes, state, losses = self.codes_of(session), self.fresh_state(1), []
        for feat, target in zip(codes[:-1, None], codes[1:, None], strict=True):
            loss, state = self.train_one(feat, target, state)
            losses.append(loss)
        return losses

    def check_items(self, item_hash: str, what: object) -> None:
        """Refuse what was made for other items.

        Raises:
            ModelError: `item_hash` (a `Catalogue.hash`) is not the model's.
        """
        if item_hash != self.card.items:
            raise ModelError(
                f"{what} is made for other items than {self.path}.",
                expected=f"item hash {self.card.items}; it has {item_hash}",
                do="pocketrec export, with the dataset that the batches are from",
            )

    def fresh_state(self, lanes: int | None = None) -> Floats:
        """The state before the first item of a session: zeros, (lanes, H); B lanes if not given."""
        return np.zeros((lanes or self.settings.batch_size, self.settings.hidden_size), np.float32)

    def train(self, feat: Codes, target: Codes, state: Floats) -> tuple[float, Floats]:
        """Learn from one step of B lanes.

        Args:
            feat: the current item of each lane, int32 (B,).
            target: the next one; -1 where there is none.
            state: float32 (B, H), rows of lanes that begin a session already zero.

        Returns:
            The loss before the update, its sum over the lanes divided by B, and the state after the items.
        """
        return self._learn("train", feat=feat, target=target, initstate=state)

    def train_one(self, feat: Codes, target: Codes, state: Floats) -> tuple[float, Floats]:
        """`train` for one session: (1,), (1,) and (1, H)."""
        return self._learn("train_one", feat=feat, target=target, initstate=state)

    def train_sampled(self, feat: Codes, target: Codes, state: Floats, negatives: Codes) -> tuple[float, Floats]:
        """`train` with the batch's targets and `negatives`, int32 (S,), as the only candidates; see `Sampler`."""
        return self._learn("train_sampled", feat=feat, target=target, initstate=state, negatives=negatives)

    def _learn(self, signature: str, **inputs: Any) -> tuple[float, Floats]:
        self._check_codes(**{name: codes for name, codes in inputs.items() if name != "initstate"})
        found = self._run(signature, **inputs)
        return float(found["loss"]), found["state"]

    def infer(self, feat: Codes, state: Floats) -> tuple[Floats, Floats]:
        """Probabilities of the next item, (B, n_items), and the state after the items."""
        self._check_codes(feat=feat)
        found = self._run("infer", feat=feat, initstate=state)
        return found["output"], found["state"]

    def evaluate(self, feat: Codes, target: Codes, state: Floats, top_k: int = 20) -> Metrics:
        """Loss, Recall@k and MRR@k of one step; nothing is learned."""
        self._check_codes(feat=feat, target=target)
        found = self._run("eval", feat=feat, target=target, initstate=state, top_k=np.int32(top_k))
        return Metrics(float(found["loss"]), float(found["recall"]), float(found["mrr"]))

    def save(self) -> Tensors:
        """Weights, optimizer slots and step by name, as copies."""
        return self._run("save")

    def restore(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Continue from what `save` returned, bit for bit.

        Raises:
            ModelError: a tensor is missing, or has another shape or dtype.
        """
        for name, spec in self.settings.state.items():
            found = tensors.get(name)
            if found is None or found.shape != spec.shape or found.dtype != spec.dtype:
                what = "missing" if found is None else f"{found.dtype}{list(found.shape)}"
                raise ModelError(
                    f"The tensor {name!r} to restore is {what}.", expected=str(spec), do="use what save() returned"
                )
        self._run("restore", **{name: tensors[name] for name in self.settings.state})

    def save_to(self, path: Path | str) -> None:
        """Write what `save` returns to one file (see `storage.tensors`); it comes into being whole or not at all.

        Raises:
            FolderError: it cannot be written.
            SpaceError: the disk is full.
        """
        about = {"items": self.card.items, "settings": asdict(self.settings)}
        with room(Path(path).parent, "save_to"):
            write_tensors(Path(path), "learned", about, self.save())

    def restore_from(self, path: Path | str) -> None:
        """`restore` from a file of `save_to`.

        Raises:
            ModelError: the file is missing or damaged, or belongs to a model with other items or settings.
        """
        file = read_tensors(
            Path(path), "learned", what="a file that save_to wrote", do="save_to, on a model that has learned"
        )
        for name, own in (("items", self.card.items), ("settings", asdict(self.settings))):
            if file.about.get(name) != own:
                raise ModelError(
                    f"{path} belongs to another model than {self.path}: its {name} are {file.about.get(name)}.",
                    expected=f"the {name} of the model: {own}",
                    do="the model file that it was saved with",
                )
        self.restore(file.tensors)

    def _run(self, signature: str, **inputs: Any) -> Tensors:
        if signature not in self.settings.signatures:
            raise ModelError(
                f"{self.path} has no signature {signature!r}: its weights are stored as {self.settings.storage}.",
                expected="a model that can be trained",
                do="pocketrec export --weights float32 (or float16)",
            )
        try:
            if signature in self._runners:
                found: Tensors = self._runners[signature](**inputs)
            else:
                with native_stderr_closed():  # the delegate announces itself when memory is first allocated
                    self._runners[signature] = self._interpreter.get_signature_runner(signature)
                    found = self._runners[signature](**inputs)
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{self.path}: the signature {signature!r} failed: {error}",
                expected="a model and inputs that fit each other",
                do=f"pocketrec verify --model {self.path}",
            ) from error
        return found

    def _check_codes(self, **lanes: Codes) -> None:
        for name, codes in lanes.items():
            lowest = -1 if name == "target" else 0
            if codes.size and not (lowest <= codes.min() and codes.max() < self.settings.n_items):
                raise ModelError(
                    f"{name} holds item codes from {codes.min()} to {codes.max()}.",
                    expected=f"{lowest} to {self.settings.n_items - 1}",
                    do="use the item index the model was exported with",
                )


class LiteScorer:
    """A model's `infer` on lanes of sessions, for `evaluation`: scores are probabilities.

    Args:
        model: at the beginning of all lanes' sessions.
    """

    def __init__(self, model: OnDeviceModel) -> None:
        self.name, self.lanes = f"{model.path.name} (LiteRT)", model.settings.batch_size
        self._model, self._state = model, model.fresh_state()

    def scores(self, feat: Codes, mask: Codes) -> Floats:
        """Of all items after one more item of each lane, (lanes, n_items)."""
        found, self._state = self._model.infer(feat, mask[:, None].astype(np.float32) * self._state)
        return found


def read_bundle(path: Path) -> tuple[Card, Catalogue]:
    """What a model file says about itself, and its items; without LiteRT.

    Raises:
        ModelError: the file is damaged, is not pocketrec's, or its card belongs to other items.
    """
    card, items = read_card(read_model(path), path), read_catalogue(path)
    if items.hash != card.items or len(items.ids) != card.settings.n_items:
        raise ModelError(
            f"The items in {path} are not those it was exported for.",
            expected=f"{card.settings.n_items:,} with the hash {card.items}, not {len(items.ids):,} with {items.hash}",
            do="pocketrec export",
        )
    return card, items


def read_card(model: ModelFile, path: Path) -> Card:
    """The settings a model file carries.

    Raises:
        ModelError: it carries none, or ones that cannot be read.
    """
    if METADATA not in model.metadata:
        raise ModelError(
            f"{path} has no metadata entry {METADATA!r}.",
            expected="a model of pocketrec, which carries its settings",
            do="pocketrec export",
        )
    return Card.from_json(model.metadata[METADATA])
