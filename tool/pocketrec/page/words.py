"""Numbers, moments and lengths of time as the page writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Figures = Mapping[str, Any]
NARROW = "\N{NO-BREAK SPACE}"
LONGEST = 80
"""Characters of an id that are shown."""


def short(whole: str, most: int = LONGEST) -> str:
    """A text, cut where it is longer than that."""
    return whole if len(whole) <= most else f"{whole[:most]}… ({len(whole):,} characters)"


def percent(share: float) -> str:
    """A share as text: 3.1 %; the sign is not torn off."""
    value = 100 * share
    if 0 < value < 0.01:
        return f"less than 0.01{NARROW}%"
    digits = 0 if value in (0, 100) else 1 if value >= 1 else 2
    return f"{value:.{digits}f}{NARROW}%"


def number(count: int, thing: str) -> str:
    """A count of things: 1 session, 1,234 sessions."""
    return f"{count:,} {thing}" + "s" * (count != 1)


def moment(ms: int, seconds: bool = False) -> str:
    """A moment in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def duration(ms: float) -> str:
    """A length of time in the unit that fits."""
    for name, unit in (("days", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms >= (2 if name == "days" else 1) * unit:
            return f"{ms / unit:.3g}{NARROW}{name}"
    return f"{ms:.0f}{NARROW}ms"


def span(group: Figures, thing: str = "") -> str:
    """A group of whole numbers: 1, 6 to 7, 51 or more; with a thing, 2 clicks."""
    least, most = group["least"], group["most"]
    last = "" if least == most else " or more" if most is None else f" to {most:,}"
    return f"{least:,}{last}" + (f" {thing}" + "s" * (least != 1 or most != 1) if thing else "")


def brief_span(group: Figures) -> str:
    """A group of whole numbers beside an axis: 1, 6–7, 51+."""
    least, most = group["least"], group["most"]
    return f"{least:,}" + ("" if least == most else "+" if most is None else f"\N{EN DASH}{most:,}")


def sentence(text_of: str) -> str:
    """Words as a sentence."""
    return text_of[:1].upper() + text_of[1:] + ("" if text_of.endswith(".") else ".")


def text(value: Any) -> str:
    """The value of a setting."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={one}" for name, one in value.items())
    return (
        ", ".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
    )
