r"""The one way to stdout and stderr: what came from a file reaches a terminal as visible text, not as orders to it.

An id, the name of a zip's member or a setting of a manifest may have escape sequences in it, which colour, move or rename a
terminal, or marks that turn the direction of the text around, so that it reads otherwise than it is.
"""

from __future__ import annotations

import re

import typer

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed; line and paragraph separator, marks of direction; halves of characters, which
stand for the bytes of a path that are not UTF-8."""


class Drawn(str):
    """Lines with colours of our own, in which all that came from a file has been made visible already."""

    __slots__ = ()


def visible(text: str) -> str:
    r"""The text with what cannot be seen as `\xNN` or `\uNNNN`; line feeds and tabs stay."""
    return _HIDDEN.sub(_code, text)


def _code(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def say(text: str, *, err: bool = False) -> None:
    """Print a line to stdout, or to stderr."""
    typer.echo(text if isinstance(text, Drawn) else visible(text), err=err)
