"""Where the bytes of a log come from: a file, an archive, or standard input. They are streamed, never unpacked to disk.

The first bytes say what a file is, not its name. From a zip of several files the click log is taken: Kaggle's
recsys-challenge-2015.zip has the buys and the test set beside it.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import lzma
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NamedTuple, cast

import xxhash

from pocketrec.errors import LogError
from pocketrec.storage.files import check_name

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STDIN = Path("-")


class Wanted(NamedTuple):
    """Which member of a zip is read: what it holds, for messages, and a pattern of its name."""

    what: str
    names: re.Pattern[str]


CLICKS = Wanted("clicks", re.compile("clicks", re.IGNORECASE))
BLOCK_BYTES = 1 << 21
MAX_LINE = 1 << 20
"""Bytes that may follow the end of a block until its last line ends: a file without line ends would fill the memory."""
MAX_EXPANSION = 200
"""An archive may unpack to so many times its size (click logs: 4 to 10 times), and in any case to `MIN_LIMIT` bytes."""
MIN_LIMIT = 1 << 30

_UNREAD = {b"\xfd7zXZ\x00": "xz", b"BZh91AY&SY": "bzip2", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar"}
_BESIDE = "__MACOSX"
"""A folder that macOS puts into a zip, with files of metadata that have the names of the real ones."""

_DAMAGE = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
    zipfile.BadZipFile,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    IndexError,
    OverflowError,
)
"""What Python's readers of archives raise over a damaged one; besides an OSError that does not come from the system."""


def packing(head: bytes) -> str:
    """What the first bytes of a file say: gzip, zstd, zip, or "" for anything else."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):  # or a frame to be skipped
        return "zstd"
    return "zip" if head[:4] in (b"PK\x03\x04", b"PK\x05\x06") else ""


def unread_packing(head: bytes) -> str:
    """The name of a packing that is known but not read, by its first bytes; "" for anything else."""
    return next((name for start, name in _UNREAD.items() if head.startswith(start)), "")


def check_log(log: Path, expected: str = "a click log") -> None:
    """See that a log can be read at all.

    Raises:
        LogError: it does not exist, is not a file, or cannot be read by this user.
        FolderError: its name has bytes that are not UTF-8.
    """
    if log == STDIN:
        return
    check_name(log)
    if not log.exists():
        raise LogError(f"{log} does not exist.", expected=expected, do="check the path; `pocketrec synth` makes a log")
    if not log.is_file():
        raise LogError(f"{log} is not a file.", expected=f"{expected}; - is standard input")
    try:
        packing_of(log)
    except OSError as error:
        expected = f"{expected} that this user can read"
        raise LogError(f"{log} cannot be read ({error.strerror}).", expected=expected) from error


def packing_of(log: Path) -> str:
    """What a file's first bytes say it is."""
    with log.open("rb") as file:
        return packing(file.read(4))


@dataclass
class Stream:
    """An open log.

    Attributes:
        name: for messages: the path, and the member of a zip.
        member: of a zip, else "".
        file: its unpacked bytes.
        position: tells how many (packed) bytes were read from the disk.
        limit: the most unpacked bytes there may be.
        digest: of the bytes that were read, for a stream that cannot be read again.
        done: unpacked bytes that have been read.
    """

    name: str
    member: str
    file: BinaryIO
    position: Callable[[], int]
    limit: int
    digest: xxhash.xxh3_128 | None = None
    done: int = 0

    def blocks(self, advance: Callable[[int], None]) -> Iterator[bytes]:
        """The log in blocks of whole lines of about `BLOCK_BYTES`; `advance` is told about packed bytes read.

        Raises:
            LogError: the archive is cut or damaged, or unpacks to more than its limit; or a line is too long.
        """
        told = 0
        while block := self._read():
            self.done += len(block)
            if self.digest:
                self.digest.update(block)
            if self.done > self.limit:
                raise self.too_large()
            position = self.position()
            advance(position - told)
            told = position
            yield block

    def too_large(self) -> LogError:
        """The error for what unpacks to more than `limit`."""
        return LogError(
            f"{self.name} unpacks to more than {self.limit:,} bytes.",
            expected=f"a packed click log: at most {MAX_EXPANSION} times its size, or {MIN_LIMIT:,} bytes",
            do="if it is meant to be so large, unpack it and give the file",
        )

    def _read(self) -> bytes:
        with _damage_named(self.name):
            block = self.file.read(BLOCK_BYTES)
            if block and not block.endswith(b"\n"):
                rest = self.file.readline(MAX_LINE)
                if len(rest) == MAX_LINE and not rest.endswith(b"\n"):
                    begin = self.done + block.rfind(b"\n") + 1
                    raise LogError(
                        f"{self.name} has a line of more than {MAX_LINE:,} bytes, which begins after byte {begin:,}.",
                        expected="a text file of one click a line",
                        do="remove that line; if there are no line ends at all, it is another kind of file",
                    )
                block += rest
        return block


