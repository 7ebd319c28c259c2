"""What the original does, step by step, in pandas: its 1_1 (four txt files) and its 1_2 (session-parallel batches).

Run as: python pandas_baseline.py LOG OUTDIR BATCH_SIZE

Times are parsed one by one with strptime, everything stays in memory, and the batches are lists of rows until the end:
that is the job as people do it today, not a strawman. Two departures, both in its favour or neutral: ids are 64-bit, and
times are taken as UTC (a naive `timestamp()` asks the time zone of the machine for every row, which is slower).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

DAY = 86400


def seconds(text: str) -> float:
    """2014-04-07T10:51:09.277Z -> 1396867869.277."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()


def load(log: Path) -> pd.DataFrame:
    """Columns SessionId, ItemId, Time."""
    data = pd.read_csv(log, sep=",", header=None, usecols=[0, 1, 2], dtype={0: np.int64, 1: str, 2: np.int64})
    data.columns = ["SessionId", "TimeStr", "ItemId"]
    data["Time"] = data["TimeStr"].apply(seconds)
    del data["TimeStr"]
    return data


def keep_frequent(data: pd.DataFrame, column: str, least: int) -> pd.DataFrame:
    """Rows whose value occurs at least `least` times."""
    sizes = data.groupby(column).size()
    return data[np.isin(data[column], sizes[sizes >= least].index)]


def hold_out(data: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sessions that end before the last day, and those of the last day with known items."""
    session_max_times = data.groupby("SessionId")["Time"].max()
    early = session_max_times < data["Time"].max() - DAY
    train = data[np.isin(data["SessionId"], session_max_times[early].index)]
    test = data[np.isin(data["SessionId"], session_max_times[~early].index)]
    test = test[np.isin(test["ItemId"], train["ItemId"])]
    return train, keep_frequent(test, "SessionId", 2)


def split(log: Path, outdir: Path) -> None:
    """Step 1_1."""
    data = load(log)
    data = keep_frequent(data, "SessionId", 2)
    data = keep_frequent(data, "ItemId", 5)
    data = keep_frequent(data, "SessionId", 2)
    train_full, test = hold_out(data)
    train_tr, train_valid = hold_out(train_full)
    sets = {"train_full": train_full, "test": test, "train_tr": train_tr, "train_valid": train_valid}
    for name, frame in sets.items():
        frame.to_csv(outdir / f"rsc15_{name}.txt", sep="\t", index=False)


def batches(outdir: Path, batch_size: int) -> dict[str, Any]:
    """Step 1_2 on the file step 1_1 wrote: feats, targets, masks, int32 (steps, B)."""
    data = pd.read_csv(outdir / "rsc15_train_tr.txt", sep="\t", dtype={"ItemId": np.int64})
    ids = data["ItemId"].unique()
    data = data.merge(pd.DataFrame({"ItemId": ids, "item_idx": np.arange(len(ids))}), on="ItemId", how="inner")
    data = data.sort_values(["SessionId", "Time"], kind="stable")
    items = data["item_idx"].to_numpy()
    offsets = np.zeros(data["SessionId"].nunique() + 1, dtype=np.int64)
    offsets[1:] = data.groupby("SessionId").size().cumsum()
    rows = lane_loop(items, offsets, batch_size)
    return {name: np.array(row, dtype=np.int32) for name, row in zip(("feats", "targets", "masks"), rows, strict=True)}


def lane_loop(items: Any, offsets: Any, batch_size: int) -> tuple[list[Any], list[Any], list[Any]]:
    """The loader's loop: one block of steps until the lane with the fewest clicks is at its end."""
    feats, targets, masks = [], [], []
    newest = batch_size - 1
    start, end = offsets[:batch_size].copy(), offsets[1 : batch_size + 1].copy()
    mask = np.ones(batch_size, dtype=np.int32)
    while True:
        shortest = (end - start).min()
        target = items[start]
        for step in range(shortest - 1):
            feat, target = target, items[start + step + 1]
            feats.append(feat)
            targets.append(target)
            masks.append(mask)
        start = start + (shortest - 1)
        ended = np.flatnonzero(end - start <= 1)
        mask = np.ones(batch_size, dtype=np.int32)
        mask[ended] = 0
        for lane in ended:
            newest += 1
            if newest >= len(offsets) - 1:
                return feats, targets, masks
            start[lane], end[lane] = offsets[newest], offsets[newest + 1]


def main(log: Path, outdir: Path, batch_size: int) -> None:
    """The whole job."""
    split(log, outdir)
    for name, array in batches(outdir, batch_size).items():
        np.save(outdir / f"{name}_bs{batch_size}.npy", array)
        np.savetxt(outdir / f"{name}_bs{batch_size}.txt", array, fmt="%d", delimiter=",")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
