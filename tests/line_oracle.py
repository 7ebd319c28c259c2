"""Which lines of a log are clicks, judged one by one, slowly, by other means than pocketrec's: the independent judge."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
BOM = b"\xef\xbb\xbf"
Click = tuple[int, int, int]  # session, item, ms


def is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def read_id(text: bytes) -> int | None:
    """A whole number after blanks, tabs and a sign."""
    number = text.lstrip(b" \t")
    digits = number[1:] if number[:1] in (b"+", b"-") else number
    if not digits.isdigit() or len(digits.lstrip(b"0")) > 19:
        return None
    value = int(digits.lstrip(b"0") or b"0") * (-1 if number[:1] == b"-" else 1)
    return value if 0 <= value < 2**63 else None


def read_time(text: str, zone: str = "UTC", zulu: bool = False) -> int | None:
    """Milliseconds since the epoch by Python's datetime; any form that pocketrec knows."""
    whole, dot, fraction = text.partition(".")
    if is_digits(whole) and len(whole) <= 19:
        if dot and not (is_digits(fraction) and len(fraction) <= 9):
            return None
        first, end = datetime(1990, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)
        for per_second in (1, 1000, 10**6, 10**9):
            if first.timestamp() <= int(whole) // per_second < end.timestamp():
                return int(whole + (fraction + "000")[:3]) if per_second == 1 else int(whole) * 1000 // per_second
        return None
    wall, form = text[:10], "%Y-%m-%d"
    for length, more in ((13, " %H"), (16, ":%M"), (19, ":%S")):
        if len(text) >= length and text[len(wall) : len(wall) + 1] in (("T", " ") if length == 13 else (":",)):
            if not text[len(wall) + 1 : length].isdigit():
                break
            wall, form = text[:length], form + more
    rest = text[len(wall) :]
    if len(wall) < 10 or not wall.isascii():
        return None
    if any(char.isdigit() == (at in (4, 7, 10, 13, 16)) for at, char in enumerate(wall)):
        return None
    if (len(wall) == 10 and rest) or (len(wall) < 19 and not zulu):  # YooChoose's own form has seconds
        return None
    try:
        moment = datetime.strptime(wall.replace("T", " "), form)
    except ValueError:
        return None
    if rest.startswith(".") and len(wall) < 19:
        return None
    for name in ("UTC", "GMT"):
        if rest.removeprefix(" ") == name or (rest.startswith(".") and rest.endswith((name, " " + name))):
            rest, zulu = rest.removesuffix(name).removesuffix(" ") + "Z", True
    ms = 0
    if rest.startswith("."):
        digits = rest[1:].rstrip("Z") if "+" not in rest and "-" not in rest else rest[1:].replace("-", "+").split("+")[0]
        if not is_digits(digits) or not 1 <= len(digits) <= 9:
            return None
        ms, rest = int((digits + "00")[:3]), rest[1 + len(digits) :]
    if rest in ("", "Z"):
        if zone == "UTC" or (rest and zulu):
            return (moment.replace(tzinfo=UTC) - EPOCH) // MILLISECOND + ms
        return int(moment.replace(tzinfo=ZoneInfo(zone), fold=0).timestamp()) * 1000 + ms
    sign, clock = rest[0], rest[1:]
    digits = clock[:2] + clock[3:] if len(clock) == 5 and clock[2] == ":" else clock
    if sign not in "+-" or len(digits) not in (2, 4) or not is_digits(digits):
        return None
    hours, minutes = int(digits[:2]), int(digits[2:] or "0")
    if hours > 23 or minutes > 59:
        return None
    offset = timedelta(hours=hours, minutes=minutes) * (-1 if sign == "-" else 1)
    return (moment.replace(tzinfo=timezone.utc) - EPOCH - offset) // MILLISECOND + ms  # noqa: UP017


def read_line(line: bytes, fields: int, zone: str = "UTC") -> Click | None:
    """A line without its LF."""
    parts = [part[:-1] if part.endswith(b"\r") else part for part in line.split(b",")]
    if len(parts) != fields or not parts[-1]:
        return None
    try:
        texts = [part.decode() for part in parts]
    except UnicodeDecodeError:
        return None
    session, item, ms = read_id(parts[0]), read_id(parts[2]), read_time(texts[1], zone)
    return None if session is None or item is None or ms is None else (session, item, ms)


