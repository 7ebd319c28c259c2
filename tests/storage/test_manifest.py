"""Records: what is written is what is read, a record that is there is true, and damage is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.errors import DatasetError
from pocketrec.storage.manifest import FORMAT, MANIFEST, OutputFile, Record, drop_record, read_records, write_record

names = st.text(min_size=1, max_size=8)
file_names = names.map(lambda name: name.replace("/", "_")).filter(lambda name: name not in (".", ".."))
hashes = st.binary(max_size=8).map(lambda content: xxhash.xxh3_128(content).hexdigest())
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
shapes = st.lists(st.integers(0, 2**40), max_size=3).map(tuple)
output_files = st.builds(OutputFile, st.integers(0, 2**50), hashes, shapes, names)
mappings = st.dictionaries(names, values, max_size=4)
records = st.builds(
    Record,
    names,
    mappings,
    st.dictionaries(names, hashes, max_size=3),
    st.dictionaries(file_names, output_files, max_size=3),
    mappings,
)


@settings(max_examples=40)
@given(written=st.dictionaries(names, records, max_size=4))
def test_records_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, written: dict[str, Record]
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    for key, record in written.items():
        write_record(folder, key, record)
    found = read_records(folder)
    assert found == written
    assert {key: record.content for key, record in found.items()} == {
        key: record.content for key, record in written.items()
    }
    assert all(record.is_current(folder, record.settings, record.inputs) for record in found.values() if not record.files)


def make(folder: Path, key: str = "stage", content: bytes = b"content", **settings: Any) -> Record:
    """A stage that writes one file."""
    (folder / f"{key}.out").write_bytes(content)
    files = {f"{key}.out": OutputFile.of(folder / f"{key}.out", (len(content), 3), "int32")}
    record = Record(key, settings, {"log": "1234"}, files, {"rows": 5})
    write_record(folder, key, record)
    return record


def test_nothing_was_finished_in_a_folder_without_a_manifest(tmp_path: Path) -> None:
    assert read_records(tmp_path) == read_records(tmp_path / "nothing") == {}
    drop_record(tmp_path, "stage")
    drop_record(tmp_path / "nothing", "stage")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_described_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"seven b")
    wanted = OutputFile(7, xxhash.xxh3_128(b"seven b").hexdigest(), (7, 1), "int32")
    assert OutputFile.of(tmp_path / "file", (7, 1), "int32") == wanted


def test_one_record_is_replaced_or_dropped_and_the_others_stay(tmp_path: Path) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    newer = make(tmp_path, "one", b"other", size=3)
    assert read_records(tmp_path) == {"one": newer, "two": two}
    assert one.content != newer.content
    drop_record(tmp_path, "one")
    drop_record(tmp_path, "one")
    assert read_records(tmp_path) == {"two": two}
    assert (tmp_path / "one.out").read_bytes() == b"other", "a record is no owner"


def test_the_manifest_on_disk(tmp_path: Path) -> None:
    """Other programs read it: sorted keys, the same bytes for the same records in any order."""
    one, two = make(tmp_path, "one", size=3), make(tmp_path, "two")
    text = (tmp_path / MANIFEST).read_text()
    records = {
        "one": json.loads(json.dumps(dataclasses.asdict(one))),
        "two": json.loads(json.dumps(dataclasses.asdict(two))),
    }
    digest = xxhash.xxh3_128(json.dumps(records, sort_keys=True).encode()).hexdigest()
    assert json.loads(text) == {"format": FORMAT, "records": records, "xxh3": digest}
    drop_record(tmp_path, "one")
    write_record(tmp_path, "one", one)
    assert (tmp_path / MANIFEST).read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "one.out", "two.out"]


def test_current_means_the_same_settings_and_inputs(tmp_path: Path) -> None:
    make(tmp_path, holdout=86400.0, sizes=[1, 2])
    record = read_records(tmp_path)["stage"]
    options, inputs = {"sizes": [1, 2], "holdout": 86400}, {"log": "1234"}
    assert record.is_current(tmp_path, options, inputs)
    assert not record.is_current(tmp_path, options | {"holdout": 86401}, inputs)
    assert not record.is_current(tmp_path, options | {"more": None}, inputs)
    assert not record.is_current(tmp_path, {"holdout": 86400}, inputs)
    assert not record.is_current(tmp_path, options, {"log": "1235"})
    assert not record.is_current(tmp_path, options, inputs | {"roles": "1"})
    assert not record.is_current(tmp_path, options, {})


@pytest.mark.parametrize("damage", ["gone", "cut", "longer", "a folder"])
def test_current_means_that_the_files_are_there(tmp_path: Path, damage: str) -> None:
    record = make(tmp_path)
    path = tmp_path / "stage.out"
    assert record.missing(tmp_path) == []
    if damage in ("gone", "a folder"):
        path.unlink()
    if damage == "a folder":
        path.mkdir()
    if damage in ("cut", "longer"):
        path.write_bytes(b"conten" if damage == "cut" else b"contents")
    assert record.missing(tmp_path) == [path]
    assert not record.is_current(tmp_path, record.settings, record.inputs)


def test_content_tells_outputs_apart_and_nothing_else(tmp_path: Path) -> None:
    """It is what the next stage is compared by: other settings that write the same bytes change nothing for it."""
    one = make(tmp_path, content=b"same", size=3)
    assert make(tmp_path, content=b"same", size=4).content == one.content
    assert make(tmp_path, content=b"Same", size=3).content != one.content
    assert make(tmp_path, "renamed", content=b"same", size=3).content != one.content


def test_content_does_not_depend_on_the_order_of_the_files() -> None:
    files = {name: OutputFile(1, name * 4) for name in "abc"}
    turned = dict(reversed(files.items()))
    assert Record("s", {}, {}, files).content == Record("s", {}, {}, turned).content


DAMAGE = {
    "empty": b"",
    "cut": b'{"format": 1, "rec',
    "not UTF-8": b"\xff\xfe{}",
    "a list": b"[]",
    "a number": b"5",
    "null": b"null",
    "without a format": b"{}",
    "without records": b'{"format": 1}',
    "records that are none": b'{"format": 1, "records": null}',
    "a record without files": b'{"format": 1, "records": {"split": {"stage": "split"}}}',
    "nested without end": b'{"format": 1, "records": ' + b"[" * 100_000,
    "a file without a size": b'{"format": 1, "records": {"split": {"stage": "split", "settings": {}, "inputs": {}, '
    b'"counts": {}, "files": {"a.txt": {"xxh3": "00"}}}}}',
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_manifest_is_named(tmp_path: Path, content: bytes) -> None:
    """It is not written over either: what it says about other stages may be worth mending."""
    (tmp_path / MANIFEST).write_bytes(content)
    for use in (lambda: read_records(tmp_path), lambda: drop_record(tmp_path, "x"), lambda: make(tmp_path)):
        with pytest.raises(DatasetError) as error:
            use()
        assert error.value.wrong.startswith(f"{tmp_path / MANIFEST} is damaged (")
        assert error.value.expected == "the JSON that pocketrec wrote there"
        assert error.value.do == "move the file away; the stage that wrote it will run again"
    assert (tmp_path / MANIFEST).read_bytes() == content


def test_a_number_in_a_manifest_that_changed_is_damage(tmp_path: Path) -> None:
    make(tmp_path, size=1234)
    path = tmp_path / MANIFEST
    text = path.read_text()
    path.write_text(text.replace("1234", "1235"))
    with pytest.raises(DatasetError, match="its XXH3-128 is another"):
        read_records(tmp_path)
    document = json.loads(text)
    del document["xxh3"]  # as an older pocketrec wrote it
    path.write_text(json.dumps(document))
    assert list(read_records(tmp_path)) == ["stage"]


@pytest.mark.parametrize("form", [FORMAT - 1, FORMAT + 1, "1", None])
def test_another_format_is_said_to_be_so_and_nothing_is_touched(tmp_path: Path, form: object) -> None:
    record = make(tmp_path)
    document = json.loads((tmp_path / MANIFEST).read_text())
    text = json.dumps(document | {"format": form})
    (tmp_path / MANIFEST).write_text(text)
    for touch in (read_records, lambda at: write_record(at, "stage", record), lambda at: drop_record(at, "stage")):
        with pytest.raises(DatasetError) as error:
            touch(tmp_path)
        assert f"is of format {form!r}" in error.value.wrong
        assert f"format {FORMAT}" in error.value.expected
        assert "newer" in error.value.do or form != FORMAT + 1
        assert (tmp_path / MANIFEST).read_text() == text


def test_records_of_the_first_version_have_no_command(tmp_path: Path) -> None:
    make(tmp_path)
    document = json.loads((tmp_path / MANIFEST).read_text())
    for entry in document["records"].values():
        del entry["argv"]
    del document["xxh3"]
    (tmp_path / MANIFEST).write_text(json.dumps(document))
    assert read_records(tmp_path)["stage"].argv == ()
