"""Where the bytes of a log come from: a file, an archive, or standard input. They are streamed, never unpacked to disk.

The first bytes say what a file is, not its name. From an archive of several files the one that is asked for is taken, or
the click log: Kaggle's recsys-challenge-2015.zip has the buys and the test set beside it. Text of another encoding becomes
UTF-8 on the way.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import errno
import gzip
import io
import lzma
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NamedTuple, cast

import xxhash

from pocketrec.errors import LogError
from pocketrec.sources.options import UTF8
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
BLOCK_BYTES = 1 << 20
MAX_LINE = 1 << 20
"""Bytes that may follow the end of a block until its last line ends: a file without line ends would fill the memory."""
MAX_EXPANSION = 200
"""An archive may unpack to so many times its size (click logs: 4 to 10 times), and in any case to `MIN_LIMIT` bytes."""
MIN_LIMIT = 1 << 30

_UNREAD = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar", b"PAR1\x15": "Parquet"}
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
_PACKED |= {b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2"}
_TAR_MARK = b"ustar"
"""At byte 257 of the first header of a tar file."""
_TAR_HEAD = 262
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
HEAD = 512
"""First bytes by which the kind of a file is known."""
_NAMES_SHOWN = 10
_BESIDE = "__MACOSX"
"""A folder that macOS puts into a zip, with files of metadata that have the names of the real ones."""

_DAMAGE = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
    zipfile.BadZipFile,
    tarfile.TarError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    IndexError,
    OverflowError,
)
"""What Python's readers of archives raise over a damaged one; besides an OSError that does not come from the system."""


def packing(head: bytes) -> str:
    """What the first bytes of a file say: gzip, zstd, zip, bzip2, xz, tar, or "" for anything else."""
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # a frame that zstd skips
        return "zstd"
    if head[:3] == b"BZh" and head[4:10] not in (b"1AY&SY", b"\x17rE8P\x90"):  # of a block, or of an empty file's end
        return ""
    known = next((kind for start, kind in _PACKED.items() if head.startswith(start)), "")
    return known or ("tar" if head[257:_TAR_HEAD] == _TAR_MARK else "")


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
        return packing(file.read(HEAD))


def reads_anywhere(log: Path, encoding: str) -> bool:
    """Whether a log is a file of text in UTF-8 as it stands, which can be read from any place in it."""
    if log == STDIN or codecs.lookup(encoding).name != UTF8:
        return False
    with log.open("rb") as file:
        head = file.read(HEAD)
    return not (packing(head) or unread_packing(head) or head.startswith(_UTF16))


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

    def head(self, size: int) -> bytes:
        """Whole lines from the beginning, of at most about that size; the stream has been read as far."""
        with _damage_named(self.name):
            text = self.file.read(size)
        end = text.rfind(b"\n") + 1
        return text[:end] if end and len(text) == size else text

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
def open_log(log: Path, wanted: Wanted = CLICKS, *, encoding: str = UTF8, member: str = "") -> Iterator[Stream]:
    """Open a log for streaming.

    Args:
        log: a file, or `STDIN`.
        wanted: which member of an archive is read where none is named.
        encoding: of the text; UTF-16 is known by its mark in any case.
        member: of an archive: its name, or the end of it.

    Raises:
        LogError: an archive without a click log in it, or one that cannot be opened, or one inside another.
    """
    with contextlib.ExitStack() as stack:
        if log == STDIN:
            if sys.stdin is None:
                raise LogError("standard input is closed.", expected="a click log on it", do="pipe one in, or name a file")
            raw, name, size, position = cast(IO[bytes], sys.stdin.buffer), "standard input", 0, lambda: 0
        else:
            file = stack.enter_context(log.open("rb"))
            raw, name, size, position = file, str(log), log.stat().st_size, file.tell
        buffered = io.BufferedReader(cast(Any, raw), 1 << 16) if log == STDIN else raw
        digest = xxhash.xxh3_128() if log == STDIN else None
        with _damage_named(name):
            head = buffered.peek(HEAD) if log == STDIN else raw.read(HEAD)  # type: ignore[attr-defined]
            if log != STDIN:
                raw.seek(0)
            kind = packing(head[:HEAD])
            if kind and log == STDIN:
                packed = f"standard input is packed ({kind})."
                raise LogError(packed, expected="text", do="unpack it on the way, as in `gzip -dc`, or name the file")
            inside, found = _unpacked(buffered, kind, log, wanted, member, stack)
            inside = io.BufferedReader(cast(Any, inside), 1 << 16) if kind else inside
            name = f"{name}:{found}" if found else name
            head = inside.peek(HEAD)[:HEAD] if kind else head  # type: ignore[attr-defined]
        if member and not found:
            raise LogError(f"{name} is not an archive of files.", expected="a zip or tar file", do="leave out --member")
        if (inner := packing(head)) and kind:
            raise LogError(f"{name} is itself packed ({inner}).", expected="a click log", do="unpack it once and give that")
        if other := unread_packing(head):
            read = "plain text, gzip, zstd, bzip2, xz, zip or tar"
            if other == "Parquet":
                raise LogError(f"{name} is a Parquet file.", expected=read, do="give it as a file of its own")
            raise LogError(f"{name} is packed ({other}).", expected=read, do="unpack it")
        limit = max(MIN_LIMIT, MAX_EXPANSION * size) if kind else sys.maxsize
        encoding = "utf-16" if head.startswith(_UTF16) else encoding
        if codecs.lookup(encoding).name != UTF8:
            inside = io.BufferedReader(_Recoded(inside, encoding, name), 1 << 20)
        yield Stream(name, found, cast(BinaryIO, inside), position, limit, digest)


