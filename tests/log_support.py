"""What several tests of logs use: times in every form, damaged lines, and what an ingest kept."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import strategies as st

from conftest import Click
from pocketrec.ingestion.parts import Parts, read_columns
from pocketrec.progress import Advance
from pocketrec.sources.lines import original
from pocketrec.sources.parquet import MAGIC
from pocketrec.sources.streams import packing, unread_packing
from pocketrec.storage.layout import Dataset

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TIMES = (
    b"2014-04-07T10:51:09.277Z", b"2014-04-07T10:51:09Z", b"2014-04-07 10:51:09", b"2014-04-07T10:51:09.1+02:00",
    b"2014-04-07T10:51:09-0530", b"1396867869", b"1396867869277", b"1396867869.277", b"2014-02-29T10:51:09.277Z",
)  # fmt: skip


def is_packed(log: bytes) -> bool:
    """Whether a reader would take the bytes of a log for a packed file or for Parquet, and not for text."""
    return bool(packing(log) or unread_packing(log)) or log.startswith(MAGIC)


def texts(logs: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Those logs that no reader takes for anything but text."""
    return logs.filter(lambda log: not is_packed(log))


mutations = st.tuples(
    st.integers(0, 45),
    st.integers(0, 4),
    st.binary(max_size=3) | st.text(alphabet='0123456789,.-+ TZ:"\t\r\n\x00', max_size=4).map(str.encode),
)


def rejects(root: Path) -> list[tuple[int, str, bytes]]:
    """Line numbers, reasons and bytes by Python's csv."""
    with Dataset(root).rejects.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["line", "reason", "text"]
    return [(int(number), reason, original(text)) for number, reason, text in rows]


def kept(root: Path) -> list[tuple[int, ...]]:
    """Clicks in the order of the log; `row` is without gaps."""
    columns = ("row", "session", "item", "time")
    rows = [
        row
        for path in Parts(Dataset(root)).folders
        for row in zip(*(column.tolist() for column in read_columns(path, columns)), strict=True)
    ]
    assert sorted(row[0] for row in rows) == list(range(len(rows)))
    return [row[1:] for row in sorted(rows)]


README = "dataset-README.txt"


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def tarred(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members:
            found = tarfile.TarInfo(name)
            found.size = len(data)
            archive.addfile(found, io.BytesIO(data))
    return file.getvalue()


def kaggle(data: bytes) -> bytes:
    return zipped(
        (README, b"read me"), ("yoochoose-buys.dat", b"1,2,3"), ("yoochoose-clicks.dat", data), ("yoochoose-test.dat", data)
    )


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "several gzips": lambda data: b"".join(gzip.compress(data[at : at + 999]) for at in range(0, len(data), 999)),
    "zstd": zstd.compress,
    "several frames": lambda data: zstd.compress(data[:1000]) + zstd.compress(data[1000:]),
    "a frame to skip": lambda data: b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstd.compress(data),
    "zip": lambda data: zipped(("any.dat", data)),
    "zip, stored": lambda data: zipped(("any.dat", data), method=zipfile.ZIP_STORED),
    "zip, bzip2": lambda data: zipped(("any.dat", data), method=zipfile.ZIP_BZIP2),
    "zip, lzma": lambda data: zipped(("any.dat", data), method=zipfile.ZIP_LZMA),
    "zip, made on a Mac": lambda data: zipped(
        ("yoochoose-clicks.dat", data), ("__MACOSX/._yoochoose-clicks.dat", b"\x00\x05\x16\x07")
    ),
    "zip, in a folder": lambda data: zipped(("data/", b""), ("data/yoochoose-clicks.dat", data), ("data/notes", b"")),
    "Kaggle's": kaggle,
    "bzip2": bz2.compress,
    "several bzip2s": lambda data: bz2.compress(data[:1000]) + bz2.compress(data[1000:]),
    "xz": lzma.compress,
    "tar": lambda data: tarred(("notes", b"read me"), ("data/yoochoose-clicks.dat", data)),
    "tar.gz": lambda data: gzip.compress(tarred(("notes", b"read me"), ("data/yoochoose-clicks.dat", data))),
    "tar.bz2": lambda data: bz2.compress(tarred(("any", data))),
    "tar.xz": lambda data: lzma.compress(tarred(("any", data))),
    "tar.zst": lambda data: zstd.compress(tarred(("any", data))),
}


CLICKS = [Click(session, 1_396_321_200_000 + 1000 * row, 10 + row) for row, session in enumerate((3, 1, 3, 2, 1, 9, 9))]


class Watched:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.totals: list[tuple[str, int, str]] = []
        self.done = 0

    @contextlib.contextmanager
    def task(self, what: str, total: int, unit: str = "bytes") -> Iterator[Advance]:
        self.totals.append((what, total, unit))
        yield self.advance

    def advance(self, done: int) -> None:
        self.done += done


def csv_of_text_ids(prefix: str) -> bytes:
    """Ten sessions of three clicks, a second apart, on ids that are text."""
    lines = [f"{prefix}-s{row // 3},{prefix}-i{row % 3},{1_400_000_000 + row}" for row in range(30)]
    return ("s,i,t\n" + "\n".join(lines) + "\n").encode()
