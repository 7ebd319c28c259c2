"""A recommender of kept sessions on a device: its file, and the calls of an app. numpy alone is needed, not LiteRT.

model = NeighbourModel("vstan.safetensors")
model.recommend([214536502, 214536500], top=5)
model.learn([214536502, 214536500, 214536506])   # one more session; its new items are known from now on
model.save_to("mine.safetensors")                # such a file again

The file (`storage.tensors`, kind `neighbours`) has the sessions, in order of time, and the ids of the items. The index by
item is made when the file is opened: a sort, which takes less time than reading it would. Whole numbers are stored in the
smallest unsigned type that holds them:

    items, places   item codes, and the place of the last click on each, (pairs,); see `SessionIndex`
    sizes, lengths  how many of these, and how many clicks, each session has, (sessions,)
    times           when each session began, in seconds since 1970, (sessions,)
    ids, support    lines of item ids in UTF-8, (bytes,), and clicks of each item in training, (n_items,)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketrec.errors import DatasetError, ModelError
from pocketrec.lite.catalogue import Catalogue, codes_of, wanted_items
from pocketrec.lite.neighbours import NEVER, Neighbourhood, SessionIndex, WeighedNeighbours
from pocketrec.lite.on_device import Recommendation
from pocketrec.schema import Array, Float32, Int64
from pocketrec.storage.space import room
from pocketrec.storage.tensors import read_about, read_tensors, write_tensors

WHAT = "sessions that export --model vstan (or s-knn, v-sknn, stan) wrote"
DO = "pocketrec export --model vstan"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class KnownSessions:
    """What is in a file.

    Attributes:
        method: its name in the literature, such as "VSTAN".
        settings: of the formula.
        own: whether the session's own items may be recommended again.
        items: ids of the items, and their clicks in training.
        index: the sessions.
        protocol: settings of the split and of the sessions that it was made from.
    """

    method: str
    settings: Neighbourhood
    own: bool
    items: Catalogue
    index: SessionIndex
    protocol: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write the file; if that fails, an earlier one is unchanged."""
        index = self.index
        numbers: dict[str, Array] = {
            "items": index.items,
            "places": index.places,
            "sizes": np.diff(index.starts),
            "lengths": index.lengths,
            "times": index.times // 1000,
            "support": self.items.support,
        }
        ids = np.frombuffer("\n".join(self.items.ids).encode(), np.uint8)
        settings = {name: None if value == NEVER else value for name, value in asdict(self.settings).items()}
        about = {"method": self.method, "settings": settings, "own": self.own, "protocol": self.protocol}
        tensors = {name: values.astype(np.min_scalar_type(values.max(initial=0))) for name, values in numbers.items()}
        write_tensors(path, "neighbours", about, {**tensors, "ids": ids})

    @classmethod
    def read(cls, path: Path) -> KnownSessions:
        """Read what `write` wrote.

        Raises:
            ModelError: the file is missing, damaged, or something else.
        """
        file = read_tensors(path, "neighbours", what=WHAT, do=DO)
        try:
            settings: dict[str, Any] = {
                name: NEVER if value is None else value for name, value in file.about["settings"].items()
            }
            ids = bytes(file.tensors["ids"]).decode().split("\n")
            catalogue = Catalogue.of(ids, _numbers(file.tensors["support"]))
            index = _index(file.tensors, len(ids))
            if len(catalogue.support) != len(ids):
                raise ValueError(f"{len(ids)} ids and {len(catalogue.support)} supports")
            method, protocol = str(file.about["method"]), dict(file.about["protocol"])
            return cls(method, _checked(Neighbourhood(**settings)), bool(file.about["own"]), catalogue, index, protocol)
        except (KeyError, TypeError, ValueError, AttributeError, DatasetError) as error:
            raise ModelError(f"{path} cannot be read ({error}).", expected=WHAT, do=DO) from error


def is_neighbour_file(path: Path) -> bool:
    """Whether the header of a file says that it holds kept sessions."""
    return path.suffix == SUFFIX and read_about(path, "neighbours") is not None


