"""Which files a log is: one, several, those of a folder or of a pattern, in the natural order of their names."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pocketrec.errors import LogError
from pocketrec.sources.streams import STDIN, check_log

Logs = Path | str | Sequence[Path | str]
"""A log as a user names it."""
_BESIDE = ("_", ".")
"""How files begin that Spark, Hadoop and macOS write beside the data: _SUCCESS, .part-0.crc, ._events.csv."""
_NAMES_SHOWN = 5


def named_logs(logs: Logs) -> list[Path]:
    """The names of a log, as a list: of files, folders or patterns."""
    return [Path(logs)] if isinstance(logs, str | Path) else [Path(log) for log in logs]


def log_files(logs: Logs, expected: str = "a click log") -> list[Path]:
    """The files of a log, in the order in which they are read.

    A folder stands for the files in it and below it, without those that begin with `_` or `.`; a name with `*`, `?` or `[`
    that no file has, for those that match.

    Raises:
        LogError: there is none, it is there twice, or it cannot be read.
        FolderError: its name has bytes that are not UTF-8.
    """
    named = named_logs(logs)
    if not named:
        raise LogError("no log is named.", expected=expected)
    if named == [STDIN]:
        return named
    if STDIN in named:
        raise LogError("standard input is one of several logs.", expected="files, or standard input alone")
    found = [path for log in named for path in _files_of(log, expected)]
    for path in found:
        check_log(path, expected)
    twice = [path for path in set(found) if found.count(path) > 1] if len(found) <= 1000 else []
    if twice or len({path.resolve() for path in found}) < len(found):
        raise LogError(f"{(twice or found)[0]} is there more than once.", expected="each file of the log once")
    return sorted(found, key=natural)


def _files_of(log: Path, expected: str) -> list[Path]:
    if log.is_dir():
        inside = [path for path in _below(log) if path.is_file()]
        if not inside:
            raise LogError(f"{log} is a folder without files to read.", expected=expected)
        return inside
    if not log.exists() and glob.has_magic(str(log)):
        matching = [Path(path) for path in glob.glob(str(log), recursive=True)]  # noqa: PTH207 (Path.glob takes no root)
        found = [path for path in matching if path.is_file() and not path.name.startswith(_BESIDE)]
        if not found:
            raise LogError(
                f"no file matches {log}.", expected=expected, do="check the path; quote the pattern for the shell"
            )
        return found
    return [log]


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if not path.name.startswith(_BESIDE):
            if path.is_dir():
                yield from _below(path)
            else:
                yield path


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A key by which part 2 comes before part 10."""
    pieces = re.split(r"([0-9]+)", str(path))
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def named_in_words(paths: Sequence[Path]) -> str:
    """Some files in their order, for messages."""
    names = ", ".join(path.name for path in paths[:_NAMES_SHOWN])
    return names + (f" and {len(paths) - _NAMES_SHOWN:,} more" if len(paths) > _NAMES_SHOWN else "")
