"""What a user names as a file may be a pipe, a device or a folder: it is refused at once, and nothing waits for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apart import call_apart
from conftest import Click, call, write_log


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("special")
    day = 86_400_000
    clicks = [Click(session, 1_396_321_200_000 + session * day + k, 7) for session in range(1, 10) for k in range(3)]
    write_log(folder / "clicks.dat", clicks)
    code, _, err = call("prep", folder / "clicks.dat", "--dataset", folder, "--batch-size", 2, "--min-item-support", 1)
    assert code == 0, err
    return folder


def named(kind: str, folder: Path, suffix: str) -> Path:
    path = folder / f"odd{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    return path


COMMANDS = (
    ("inspect", "ODD"),
    ("recommend", "--session", "7", "--model", "ODD"),
    ("evaluate", "ODD.tflite", "--dataset", "DATASET"),
    ("evaluate", "ODD.safetensors", "--dataset", "DATASET"),
    ("export", "--from", "ODD", "--dataset", "DATASET", "--batch-size", "2"),
    ("train", "--from", "ODD", "--dataset", "DATASET", "--batch-size", "2"),
    ("verify", "--model", "ODD", "--dataset", "DATASET"),
    ("prep", "ODD", "--dataset", "NEW"),
    ("ncf", "prep", "ODD", "--dataset", "NEW"),
)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop", "nothing"])
def test_it_is_refused_at_once(kind: str, dataset: Path, tmp_path: Path) -> None:
    places = {f"ODD{suffix}": str(named(kind, tmp_path, suffix)) for suffix in ("", ".tflite", ".safetensors")}
    places |= {"DATASET": str(dataset), "NEW": str(tmp_path / "new")}
    commands = [[places.get(word, word) for word in command] for command in COMMANDS]
    for command, (code, out, err) in zip(commands, call_apart(commands), strict=True):
        assert (code, out) == (1, ""), (command, err)
        assert err.startswith("Error: "), command
        if "is not installed" in err:
            continue
        assert "Expected: " in err, command
        assert str(tmp_path / "odd") in err, command
