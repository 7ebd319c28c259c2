"""The items that a model knows, as two text files inside the model file: `items.txt` and `support.txt`.

Line i of items.txt is the id of the item with code i; line i of support.txt is the number of its clicks in training. The
two files are an uncompressed ZIP archive behind the flatbuffer ("Associated files" of LiteRT model metadata), so that
Android's MetadataExtractor, `unzip` and Python's zipfile can read them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from pocketrec.errors import DatasetError, ModelError
from pocketrec.schema import Float32, Int64

ITEMS, SUPPORT = "items.txt", "support.txt"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of the files in the archive; it never changes, so that the same model has the same bytes."""


@dataclass(frozen=True)
class Catalogue:
    """Item ids and numbers of clicks, both in the order of the item codes.

    Attributes:
        ids: the ids as text, also where they are numbers in the log.
        support: clicks of each item in training, int64 (n_items,).
    """

    ids: tuple[str, ...]
    support: Int64

    @classmethod
    def of(cls, ids: Iterable[object], support: Int64) -> Catalogue:
        """Make a catalogue from ids that are numbers or strings.

        Raises:
            DatasetError: an id is empty, has more than one line, or is there twice.
        """
        texts = tuple(map(str, ids))
        broken = next((text for text in texts if not text or "\n" in text or "\r" in text), None)
        if broken is not None or len(set(texts)) != len(texts):
            what = "is there twice" if broken is None else f"{broken!r} is not one line of text"
            raise DatasetError(f"An item id {what}.", expected="different ids, a line each", do="pocketrec ingest")
        return cls(texts, np.asarray(support, np.int64))

    @cached_property
    def hash(self) -> str:
        """XXH3-128 of items.txt, in hexadecimal: the same ids in the same order have the same hash."""
        return xxhash.xxh3_128(_lines(self.ids)).hexdigest()

    @cached_property
    def codes(self) -> dict[str, int]:
        """Item id -> code."""
        return {text: code for code, text in enumerate(self.ids)}

    @property
    def log_support(self) -> Float32:
        """log(support) for the logQ correction, (n_items,); a support of 0 counts as 1."""
        return np.log(np.maximum(self.support, 1)).astype(np.float32)

    def append_to(self, flatbuffer: bytes) -> bytes:
        """The bytes of a model file: the flatbuffer and, behind it, the archive with these items."""
        whole = io.BytesIO(flatbuffer)
        with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
            for name, lines in ((ITEMS, self.ids), (SUPPORT, map(str, self.support))):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), _lines(lines))
        return whole.getvalue()


def read_catalogue(path: Path) -> Catalogue:
    """Read the items of a model file.

    Raises:
        ModelError: the file has no items, or they are damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [archive.getinfo(name) for name in (ITEMS, SUPPORT)]
            if any(one.compress_type != zipfile.ZIP_STORED for one in members):
                raise ValueError("they are compressed")  # a small file must not unpack to a huge one
            if any(one.file_size > path.stat().st_size for one in members):
                raise ValueError("they are larger than the file")
            ids, support = (archive.read(one).decode("utf-8").split("\n")[:-1] for one in members)
        if len(ids) != len(support):
            raise ValueError(f"{len(ids)} ids and {len(support)} supports")
        return Catalogue(tuple(ids), np.array(support, np.int64))
    except (zipfile.BadZipFile, KeyError, ValueError, OverflowError, OSError, EOFError, RuntimeError) as error:
        raise ModelError(
            f"{path} is not an intact .tflite of pocketrec: the list of its items cannot be read ({error}).",
            expected=f"{ITEMS} and {SUPPORT} behind the model",
            do="pocketrec export",
        ) from error


def _lines(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()
