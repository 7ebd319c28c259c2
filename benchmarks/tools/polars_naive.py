"""The four txt files with eager Polars, everything in memory: what one writes in an afternoon.

Run as: python polars_naive.py LOG OUTDIR BATCH_SIZE (the batch size is not used: no batches are made)

Times are formatted from whole milliseconds, since Polars' own float writer does not always give the shortest digits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

DAY_MS = 86_400_000


def load(log: Path) -> pl.DataFrame:
    """Columns SessionId, ItemId, ms."""
    types = {"SessionId": pl.Int64, "time": pl.String, "ItemId": pl.Int64, "category": pl.String}
    data = pl.read_csv(log, has_header=False, schema=types, columns=[0, 1, 2])
    parsed = pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ms")
    return data.select("SessionId", "ItemId", ms=parsed.dt.timestamp("ms"))


def keep_frequent(data: pl.DataFrame, column: str, least: int) -> pl.DataFrame:
    """Rows whose value occurs at least `least` times, in unchanged order."""
    frequent = data.group_by(column).len().filter(pl.col("len") >= least)
    return data.join(frequent, on=column, how="semi", maintain_order="left")


def hold_out(data: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sessions that end before the last day, and those of the last day with known items."""
    cut = data.select(pl.col("ms").max()).item() - DAY_MS
    early = data.group_by("SessionId").agg(pl.col("ms").max()).filter(pl.col("ms") < cut)
    train = data.join(early, on="SessionId", how="semi", maintain_order="left")
    test = data.join(early, on="SessionId", how="anti", maintain_order="left")
    test = test.join(train.select("ItemId").unique(), on="ItemId", how="semi", maintain_order="left")
    return train, keep_frequent(test, "SessionId", 2)


def write(data: pl.DataFrame, path: Path) -> None:
    """Tab separated, times as the shortest float."""
    whole, thousandths = pl.col("ms") // 1000, pl.col("ms") % 1000
    fraction = thousandths.cast(pl.String).str.zfill(3).str.strip_chars_end("0")
    fraction = pl.when(thousandths == 0).then(pl.lit("0")).otherwise(fraction)
    data.select("SessionId", "ItemId", Time=pl.concat_str(whole.cast(pl.String), pl.lit("."), fraction)).write_csv(
        path, separator="\t", quote_style="never"
    )


def main(log: Path, outdir: Path) -> None:
    """The whole job."""
    data = load(log)
    data = keep_frequent(data, "SessionId", 2)
    data = keep_frequent(data, "ItemId", 5)
    data = keep_frequent(data, "SessionId", 2)
    train_full, test = hold_out(data)
    train_tr, train_valid = hold_out(train_full)
    sets = {"train_full": train_full, "test": test, "train_tr": train_tr, "train_valid": train_valid}
    for name, frame in sets.items():
        write(frame, outdir / f"rsc15_{name}.txt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
