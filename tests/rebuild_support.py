"""The law of records: whatever is damaged, the command that `verify-data` names makes the same bytes again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from conftest import call
from pocketrec.storage.files import content_hash
from pocketrec.storage.layout import Dataset
from pocketrec.storage.manifest import OutputFile, read_records, write_record
from pocketrec.storage.networks import NetworkSide
from pocketrec.storage.verify_data import verify_data


def rebuild_each(dataset: Path, side: str) -> list[str]:
    """Damage a file of every stage of a side, run the command that is named, and compare.

    Returns:
        The commands, without --dataset.
    """
    where = Dataset(dataset / side)
    contents = {
        folder / name: file.xxh3
        for folder in where.homes
        for record in read_records(folder).values()
        for name, file in record.files.items()
    }
    commands = []
    for folder in where.homes:
        for record in read_records(folder).values():
            path = folder / next(iter(record.files))
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0x5A
            path.write_bytes(content)
            (stage,) = (one for one in verify_data(dataset).stages if one.damaged)
            program, *words = shlex.split(stage.rebuild)
            code, _, err = call(*words)
            assert (program, code) == ("pocketrec", 0), (stage.rebuild, err)
            assert {path: content_hash(path) for path in contents} == contents, stage.rebuild
            assert words[-2:] == ["--dataset", str(dataset)]
            commands.append(shlex.join(words[:-2]))
    return commands


def as_0_1_left_it(place: NetworkSide) -> Path:
    """Put what pocketrec 0.1 left in place of a trained network: an .npz, and a record without its command. The .npz."""
    old, key = place.network.with_suffix(".npz"), f"{place.name}_train"
    place.network.rename(old)
    record = read_records(place.model)[key]
    files = {
        old.name: OutputFile.of(old),
        **{name: file for name, file in record.files.items() if name != place.network.name},
    }
    write_record(place.model, key, replace(record, files=files, argv=()))
    return old
