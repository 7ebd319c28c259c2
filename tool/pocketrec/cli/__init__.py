"""The command line: commands, their options, what they print, and how signals and memory are set up.

Everything that reads a terminal or writes to one is in this room. A command parses its options, calls the library function
of the same name, and prints the report that comes back. All rooms may be imported here; nobody imports this one.
"""

from __future__ import annotations

import sys

from pocketrec.cli import descriptors, signals
from pocketrec.cli.malloc import keep_freed_memory


def main() -> None:
    """The console script. Memory and signals are set up before any library begins a thread, which numpy does on import."""
    descriptors.fill()
    keep_freed_memory(heaps=2 if sys.argv[1:2] == ["train"] else 1)
    signals.on_sigterm()
    from pocketrec.cli.app import app

    sys.exit(app())
