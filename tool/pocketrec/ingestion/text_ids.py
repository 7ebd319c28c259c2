"""Codes for ids that are text: the code of an id is its rank among all ids of its column, in the order of their bytes.

So sessions in the order of their codes are sessions in the order of their ids. Items are held in memory, once each;
sessions are not: the parts are ranges of session ids already, and each part is ranked alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import polars as pl

from pocketrec.schema import CLICK_COLUMNS, ITEM, RATING, SESSION

ID = {SESSION: "session_id", ITEM: "item_id"}
"""The column that keeps the ids that came in."""
ITEM_IDS = "item_ids.parquet"
"""The file of item ids that are text, in the order of their codes."""


def code_parts(
    parts: list[Path], home: Path, name: str, text: Collection[str], row_group_rows: int, advance: Callable[[int], None]
) -> None:
    """Write each part again, as one file `name`, with codes in the columns `text`, and beside them the ids that came in.

    Parts are folders of Parquet files, ascending by session; their files in order have the rows in order. They are removed
    when they have been read. `home` gets the new ones, and `ITEM_IDS` if item ids are text.
    """
    items = _vocabulary(parts, home / ITEM_IDS) if ITEM in text else None
    sessions = 0
    for part in parts:
        frame = pl.read_parquet(sorted(part.iterdir()), glob=False, hive_partitioning=False)
        shutil.rmtree(part)
        rating = [RATING] if RATING in frame.columns else []
        kept = [pl.col(column).alias(ID[column]) for column in (SESSION, ITEM) if column in text]
        frame = frame.select(*CLICK_COLUMNS, *rating, *kept)
        if SESSION in text:
            codes = frame[SESSION].rank("dense").cast(pl.Int64) + (sessions - 1)
            sessions = int(codes.max()) + 1  # type: ignore[arg-type]
            frame = frame.with_columns(codes.alias(SESSION))
        if items is not None:
            frame = frame.with_columns(pl.col(ITEM).cast(items).to_physical().cast(pl.Int64))
        (home / part.name).mkdir()
        frame.write_parquet(home / part.name / name, compression="lz4", row_group_size=row_group_rows)
        advance(len(frame))


def _vocabulary(parts: list[Path], path: Path) -> pl.Enum:
    """All item ids in the order of their bytes; they are written to `path`."""
    found = pl.Series(ID[ITEM], [], dtype=pl.String)
    for part in parts:
        here = pl.scan_parquet(sorted(part.iterdir()), glob=False, hive_partitioning=False).select(pl.col(ITEM).unique())
        found = pl.concat([found, here.collect().to_series().rename(found.name)]).unique()
    found = found.sort()
    found.to_frame().write_parquet(path)
    return pl.Enum(found)
