"""What a user can choose about ratings: how they are read, whose are used, and what happens where an item comes twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from pocketrec.errors import SettingsError
from pocketrec.schema import ITEM, SESSION, TIME
from pocketrec.settings import rules_of, setting
from pocketrec.sources.options import BadRows, Columns, ReadSettings

USER = "user"
"""What the command line calls the column of users; in clicks, which ratings are read as, it is the session."""

Duplicates = Literal["stop", "first"]
"""What happens where a user has an item twice: stop, or keep the earlier line of the file."""


def columns_setting(*names: str) -> Any:
    """The setting for a file's own names of these columns."""
    return setting(
        None,
        f"The file's own names of its columns, for a csv, tsv or Parquet file: {', '.join(names)}. Without it they are "
        "found by the names that MovieLens and others use.",
        metavar=",".join(f"{name}={letter}" for name, letter in zip(names, "ABCD", strict=False)),
        parse=partial(parse_rating_columns, names=names),
        text=rating_columns_text,
    )


def parse_rating_columns(text: str, names: Iterable[str]) -> dict[str, str] | None:
    """`user=A,item=B,time=C` as a mapping with the key `session` for the user; None for no text.

    A SettingsError says so if a name is missing, is there twice, or is not among `names`.
    """
    if not text:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    columns = {name.strip(): own for name, _, own in pairs}
    return _checked(columns if len(columns) == len(pairs) else {}, names, text)


def rating_columns_text(columns: Columns) -> str:
    """A mapping as `user=A,item=B,time=C`."""
    return ",".join(f"{USER if name == SESSION else name}={own}" for name, own in columns.items())


def _checked(columns: Columns, names: Iterable[str], shown: str = "") -> dict[str, str]:
    found = {SESSION if name == USER else name: own for name, own in columns.items()}
    wanted = [SESSION if name == USER else name for name in names]
    if set(found) != set(wanted) or len(found) != len(columns) or not all(found.values()):
        usage = ",".join(f"{name}=NAME" for name in names)
        raise SettingsError(f"{shown or dict(columns)!r} does not name the columns of ratings.", expected=usage)
    return {name: found[name] for name in wanted}


@dataclass(frozen=True)
class RatingSettings(ReadSettings):
    """How ratings are read, and which of them are used. `columns` may have the key `user` or `session`; it keeps the
    latter.

    Attributes:
        column_names: the columns that are read, as `columns` names them.
    """

    column_names: ClassVar[tuple[str, ...]] = (USER, ITEM, TIME)

    bad_rows: BadRows = setting(
        "stop", "What to do at a line that is not a rating: stop, or set it aside in rejects.csv and go on."
    )
    columns: Columns | None = columns_setting(*column_names)
    duplicates: Duplicates = setting(
        "stop", "What to do where a user has rated an item twice: stop, or use the first line of the file alone."
    )
    min_ratings: int = setting(
        1, "Users with fewer ratings are left out. Raise it if most users have too few to learn from.", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.session_gap is not None:
            raise SettingsError(
                "session_gap is given for ratings.", expected="users, who have no sessions", do="leave it out"
            )
        if self.columns is not None:
            object.__setattr__(self, "columns", _checked(self.columns, self.column_names))

    @property
    def split_settings(self) -> dict[str, Any]:
        """What determines the split of ratings that have been read, for its record."""
        return {name: getattr(self, name) for name in rules_of(type(self)) if name not in rules_of(ReadSettings)}
