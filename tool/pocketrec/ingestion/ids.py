"""Parts written again with the session and item ids that later stages read: whole numbers.

Codes for ids that are text: the code of an id is its rank among all ids of its column, in the order of their bytes. So
sessions in the order of their codes are sessions in the order of their ids. Items are held in memory, once each; sessions
are not: the parts are ranges of session ids already, and each part is ranked alone.

Sessions that are cut where a gap is: they are numbered from 1 by the id that was cut and by time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import polars as pl

from pocketrec.parallel import ahead
from pocketrec.schema import CLICK_COLUMNS, ITEM, KEPT, RATING, ROW, SESSION, TIME

ID = {SESSION: "session_id", ITEM: "item_id"}
"""The column that keeps the ids that came in."""
ITEM_IDS = "item_ids.parquet"
"""The file of item ids that are text, in the order of their codes."""
ROW_GROUP_ROWS = 1 << 14
"""Of a part that is written again: one is open at a time."""


def code_parts(
    parts: list[Path],
    home: Path,
    name: str,
    text: Collection[str],
    gap_ms: int | None,
    advance: Callable[[int], None],
) -> None:
    """Write each part again, as one file `name`, with whole numbers for ids, and beside them the ids that came in.

    Args:
        parts: folders of Parquet files, ascending by session; their files in order have the rows in order. They are removed
            when they have been read.
        home: gets the new ones, and `ITEM_IDS` if item ids are text.
        name: of the file of a part.
        text: which of session and item have ids that are text.
        gap_ms: sessions are cut where more milliseconds than that pass; None for not at all.
        advance: told of rows read.
    """
    items = _vocabulary(parts, home / ITEM_IDS) if ITEM in text else None
    beside = kept_ids(text, gap_ms)

    def coded(part: Path) -> tuple[int, pl.DataFrame]:
        """How many rows a part had, and what `coded_rows` makes of them."""
        frame = pl.read_parquet(sorted(part.iterdir()), glob=False, hive_partitioning=False)
        shutil.rmtree(part)
        return len(frame), coded_rows(frame, text, gap_ms, items)

    first = first_session(gap_ms)
    for part, (rows, frame) in zip(parts, ahead(coded, parts, 1), strict=True):
        advance(rows)
        if not len(frame):  # all of its rows may have been left out
            continue
        if SESSION in beside:
            frame = frame.with_columns(pl.col(SESSION) + first)
            first = int(frame[SESSION].max()) + 1  # type: ignore[arg-type]
        rating = [RATING] if RATING in frame.columns else []
        (home / part.name).mkdir()
        frame.select(*CLICK_COLUMNS, *rating, *(ID[column] for column in beside)).write_parquet(
            home / part.name / name, compression="lz4", row_group_size=ROW_GROUP_ROWS
        )


def kept_ids(text: Collection[str], gap_ms: int | None) -> list[str]:
    """Which of session and item get other ids than the log's, so that those are kept beside them."""
    return [column for column in (SESSION, ITEM) if column in text or (column == SESSION and gap_ms is not None)]


def text_ids(text: Collection[str], gap_ms: int | None) -> tuple[str, ...]:
    """Which of session and item have codes for ids that are text; sessions that are cut have numbers."""
    return tuple(name for name in (SESSION, ITEM) if name in text and (name != SESSION or gap_ms is None))


def first_session(gap_ms: int | None) -> int:
    """The number of the first session: sessions that are cut are counted from 1, codes of text from 0."""
    return 0 if gap_ms is None else 1


def coded_rows(frame: pl.DataFrame, text: Collection[str], gap_ms: int | None, items: pl.Enum | None) -> pl.DataFrame:
    """Rows of whole sessions in the order of the log, with whole numbers for ids; sessions are numbered from 0.

    The arguments are those of `code_parts`; `items` are all item ids, if these are text.
    """
    frame = frame.with_columns(pl.col(column).alias(ID[column]) for column in kept_ids(text, gap_ms))
    if gap_ms is not None:
        frame = cut_sessions(frame, gap_ms)
    elif SESSION in text:
        frame = frame.with_columns(pl.col(SESSION).rank("dense").cast(pl.Int64) - 1)
    if items is not None:
        frame = frame.with_columns(pl.col(ITEM).cast(items).to_physical().cast(pl.Int64))
    return frame


def cut_sessions(frame: pl.DataFrame, gap_ms: int) -> pl.DataFrame:
    """Rows of whole sessions (session, time, row) with a new session wherever more than a gap passes between two of them.

    Sessions are numbered from 0 by the session that was cut and by time. Rows that are not `KEPT` count for the
    gap and are left out; what is left has the order of the log.
    """
    ordered = frame.sort(SESSION, TIME, maintain_order=True)
    begins = (pl.col(SESSION) != pl.col(SESSION).shift()).fill_null(True) | (pl.col(TIME).diff() > gap_ms).fill_null(False)
    ordered = ordered.with_columns(begins.cum_sum().alias(SESSION))
    if KEPT in ordered.columns:
        ordered = ordered.filter(KEPT)
    return ordered.with_columns(pl.col(SESSION).rle_id().cast(pl.Int64)).sort(ROW)


def _vocabulary(parts: list[Path], path: Path) -> pl.Enum:
    """All item ids in the order of their bytes; they are written to `path`."""
    found = pl.Series(ID[ITEM], [], dtype=pl.String)
    for part in parts:
        here = pl.scan_parquet(sorted(part.iterdir()), glob=False, hive_partitioning=False)
        here = here.filter(KEPT) if KEPT in here.collect_schema() else here
        found = pl.concat([found, here.select(pl.col(ITEM).unique()).collect().to_series().rename(found.name)]).unique()
    found = found.sort()
    found.to_frame().write_parquet(path)
    return pl.Enum(found)
