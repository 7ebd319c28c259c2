"""Times as people write them: `1d`, `3h`, `86400s`."""

from __future__ import annotations

import re

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(text: str) -> float:
    """Seconds in a duration: a number with a unit s, m, h, d or w (no unit: seconds).

    Raises:
        ValueError: the text is not a duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration such as 1d, 3h or 86400s")
    number, unit = match.groups()
    return float(number) * SECONDS[unit or "s"]


def round_duration(seconds: float) -> str:
    """About that time, 1 s or more, as whole hours, minutes or seconds."""
    unit = next((unit for unit in "hm" if seconds >= SECONDS[unit]), "s")
    return f"{max(1, round(seconds / SECONDS[unit]))}{unit}"