class NeighbourModel:
    """A loaded file of kept sessions. What it learns is in memory only: `save_to` writes it. It serves one thread.

    Attributes:
        known: what is in the file.

    Raises:
        ModelError: the file is missing, damaged, or something else.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.known = KnownSessions.read(self.path)
        self._new: list[tuple[list[int], int]] = []
        self._score: WeighedNeighbours | None = None
        self._ids = list(self.known.items.ids)
        self._codes = dict(self.known.items.codes)

    @property
    def items(self) -> Catalogue:
        """The items that it knows."""
        return self.known.items if len(self._ids) == len(self.known.items.ids) else self._learned().items

    def recommend(
        self,
        session: Sequence[object],
        top: int | None = None,
        *,
        exclude: Collection[object] = (),
        allow: Collection[object] | None = None,
        exclude_seen: bool | None = None,
    ) -> list[Recommendation]:
        """Recommend next items for a session, best first; only items of sessions like it, so there may be few.

        Args:
            session: the item ids so far, in order; ids that the model does not know are skipped.
            top: how many items, 20 if not given.
            exclude: ids of items that are left out, such as what is sold out.
            allow: ids of the only items that there may be; None for all.
            exclude_seen: whether the items of the session are left out; as the file says if not given: as was better on
                train_valid.

        Raises:
            ModelError: the model knows none of the items, or `top` is not 1 or more.
        """
        if top is not None and top < 1:
            raise ModelError(f"{top} items are asked for.", expected="1 or more")
        codes = self.codes_of(session)
        scores = self.scores(codes)
        wanted = wanted_items(self._codes, len(scores), exclude, allow)
        if exclude_seen if exclude_seen is not None else not self.known.own:
            wanted[codes] = False
        left = np.flatnonzero(wanted & (scores > 0))
        best = left[np.argsort(-scores[left], kind="stable")[: top or 20]]
        return [Recommendation(self._ids[code], float(scores[code])) for code in best]

    def scores(self, codes: Sequence[int]) -> Float32:
        """Scores of all items after the clicks of a session, (n_items,); own items have theirs like the others."""
        if self._score is None:
            if self._new:
                self.known, self._new = self._learned(), []
            self._score = WeighedNeighbours(self.known.index, self.known.settings)
        return self._score(codes)

    def codes_of(self, session: Sequence[object]) -> list[int]:
        """The codes of item ids; ids that the model does not know are skipped.

        Raises:
            ModelError: the model knows none of them.
        """
        return codes_of(self._codes, session, self.path)

    def learn(self, session: Sequence[object], began: float | None = None) -> None:
        """Learn a session: it is kept. The next `recommend` makes the index again.

        Args:
            session: its item ids in order, 2 or more; new ones are items from now on.
            began: when it began, in seconds since 1970. It never counts as older than those kept, and as old as the newest
                of them if not given: beside a session of today, those of an old log would count for nothing.

        Raises:
            ModelError: the session is shorter, or an id is empty or has more than one line.
        """
        texts = list(map(str, session))
        if len(texts) < 2 or any(not text or "\n" in text or "\r" in text for text in texts):
            raise ModelError(f"The session {texts!r:.80} cannot be learned.", expected="2 ids or more, a line of text each")
        for text in texts:
            if text not in self._codes:
                self._codes[text] = len(self._ids)
                self._ids.append(text)
        newest = self._new[-1][1] if self._new else int(self.known.index.times.max(initial=0))
        self._new.append(([self._codes[text] for text in texts], max(newest, int((began or 0) * 1000))))
        self._score = None

    def save_to(self, path: Path | str) -> None:
        """Write the sessions, and those that were learned, to a file that `NeighbourModel` opens.

        Raises:
            FolderError, SpaceError: it cannot be written; an earlier file is unchanged.
        """
        with room(Path(path).parent, "save"):
            self._learned().write(Path(path))

    def _learned(self) -> KnownSessions:
        """What is known with the sessions that were learned."""
        if not self._new:
            return self.known
        items = np.array([code for codes, _ in self._new for code in codes], np.int32)
        lengths, times = np.array([len(codes) for codes, _ in self._new]), np.array([when for _, when in self._new])
        more = SessionIndex.of(items, lengths, times, len(self._ids))
        known, fields = self.known, ("items", "places", "lengths", "times")
        both = {name: np.concatenate([getattr(known.index, name), getattr(more, name)]) for name in fields}
        starts = np.concatenate([known.index.starts[:-1], known.index.starts[-1] + more.starts])
        support = np.bincount(items, minlength=len(self._ids))
        support[: len(known.items.support)] += known.items.support
        catalogue = Catalogue(tuple(self._ids), support)
        index = SessionIndex(starts=starts, n_items=len(self._ids), **both)
        return KnownSessions(known.method, known.settings, known.own, catalogue, index, known.protocol)


def _index(tensors: dict[str, Array], n_items: int) -> SessionIndex:
    """The sessions of a file, once their numbers fit each other."""
    items, places, sizes, lengths, times = (
        _numbers(tensors[name]) for name in ("items", "places", "sizes", "lengths", "times")
    )
    if not (len(items) == len(places) == sizes.sum() and len(sizes) == len(lengths) == len(times)):
        raise ValueError("its tensors are not of one length")
    if items.max(initial=0) >= n_items or places.max(initial=0) > np.iinfo(np.uint16).max or (lengths < sizes).any():
        raise ValueError("an item, a place or a length is larger than can be")
    if (sizes < 1).any() or (np.diff(times) < 0).any():
        raise ValueError("a session is empty, or not in the order of time")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return SessionIndex(
        items.astype(np.int32), places.astype(np.uint16), starts, lengths.astype(np.int32), times * 1000, n_items
    )


def _numbers(values: Array) -> Int64:
    if values.dtype.kind != "u" or values.ndim != 1 or values.max(initial=0) >= 2**40:
        raise ValueError("a tensor is not a row of whole numbers")
    return values.astype(np.int64)


def _checked(settings: Neighbourhood) -> Neighbourhood:
    """Refuse settings that cannot be."""
    lengths = (settings.inside, settings.recency, settings.match, settings.near)
    rest = (settings.norm, settings.idf, settings.again)
    whole = all(isinstance(one, int) and one > 0 for one in (settings.neighbours, settings.newest))
    fits = whole and settings.shape in ("exponential", "linear")
    if not (fits and all(length > 0 for length in lengths) and all(0 <= one < math.inf for one in rest)):
        raise ValueError(f"its settings are {settings!r:.200}")
    return settings
