"""`pocketrec peek`: what a log is, by its beginning, and the command that reads it.

A recipe says what the columns are, or the user does; else they are guessed, each with its evidence: what its values can be,
how often they come again, and what it is called. Nothing is written, and no more is read than the first megabytes.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from pocketrec.errors import LogError, PocketrecError
from pocketrec.progress import SILENT
from pocketrec.schema import ITEM, KEPT, SESSION, TIME
from pocketrec.settings import options_for
from pocketrec.sources import recipes, yoochoose
from pocketrec.sources.delimited import fields_of
from pocketrec.sources.files import Logs, log_files, named_logs
from pocketrec.sources.jsonlines import objects
from pocketrec.sources.lines import Clicks, read_lines
from pocketrec.sources.logs import form_of
from pocketrec.sources.nested import flat, paths_of_schema, values_of
from pocketrec.sources.options import SEPARATORS, UTF8, ReadSettings
from pocketrec.sources.parquet import TableLog, is_parquet
from pocketrec.sources.recipes import Head
from pocketrec.sources.rows import parts_of, times_of_any
from pocketrec.sources.streams import STDIN, packing_of
from pocketrec.sources.timestamps import Clock

SHOWN_ROWS, SAMPLED_ROWS = 5, 20_000
_NAMED = {
    SESSION: ("session", "visit", "user", "customer", "client", "cookie", "buyer"),
    ITEM: ("item", "product", "article", "sku", "aid", "asin", "movie", "track", "song", "poi", "venue", "reference"),
    TIME: ("time", "date", "stamp", "_ts", "ts_", "when"),
}
"""Parts of names by which columns go, in small letters."""
_SIGNS = {sign: name for name, sign in SEPARATORS.items()}


@dataclass(frozen=True)
class Column:
    """A column of a log: its name (or place, from 1), what it is taken for ("" if for nothing), and why."""

    name: str
    taken_for: str
    evidence: str


@dataclass(frozen=True)
class PeekReport:
    """What a log is.

    Attributes:
        log: the file that was looked at, the first of the log.
        files: how many the log has.
        bytes: of all of them.
        form: packing, kind, separator and encoding in words.
        header: whether the first line names the columns.
        columns: of the log.
        rows: the first few, as text, a value for each column.
        read_as: what recipe fits and what it stands for; "" if none does.
        sampled: rows of the sample that was read by these columns; 0 if they are not known.
        kept: clicks among them.
        left_out: rows that `where` leaves out.
        bad: rows that are not clicks.
        why_bad: the first of them, and why.
        first_ms: the earliest time in the sample.
        last_ms: the latest.
        command: what to type; "" where the columns could not be found.
    """

    log: Path
    files: int
    bytes: int
    form: str
    header: bool
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    read_as: str
    sampled: int
    kept: int
    left_out: int
    bad: int
    why_bad: str
    first_ms: int | None
    last_ms: int | None
    command: str


def peek(clicks: Logs, reading: ReadSettings = ReadSettings()) -> PeekReport:
    """Look at the beginning of a log.

    Args:
        clicks: a log, as for `ingest`; not standard input.
        reading: what is known of how it is read.

    Raises:
        LogError: it cannot be opened, or is empty.
    """
    files = log_files(clicks)
    log = files[0]
    if log == STDIN:
        raise LogError("standard input cannot be looked at and read again.", expected="a file")
    found, said = recipes.resolved(files, reading, "clicks")
    head = recipes.head_of(log, found)
    if not head.text and not is_parquet(log):
        raise LogError(f"{log} is empty.", expected="a click log", do="check the download or the path")
    sign, header, table = _table(log, head, found)
    given = _given(head, found, said)
    columns = tuple(_columns(table, given))
    guessed = {} if given else {column.taken_for: column.name for column in columns if column.taken_for}
    if len(guessed) == len(_NAMED):
        found = replace(found, columns={name: guessed[name] for name in _NAMED})
    sample, why = _sample(log, head, found)
    times = (
        None if sample is None else sample.frame.filter(KEPT)[TIME] if KEPT in sample.frame.columns else sample.frame[TIME]
    )
    return PeekReport(
        log,
        len(files),
        sum(path.stat().st_size for path in files),
        _form(log, head, sign, reading),
        header,
        columns,
        tuple(tuple(_shown(value) for value in row) for row in table.head(SHOWN_ROWS).rows()),
        said,
        sampled=sample.rows if sample else 0,
        kept=len(times) if times is not None else 0,
        left_out=sample.left_out if sample else 0,
        bad=sample.set_aside if sample else 0,
        why_bad=why or (f"line {sample.first.number}: {sample.first.reason}" if sample and sample.first else ""),
        first_ms=times.min() if times is not None else None,  # type: ignore[arg-type]
        last_ms=times.max() if times is not None else None,  # type: ignore[arg-type]
        command=_command(clicks, found, reading, said) if sample else "",
    )


def _given(head: Head, reading: ReadSettings, said: str) -> dict[str, str]:
    """By column, what it was said to be: by a recipe or the user; YooChoose's own form needs neither."""
    if reading.columns is None:
        return {"1": SESSION, "3": ITEM, "2": TIME} if said or yoochoose.begins_so(head.text) else {}
    known = {one for names in head.names.values() for one in names}
    return {part: name for name, own in reading.columns.items() for part in parts_of(own, known)}


