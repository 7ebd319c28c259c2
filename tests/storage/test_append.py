"""Large files: what is appended is what is there, whatever the pieces, and a disk that fails is heard of."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.storage import append as bulk
from pocketrec.storage.append import BulkFile


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=70), max_size=20), st.binary(max_size=5))
def test_pieces_add_up(pieces: list[bytes], head: bytes) -> None:
    whole = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(bulk, "WINDOW", 16)
        patch.setattr(bulk, "BYTES_PER_CALL", 7)
        path = Path(folder, "file")
        file = BulkFile(path)
        for piece in pieces:
            file.append(memoryview(piece))
        assert file.size == len(whole)
        head = head[: len(whole)]
        file.finish(head)
        assert path.read_bytes() == head + whole[len(head) :]


def test_a_window_that_could_not_be_flushed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems find out that they are full only then."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr(bulk, "WINDOW", 4)
    file = BulkFile(tmp_path / "file")
    file.append(b"12345")
    with pytest.raises(OSError, match="No space left"):
        file.append(b"12345")
    file.close()
    file.close()