@contextlib.contextmanager
def open_log(log: Path, wanted: Wanted = CLICKS) -> Iterator[Stream]:
    """Open a log for streaming.

    Raises:
        LogError: an archive without a click log in it, or one that cannot be opened, or one inside another.
    """
    if log == STDIN:
        yield _standard_input()
        return
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(log.open("rb"))
        kind, size = packing_of(log), log.stat().st_size
        limit = max(MIN_LIMIT, MAX_EXPANSION * size) if kind else sys.maxsize
        with _damage_named(str(log)):
            file, member = _unpacked(raw, kind, log, wanted, stack)
            buffered = io.BufferedReader(cast(Any, file), 1 << 16) if kind else raw
            head = buffered.peek(16) if kind else raw.read(16)
            inner = (packing(head) if kind else "") or unread_packing(head)
        name = f"{log}:{member}" if member else str(log)
        if inner and kind:
            raise LogError(f"{name} is itself packed ({inner}).", expected="a click log", do="unpack it once and give that")
        if inner:
            raise LogError(f"{name} is packed ({inner}).", expected="plain text, gzip, zstd or zip", do="unpack it")
        if not kind:
            raw.seek(0)
        yield Stream(name, member, cast(BinaryIO, buffered), raw.tell, limit)


def _standard_input() -> Stream:
    if sys.stdin is None:
        raise LogError("standard input is closed.", expected="a click log on it", do="pipe one in, or name a file")
    file = io.BufferedReader(cast(Any, sys.stdin.buffer), 1 << 16)
    if kind := packing(file.peek(16)) or unread_packing(file.peek(16)):
        packed = f"standard input is packed ({kind})."
        raise LogError(packed, expected="text", do="unpack it on the way, as in `gzip -dc`, or name the file")
    return Stream("standard input", "", file, lambda: 0, sys.maxsize, xxhash.xxh3_128())


def _unpacked(raw: BinaryIO, kind: str, log: Path, wanted: Wanted, stack: contextlib.ExitStack) -> tuple[IO[bytes], str]:
    """The bytes inside, and for a zip the name of the member."""
    if kind == "gzip":
        return cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=raw))), ""
    if kind == "zstd":
        return cast(IO[bytes], stack.enter_context(zstd.ZstdFile(raw))), ""
    if kind == "zip":
        archive = stack.enter_context(zipfile.ZipFile(raw))
        member = _member(archive, log, wanted)
        return stack.enter_context(archive.open(member)), member.filename
    return raw, ""


def _member(archive: zipfile.ZipFile, log: Path, wanted: Wanted) -> zipfile.ZipInfo:
    """The log in a zip: the only member there is, or the only one whose name says so."""
    inside = [member for member in archive.infolist() if not member.is_dir()]
    members = [member for member in inside if PurePosixPath(member.filename).parts[0] != _BESIDE]
    named = [member for member in members if wanted.names.search(PurePosixPath(member.filename).name)]
    found = members if len(members) == 1 else named
    if len(found) != 1:
        names = ", ".join(member.filename for member in members[:10]) or "nothing"
        raise LogError(
            f"{log} does not say which of its files holds {wanted.what}; it holds {names}.",
            expected=f"one file, or one that is called {wanted.what}",
            do="unpack it and give the file",
        )
    if found[0].flag_bits & 1:
        raise LogError(f"{log}:{found[0].filename} is encrypted.", expected="a zip without a password", do="unpack it")
    return found[0]


@contextlib.contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Turn what the readers of archives raise into one clear error."""
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a seek to before the beginning
            raise LogError(f"{name} cannot be read any further ({error.strerror}).", expected="all of the log") from error
        why = str(error).rstrip(".") or error.__class__.__name__
        raise LogError(
            f"{name} is cut or damaged ({why}).", expected="a whole archive", do="download or copy it again"
        ) from error
