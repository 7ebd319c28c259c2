"""The whole job by pocketrec's own command line, with the original's masks.

Run as: python pocketrec_cli.py LOG OUTDIR BATCH_SIZE

The command takes the place of this process, so what is measured is the command. It does more than the others: it also
writes Parquet, the batches of the hold-outs, and manifests with checksums, and flushes every file to the disk.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(log: str, outdir: str, batch_size: str) -> None:
    """Become `pocketrec prep`."""
    command = str(Path(sys.executable).with_name("pocketrec"))
    options = ["--dataset", outdir, "--batch-size", batch_size, "--resets", "repeated", "--quiet"]
    os.execv(command, [command, "prep", log, *options])


if __name__ == "__main__":
    main(*sys.argv[1:4])
