"""Writers: one life cycle (open, write, commit or abort), and formats that only encode.

A writer appends encoded blocks to a staged file. `commit` finishes it, flushes it and gives it its final name; leaving
the `with` block without a commit, for whatever reason, removes it.
"""

from __future__ import annotations

from pathlib import Path

import xxhash

from pocketrec.schema import Array
from pocketrec.storage.append import BulkFile
from pocketrec.storage.files import commit, content_hash, remove, staged_name
from pocketrec.storage.formats import Npy, Txt
from pocketrec.storage.manifest import OutputFile


class Writer:
    """One file in the making. Use it in a `with` block and call `commit` at its end."""

    def __init__(self, path: Path, form: Npy | Txt | None = None) -> None:
        """Open the staged file of `path`, the final name; without a form there is only `write_bytes`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.form, self.rows = path, form, 0
        self._staged = staged_name(path)
        self._hash = xxhash.xxh3_128()
        self._header = form.header(0) if form else b""
        self._finished, self._digest = False, ""
        remove(self._staged)  # left by a run that was killed; a link or a pipe must not be written through
        self._file = BulkFile(self._staged)
        try:
            self._file.append(self._header)
        except BaseException:  # no `with` block has begun yet that would do it
            self.abort()
            raise

    def write(self, block: Array) -> None:
        """Append rows."""
        assert self.form is not None
        self.write_bytes(self.form.encode(block), len(block))

    def write_bytes(self, encoded: bytes | memoryview, rows: int) -> None:
        """Append rows that are encoded already."""
        self._file.append(encoded)
        self.rows += rows
        self._hash.update(encoded)

    def finish(self) -> None:
        """Flush the whole file to the disk, still under its staged name.

        Of several files that belong together each is finished before the first is committed: a full disk raises an
        OSError here at the latest, and then none of the earlier files has been replaced.
        """
        if not self._finished:
            self._file.finish(self.form.header(self.rows) if self.form else b"")
            # A header that names the number of rows was not known when the hash began.
            self._digest = content_hash(self._staged) if self._header else self._hash.hexdigest()
            self._finished = True

    def commit(self) -> OutputFile:
        """Finish the file, give it its final name; return what the manifest says about it."""
        self.finish()
        commit(self._staged, self.path)
        shape = self.form.shape(self.rows) if self.form else (self.rows,)
        return OutputFile(self._file.size, self._digest, shape, self.form.dtype if self.form else "")

    def abort(self) -> None:
        """Remove what was written. Does nothing after a commit."""
        self._file.close()
        self._staged.unlink(missing_ok=True)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
