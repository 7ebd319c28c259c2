"""Where the marks of a picture are, in shares of its width and height, and which values are written beside them.

The template draws them as SVG that is stretched over its box, with lines that keep their width; the text is HTML beside it.
So a picture is as readable at 360 pixels as at 1,400, follows the colours of the page, and needs no JavaScript.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

WIDTH, HEIGHT = 1000, 400
"""Of the SVG's own coordinates."""
DAY = 86_400_000
"""Milliseconds."""

Kind = Literal["line", "area", "band", "dots", "guide"]


@dataclass(frozen=True)
class Series:
    """Points of a chart under one name.

    Attributes:
        name: in the legend; "" for none.
        kind: a line; an area from 0; a band between `y` and `low`; dots; or a guide, a thin dashed line.
        x, y: numbers; y may have None where there is no point.
        tone: which of the page's colours, 1 to 4.
        low: the lower edge of a band.
    """

    name: str
    kind: Kind
    x: Sequence[float]
    y: Sequence[float | None]
    tone: int = 1
    low: Sequence[float] = ()


@dataclass(frozen=True)
class Tick:
    """A value beside an axis: where it is, in percent from the left or from the top, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A path of SVG."""

    kind: Kind
    tone: int
    path: str


@dataclass(frozen=True)
class Scale:
    """From values to shares from 0 to 1, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """The share of a value."""
        low, high = (math.log(one) if self.log else one for one in (self.low, self.high))
        return 0.5 if high <= low else ((math.log(value) if self.log else value) - low) / (high - low)


@dataclass(frozen=True)
class Picture:
    """A chart that is ready to be drawn."""

    marks: tuple[Mark, ...]
    legend: tuple[tuple[int, Kind, str], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str
    y_title: str


def picture(
    series: Sequence[Series],
    x_ticks: Sequence[tuple[float, str]],
    *,
    x_title: str,
    y_title: str,
    log: bool = False,
    from_zero: bool = True,
    unit: str = "",
) -> Picture:
    """Draw series. With `log` both axes are logarithmic; `unit` is written behind the values of the vertical axis."""
    xs = [x for one in series for x in one.x]
    ys = [y for one in series for y in (*one.y, *one.low) if y is not None]
    across = Scale(min(xs), max(xs), log)
    values = log_ticks(min(ys), max(ys)) if log else round_ticks(0 if from_zero else min(ys), max(ys))
    up = Scale(min(values[0], *ys), max(values[-1], *ys), log)
    marks = tuple(Mark(one.kind, one.tone, _path(one, across, up)) for one in series)
    legend = tuple((one.tone, one.kind, one.name) for one in series if one.name)
    shown = tuple(Tick(100 * across.at(x), text) for x, text in x_ticks if across.low <= x <= across.high)
    digits = 0 if log else max(len(f"{y:.10g}".partition(".")[2]) for y in values)
    texts = [f"{y:.{digits}f}" if digits else short_number(y) for y in values]
    beside = tuple(Tick(100 * (1 - up.at(y)), text + unit) for y, text in zip(values, texts, strict=True))
    return Picture(marks, legend, shown, beside, x_title, y_title)


def _path(one: Series, across: Scale, up: Scale) -> str:
    def place(x: float, y: float) -> str:
        return f"{across.at(x) * WIDTH:.1f} {(1 - up.at(y)) * HEIGHT:.1f}"

    points = [place(x, y) for x, y in zip(one.x, one.y, strict=True) if y is not None]
    if not points:
        return ""
    if one.kind == "dots":
        return "".join(f"M{point}h0" for point in points)
    path = "M" + "L".join(points)
    if one.kind == "area":
        base = (1 - up.at(up.low)) * HEIGHT
        return f"{path}L{across.at(one.x[-1]) * WIDTH:.1f} {base:.1f}L{across.at(one.x[0]) * WIDTH:.1f} {base:.1f}Z"
    if one.kind == "band":
        below = [place(x, y) for x, y in zip(one.x, one.low, strict=True)]
        return f"{path}L{'L'.join(reversed(below))}Z"
    return path if len(points) > 1 else f"{path}h0"


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Some round values from one at or below `low` to one at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / most))
    step *= next(one for one in (1, 2, 5, 10) if span / (step * one) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from at or below `low` to at or above `high`, both above 0."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def short_number(value: float) -> str:
    """A number in few characters: 12,000 or 1.5M or 0.25."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scale = 1e3 if name == "k" else size
            return f"{value / scale:.4g}{name}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def time_ticks(first_ms: float, last_ms: float, most: int = 6) -> list[tuple[float, str]]:
    """Moments in UTC that people know: hours, days, first days of months or of years, as (ms, text)."""
    span = last_ms - first_ms
    for hours in (1, 3, 6, 12):
        if span <= hours * 3_600_000 * most:
            step = hours * 3_600_000
            moments = range(-(-int(first_ms) // step) * step, int(last_ms) + 1, step)
            return [(ms, _hour(ms)) for ms in moments]
    for days in (1, 2, 7):
        if span <= days * DAY * most:
            step = days * DAY
            moments = range(-(-int(first_ms) // step) * step, int(last_ms) + 1, step)
            return [(ms, f"{_moment(ms):%-d %b}") for ms in moments]
    months = next((one for one in (1, 2, 3, 6, 12, 24, 60, 120) if span <= one * 30.44 * DAY * most), 240)
    begin, found = _moment(first_ms), list[tuple[float, str]]()
    month = (begin.year * 12 + begin.month - 1 + months) // months * months
    while True:
        ms = datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000
        if ms > last_ms:
            return found
        short = months % 12 != 0 and found and month % 12 != 0  # the year is said where it begins
        found.append((ms, f"{_moment(ms):%Y}" if months % 12 == 0 else f"{_moment(ms):{'%b' if short else '%b %Y'}}"))
        month += months


def _moment(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _hour(ms: float) -> str:
    moment = _moment(ms)
    return f"{moment:%-d %b}" if moment.hour == 0 else f"{moment:%H:%M}"


def rank_ticks(most: int) -> list[tuple[float, str]]:
    """Powers of ten up to a rank."""
    return [(10.0**power, short_number(10.0**power)) for power in range(int(math.log10(max(1, most))) + 1)]
