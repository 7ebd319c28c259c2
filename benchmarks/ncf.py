"""The producer of NCF's training epochs: examples a second and peak memory, at 1 and at 20 million ratings.

    python benchmarks/ncf.py [--sizes 1000209,20000263] [--batch-size 99000]

The ratings are synthetic, of MovieLens' shape (`benchmarks/ratings.py`), and go through `pocketrec ncf prep` first. Each
measurement is a process of its own; the seconds are those of one whole epoch after the split has been read, its shuffle
included; the peak is the kernel's account of the process. The checksum is XXH3-128 over users, items, labels and masks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import linux_only, run
from ratings import write_ratings

EPOCH = """
import json, sys, time
from pathlib import Path
import xxhash
from pocketrec.ncf.producer import Producer
from pocketrec.ncf.interactions import read_interactions
from pocketrec.ncf.layout import NcfDataset
from pocketrec.ncf.options import NcfMakeSettings
folder, batch_size, digested = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "digest"
interactions = read_interactions(NcfDataset(folder))
began = time.perf_counter()
producer = Producer(interactions, NcfMakeSettings(batch_size=batch_size, train_epochs=1, seed=0))
ready, digest, first = time.perf_counter(), xxhash.xxh3_128(), 0.0
for block in producer.epoch(0):
    first = first or time.perf_counter()
    if digested:
        for array in (block.users, block.items, block.labels, block.valid):
            digest.update(array.data)
ended = time.perf_counter()
print(json.dumps({"examples": producer.examples, "setup": ready - began, "shuffle": first - ready, "epoch": ended - ready,
                  "xxh3": digest.hexdigest() if digested else ""}))
"""


def main() -> None:
    """Measure each size and print a table."""
    linux_only()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000209,20000263", help="ratings, comma separated")
    parser.add_argument("--batch-size", type=int, default=99_000)
    parser.add_argument("--work", type=Path, help="keep the data sets here")
    arguments = parser.parse_args()
    print("| ratings | examples | set up s | epoch s (shuffle) | examples/s | CPU s | peak MB | XXH3-128 |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for size in map(int, arguments.sizes.split(",")):
            folder = prepared(arguments.work or Path(temporary), size)
            print(measured(folder, size, arguments.batch_size), flush=True)


def prepared(work: Path, size: int) -> Path:
    """A dataset folder of so many ratings."""
    folder = work / f"ratings-{size}"
    if not (folder / "ncf").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_ratings(folder / "ratings.csv", size)
        command = ["pocketrec", "ncf", "prep", str(folder / "ratings.csv"), "--dataset", str(folder), "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def measured(folder: Path, size: int, batch_size: int) -> str:
    """One row: the time without a digest of the bytes, which takes time itself, and the digest from a second run."""
    messages = folder / "messages.txt"
    found = []
    for digested in ("time", "digest"):
        cost = run([sys.executable, "-c", EPOCH, str(folder), str(batch_size), digested], messages)
        if cost.exit_code:
            sys.exit(messages.read_text())
        found.append((json.loads(messages.read_text()), cost))
    (times, cost), (digest, _) = found
    seconds = f"{times['setup']:.1f} | {times['epoch']:.1f} ({times['shuffle']:.1f})"
    speed = f"{times['examples'] / times['epoch']:,.0f} | {cost.cpu_seconds:.1f} | {cost.peak_bytes / 1e6:,.0f}"
    return f"| {size:,} | {times['examples']:,} | {seconds} | {speed} | {digest['xxh3']} |"


if __name__ == "__main__":
    main()