def read_log(log: bytes, zone: str = "UTC") -> tuple[list[Click], list[int], int]:
    """Clicks of a log, the numbers of the lines that are none, and how many lines there are but for a header."""
    text = log.removeprefix(BOM)
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    names = [
        "".join(char for char in part.decode("latin-1").strip(" \t\r\"'").lower() if char not in "_ ")
        for part in (lines or [b""])[0].split(b",")
    ]
    known = (("sessionid", "session"), ("timestamp", "time"), ("itemid", "item"))
    header = len(names) in (3, 4) and all(names[place] in known[place] for place in range(3))
    head = [line.count(b",") for line in lines[:100]]
    fields = 3 if head.count(2) > head.count(3) else 4
    clicks, bad = [], []
    for number, line in enumerate(lines[header:], 1 + header):
        click = read_line(line, fields, zone)
        if click is None:
            bad.append(number)
        else:
            clicks.append(click)
    return clicks, bad, len(lines) - header


def by_hand(
    line: bytes, separator: str, count: int = 5, places: tuple[int, int, int] = (4, 2, 1)
) -> tuple[str, str, int] | None:
    """Session, item and time of a line of `count` fields, from their places; None where it is no click."""
    line = line[:-1] if line.endswith(b"\r") else line
    if b"\r" in line or b"\x00" in line or line.startswith((b"\xef\xbb\xbf", b"x\x01")):
        return None
    fields = fields_of(line.decode("utf-8", "surrogateescape"), separator)
    if fields is None or len(fields) != count:
        return None
    if any("\udc80" <= char <= "\udcff" for place in places for char in fields[place]):  # a byte that is not UTF-8
        return None
    session, item, time = own_id(fields[places[0]]), own_id(fields[places[1]]), read_time(fields[places[2]], zulu=True)
    return None if session is None or item is None or time is None else (session, item, time)


def own_id(text: str) -> str | None:
    """An id of a log of named columns."""
    while text[:1] in (" ", "\t") and text:
        text = text[1:]
    while text[-1:] in (" ", "\t") and text:
        text = text[:-1]
    if not text or "\t" in text or text.lower() in ("null", "nan", "none", "na", "n/a", "#n/a", "nat", "<na>", "\\n"):
        return None
    whole, dot, zeros = text.partition(".")
    return whole if dot and zeros and is_digits(whole) and set(zeros) == {"0"} else text


def fields_of(line: str, separator: str) -> list[str] | None:
    """RFC 4180, a character at a time; None where quotes are elsewhere than around a field."""
    fields, at = [], 0
    while True:
        field = ""
        if line[at : at + 1] == '"':
            at += 1
            while True:
                if at >= len(line):
                    return None
                if line[at] != '"':
                    field, at = field + line[at], at + 1
                elif line[at + 1 : at + 2] == '"':
                    field, at = field + '"', at + 2
                else:
                    at += 1
                    break
            if at < len(line) and line[at] != separator:
                return None
        else:
            while at < len(line) and line[at] != separator:
                if line[at] == '"':
                    return None
                field, at = field + line[at], at + 1
        fields.append(field)
        if at >= len(line):
            return fields
        at += 1


def text_of(value: Any) -> str:
    """A value as text: numbers as JSON has them, 1.0 as 1."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value)


def id_of(value: Any) -> str | None:
    text = text_of(value)
    return None if text.startswith(("[", "{")) else own_id(text)


def events_by_hand(line: bytes, nested: bool, where: bool) -> list[tuple[str, str, int]] | None:
    """The clicks of a line of JSON (s, i, t, k; nested: i, t, k in the list a.b) with k v or 1; None where it is none."""
    if b"\x00" in line:
        return None
    try:
        text = line.decode("utf-8", "surrogateescape")
        # Of a name that an object has twice the first counts.
        whole = json.loads(text, parse_constant=lambda _: 1 / 0, object_pairs_hook=lambda pairs: dict(pairs[::-1]))
    except (ValueError, ZeroDivisionError):
        return None
    if not isinstance(whole, dict):
        return None
    events: list[Any] = [whole]
    if nested:
        above = whole.get("a")
        if above is not None and not isinstance(above, dict):
            return None
        listed = (above or {}).get("b")
        if listed is not None and not isinstance(listed, list):
            return None
        events = listed or [{}]
    found = []
    for event in events:
        event = {} if event is None else event
        if not isinstance(event, dict):
            return None
        used = [whole.get("s"), event.get("i"), event.get("t"), *([event.get("k")] if where else [])]
        texts = [text_of(value) for value in used]
        if any(
            isinstance(value, list | dict) or text.startswith(("[", "{")) for value, text in zip(used, texts, strict=True)
        ):
            return None
        if any("\udc80" <= char <= "\udcff" for text in texts for char in text):
            return None
        if where and texts[3].strip(" \t") not in ("v", "1"):
            continue
        session, item, time = id_of(used[0]), id_of(used[1]), read_time(texts[2], zulu=True)
        if session is None or item is None or time is None:
            return None
        found.append((session, item, time))
    return found