def not_encoded(name: str, encoding: str, error: UnicodeDecodeError) -> LogError:
    """The error for a log of that name that has another encoding."""
    return LogError(
        f"{name} is not {encoding} ({error.reason}).",
        expected=f"text in {encoding}",
        do="say the encoding that it has: --encoding NAME",
    )


class _Recoded(io.RawIOBase):
    """A text of another encoding, as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str, name: str) -> None:
        self.file, self.decoder, self.encoding, self.name = file, codecs.getincrementaldecoder(encoding)(), encoding, name
        self._ready, self._done = b"", False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes of the text in UTF-8."""
        while not self._ready and not self._done:
            some = self.file.read(1 << 18)
            self._done = not some
            try:
                self._ready = self.decoder.decode(some, final=self._done).encode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise not_encoded(self.name, self.encoding, error) from error
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


def _unpacked(
    raw: IO[bytes], kind: str, log: Path, wanted: Wanted, asked: str, stack: contextlib.ExitStack
) -> tuple[IO[bytes], str]:
    """The bytes inside, and for an archive of files the name of the member."""
    openers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: gzip.GzipFile(fileobj=cast(BinaryIO, raw)),
        "zstd": lambda: zstd.ZstdFile(raw),
        "bzip2": lambda: bz2.BZ2File(raw),
        "xz": lambda: lzma.LZMAFile(raw),  # noqa: SIM115
    }
    if kind == "zip":
        archive = stack.enter_context(zipfile.ZipFile(raw))
        inside = {one.filename: one for one in archive.infolist() if not one.is_dir()}
        member = inside[_member(list(inside), log, wanted, asked)]
        if member.flag_bits & 1:
            raise LogError(f"{log}:{member.filename} is encrypted.", expected="a zip without a password", do="unpack it")
        return stack.enter_context(archive.open(member)), member.filename
    if kind == "tar":
        return _of_tar(raw, log, wanted, asked, stack)
    if kind not in openers:
        return raw, ""
    with openers[kind]() as first:  # a tar file inside is read twice: once for the names of its members
        is_tar = packing(first.read(HEAD)) == "tar"
    raw.seek(0)
    file = cast(IO[bytes], stack.enter_context(openers[kind]()))
    return _of_tar(file, log, wanted, asked, stack) if is_tar else (file, "")


def _of_tar(file: IO[bytes], log: Path, wanted: Wanted, asked: str, stack: contextlib.ExitStack) -> tuple[IO[bytes], str]:
    """A member of a tar file."""
    archive = stack.enter_context(tarfile.open(fileobj=file, mode="r:"))  # noqa: SIM115
    inside = {one.name: one for one in archive if one.isfile()}
    name = _member(list(inside), log, wanted, asked)
    return stack.enter_context(cast(IO[bytes], archive.extractfile(inside[name]))), name


def _member(inside: list[str], log: Path, wanted: Wanted, asked: str) -> str:
    """The log in an archive: the one asked for, the only one there is, or the only one whose name says so."""
    members = [name for name in inside if PurePosixPath(name).parts[0] != _BESIDE]
    if asked:
        found = [name for name in members if name == asked] or [name for name in members if name.endswith(f"/{asked}")]
    else:
        named = [name for name in members if wanted.names.search(PurePosixPath(name).name)]
        found = members if len(members) == 1 else named
    if len(found) != 1:
        names = ", ".join(members[:_NAMES_SHOWN]) or "nothing"
        more = f" and {len(members) - _NAMES_SHOWN:,} more" if len(members) > _NAMES_SHOWN else ""
        what = f"has no file {asked}, or more than one" if asked else f"does not say which of its files holds {wanted.what}"
        raise LogError(
            f"{log} {what}; it holds {names}{more}.",
            expected=f"one file, or one that is called {wanted.what}",
            do="say which: --member NAME",
        )
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
