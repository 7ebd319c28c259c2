r"""The one way to stdout and stderr: what came from a file reaches a terminal as visible text, not as orders to it.

An id, the name of a zip's member or a setting of a manifest may have escape sequences in it, which colour, move or rename a
terminal, or marks that turn the direction of the text around, so that it reads otherwise than it is.
"""

from __future__ import annotations

import typer

from pocketrec.errors import visible


class Drawn(str):
    """Lines with colours of our own, in which all that came from a file has been made visible already."""

    __slots__ = ()


def say(text: str, *, err: bool = False) -> None:
    """Print a line to stdout, or to stderr."""
    typer.echo(text if isinstance(text, Drawn) else visible(text), err=err)
