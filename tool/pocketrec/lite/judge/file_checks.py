"""The rungs that need no interpreter: they look at the contents of the file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pocketrec.lite.catalogue import read_catalogue
from pocketrec.lite.contract import signature_faults
from pocketrec.lite.flatbuffer import ModelFile, read_model
from pocketrec.lite.judge.case import Case
from pocketrec.lite.judge.ladder import NotAsked, settle
from pocketrec.lite.runtimes import MIN_RUNTIME, above, unknown
from pocketrec.storage.files import content_hash
from pocketrec.storage.manifest import read_records


def check_file(case: Case) -> str:
    """The flatbuffer is undamaged (every offset is inside the file), and so is the list of items behind it."""
    case.file = read_model(case.path)
    items = read_catalogue(case.path)
    return f"{case.file.size:,} bytes, {len(case.file.tensors)} graphs, {len(items.ids):,} item ids"


def check_record(case: Case) -> str:
    """The file is the one that the manifest in its folder describes, and was made for the current item index."""
    records = [r for r in read_records(case.path.parent).values() if case.path.name in r.files]
    if not records:
        raise NotAsked(f"no manifest in its folder describes {case.path.name}")
    record, faults = records[0], []
    written, found = record.files[case.path.name].xxh3, content_hash(case.path)
    if written != found:
        faults.append(f"XXH3-128 is {found}, export wrote {written}: the file was changed afterwards")
    items = content_hash(case.dataset.items)
    if record.inputs.get("items") != items:
        faults.append(f"exported for another item index: {record.inputs.get('items')}; {case.dataset.items} is {items}")
    settle(faults)
    return f"XXH3-128 {found}"


def check_operators(case: Case) -> str:
    """All operators are builtins: Select TF (Flex) and custom ones need a library that phones do not have."""
    model = case.read()
    settle([f"{'Select TF' if name.startswith('Flex') else 'custom'} operator {name}" for name in model.foreign_operators])
    return f"{len(model.operators)} kinds of builtin operators"


def check_clients(case: Case) -> str:
    """Every runtime can call it: Java wants inputs, CompiledModel and LiteRT.js fixed shapes, some the first graph only."""
    model = case.read()
    settle(client_faults(model, list(model.signatures), "recommend"))
    return f"TensorFlow Lite {case.card.runtime} or later"


def client_faults(model: ModelFile, fixed: Collection[str], first: str) -> list[str]:
    """What keeps some runtimes from calling a model, a line for each fault.

    Args:
        model: the file.
        fixed: the signatures whose shapes are to be fixed.
        first: the signature whose graph is to be the first one.
    """
    faults = [f"the signature {name!r} has no input" for name, found in model.signatures.items() if not found.inputs]
    faults += [f"the output {name} has no fixed shape" for name in model.loose if name.split(":")[0] in fixed]
    faults += [] if model.first == first else [f"the first graph is {model.first or 'none of a signature'}, not {first}"]
    claimed = model.metadata.get(MIN_RUNTIME, b"").decode("ascii", "replace")
    faults += [f"the file says that {claimed.strip(chr(0))} runs it, but {what}" for what in above(model.versions, claimed)]
    return faults + [f"it is not known which runtimes have {what}" for what in unknown(model.versions)]


def check_signatures(case: Case) -> str:
    """All signatures are there, with the arguments, shapes and dtypes that the items and the batch size require."""
    own, batch_size = case.card.settings, case.settings.batch_size
    expected = replace(case.card, settings=replace(own, n_items=case.n_items, batch_size=batch_size))
    faults = [
        f"{what} is {found}, {place} {needed}"
        for what, found, place, needed in (
            ("n_items", own.n_items, f"{case.dataset.items.name} holds", case.n_items),
            ("batch_size", own.batch_size, "asked for was", batch_size),
        )
        if found != needed
    ]
    faults += signature_faults(expected.signatures, case.read().signatures)
    settle(faults)
    return (
        f"{', '.join(expected.signatures)}; {own.n_items:,} items, B={own.batch_size}, H={own.hidden_size}, "
        f"embedding {own.embedding}, {own.optimizer}, {own.storage}"
    )


def check_items(case: Case) -> str:
    """The item ids in the file are those of the dataset, in the same order, so that codes mean the same items."""
    model, card = read_catalogue(case.path), case.card
    faults = []
    if model.hash != card.items:
        faults.append(
            f"items.txt in the file has the hash {model.hash}, export wrote {card.items}: it was changed afterwards"
        )
    if model.hash != case.items.hash:
        differs = next((n for n, (a, b) in enumerate(zip(model.ids, case.items.ids, strict=False)) if a != b), None)
        if differs is None:
            where = f"it has {len(model.ids):,} items, not {len(case.items.ids):,}"
        else:
            where = f"code {differs} is {model.ids[differs]!r}, not {case.items.ids[differs]!r}"
        faults.append(f"made for other items than {case.dataset.items} ({case.items.hash}): {where}")
    settle(faults)
    return f"{len(model.ids):,} ids, XXH3-128 {model.hash}"