def _table(log: Path, head: Head, reading: ReadSettings) -> tuple[str, bool, pl.DataFrame]:
    """The separator, whether there is a header, and some rows: text of a text file, typed of Parquet."""
    if is_parquet(log):
        frame = pl.scan_parquet(log, glob=False).head(SAMPLED_ROWS).collect()
        paths = paths_of_schema(frame.schema)
        single = [path for path in paths.keys if not any(paths.lists_above(path))]
        return "", False, flat(frame, paths, single, ()).drop("")
    if head.json:
        names = list(head.names[""])
        return "", False, _text_table(names, [_values(one, names) for one in objects(head.text)])
    sign, fields = max(head.names.items(), key=lambda one: len(one[1]))
    lines = head.text.decode(UTF8, "replace").splitlines()[:SAMPLED_ROWS]
    quoted = reading.quote == "double"
    rows = [line.split() if sign == " " else fields_of(line, sign, quoted=quoted) for line in lines]
    header = _is_header(rows)
    places = [str(place + 1) for place in range(len(fields))]
    columns = list(fields) if header and len(set(fields)) == len(fields) else places
    return sign, header, _text_table(columns, [row for row in rows[header:] if len(row) == len(columns)])


def _values(value: object, names: Sequence[str]) -> list[str]:
    """The values of an object by their paths; of a list, that of its first element which has one."""
    found: dict[str, str] = {}
    for keys, inner in values_of(value):
        if inner is not None and not isinstance(inner, list):
            found.setdefault(".".join(keys), str(inner))
    return [found.get(name, "") for name in names]


