"""Shell completion: what a shell asks of the console script, and what it gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = "import sys; sys.argv[0] = 'pocketrec'; from pocketrec.cli import main; main()"


def complete(words: str, place: int) -> list[str]:
    """What bash is offered for the word at a place of a command line."""
    asked = {"_POCKETREC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=True).stdout.split()


def test_commands_options_and_choices_are_completed() -> None:
    assert complete("pocketrec ver", 1) == ["verify", "verify-data"]
    assert "--batch-size" in complete("pocketrec batches --bat", 2)
    assert complete("pocketrec batches --tail ", 3) == ["drop", "pad"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed(tmp_path: Path, shell: str) -> None:
    """Into an empty home; the shell itself need not be there."""
    command = [sys.executable, "-c", SCRIPT, "--install-completion", shell]
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "completion installed" in done.stdout
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_POCKETREC_COMPLETE" in path.read_text() for path in written)
