"""The logs that next clicks are measured on, and how each is prepared. Which log a file is, its name says.

Tmall has no clock: its sessions are put in a random order, a minute apart, its clicks a second apart.
"""

from __future__ import annotations

import json
import lzma
import random
import sys
from pathlib import Path
from typing import Any

from measure import Cost, run

LAYOUT = "--batch-size 32 --formats npy --tail pad --session-order time"
LOGS = {
    "diginetica": "--holdout 30d --min-item-support 1",
    "tmall": "--holdout 350607s --columns session=session,item=item,time=time",
    "accuracy": "--holdout 5d",
}
"""Beginning of a file's name -> options of prep, beside `LAYOUT`. 350,607 s are 5 % of the made-up clock of Tmall."""


class Bench:
    """A log prepared in a folder, and commands that run on it. `name` is that in `LOGS`."""

    def __init__(self, log: Path, train_on: str, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.name = next(one for one in LOGS if log.name.startswith(one))
        self.place, self._messages = work / f"{self.name}-{train_on}", work / "messages.txt"
        source = _with_a_clock(log, work / "tmall.csv") if self.name == "tmall" else log
        self.command("prep", str(source), *LOGS[self.name].split(), *LAYOUT.split(), "--train-on", train_on)

    def command(self, *words: str) -> tuple[dict[str, Any], Cost]:
        """Run a command of pocketrec in a process of its own: its JSON report, and what it took."""
        whole = [sys.executable, "-m", "pocketrec.cli", *words, "--dataset", str(self.place), "--json"]
        cost = run(whole, self._messages)
        text = self._messages.read_text()
        if cost.exit_code:
            sys.exit(text)
        found: dict[str, Any] = json.loads(text[text.index("{") :])
        return found, cost


def _with_a_clock(packed: Path, out: Path) -> Path:
    """Tmall's sessions, a user a line, as a csv with times."""
    sessions = []
    with lzma.open(packed, "rt") as file:
        next(file)
        for line in file:
            sessions += [session.split(":") for session in line.rstrip("\n").split(",", 1)[1].split("@")]
    random.Random(0).shuffle(sessions)
    with out.open("w") as file:
        file.write("session,item,time\n")
        for number, session in enumerate(sessions):
            for place, item in enumerate(session):
                file.write(f"{number + 1},{item},{1_600_000_000 + 60 * number + place}\n")
    return out
