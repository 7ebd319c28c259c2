"""What Polars does beyond its documented limits, held to in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl

SINK = """
import sys
from pathlib import Path
import polars as pl
from pocketrec.sources import polars_engine as engine
assert engine.MAX_FILES == 3
frame = pl.LazyFrame({"value": range(2000)}).with_columns((pl.col("value") * 7919 % 2003).alias("mixed"))
number = engine.interval(pl.col("mixed"), pl.Series(range(100, 2000, 100)))
name = lambda part, file: f"part={part:04d}/{file:03d}.parquet"
engine.sink_parts(frame, Path(sys.argv[1]), number=number, name=name, row_group_rows=8)
"""


def test_more_parts_than_open_files_lose_no_row(tmp_path: Path) -> None:
    """Polars then begins further files of the same part; under one name they would replace each other."""
    environment = os.environ | {"POLARS_MAX_OPEN_SINKS": "3"}
    subprocess.run([sys.executable, "-c", SINK, str(tmp_path)], env=environment, check=True)
    parts = sorted(tmp_path.iterdir())
    assert len(parts) == 20
    assert sum(len(list(part.iterdir())) for part in parts) > 20, "no part was ever closed, so nothing was tried"
    values = pl.concat(pl.read_parquet(sorted(part.iterdir()), hive_partitioning=False) for part in parts)
    assert sorted(values["value"].to_list()) == list(range(2000))
    for number, part in enumerate(parts):
        found = pl.read_parquet(sorted(part.iterdir()), hive_partitioning=False)
        assert set(found["mixed"] // 100) == {number} or number == 19
        assert found["value"].is_sorted(), "a part must keep the order of the log"
