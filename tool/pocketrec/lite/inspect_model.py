"""`pocketrec inspect MODEL`: the settings, ids and signatures of a model file, or what kept sessions hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pocketrec.lite.bundle import read_bundle
from pocketrec.lite.contract import METADATA
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.frozen import FrozenCard, read_ids
from pocketrec.lite.neighbour_model import DO, SUFFIX, WHAT, KnownSessions
from pocketrec.lite.neighbours import NEVER
from pocketrec.storage.tensors import read_tensors

GRU4REC = "gru4rec"


@dataclass(frozen=True)
class ModelReport:
    """What is in a model file; `version` and `protocol` as in `Card`.

    Attributes:
        model: the file.
        bytes: its size.
        kind: gru4rec, ncf or dnn.
        runtime: the first TensorFlow Lite that runs it; "" where the file does not say so.
        settings: what the network is made of, and what was fixed at export, by name; `learn_rate` and so on are what an app
            calls `learn` with, `user_seen` and so on how it uses the model for its user.
        items: hash of the ids of its items; "" where the file has none, and so for `users`.
        users: hash of the ids of its users.
        first_items: the ids of the items with codes 0, 1 and 2.
        first_users: the ids of the users with codes 0, 1 and 2.
        signatures: signature name -> "inputs -> outputs" with dtypes and shapes; a length of -1 is the app's to choose.
    """

    model: Path
    bytes: int
    kind: str
    runtime: str
    version: str
    settings: Mapping[str, Any]
    protocol: Mapping[str, Any]
    items: str
    users: str
    first_items: tuple[str, ...]
    first_users: tuple[str, ...]
    signatures: Mapping[str, str]


@dataclass(frozen=True)
class KeptSessionsReport:
    """What is in a file of kept sessions.

    Attributes:
        model: the file.
        bytes: its size.
        kind: neighbours.
        method: its name in the literature, such as "VSTAN".
        n_items: how many items there are.
        items: hash of their ids.
        first_items: the ids of the items with codes 0, 1 and 2.
        sessions: how many there are.
        clicks: how many clicks they have.
        began: when the first and the last of them began, in UTC, as in ISO 8601; none if there are no sessions.
        settings: of the formula, a length of None where nothing falls; `seen`: show or hide the session's own items.
        protocol: settings of the split and of the sessions that it was made from.
        tensors: name -> "dtype[length]".
    """

    model: Path
    bytes: int
    kind: str
    method: str
    n_items: int
    items: str
    first_items: tuple[str, ...]
    sessions: int
    clicks: int
    began: tuple[str, ...]
    settings: Mapping[str, Any]
    protocol: Mapping[str, Any]
    tensors: Mapping[str, str]


def inspect_model(model: Path | str) -> ModelReport | KeptSessionsReport:
    """Read what a model file says about itself; LiteRT is not needed.

    Raises:
        ModelError: the file is damaged, or was not made by pocketrec.
    """
    path = Path(model)
    if path.suffix == SUFFIX:
        return _inspect_sessions(path)
    file = read_model(path)
    kind, ids = _kind(file.metadata.get(METADATA, b"")), None
    if kind == GRU4REC:
        card: Any
        card, ids = read_bundle(path)
        settings, protocol, users, signatures = asdict(card.settings), card.protocol, "", card.signatures
        if "learn" in signatures:
            settings |= {f"learn_{name}": amount for name, amount in asdict(card.learning).items()}
        if "recommend_user" in signatures:
            settings |= {f"user_{name}": one for name, one in asdict(card.use).items()}
    else:
        plain: Any = SimpleNamespace  # the settings are shown as they are
        card = FrozenCard.from_json(file.metadata[METADATA], kind, plain, plain)
        ids = read_ids(path, card)
        settings = vars(card.settings) | (vars(card.fixed) if card.fixed else {})
        protocol, users, signatures = {}, card.users, file.signatures
    shown = {
        name: " -> ".join(", ".join(f"{key} {spec}" for key, spec in side.items()) or "nothing" for side in sides)
        for name, sides in signatures.items()
    }
    first_items, first_users = (ids.ids[:3], ids.users[:3]) if ids else ((), ())
    return ModelReport(
        path, path.stat().st_size, kind, card.runtime, card.version, settings, protocol, card.items, users,
        first_items, first_users, shown,
    )  # fmt: skip


def _inspect_sessions(path: Path) -> KeptSessionsReport:
    known = KnownSessions.read(path)
    index, ids = known.index, known.items.ids
    settings = {name: None if value == NEVER else value for name, value in asdict(known.settings).items()}
    began = (index.times[[0, -1]] if len(index) else index.times).astype("datetime64[ms]").astype("datetime64[m]")
    tensors = read_tensors(path, "neighbours", what=WHAT, do=DO).tensors
    return KeptSessionsReport(
        path, path.stat().st_size, "neighbours", known.method, len(ids), known.items.hash, ids[:3],
        len(index), int(index.lengths.sum()), tuple(map(str, began)),
        settings | {"seen": "show" if known.own else "hide"}, known.protocol,
        {name: f"{values.dtype}[{len(values)}]" for name, values in sorted(tensors.items())},
    )  # fmt: skip


def _kind(card: bytes) -> str:
    """Which kind of model a card is of; what cannot be read is left to what reads the card of a GRU4Rec."""
    try:
        kind = json.loads(card).get("kind", GRU4REC)
    except (ValueError, AttributeError, RecursionError):
        return GRU4REC
    return kind if kind in ("ncf", "dnn") else GRU4REC