def _text_table(names: Sequence[str], rows: list[list[str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String()), orient="row")


def _is_header(rows: list[list[str]]) -> bool:
    """Whether a first line names columns: it has no number and no time, and the next line has one."""

    def says(fields: list[str]) -> bool:
        values = pl.Series(fields, dtype=pl.String)
        numbers = values.str.strip_chars().cast(pl.Float64, strict=False).is_not_null()
        return bool((numbers | times_of_any(values, Clock()).is_not_null()).any())

    return bool(rows) and not says(rows[0]) and (len(rows) == 1 or says(rows[1]))


def _columns(table: pl.DataFrame, given: dict[str, str]) -> list[Column]:
    """What each column is: as given, or else guessed, no two the same."""
    evidence = {name: _evidence(table[name]) for name in table.columns}
    if given:
        return [Column(name, given.get(name, ""), evidence[name][1]) for name in table.columns]
    taken: dict[str, str] = {}
    for what in (TIME, SESSION, ITEM):
        scores = {
            name: _score(what, name, table[name], evidence[name][0]) for name in table.columns if name not in taken.values()
        }
        best = max(scores, key=lambda name: scores[name], default="")
        if best and scores[best] > 0:
            taken[what] = best
    names = {own: what for what, own in taken.items()}
    called = {name: "; called like one" for name, what in names.items() if _named_so(what, name)}
    return [Column(name, names.get(name, ""), evidence[name][1] + called.get(name, "")) for name in table.columns]


def _evidence(values: pl.Series) -> tuple[bool, str]:
    """Whether all values of a column are times; and what there is to say of them."""
    texts = (
        values.cast(pl.String, strict=False).str.strip_chars()
        if not values.dtype.is_nested()
        else pl.Series([], dtype=pl.String)
    )
    filled = (texts != "").fill_null(value=False)
    there = texts.filter(filled)
    if not len(there):
        return False, "nothing in it"
    missing = len(values) - len(there)
    words = f"{there.n_unique():,} values in {len(there):,} rows" + (f", {missing:,} empty" if missing else "")
    times = times_of_any(values.filter(filled), Clock())
    if not times.null_count():
        first, last = (
            pl.select(pl.from_epoch(pl.lit(ms), "ms").dt.strftime("%Y-%m-%d %H:%M")).item()
            for ms in (times.min(), times.max())
        )
        return True, f"times from {first} to {last} UTC; {words}"
    if not there.cast(pl.Float64, strict=False).null_count():
        return False, f"numbers; {words}"
    return False, f"text; {words}"


def _score(what: str, name: str, values: pl.Series, is_time: bool) -> float:
    """How well a column would do: 0 if it cannot be that."""
    named = _named_so(what, name)
    if what == TIME:
        return 1.0 + named if is_time else 0.0
    if is_time or values.dtype.is_float():
        return 0.0
    again = 1 - values.n_unique() / max(1, len(values))  # both sessions and items come again
    exact = any(name.lower().replace("_", "").removesuffix("id").removesuffix("hash") == part for part in _NAMED[what])
    order = next((place for place, part in enumerate(_NAMED[what]) if part in name.lower()), len(_NAMED[what]))
    return (1.0 + exact - order / 100 + again / 1000) if named else 0.0


def _named_so(what: str, name: str) -> bool:
    return any(part in name.lower() for part in _NAMED[what])


def _sample(log: Path, head: Head, reading: ReadSettings) -> tuple[Clicks | None, str]:
    """The first rows as they would be read, and why they cannot be, if so."""
    try:
        if is_parquet(log):
            if reading.columns is None:
                return None, ""
            with contextlib.closing(TableLog(log, reading.columns, reading).clicks(SILENT)) as clicks:
                return next(clicks), ""
        if reading.columns is None and not yoochoose.begins_so(head.text):
            return None, ""
        form, header = form_of(head.text, str(log), reading, "clicks")
        text = head.text[head.text.find(b"\n") + 1 :] if header else head.text
        return (read_lines(form, text, 1 + header) if text else None), ""
    except PocketrecError as error:
        return None, error.wrong


def _form(log: Path, head: Head, sign: str, reading: ReadSettings) -> str:
    packed = packing_of(log)
    inside = f", the file {head.member}" if head.member else ""
    kind = f"packed as {packed}{inside}: " if packed else ""
    if is_parquet(log):
        return "Parquet"
    if head.json:
        return f"{kind}JSON lines"
    try:
        head.text.decode(UTF8)
        encoding = reading.encoding if reading.encoding != UTF8 else "ASCII" if head.text.isascii() else "UTF-8"
    except UnicodeDecodeError:
        encoding = "not UTF-8; --encoding latin-1 reads any bytes"
    fields = f"fields with {_SIGNS.get(sign, sign)} between them" if sign else "lines"
    return f"{kind}text, {fields}, {encoding}"


def _command(clicks: Logs, found: ReadSettings, reading: ReadSettings, said: str) -> str:
    """What to type. A recipe that is found by itself need not be named."""
    own = ReadSettings.part_of(reading if said else found)
    return shlex.join(["pocketrec", "prep", *map(str, named_logs(clicks)), *options_for(own, changed=True)])


def _shown(value: object) -> str:
    return "" if value is None else str(value)
