"""The ids that a model knows, as text files in the model file: `items.txt`, `support.txt`, and of ncf and dnn `users.txt`.

Line i of items.txt is the id of the item with code i; line i of support.txt is the number of its clicks or ratings in
training; line i of users.txt is the id of the user with code i. An empty first line says that code 0 stands for all that
are not known. The files are an uncompressed ZIP archive behind the flatbuffer ("Associated files" of LiteRT model
metadata), so that Android's MetadataExtractor, `unzip` and Python's zipfile can read them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from pocketrec.errors import DatasetError, ModelError
from pocketrec.schema import Bool, Float32, Int64

ITEMS, SUPPORT, USERS = "items.txt", "support.txt", "users.txt"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of the files in the archive; it never changes, so that the same model has the same bytes."""


@dataclass(frozen=True)
class Catalogue:
    """Item ids and numbers of clicks, both in the order of the item codes, and ids of users in the order of theirs.

    Attributes:
        ids: the ids of items as text, also where they are numbers in the log; "" for a code of unknown items.
        support: clicks or ratings of each item in training, int64 (n_items,).
        users: the ids of users as text; none in a GRU4Rec.
    """

    ids: tuple[str, ...]
    support: Int64
    users: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        ids: Iterable[object],
        support: Int64,
        users: Iterable[object] = (),
        *,
        unknown: bool = False,
        do: str = "pocketrec ingest",
    ) -> Catalogue:
        """Make a catalogue from ids that are numbers or strings.

        Args:
            ids: of items.
            support: of items.
            users: ids of users.
            unknown: code 0 stands for all that are not known, and the first id has code 1.
            do: the command that reads the log, for the message.

        Raises:
            DatasetError: an id is empty, has more than one line, or is there twice.
        """
        first, none = (("",), [0]) if unknown else ((), [])
        items, people = _texts("An item id", ids, do), _texts("A user id", users, do)
        counts = np.concatenate([np.array(none, np.int64), np.asarray(support, np.int64)])
        return cls((*first, *items), counts, (*first, *people) if people else ())

    @cached_property
    def hash(self) -> str:
        """XXH3-128 of items.txt, in hexadecimal: the same ids in the same order have the same hash."""
        return xxhash.xxh3_128(_lines(self.ids)).hexdigest()

    @cached_property
    def users_hash(self) -> str:
        """XXH3-128 of users.txt, in hexadecimal; "" if there are none."""
        return xxhash.xxh3_128(_lines(self.users)).hexdigest() if self.users else ""

    @cached_property
    def codes(self) -> dict[str, int]:
        """Item id -> code."""
        return {text: code for code, text in enumerate(self.ids)}

    @cached_property
    def user_codes(self) -> dict[str, int]:
        """User id -> code."""
        return {text: code for code, text in enumerate(self.users)}

    @property
    def log_support(self) -> Float32:
        """log(support) for the logQ correction, (n_items,); a support of 0 counts as 1."""
        return np.log(np.maximum(self.support, 1)).astype(np.float32)

    @property
    def files(self) -> dict[str, tuple[str, Iterable[str]]]:
        """The files of the archive: name -> (what it holds, its lines)."""
        files: dict[str, tuple[str, Iterable[str]]] = {
            ITEMS: ("item ids, line i: code i", self.ids),
            SUPPORT: ("clicks of each item in training", map(str, self.support)),
        }
        return files | ({USERS: ("user ids, line i: code i", self.users)} if self.users else {})

    def append_to(self, flatbuffer: bytes) -> bytes:
        """The bytes of a model file: the flatbuffer and, behind it, the archive with these ids."""
        whole = io.BytesIO(flatbuffer)
        with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
            for name, (_, lines) in self.files.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), _lines(lines))
        return whole.getvalue()


def known_codes(codes: Mapping[str, int], ids: Iterable[object]) -> list[int]:
    """The codes of ids, in their order; those that have none are skipped."""
    return [codes[text] for text in map(str, ids) if text in codes]


def codes_of(codes: Mapping[str, int], ids: Sequence[object], path: Path) -> list[int]:
    """`known_codes` for the model in a file.

    Raises:
        ModelError: the model knows none of the ids.
    """
    found = known_codes(codes, ids)
    if not found:
        raise ModelError(
            f"{path} knows none of the items {', '.join(map(str, ids)) or '(there are none)'}.",
            expected=f"ids of its {len(codes):,} items, {next(iter(codes))} for one",
            do=f"pocketrec inspect {path}",
        )
    return found


def wanted_items(codes: Mapping[str, int], n_items: int, exclude: Iterable[object], allow: Iterable[object] | None) -> Bool:
    """Which items may be recommended, (n_items,): those of `allow`, or all if that is None, without those of `exclude`."""
    wanted = np.full(n_items, allow is None)
    wanted[known_codes(codes, allow or ())] = True
    wanted[known_codes(codes, exclude)] = False
    return wanted


def _texts(what: str, ids: Iterable[object], do: str) -> tuple[str, ...]:
    texts = tuple(map(str, ids))
    broken = next((text for text in texts if not text or "\n" in text or "\r" in text), None)
    if broken is not None or len(set(texts)) != len(texts):
        wrong = "is there twice" if broken is None else f"{broken!r} is not one line of text"
        raise DatasetError(f"{what} {wrong}.", expected="different ids, a line each", do=do)
    return texts


def read_catalogue(path: Path, do: str = "pocketrec export") -> Catalogue:
    """Read the ids of a model file; `do` is the command that makes such a file, for the message.

    Raises:
        ModelError: the file has no items, or they are damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [ITEMS, SUPPORT, *({USERS} & set(archive.namelist()))]
            members = [archive.getinfo(name) for name in names]
            if any(one.compress_type != zipfile.ZIP_STORED for one in members):
                raise ValueError("they are compressed")  # a small file must not unpack to a huge one
            if any(one.file_size > path.stat().st_size for one in members):
                raise ValueError("they are larger than the file")
            ids, support, *users = (archive.read(one).decode("utf-8").split("\n")[:-1] for one in members)
        if len(ids) != len(support):
            raise ValueError(f"{len(ids)} ids and {len(support)} supports")
        return Catalogue(tuple(ids), np.array(support, np.int64), tuple(users[0]) if users else ())
    except (zipfile.BadZipFile, KeyError, ValueError, OverflowError, OSError, EOFError, RuntimeError) as error:
        raise ModelError(
            f"{path} is not an intact .tflite of pocketrec: the list of its items cannot be read ({error}).",
            expected=f"{ITEMS} and {SUPPORT} behind the model",
            do=do,
        ) from error


def _lines(texts: Iterable[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()
