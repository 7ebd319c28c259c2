"""The items a model knows, inside its file: LiteRT model metadata's associated files, `items.txt` and `support.txt`.

Associated files are a ZIP archive behind the flatbuffer, uncompressed, so that Android's MetadataExtractor, `unzip` and
Python's zipfile all read them (LiteRT model metadata, "Associated files"). Line i of items.txt is the id of the item with
code i, line i of support.txt how often it was clicked in training.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from pocketrec.errors import DatasetError, ModelError

ITEMS, SUPPORT = "items.txt", "support.txt"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of the archive's members: the same model has the same bytes."""


@dataclass(frozen=True)
class Catalogue:
    """Item ids and supports in the order of the codes.

    Attributes:
        ids: as text, whatever they were in the log.
        support: clicks in training; int64 (n_items,).
    """

    ids: tuple[str, ...]
    support: npt.NDArray[np.int64]

    @classmethod
    def of(cls, ids: Iterable[object], support: npt.NDArray[np.int64]) -> Catalogue:
        """Take numbers or strings as ids.

        Raises:
            DatasetError: an id that is no line of text, or there twice.
        """
        texts = tuple(map(str, ids))
        broken = next((text for text in texts if len(text.splitlines()) != 1), None)
        if broken is not None or len(set(texts)) != len(texts):
            what = "is there twice" if broken is None else f"{broken!r} is not one line of text"
            raise DatasetError(f"An item id {what}.", expected="different ids, a line each", do="pocketrec ingest")
        return cls(texts, np.asarray(support, np.int64))

    @cached_property
    def hash(self) -> str:
        """XXH3-128 of items.txt: equal for the same ids in the same order."""
        return xxhash.xxh3_128(_lines(self.ids)).hexdigest()

    @cached_property
    def codes(self) -> dict[str, int]:
        """The code of each id."""
        return {text: code for code, text in enumerate(self.ids)}

    @property
    def log_support(self) -> npt.NDArray[np.float32]:
        """Of the logQ correction: log(support), of 1 where it is 0."""
        return np.log(np.maximum(self.support, 1)).astype(np.float32)

    def append_to(self, flatbuffer: bytes) -> bytes:
        """A model file with these items behind it."""
        whole = io.BytesIO(flatbuffer)
        with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
            for name, lines in ((ITEMS, self.ids), (SUPPORT, map(str, self.support))):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), _lines(lines))
        return whole.getvalue()


def read_catalogue(path: Path) -> Catalogue:
    """The items of a model file.

    Raises:
        ModelError: it has none, or they are damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            ids, support = (_content(archive, name).split("\n")[:-1] for name in (ITEMS, SUPPORT))
        if len(ids) != len(support):
            raise ValueError(f"{len(ids)} ids and {len(support)} supports")
        return Catalogue(tuple(ids), np.array(support, np.int64))
    except (zipfile.BadZipFile, KeyError, ValueError, OverflowError, OSError, EOFError, NotImplementedError) as error:
        raise ModelError(
            f"{path} is not an intact .tflite of pocketrec: the list of its items cannot be read ({error}).",
            expected=f"{ITEMS} and {SUPPORT} behind the model",
            do="pocketrec export",
        ) from error


def _content(archive: zipfile.ZipFile, name: str) -> str:
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED:  # nothing may unpack to more than is there
        raise ValueError(f"{name} is compressed")
    return archive.read(member).decode("utf-8")


def _lines(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()
