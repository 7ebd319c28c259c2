"""Times as people write them: `1d`, `3h`, `86400s`."""

from __future__ import annotations

import re
from decimal import Decimal

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(text: str) -> float:
    """Seconds in a duration: a number with a unit s, m, h, d or w, or a whole number of seconds; else a ValueError.

    A fraction without a unit is none: 0.1 may be meant as a share.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])|(\d+)", text.strip())
    if not match:
        share = (
            " It is a time that is asked for here, not a share."
            if re.fullmatch(r"0?\.\d+|\d+(\.\d+)?%", text.strip())
            else ""
        )
        raise ValueError(f"{text!r} is not a duration such as 1d, 3h or 86400s.{share}")
    number, unit, seconds = match.groups()
    return float(seconds or number) * SECONDS[unit or "s"]


def exact_duration(seconds: float) -> str:
    """That time, exactly, in the largest unit that goes into it without a rest: 1d for 86400.0."""
    units = [(name, size) for name, size in SECONDS.items() if name != "w" and seconds >= size and seconds % size == 0]
    name, size = max(units, key=lambda unit: unit[1], default=("s", 1))
    return f"{int(seconds / size) if name != 's' else format(Decimal(repr(seconds)), 'f').removesuffix('.0')}{name}"


def round_duration(seconds: float) -> str:
    """About that time, 1 s or more, as whole hours, minutes or seconds."""
    unit = next((unit for unit in "hm" if seconds >= SECONDS[unit]), "s")
    return f"{max(1, round(seconds / SECONDS[unit]))}{unit}"
