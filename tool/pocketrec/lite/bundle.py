"""What a GRU4Rec .tflite says about itself: its card, its items, its calls and their memory. LiteRT is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pocketrec.errors import ModelError
from pocketrec.lite.catalogue import Catalogue, read_catalogue
from pocketrec.lite.contract import METADATA, STEP, Card, ModelSpec, signature_faults
from pocketrec.lite.first_run import LEAST_MEMORY, Call
from pocketrec.lite.flatbuffer import ModelFile, read_model


def read_bundle(path: Path) -> tuple[Card, Catalogue]:
    """The card and the items of a model file; LiteRT is not needed.

    Raises:
        ModelError: the file is damaged, was not made by pocketrec, or its card belongs to other items.
    """
    model = read_model(path)
    card, items = read_card(model, path), read_catalogue(path)
    if items.hash != card.items or len(items.ids) != card.settings.n_items:
        raise ModelError(
            f"The items in {path} are not those it was exported for.",
            expected=f"{card.settings.n_items:,} with the hash {card.items}, not {len(items.ids):,} with {items.hash}",
            do="pocketrec export",
        )
    if faults := signature_faults(card.signatures, model.signatures):
        raise ModelError(
            f"{path} does not have the signatures of its settings: {faults[0]}.",
            expected=f"{', '.join(card.signatures)}, with the shapes that the settings in the file require",
            do="pocketrec export",
        )
    return card, items


def memory_of(settings: ModelSpec) -> int:
    """Bytes that the calls of a whole model stay below, by far: numbers for weights, slots, gradients and their copies, and
    for the scores of a step. A model `none` with Adam, of 12,000 items and 512 lanes, took 1.1 of these 2.0 GB.
    """
    scores = settings.batch_size * (settings.n_items + settings.negatives)
    return LEAST_MEMORY + 4 * (48 * settings.parameters + 32 * scores)


def calls_of(card: Card) -> list[Call]:
    """Calls of all signatures of a model, with the first item, the last one and some between, in several lanes."""
    settings = card.settings
    last, state = settings.n_items - 1, [0.5, -0.25, 0.0]
    fills: dict[str, Sequence[float]] = {
        "feat": [last, 0, last // 2],
        "target": [0, last, -1, last // 3],
        "negatives": [last, 0, last // 2, 0],
        "initstate": state,
        "top_k": [settings.k],
        STEP: [3],
        **{name: [one] for name, one in asdict(card.learning).items()},
        "cache_states": state,
        "cache_items": [last, -1, 0],
        "cache_share": [0.5],
        "hide": [0, -1, last],
        **{name: [0.01, -0.02, 0.005] for name in settings.weights},
    }
    once = {
        name: Call(name, {key: (spec, fills.get(key, [0])) for key, spec in signature.inputs.items()})
        for name, signature in card.signatures.items()
    }
    order = (
        "recommend",
        "recommend_user",
        "infer",
        "eval",
        "save",
        "train",
        "train_one",
        "learn",
        "train_sampled",
        "restore",
    )
    return 2 * [once[name] for name in order if name in once]  # what a call has spoiled is seen in a later one


def read_card(model: ModelFile, path: Path) -> Card:
    """The card of a model file.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    if METADATA not in model.metadata:
        raise ModelError(
            f"{path} has no metadata entry {METADATA!r}.",
            expected="a model of pocketrec, which has its settings in the file",
            do="pocketrec export",
        )
    return Card.from_json(model.metadata[METADATA])
