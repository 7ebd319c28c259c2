"""Options that `pocketrec ncf` and `pocketrec dnn` share: how ratings are read, and lists of numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.choices import BadRows
from pocketrec.cli.options import Group

RatingsArgument = Annotated[Path, typer.Argument(help="u.data, ratings.dat, ratings.csv, their zip or folder, or any csv.")]


class Duplicates(StrEnum):
    """What happens where a user has an item twice."""

    stop = "stop"
    first = "first"


def numbers(text: str, kind: type) -> tuple[Any, ...]:
    """A list such as 64,32,16.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return tuple(kind(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 64,32,16,8") from None


def columns_of(text: str, *needed: str) -> dict[str, str] | None:
    """`user=A,item=B,time=C` (and rating=D where that is needed) as ingest has it, with the user as session.

    Raises:
        typer.BadParameter: it is not of that form.
    """
    if not text:
        return None
    names = {name.strip(): own for name, _, own in (pair.partition("=") for pair in text.split(","))}
    wanted = ("user", "item", "time", *needed)
    if set(names) != set(wanted) or not all(names.values()):
        raise typer.BadParameter(f"{text!r} is not of the form {','.join(f'{name}=NAME' for name in wanted)}")
    return {{"user": "session"}.get(name, name): names[name] for name in wanted}


@dataclass(frozen=True)
class ReadingRatings(Group):
    """How ratings are read."""

    columns: Annotated[
        str,
        typer.Option(
            "--columns", metavar="user=A,item=B,...", help="The file's names of user, item and time (for dnn: rating, too)."
        ),
    ] = ""
    timezone: Annotated[str, typer.Option("--timezone", help="Zone of times that are wall clocks.")] = "UTC"
    bad_rows: Annotated[
        BadRows,
        typer.Option("--bad-rows", help="At a line that is no rating: stop, or set it aside in rejects.csv."),
    ] = BadRows.stop
    duplicates: Annotated[
        Duplicates, typer.Option("--duplicates", help="Where a user has an item twice: stop, or keep the first line.")
    ] = Duplicates.stop

    def settings(self) -> dict[str, Any]:
        """Plain values, and the columns by name."""
        return plain(self) | {"columns": columns_of(self.columns)}


def plain(group: Any) -> dict[str, Any]:
    """Options by name, choices as their words."""
    values = {one.name: getattr(group, one.name) for one in fields(group)}
    return {name: value.value if isinstance(value, StrEnum) else value for name, value in values.items()}
