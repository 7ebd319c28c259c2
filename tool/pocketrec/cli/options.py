"""The options of the command line, made from the settings of the library.

A command takes a group of settings as one parameter (`@app.command()` above `@with_options`), typer sees an option for each
setting in it, and the command is called with the group. What an option does, its default and its limits are stated in the
library, once.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from pocketrec.cli.terminal import say
from pocketrec.errors import SettingsError
from pocketrec.progress import SILENT, Bars, Progress
from pocketrec.settings import (
    Rule,
    Settings,
    default_of,
    hints_of,
    option_of,
    parse_text,
    rules_of,
    setting,
    value_text,
    without_none,
)

Clicks = Annotated[
    list[Path],
    typer.Argument(
        metavar="CLICKS...",
        help="Click log, its rows in any order: one or several files, a folder, or - (stdin); csv, JSON lines or Parquet, "
        "text also as .gz, .zst, .bz2, .xz, .zip, .tar. Without --columns: SessionId,Timestamp,ItemId,Category.",
        show_default=False,
        readable=False,  # a log that may not be read is no misuse; ingest says so
    ),
]
Log = Annotated[
    list[str],
    typer.Argument(
        metavar="CLICKS...",
        help="Click log, its rows in any order: one or several files, a folder, or - (stdin); csv, JSON lines or Parquet, "
        "text also as .gz, .zst, .bz2, .xz, .zip, .tar; with --engine spark also an address such as s3a://bucket/clicks. "
        "Without --columns: SessionId,Timestamp,ItemId,Category.",
        show_default=False,
    ),
]
"""As `Clicks`, but text as it stands: a path has one slash where an address has two."""
DatasetAddress = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="Folder that everything is written to and read from; with --engine spark also an address.",
        metavar="PATH",
    ),
]
Ratings = Annotated[
    Path, typer.Argument(help="u.data, ratings.dat, ratings.csv, their zip or folder, or any csv.", show_default=False)
]
DatasetOption = Annotated[Path, typer.Option("--dataset", help="Folder that everything is written to and read from.")]


@dataclass(frozen=True)
class Again(Settings):
    """What every stage that prepares data can be told besides."""

    fresh: bool = setting(False, "Run again even what is up to date.")
    force: bool = setting(False, "Begin even where the disk seems too small.")


@dataclass(frozen=True)
class Output(Settings):
    """How a command talks."""

    json: bool = setting(False, "Print one JSON object on stdout and nothing else there.")
    quiet: bool = setting(False, "No progress and no remarks on stderr.", option="--quiet")

    @property
    def progress(self) -> Progress:
        """Bars on a terminal, if anybody wants them."""
        return SILENT if self.quiet or self.json or not sys.stderr.isatty() else Bars()

    def show(self, result: Any) -> None:
        """Print a report: as JSON, or its results on stdout and remarks on it on stderr."""
        from pocketrec.cli import reports

        reports.load_for(result)
        if self.json:
            say(reports.as_json(result))
            return
        for line in [] if self.quiet else reports.remarks(result):
            say(line, err=True)
        for line in reports.results(result):
            say(line)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every parameter that is a group of settings replaced by the options of that group.

    A parameter's default, if it has one, is a group whose values are the options' defaults. An option that two groups have
    is there once, and goes into both.
    """
    hints = get_type_hints(command, include_extras=True)
    flat: dict[str, inspect.Parameter] = {}
    groups: dict[str, type[Settings]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if isinstance(hint, type) and issubclass(hint, Settings):
            groups[name] = hint
            default = None if parameter.default is inspect.Parameter.empty else parameter.default
            for one, option in _options(hint, default).items():
                flat.setdefault(one, option)
        else:
            flat[name] = parameter.replace(annotation=hint)

    @functools.wraps(command)
    def taking_options(**values: Any) -> None:
        made = {name: group(**{one: values[one] for one in rules_of(group)}) for name, group in groups.items()}
        in_groups = {one for group in groups.values() for one in rules_of(group)}
        command(**{name: value for name, value in values.items() if name not in in_groups}, **made)

    del taking_options.__wrapped__
    taking_options.__signature__ = inspect.Signature(list(flat.values()))  # type: ignore[attr-defined]
    taking_options.__annotations__ = {name: parameter.annotation for name, parameter in flat.items()}
    return taking_options


def _options(kind: type[Settings], defaults: Settings | None) -> dict[str, inspect.Parameter]:
    """The options of a group by the names of its settings."""
    found = {}
    for name, rule in rules_of(kind).items():
        value = getattr(defaults, name) if defaults else default_of(kind, name)
        annotation, default = _option(option_of(name, rule), hints_of(kind)[name], rule, value)
        found[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    return found


def _option(flag: str, hint: Any, rule: Rule, value: Any) -> tuple[Any, Any]:
    """What typer makes an option of: an annotation and a default."""
    given = without_none(hint)
    if given is bool:
        both = f"{flag}/--no-{flag.removeprefix('--')}" if value else flag
        names = (both, "-q") if flag == "--quiet" else (both,)
        return Annotated[bool, typer.Option(*names, help=rule.help)], value
    if rule.each:
        option = typer.Option(flag, help=rule.help, metavar=rule.metavar, show_default=bool(value))
        return Annotated[list[str], option], list(value)
    if rule.parse or get_origin(given) is tuple:
        shown = value_text(value, rule) or False
        option = typer.Option(
            flag, help=rule.help, parser=_parser(hint, rule), metavar=rule.metavar or "LIST", show_default=shown
        )
        return Annotated[str, option], value_text(value, rule) if value is not None else None
    if get_origin(given) is Literal or given is Path:
        return Annotated[hint, typer.Option(flag, help=rule.help, metavar=rule.metavar)], value
    least, most = (limit if limit is None or given is float else int(limit) for limit in (rule.least, rule.most))
    option = typer.Option(flag, help=rule.help, metavar=rule.metavar, min=least, max=most)
    return Annotated[
        hint, option if given in (int, float) else typer.Option(flag, help=rule.help, metavar=rule.metavar)
    ], value


def _parser(hint: Any, rule: Rule) -> Callable[[str], Any]:
    """From the text of an option to its value; what cannot be read is a misuse of the command."""
    one = get_args(without_none(hint))[:1]

    def parse(text: str) -> Any:
        try:
            found = parse_text(text, hint, rule)
        except (ValueError, SettingsError) as error:
            say = "" if rule.parse else f"{text!r} is not a list of numbers such as 64,32,16"
            raise typer.BadParameter(say or str(error)) from error
        if one and get_origin(one[0]) is Literal and not set(found) <= set(get_args(one[0])):
            raise typer.BadParameter(f"{text!r} is not {', '.join(get_args(one[0]))} or a list of them")
        return found

    return parse


def fail_unless(passed: bool) -> None:
    """Exit status 1 where a verdict is not good."""
    if not passed:
        raise typer.Exit(1)
