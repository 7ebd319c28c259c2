"""A click log of YooChoose's shape and format, of any size, in bounded memory, the same bytes for the same seed.

In the order of session ids a block of rows goes straight to the file. The other orders take a second pass: rows are
scattered into temporary buckets (by time, or at random), and each bucket is put in order on its own. Sorted buckets one
after the other are a sort; shuffled buckets, with rows assigned at random, are a uniform shuffle.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from pocketrec.errors import SettingsError
from pocketrec.parallel import check_fork
from pocketrec.progress import SILENT, Progress
from pocketrec.schema import Int64
from pocketrec.sources._synthetic_people import MOST_CLICKS, PeopleMaker
from pocketrec.sources._synthetic_rows import BLOCK_ROWS, BUCKET, SCATTER, Maker, Rows
from pocketrec.sources._synthetic_shop import CATEGORIES, FIRST_MS, LAST_MS
from pocketrec.sources.options import Order, SynthSettings
from pocketrec.storage.files import STAGED_SUFFIX, staged_file
from pocketrec.storage.space import room

HEADER = b"user,session,time,item\n"
"""First line of a log with users, which is read with its columns named: session=session,item=item,time=time."""


@dataclass(frozen=True)
class SynthReport:
    """What `synth` wrote: the log, its rows, different sessions and items, its size, its first and last time as text."""

    path: Path
    clicks: int
    sessions: int
    items: int
    bytes: int
    first: str
    last: str


def synth(out: Path | str, settings: SynthSettings = SynthSettings(), *, progress: Progress = SILENT) -> SynthReport:
    """Write a synthetic click log: SessionId,Timestamp,ItemId,Category without a header; user,session,time,item of users.

    The same clicks and seed give the same rows, and the same order gives the same bytes.

    Args:
        out: the file to write; it appears whole or not at all.
        settings: of the log. Within a session of the real log, the order is nearly that of time.
        progress: told about rows.

    Raises:
        SettingsError: `out` is a folder, or there are too few or too many clicks for so many users.
        SpaceError, FolderError: the disk became full, or the folder cannot be written; an earlier file is as it was.
    """
    check_fork()
    path = Path(out)
    if path.is_dir():
        raise SettingsError(f"{path} is a folder.", expected="the name of a file to write", do=f"try {path}/clicks.dat")
    if settings.users and not settings.users <= settings.clicks <= MOST_CLICKS * settings.users:
        raise SettingsError(
            f"{settings.clicks:,} clicks of {settings.users:,} users are asked for.",
            expected=f"1 to {MOST_CLICKS:,} clicks a user on average",
            do="change --clicks or --users",
        )
    clicks, users, order = settings.clicks, settings.users, settings.order
    maker = PeopleMaker(clicks, settings.seed, users) if users else Maker(clicks, settings.seed)
    with room(path.parent, "synth"), staged_file(path) as staged, staged.open("wb") as file:
        file.write(HEADER if users else b"")
        if order == "grouped":
            with progress.task("making", clicks, "clicks") as advance:
                for rows in maker.blocks():
                    _write(rows, maker, file)
                    advance(len(rows))
        else:
            _write_ordered(maker, order, file, progress)
    return SynthReport(path, clicks, maker.sessions, int(maker.seen.sum()), path.stat().st_size, *maker.span())


def _write(rows: Rows, maker: Maker, file: IO[bytes]) -> None:
    """Append rows as text. Polars formats half a million of them in well under a tenth of a second."""
    session, item = rows["session"].copy(), maker.shop.ids[rows["item"]]
    time = pl.Series(rows["time"].copy()).cast(pl.Datetime("ms"))
    if isinstance(maker, PeopleMaker):
        frame = pl.DataFrame({"user": rows["user"].copy(), "session": session, "time": time, "item": item})
    else:
        category = pl.Series(CATEGORIES).gather(rows["category"].astype(np.uint32))
        frame = pl.DataFrame({"session": session, "time": time, "item": item, "category": category})
    frame.write_csv(file, include_header=False, quote_style="never", datetime_format="%Y-%m-%dT%H:%M:%S%.3fZ")


def _write_ordered(maker: Maker, order: Order, file: IO[bytes], progress: Progress) -> None:
    """Two passes: scatter into buckets, put each bucket in order."""
    count = -(-maker.clicks // BLOCK_ROWS)
    with tempfile.TemporaryDirectory(dir=Path(file.name).parent, prefix=".buckets-", suffix=STAGED_SUFFIX) as name:
        with progress.task("making", maker.clicks, "clicks") as advance:
            for number, rows in enumerate(maker.blocks()):
                at_random = maker.rng(SCATTER, number).integers(0, count, len(rows))
                _scatter(rows, at_random if order == "shuffled" else _time_bucket(rows, count), Path(name))
                advance(len(rows))
        with progress.task("ordering", maker.clicks, "clicks") as advance:
            for number in range(count):
                rows = _take_bucket(Path(name) / str(number), maker.row)
                at_random = maker.rng(BUCKET, number).permutation(len(rows))
                rows = rows[at_random if order == "shuffled" else np.argsort(rows["time"], kind="stable")]
                _write(rows, maker, file)
                advance(len(rows))


def _time_bucket(rows: Rows, count: int) -> Int64:
    """The bucket of each row, 0 to `count` - 1: equal spans of the log's time."""
    buckets: Int64 = (rows["time"] - FIRST_MS) * count // (LAST_MS - FIRST_MS + 1)
    return buckets


def _scatter(rows: Rows, bucket: Int64, folder: Path) -> None:
    """Append each row to the file of its bucket, in unchanged order. Opened anew each time: there can be thousands."""
    ordered = rows[np.argsort(bucket, kind="stable")]
    edges = np.concatenate([[0], np.cumsum(np.bincount(bucket))])
    for number in np.flatnonzero(np.diff(edges)):
        with (folder / str(number)).open("ab") as file:
            ordered[edges[number] : edges[number + 1]].tofile(file)


def _take_bucket(path: Path, row: np.dtype[Any]) -> Rows:
    """Read a bucket and remove it; one that no row fell into is empty."""
    if not path.exists():
        return np.empty(0, dtype=row)
    rows = np.fromfile(path, dtype=row)
    path.unlink()
    return rows
