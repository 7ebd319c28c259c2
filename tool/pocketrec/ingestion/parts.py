"""The parts of an ingested log, as later stages read them. What a part holds is said in `ingest`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pocketrec.errors import DatasetError
from pocketrec.ingestion.ids import ID
from pocketrec.parallel import check_fork
from pocketrec.schema import ITEM, ROW, SESSION, Int64
from pocketrec.storage.layout import Dataset
from pocketrec.storage.repair import check_files, unreadable, whole_record

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What Polars raises over a damaged file; it panics over some."""


class Parts:
    """The parts of an ingested log, in ascending order of session ids.

    Attributes:
        record: of the ingest.
        folders: one a part, part=NNNN.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Find the parts by the record of the ingest; a DatasetError if nothing was ingested, or a file is missing."""
        self.dataset = dataset
        folder, do = dataset.clicks.parent, f"pocketrec ingest CLICKS --dataset {dataset.root}"
        self.record = whole_record(folder, "ingest", DatasetError(f"{dataset.clicks} has no ingested log.", do=do))
        prefix = f"{dataset.clicks.name}/"  # rejects.csv is described there, too
        self.folders = sorted({(folder / name).parent for name in self.record.files if name.startswith(prefix)})

    @property
    def text_ids(self) -> list[str]:
        """Columns of the ids that came in, where those are text: session_id, item_id."""
        return [ID[name] for name in (SESSION, ITEM) if name in self.record.counts["text_ids"]]

    def item_ids(self, items: Int64) -> pl.Series:
        """The log's own ids for some values of the column item: Int64, or String where they are text."""
        if ID[ITEM] not in self.text_ids:
            return pl.Series(items)
        path = self.dataset.item_ids
        check_files(path.parent, self.record, [path.name])
        return pl.read_parquet(path, glob=False).to_series().gather(items)

    def check(self, part: Path) -> None:
        """Compare a part with what was ingested (`check_files`): Parquet itself does not notice a changed number."""
        check_files(part.parents[1], self.record, self._names_of(part))

    def files(self, part: Path) -> list[tuple[Path, int]]:
        """The files of a part in the order of the log, each with its rows."""
        return [(part / Path(name).name, self.record.files[name].shape[0]) for name in self._names_of(part)]

    def _names_of(self, part: Path) -> list[str]:
        prefix = f"{part.parent.name}/{part.name}/"
        return sorted(name for name in self.record.files if name.startswith(prefix))


def equal_share(rows: int, parts: int, least: int, most: int) -> int:
    """Rows for each of the parts that are open at once, so that all of them together hold about `rows` in memory.

    It is a power of two: a slice that is read begins where a row group does.
    """
    return int(np.clip(1 << (rows // parts).bit_length() - 1, least, most))


def read_columns(part: Path, columns: Sequence[str], rows: slice = slice(None)) -> list[Int64]:
    """Columns of a part, or of one of its files, as int64 arrays of equal length, in log order."""
    frame = read_frame(part, columns, rows)
    return [frame.drop_in_place(name).to_numpy() for name in columns]


def read_frame(part: Path, columns: Sequence[str], rows: slice = slice(None)) -> pl.DataFrame:
    """Some or all rows of a part (a folder), or of one of its files, in log order; a DatasetError names a damaged file."""
    check_fork()
    try:
        scan = _scan(sorted(part.iterdir()) if part.is_dir() else [part])
        if rows.stop is not None:
            scan = scan.slice(rows.start, rows.stop - rows.start)
        return scan.select(columns).collect()
    except UNREADABLE as error:
        raise unreadable(_first_unreadable(part, columns), error, expected="Parquet that ingest wrote") from error


def _scan(files: list[Path]) -> pl.LazyFrame:
    return pl.scan_parquet(files, hive_partitioning=False, glob=False)


def _first_unreadable(part: Path, columns: Sequence[str]) -> Path:
    """The file of a part that is damaged, which Polars does not always say; the part itself if each can be read alone."""
    for file in sorted(part.iterdir()) if part.is_dir() else []:
        try:
            _scan([file]).select(columns).collect()
        except UNREADABLE:
            return file
    return part


def read_column(part: Path, column: str) -> Int64:
    """One whole column of one part. Column after column takes less memory than all at once."""
    return read_columns(part, [column])[0]


def read_lines(part: Path, rows: int) -> Int64:
    """The numbers, ascending, that the one or more rows of a part have among the clicks of the log.

    They are read only if they are not consecutive.
    """
    first, last = (int(read_columns(part, [ROW], slice(at, at + 1))[0][0]) for at in (0, rows - 1))
    return np.arange(first, last + 1) if last + 1 - first == rows else read_column(part, ROW)
