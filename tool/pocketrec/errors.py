"""What pocketrec raises when the data, the settings or the machine are at fault.

Every message answers three questions in this order: what was wrong, what was expected, what to do next. The command line
prints the message alone and exits with 1; a traceback means a defect in pocketrec itself.
"""

from __future__ import annotations

import importlib.util
import re


class PocketrecError(Exception):
    """Base of every error a user can cause or cure.

    Args:
        wrong: what was found, with the file, line or tensor it was found in.
        expected: what should have been there.
        do: the next thing to try, a command where there is one.
    """

    def __init__(self, wrong: str, *, expected: str = "", do: str = "") -> None:
        self.wrong, self.expected, self.do = wrong, expected, do
        lines = [wrong]
        if expected:
            lines.append(f"Expected: {expected}")
        if do:
            lines.append(f"To go on: {do}")
        super().__init__("\n".join(lines))


class LogError(PocketrecError):
    """The click log is missing, empty, or has a row that cannot be read."""


class SettingsError(PocketrecError):
    """The settings do not fit the data: too many lanes, a hold-out that leaves nothing to train on."""


class DatasetError(PocketrecError):
    """A file another stage should have written is missing, damaged or out of date."""


class FolderError(PocketrecError):
    """A folder or file cannot be written or read: no permission, a read-only disk, a file where a folder should be."""


class SpaceError(PocketrecError):
    """The disk is too small for what a stage writes, or became full while it wrote."""


class BusyError(PocketrecError):
    """Another process is at work on the same dataset folder."""


class ClusterError(PocketrecError):
    """Spark cannot be begun, or something that only the cluster knows stopped a stage there."""


class ModelError(PocketrecError):
    """A model file cannot be read, or does not have the signatures pocketrec needs."""


class MissingExtraError(PocketrecError):
    """An optional package is needed for this command and is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{package} is not installed; it is needed to {purpose}.", do=f"pip install 'pocketrec[{extra}]'")


EXTRAS = {
    "tensorflow": "train",
    "ai_edge_litert": "lite",
    "matplotlib": "lite",
    "jinja2": "report",
    "pyspark": "spark",
    "pandas": "spark",
}
"""Optional packages by the name they are imported by, and the extra of pocketrec that installs each."""


def require(purpose: str, *packages: str) -> None:
    """Raise a MissingExtraError for the first of some packages of `EXTRAS` that is not installed, without importing any.

    `purpose` is what they are needed to do, for the message.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), EXTRAS[package], purpose)


_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed; line and paragraph separator, marks of direction; halves of characters, which
stand for the bytes of a path that are not UTF-8."""


def visible(text: str) -> str:
    r"""The text with what cannot be seen as `\xNN` or `\uNNNN`; line feeds and tabs stay."""
    return _HIDDEN.sub(_code, text)


def _code(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
