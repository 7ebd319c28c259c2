"""Files of tensors that nobody of ours wrote: any header ends in one message."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketrec.errors import ModelError
from pocketrec.storage.tensors import read_tensors, write_tensors


def read(path: Path) -> Any:
    return read_tensors(path, "network", what="a network", do="train")


def with_header(path: Path, header: Any, data: bytes = b"\0" * 24) -> Path:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def about(**more: Any) -> dict[str, str]:
    return {"pocketrec": json.dumps({"format": 4, "kind": "network", "xxh3": "0", **more})}


DTYPES: tuple[Any, ...] = (
    "F8_E5M2",
    "F8_E4M3",
    "F8_E8M0",
    "F4",
    "F6_E2M3",
    "BF16",
    "C64",
    "U128",
    "BOOL",
    "F32",
    "I64",
    "",
    4,
    None,
    [],
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_types_that_numpy_may_not_have(tmp_path: Path, dtype: Any) -> None:
    for shape in ([24], [6], [3], [0], [2**62, 2**62], [-1], ["x"], 3):
        header = {"__metadata__": about(), "a": {"dtype": dtype, "shape": shape, "data_offsets": [0, 24]}}
        with pytest.raises(ModelError):
            read(with_header(tmp_path / "a.safetensors", header))


@pytest.mark.parametrize(
    "metadata",
    [
        {}, [], None, 3, {"pocketrec": {"format": 4}}, {"pocketrec": "[" * 100_000}, {"pocketrec": "[4]"},
        {"pocketrec": "null"}, {"pocketrec": "NaN"}, {"pocketrec": ""}, {"pocketrec": '{"format": [4]}'},
        {"pocketrec": '{"format": {"a": 4}}'}, {"pocketrec": '{"format": "4"}'}, {"pocketrec": '{"format": true}'},
        {"pocketrec": '{"format": 4, "kind": []}'}, {"pocketrec": '{"format": 2, "kind": {}}'},
    ],
)  # fmt: skip
def test_metadata_of_any_form(tmp_path: Path, metadata: Any) -> None:
    tensor = {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}
    with pytest.raises(ModelError):
        read(with_header(tmp_path / "a.safetensors", {"__metadata__": metadata, "a": tensor}))


@pytest.mark.parametrize("header", [b"", b"[" * 200_000, b"{}" * 9, b'{"a":' * 5000, b"\xff" * 64])
def test_headers_that_are_none(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(ModelError):
        read(with_header(tmp_path / "a.safetensors", header))
    (tmp_path / "b.safetensors").write_bytes((2**63).to_bytes(8, "little") + header)
    with pytest.raises(ModelError):
        read(tmp_path / "b.safetensors")


def test_every_flipped_bit_of_a_header_and_of_the_tensors_is_noticed(tmp_path: Path) -> None:
    """But for a few that make no difference, as in the case of a letter of a number: then nothing that is read differs."""
    path = tmp_path / "a.safetensors"
    write_tensors(path, "network", {"rate": 1e-05}, {"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 2), np.int32)})
    whole, expected, harmless = path.read_bytes(), read(path), 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = read(path)
        except ModelError:
            continue
        harmless += 1
        assert (found.kind, found.about["rate"]) == (expected.kind, expected.about["rate"])
        assert {n: t.tobytes() for n, t in found.tensors.items()} == {n: t.tobytes() for n, t in expected.tensors.items()}
    assert harmless < 10


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="is a pipe"):
        read(tmp_path / "a.safetensors")
