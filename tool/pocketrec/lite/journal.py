"""A user's journal: the newest sessions, item ids as text, in memory and in a file that can be deleted.

The file is JSON lines: first an object with the format and how many sessions were observed in all, then a session a line.
It holds what one person did, so only its owner can read it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pocketrec.errors import ModelError
from pocketrec.storage.files import regular_file, staged_file
from pocketrec.storage.space import room

FORMAT = 1
Session = tuple[str, ...]


class Journal:
    """The newest sessions of a user, of `limit` clicks at most.

    Args:
        path: the file; None for a journal that is in memory only.
        limit: clicks that are kept. The oldest session goes first; of one that is longer than this the newest clicks stay.

    Attributes:
        sessions: those that are kept, oldest first.
        observed: how many were added in all.

    Raises:
        ModelError: the file is there and is not a journal.
    """

    def __init__(self, path: Path | None, limit: int) -> None:
        self._path, self._limit = path, limit
        self.sessions: tuple[Session, ...] = ()
        self.observed = 0
        if path is not None and path.exists():
            self._read(path)

    def add(self, session: Sequence[object]) -> Session:
        """Add a session of one click or more, and write the file; what is kept of the session.

        Raises:
            FolderError, SpaceError: the file cannot be written; the journal stays as it was.
        """
        newest = tuple(map(str, session))[-self._limit :]
        kept, clicks = [newest], len(newest)
        for one in reversed(self.sessions):
            if (clicks := clicks + len(one)) > self._limit:
                break
            kept.append(one)
        self._write(tuple(reversed(kept)), self.observed + 1)
        return newest

    def forget(self) -> None:
        """Delete the file and empty the journal."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.sessions, self.observed = (), 0

    def newer_than(self, observed: int) -> tuple[Session, ...]:
        """The sessions that were added since there were `observed`, as far as they are kept."""
        count = self.observed - observed
        return self.sessions[max(0, len(self.sessions) - count) :] if count > 0 else ()

    def take(self, other: Journal) -> None:
        """Take over the sessions of another journal."""
        for one in other.sessions:
            self.add(one)

    def _write(self, sessions: tuple[Session, ...], observed: int) -> None:
        if self._path is not None:
            lines = [json.dumps({"format": FORMAT, "observed": observed}), *(json.dumps(one) for one in sessions)]
            with room(self._path.parent, "observe"), staged_file(self._path) as staged:
                staged.touch(0o600)
                staged.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.sessions, self.observed = sessions, observed

    def _read(self, path: Path) -> None:
        what, do = "a journal of OnDeviceModel.observe", "delete it; what was observed is lost, what was learned is not"
        regular_file(path, what, do)
        try:
            head, *sessions = map(json.loads, path.read_text("utf-8").splitlines())
            if head["format"] != FORMAT or not isinstance(head["observed"], int) or head["observed"] < len(sessions):
                raise ValueError(f"its first line is {head}, with {len(sessions)} sessions")
            for one in sessions:
                if not (isinstance(one, list) and one and all(isinstance(text, str) for text in one)):
                    raise ValueError(f"{one!r:.80} is not a session")
        except (ValueError, TypeError, KeyError, OSError, RecursionError) as error:
            why = f"{error.__class__.__name__}: {error}"
            raise ModelError(f"{path} cannot be read ({why}).", expected=what, do=do) from error
        self.sessions, self.observed = tuple(map(tuple, sessions)), head["observed"]
