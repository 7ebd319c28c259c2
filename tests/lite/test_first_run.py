"""Files that LiteRT would die of: found by looking at them, or by a process that does it first."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from conftest import call
from lite_support import fresh, models, shrink_slots
from pocketrec.errors import ModelError
from pocketrec.lite import first_run, runtime
from pocketrec.lite.catalogue import read_catalogue
from pocketrec.lite.flatbuffer import read_model
from pocketrec.lite.on_device import OnDeviceModel
from pocketrec.lite.processes import run_python
from pocketrec.storage.layout import Dataset

SESSION = ("100", "103", "130")


def whole() -> bytes:
    return Dataset(models() / "adam").tflite(4).read_bytes()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model without a manifest beside it, which was not tried before."""
    monkeypatch.setattr(first_run, "_tried", set())
    path = tmp_path / "alone.tflite"
    path.write_bytes(whole())
    return path


def never(*_: Any) -> str:
    raise AssertionError("a process was begun")


def test_a_model_that_kills_the_interpreter_ends_no_command(tmp_path: Path) -> None:
    """Slots of no rows pass every look at the file."""
    path = tmp_path / "killer.tflite"
    path.write_bytes(shrink_slots(whole()))
    code, out, err = call("recommend", "--model", path, "--session", ",".join(SESSION))
    assert (code, out) == (1, "")
    assert "the process that called each of its signatures" in " ".join(err.split())
    with pytest.raises(ModelError, match="the process that called each of its signatures"):
        OnDeviceModel(path)


def test_a_file_without_a_record_is_tried_once(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = OnDeviceModel(alone).recommend(SESSION)
    monkeypatch.setattr(first_run, "run_python", never)
    assert OnDeviceModel(alone).recommend(SESSION) == first
    monkeypatch.setattr(first_run, "_tried", set())
    with pytest.raises(AssertionError, match="a process was begun"):
        OnDeviceModel(alone)
    assert OnDeviceModel(alone, trusted=True).recommend(SESSION) == first


def test_a_file_that_its_manifest_describes_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fresh(tmp_path).tflite(4)
    monkeypatch.setattr(first_run, "run_python", never)
    OnDeviceModel(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(AssertionError, match="a process was begun"):
        OnDeviceModel(path)


def test_a_model_that_never_returns_is_stopped(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_run, "SECONDS", 0.05)
    with pytest.raises(ModelError, match="was stopped after 0 s"):
        OnDeviceModel(alone)
    began = time.monotonic()
    assert "was stopped after 1 s" in run_python(["-c", "while True: pass"], 1)
    assert time.monotonic() - began < 30


def test_how_a_process_ended_is_said_in_words() -> None:
    told = "import os, sys; print('INFO: x', file=sys.stderr); print('why', file=sys.stderr, flush=True); "
    assert run_python(["-c", told], 60) == ""
    assert run_python(["-c", told + "sys.exit(3)"], 60) == "ended with status 3: why"
    assert run_python(["-c", told + "os.abort()"], 60) == "died of SIGABRT: why"


def operators(model: schema.Model, kind: int) -> list[schema.Operator]:
    codes = [model.OperatorCodes(n).BuiltinCode() for n in range(model.OperatorCodesLength())]
    graphs = [model.Subgraphs(n) for n in range(model.SubgraphsLength())]
    every = [graph.Operators(n) for graph in graphs for n in range(graph.OperatorsLength())]
    return [one for one in every if codes[one.OpcodeIndex()] == kind]


def call_another_graph(model: schema.Model, data: bytearray) -> None:
    options = schema.CallOnceOptions()
    table = operators(model, schema.BuiltinOperator.CALL_ONCE)[0].BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    place = table.Pos + options._tab.Offset(4)
    data[place : place + 4] = (99).to_bytes(4, "little")


def use_another_tensor(model: schema.Model, _: bytearray) -> None:
    operators(model, schema.BuiltinOperator.GATHER)[0].InputsAsNumpy()[0] = 9999


def return_another_tensor(model: schema.Model, _: bytearray) -> None:
    model.Subgraphs(0).OutputsAsNumpy()[0] = -1


def with_a_shape(*shape: int) -> Callable[[schema.Model, bytearray], None]:
    def change(model: schema.Model, _: bytearray) -> None:
        graph = model.Subgraphs(0)
        tensors = [graph.Tensors(n) for n in range(graph.TensorsLength())]
        found = next(
            one for one in tensors if one.ShapeLength() == len(shape) and not model.Buffers(one.Buffer()).DataLength()
        )
        found.ShapeAsNumpy()[:] = shape

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (call_another_graph, "an operator calls the graph 99, but there are 11"),
        (use_another_tensor, "an operator uses the tensors"),
        (return_another_tensor, "a graph uses the tensors"),
        (with_a_shape(-4, 8), r"is float32\[-4, 8\], of the form"),
        (with_a_shape(2**30, 2**30), "which no tensor can be"),
    ],
)
def test_what_can_be_seen_without_running_it(
    alone: Path, change: Callable[[schema.Model, bytearray], None], why: str
) -> None:
    data = bytearray(whole())
    change(schema.Model.GetRootAs(data, 0), data)
    alone.write_bytes(data)
    with pytest.raises(ModelError, match=why):
        read_model(alone)


def test_signatures_that_are_not_those_of_the_settings_are_refused() -> None:
    with pytest.raises(ModelError, match="infer: output output is missing"):
        OnDeviceModel(models() / "diffident.tflite")


@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.tflite"
    path.mkdir() if kind == "a folder" else os.mkfifo(path)
    for command in (("inspect", path), ("recommend", "--model", path, "--session", "1")):
        code, out, err = call(*command)
        assert (code, out) == (1, "")
        assert f"is {kind}" in err


def test_every_flipped_bit_of_the_archives_headers_ends_in_a_message_or_the_same_items(alone: Path) -> None:
    """Of both members before their content, and all that is behind it; among them those for encrypted, another method."""
    data = whole()
    begins = [found.start() for found in re.finditer(rb"PK\x03\x04", data)]
    assert len(begins) == 2
    items, tail = read_catalogue(alone), data.index(b"PK\x01\x02")
    places = [*(place for begin in begins for place in range(begin, begin + 46)), *range(tail, len(data))]
    for place, bit in itertools.product(places, range(8)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        alone.write_bytes(flipped)
        try:
            found = read_catalogue(alone)
        except ModelError:
            continue
        assert found.ids == items.ids
        np.testing.assert_array_equal(found.support, items.support)


def test_a_model_is_copied_with_its_answers(tmp_path: Path) -> None:
    """A copy elsewhere is tried, and answers as the original does."""
    source = Dataset(models() / "answers").tflite(4)
    copy = Path(shutil.copy(source, tmp_path))
    assert OnDeviceModel(copy).recommend(SESSION) == OnDeviceModel(source).recommend(SESSION)


def test_calls_that_take_more_memory_than_a_whole_model_are_refused(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the fuzzer: a changed constant made LiteRT ask for 2 GB. Here a whole model has too little."""
    OnDeviceModel(alone)
    monkeypatch.setattr(first_run, "_tried", set())
    monkeypatch.setattr(runtime, "memory_of", lambda _: 1 << 20)
    with pytest.raises(ModelError, match="the process that called each of its signatures"):
        OnDeviceModel(alone)
