"""The item index of a dataset as a file: which id has which code, and how often it was clicked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.errors import DatasetError
from pocketrec.parallel import check_fork
from pocketrec.schema import Int64
from pocketrec.storage.files import check_name, staged_file
from pocketrec.storage.repair import rebuild_command_of, unreadable


def write_items(path: Path, ids: Int64 | pl.Series, support: Int64) -> None:
    """Write an item index as Parquet: item_id (as it came in), item_idx (int32, 0.. by row), support (int64, clicks)."""
    frame = pl.DataFrame({"item_id": ids, "item_idx": np.arange(len(ids), dtype=np.int32), "support": support})
    with staged_file(path) as staged:
        frame.write_parquet(staged)


def read_items(path: Path, columns: Sequence[str] = ("item_id", "item_idx", "support"), do: str = "") -> pl.DataFrame:
    """Columns of an item index, one row an item: item_id (int64 or String), item_idx (int32), support (int64).

    `path` is what `write_items` wrote, or the vocabulary of the split, which has no item_idx; `do` the command that makes a
    file that no manifest describes, `pocketrec batches` if empty. A DatasetError says if it is missing, cut, or has other
    columns.
    """
    check_fork()
    check_name(path)
    do = do or f"pocketrec batches --dataset {path.parent.parent}"
    if not path.is_file():
        raise DatasetError(f"{path} is missing.", expected="an item index", do=rebuild_command_of(path) or do)
    try:
        return pl.read_parquet(path, columns=list(columns), glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise unreadable(path, error, expected=f"Parquet with {', '.join(columns)}", do=do) from error
