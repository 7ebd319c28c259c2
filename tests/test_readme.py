"""The library's example in the README does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pocketrec.sources.options import SynthSettings
from pocketrec.sources.synth import synth

README = Path(__file__).parents[1] / "README.md"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="README.md is not beside the tests")


def test_the_library_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorflow")
    section = README.read_text(encoding="utf-8").split("## The library\n")[1].split("\n## ")[0]
    code = "\n".join(line.removeprefix("    ") for line in section.splitlines() if line.startswith("    "))
    assert len(code.splitlines()) <= 8, "as short as it was"
    monkeypatch.chdir(tmp_path)
    synth("clicks.dat", SynthSettings(clicks=30_000))
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("Full train set\n\tEvents: ")
    assert re.fullmatch(r"\tItems: \d+ \d+", printed.splitlines()[-1])


def test_it_is_one_page() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
