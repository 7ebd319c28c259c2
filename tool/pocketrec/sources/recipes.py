"""Recipes: how public click logs are read, and the logs of a user's own (`--like`); they are in `recipes.toml`.

A log of which neither the columns nor a recipe are named is read by the recipe that its first line fits, if there is one.
What a recipe stands for is said, and recorded; options that are given beside it come first.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pocketrec.errors import LogError, PocketrecError, SettingsError
from pocketrec.schema import RATING, SESSION
from pocketrec.settings import default_of, options_for, rules_of
from pocketrec.sources import movielens, yoochoose
from pocketrec.sources.delimited import headers_of
from pocketrec.sources.jsonlines import begins_json, objects
from pocketrec.sources.lines import BOM
from pocketrec.sources.nested import paths_of_values
from pocketrec.sources.options import BY_HAND, UTF8, Kind, ReadSettings
from pocketrec.sources.parquet import is_parquet, parquet_columns
from pocketrec.sources.streams import CLICKS, STDIN, Wanted, open_log

HEAD_BYTES = 1 << 17
_KNOWN_BY = ("title", "header", "first", "paths", "file", "user", "rating")


@dataclass(frozen=True)
class Head:
    """The beginning of a log.

    Attributes:
        line: the first line of a text; "" of a Parquet file.
        names: the fields of that line, by separator; or the columns of Parquet, or the paths in JSON, under "".
        member: which file of an archive it is.
        json: whether it holds JSON.
        text: some first lines.
    """

    line: str
    names: Mapping[str, Sequence[str]]
    member: str = ""
    json: bool = False
    text: bytes = b""


@dataclass(frozen=True)
class Recipe:
    """One form of a log.

    Attributes:
        name: of the recipe.
        title: of the log, for people.
        header: names that the first line has, or Parquet columns.
        first: a pattern of the first line.
        paths: that JSON has.
        file: a pattern of the log's name in an archive.
        user: the column that is the session of ratings; "" for the same as that of clicks.
        rating: the column of ratings.
        options: of `ReadSettings`, by name.
    """

    name: str
    title: str
    header: tuple[str, ...]
    first: str
    paths: tuple[str, ...]
    file: str
    user: str
    rating: str
    options: Mapping[str, Any]

    def fits(self, head: Head) -> bool:
        """Whether a log begins in this form."""
        if self.first:
            return bool(re.fullmatch(self.first, head.line))
        wanted = self.paths if head.json else self.header or (self.paths if not head.line else ())
        return bool(wanted) and any(set(wanted) <= set(names) for names in head.names.values())

    def applied(self, reading: ReadSettings, kind: Kind) -> ReadSettings:
        """The options of this recipe where none were given."""
        options = {
            name: value for name, value in self.options.items() if getattr(reading, name) == default_of(ReadSettings, name)
        }
        if "columns" in options and kind != "clicks":
            columns = {**options["columns"], **({SESSION: self.user} if self.user else {})}
            if kind == "rated":
                if not self.rating:
                    raise SettingsError(
                        f"{self.title} has no ratings.", expected="a log with a rating in each row", do="pocketrec ncf prep"
                    )
                columns[RATING] = self.rating
            options["columns"] = columns
        if kind != "clicks":
            options = {name: value for name, value in options.items() if name not in ("session_gap", "gap_over")}
        return replace(reading, **options, like=BY_HAND)


def load(path: Path | None = None) -> list[Recipe]:
    """The recipes of pocketrec, or those of a file. A SettingsError if the file is not one."""
    if path is None:
        return _shipped()
    try:
        return _recipes(tomllib.loads(path.read_text("utf-8")), path.stem)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path} is not a file of recipes ({error}).",
            expected="TOML, with columns and other options of `pocketrec ingest` by their names",
        ) from error


@cache
def _shipped() -> list[Recipe]:
    return _recipes(tomllib.loads((resources.files("pocketrec.sources") / "recipes.toml").read_text("utf-8")), "")


def _recipes(found: dict[str, Any], name: str) -> list[Recipe]:
    tables = {
        one: value for one, value in found.items() if isinstance(value, list) and value and isinstance(value[0], dict)
    }
    if not tables:
        tables = {name: [found]}
    return [_recipe(one, form) for one, forms in tables.items() for form in forms]


def _recipe(name: str, form: dict[str, Any]) -> Recipe:
    rules, options = rules_of(ReadSettings), dict[str, Any]()
    for option, value in form.items():
        if option in _KNOWN_BY:
            continue
        if option not in rules:
            raise ValueError(f"{name} has {option!r}, which is no option of ingest")
        rule = rules[option]
        if rule.parse and not isinstance(value, str):
            raise ValueError(f"{name} has {option} = {value!r}, which is not text")
        try:
            options[option] = rule.parse(value) if rule.parse else tuple(value) if rule.each else value
        except PocketrecError as error:
            raise ValueError(error.wrong) from error
    try:
        ReadSettings(**options)
    except PocketrecError as error:
        raise ValueError(error.wrong) from error
    known = {key: form.get(key, "") for key in ("first", "file", "user", "rating")}
    re.compile(known["first"]), re.compile(known["file"])
    return Recipe(
        name,
        form.get("title", name),
        tuple(form.get("header", ())),
        paths=tuple(form.get("paths", ())),
        options=options,
        **known,
    )


def names() -> list[str]:
    """The names of the recipes that pocketrec has."""
    return list(dict.fromkeys(recipe.name for recipe in load()))


def resolved(logs: Sequence[Path], reading: ReadSettings, kind: Kind) -> tuple[ReadSettings, str]:
    """The reading with the options of a recipe, where one is named or fits; and what is said of it, or "".

    Raises:
        SettingsError: there is no such recipe.
        LogError: the log does not begin in a form of the recipe that is named.
    """
    log = logs[0]
    look = None if log == STDIN else lambda wanted: head_of(log, reading, wanted)
    return resolved_by(look, str(log), reading, kind)


def resolved_by(
    look: Callable[[Wanted], Head] | None, name: str, reading: ReadSettings, kind: Kind
) -> tuple[ReadSettings, str]:
    """The same for a log of that name whose beginning `look` returns; None where it cannot be looked at twice."""
    named = reading.like
    if named == BY_HAND or (not named and (reading.columns is not None or look is None)):
        return reading, ""
    wanted = CLICKS if kind == "clicks" else movielens.RATINGS
    if named:
        candidates = _named(named)
        head = look(wanted_of(candidates, wanted)) if look else None
        recipe = _choose(candidates, head, name, named)
    else:
        assert look
        head = look(wanted)
        fits = [] if _known_otherwise(head, kind) else [one for one in load() if one.fits(head)]
        if not fits:
            return reading, ""
        recipe = _closest(fits)
    found = recipe.applied(reading, kind)
    if head and head.member:
        found = replace(found, member=head.member)
    words = options_for(replace(ReadSettings.part_of(found), like=""), changed=True)
    how = "by its name" if named else f"its first line fits; --like {BY_HAND} to say it yourself"
    return found, f"read as {recipe.title} ({how}): {shlex.join(words) or 'in its own form'}"


def _named(name: str) -> list[Recipe]:
    if name.endswith(".toml"):
        return load(Path(name))
    found = [recipe for recipe in load() if recipe.name == name]
    if not found:
        raise SettingsError(f"like is {name!r}.", expected=f"{', '.join(names())}, {BY_HAND}, or a file NAME.toml")
    return found


def wanted_of(candidates: Sequence[Recipe], usual: Wanted) -> Wanted:
    """Which file of an archive is read by some recipes; the usual one where they do not say."""
    files = "|".join(dict.fromkeys(f"^{recipe.file}$" for recipe in candidates if recipe.file))
    return Wanted(usual.what, re.compile(files, re.IGNORECASE)) if files else usual


def _closest(fits: list[Recipe]) -> Recipe:
    return max(fits, key=lambda recipe: len(recipe.header) + len(recipe.paths))


def _choose(candidates: list[Recipe], head: Head | None, log: str, named: str) -> Recipe:
    """The form of a recipe that was asked for by name."""
    fits = [recipe for recipe in candidates if head is not None and recipe.fits(head)]
    if fits:
        return _closest(fits)
    if len(candidates) == 1:
        return candidates[0]
    if head is None:
        raise LogError(
            f"{named} has {len(candidates)} forms, and standard input cannot be looked at twice.",
            expected="a file",
            do="name its columns: --columns",
        )
    forms = "; ".join(", ".join(recipe.header or recipe.paths) or recipe.first for recipe in candidates)
    begins = repr(head.line[:120]) if head.line else "its columns are others"
    raise LogError(
        f"{log} is not in a form of {named}: {begins}.",
        expected=f"a first line with {forms}",
        do="name its columns: --columns; `pocketrec peek` shows what there is",
    )


def _known_otherwise(head: Head, kind: Kind) -> bool:
    """Whether a log is read without a recipe: one in YooChoose's form, or ratings whose columns have known names."""
    if head.json:
        return False
    if kind == "clicks":
        return yoochoose.begins_so(head.text)
    return any(movielens.columns_among(list(names), kind == "rated") for names in head.names.values())


def head_of(log: Path, reading: ReadSettings, wanted: Wanted = CLICKS) -> Head:
    """The beginning of a log. A LogError if it cannot be opened."""
    if is_parquet(log):
        return Head("", {"": parquet_columns(log)})
    with open_log(log, wanted, encoding=reading.encoding, member=reading.member) as stream:
        return head_in(stream.head(HEAD_BYTES), reading, stream.member)


def head_in(text: bytes, reading: ReadSettings, member: str = "") -> Head:
    """The same from the first whole lines of a text."""
    text = text.removeprefix(BOM)
    line = text.split(b"\n", 1)[0].removesuffix(b"\r").decode(UTF8, "replace")
    if begins_json(text):
        return Head(line, {"": list(paths_of_values(objects(text)).keys)}, member, json=True, text=text)
    return Head(line, headers_of(text, reading), member, text=text)
