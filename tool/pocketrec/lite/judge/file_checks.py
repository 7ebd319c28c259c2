"""The rungs that need no interpreter: what the file says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pocketrec.lite.catalogue import read_catalogue
from pocketrec.lite.contract import TensorSpec
from pocketrec.lite.flatbuffer import ModelFile, Tensor, read_model
from pocketrec.lite.judge.case import Case
from pocketrec.lite.judge.ladder import Fault, NotAsked
from pocketrec.lite.runtime import read_card
from pocketrec.storage.files import content_hash
from pocketrec.storage.manifest import read_records


def check_file(case: Case) -> str:
    """Every offset in the flatbuffer leads to something that is there, and the list of items behind it is whole."""
    case.file = read_model(case.path)
    items = read_catalogue(case.path)
    return f"{case.file.size:,} bytes, {len(case.file.tensors)} graphs, {len(items.ids):,} item ids"


def check_record(case: Case) -> str:
    """The file is the one the manifest beside it describes, made for the items that are there now."""
    records = [r for r in read_records(case.path.parent).values() if case.path.name in r.files]
    if not records:
        raise NotAsked(f"no manifest beside {case.path.name} describes it")
    record, faults = records[0], []
    written, found = record.files[case.path.name].xxh3, content_hash(case.path)
    if written != found:
        faults.append(f"XXH3-128 is {found}, export wrote {written}: the file was changed afterwards")
    items = content_hash(case.dataset.items)
    if record.inputs.get("items") != items:
        faults.append(f"exported for another item index: {record.inputs.get('items')}; {case.dataset.items} is {items}")
    _settle(faults)
    return f"XXH3-128 {found}"


def check_operators(case: Case) -> str:
    """Nothing but builtins: a Select TF (Flex) or custom operator needs a library that phones do not have."""
    model = _file(case)
    _settle([f"{_kind(name)} operator {name}" for name in model.foreign_operators])
    return f"{len(model.operators)} kinds of builtin operators"


def check_signatures(case: Case) -> str:
    """All signatures by name, with the arguments, shapes and dtypes that the items and the batches ask for."""
    model = _file(case)
    own = read_card(model, case.path).settings
    expected = replace(own, n_items=case.n_items, batch_size=case.batch_size)
    faults = [
        f"{what} is {found}, {place} {needed}"
        for what, found, place, needed in (
            ("n_items", own.n_items, f"{case.dataset.items.name} holds", case.n_items),
            ("batch_size", own.batch_size, "asked for was", case.batch_size),
        )
        if found != needed
    ]
    for name, (inputs, outputs) in expected.signatures.items():
        faults += _signature_faults(model, name, inputs, outputs)
    _settle(faults)
    case.settings = own
    return (
        f"{', '.join(expected.signatures)}; {own.n_items:,} items, B={own.batch_size}, H={own.hidden_size}, "
        f"embedding {own.embedding}, {own.optimizer}, {own.storage}"
    )


def check_items(case: Case) -> str:
    """The item ids in the file are those of the dataset, in the same order: a code means the same to both."""
    model, card = read_catalogue(case.path), read_card(_file(case), case.path)
    faults = []
    if model.hash != card.items:
        faults.append(
            f"items.txt in the file has the hash {model.hash}, export wrote {card.items}: it was changed afterwards"
        )
    if model.hash != case.items.hash:
        differs = next((n for n, (a, b) in enumerate(zip(model.ids, case.items.ids, strict=False)) if a != b), None)
        where = (
            f"code {differs} is {model.ids[differs]!r}, not {case.items.ids[differs]!r}"
            if differs is not None
            else (f"it has {len(model.ids):,} items, not {len(case.items.ids):,}")
        )
        faults.append(f"made for other items than {case.dataset.items} ({case.items.hash}): {where}")
    _settle(faults)
    return f"{len(model.ids):,} ids, XXH3-128 {model.hash}"


def _signature_faults(
    model: ModelFile, name: str, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> list[str]:
    found = model.signatures.get(name)
    if found is None:
        return [f"no signature {name!r}; there are {', '.join(map(repr, model.signatures)) or 'none'}"]
    sides = (("input", inputs, found.inputs), ("output", outputs, found.outputs))
    return [fault for side, needed, has in sides for fault in _tensor_faults(f"{name}: {side}", needed, has)]


def _tensor_faults(where: str, needed: Mapping[str, TensorSpec], found: Mapping[str, Tensor]) -> list[str]:
    faults = [f"{where} {name} is missing" for name in needed if name not in found]
    faults += [f"{where} {name} is not expected" for name in found if name not in needed]
    both = ((name, spec, found[name]) for name, spec in needed.items() if name in found)
    return faults + [f"{where} {name} is {has}, not {spec}" for name, spec, has in both if str(spec) != str(has)]


def _kind(name: str) -> str:
    return "Select TF" if name.startswith("Flex") else "custom"


def _file(case: Case) -> ModelFile:
    if case.file is None:
        raise Fault("the file was not read")
    return case.file


def _settle(faults: list[str]) -> None:
    if faults:
        raise Fault("\n".join(faults))
