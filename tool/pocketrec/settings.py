"""Settings: what a user can choose, stated once.

A group of settings is a frozen dataclass of the library, a subclass of `Settings`, whose fields are made by `setting`:
default, help text, and which values there can be. From this one statement the library checks values, the command line makes
its options, and a record keeps the command that would make the same files again.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from pocketrec.errors import SettingsError


@dataclass(frozen=True)
class Rule:
    """What is known of a setting beside its name, its type and its default.

    Attributes:
        help: for the command line: what a value does, its unit, and when to change it.
        least: the smallest value there can be, if there is one.
        above: values must be larger than this.
        below: values must be smaller than this.
        most: the largest value there can be.
        option: the option of the command line where it is not the name: "--weights" for `storage`.
        metavar: what stands for the value in the help.
        parse: from the text of the command line to the value; raises ValueError, or SettingsError with more to say.
        text: from the value to that text.
        each: for a list: the option is given once for each of its values, not once with commas between them.
    """

    help: str
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None
    option: str = ""
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None
    text: Callable[[Any], str] | None = None
    each: bool = False

    @property
    def expected(self) -> str:
        """The limits in words; "" where there are none."""
        limits = (
            (self.least, "{} or more"),
            (self.above, "more than {}"),
            (self.below, "less than {}"),
            (self.most, "at most {}"),
        )
        return ", ".join(words.format(_number(limit)) for limit, words in limits if limit is not None)

    def allows(self, number: float) -> bool:
        """Whether a number is finite and within the limits."""
        return (
            (isinstance(number, int) or math.isfinite(number))
            and (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
            and (self.most is None or number <= self.most)
        )


def _number(limit: float) -> str:
    """A limit as people write it: 2^63 for a large power of two."""
    if isinstance(limit, int) and limit > 2**31 and limit & (limit - 1) == 0:
        return f"2^{limit.bit_length() - 1}"
    return f"{limit:g}"


def setting(default: Any, help: str, **rule: Any) -> Any:
    """A field of a `Settings`; the keywords are those of `Rule`."""
    return field(default=default, metadata={"rule": Rule(help, **rule)})


def again(kind: type[Settings], name: str, default: Any) -> Any:
    """A setting that a base class has, with another default."""
    return field(default=default, metadata={"rule": rules_of(kind)[name]})


@dataclass(frozen=True)
class Settings:
    """Base of all groups of settings. Lists are taken as tuples; a value that cannot be is refused.

    Raises:
        SettingsError: a value of another type, outside its limits, or not among its choices.
    """

    def __post_init__(self) -> None:
        hints = hints_of(type(self))
        for name, rule in rules_of(type(self)).items():
            value = _fit(name, getattr(self, name), hints[name], rule)
            object.__setattr__(self, name, value)

    @classmethod
    def part_of(cls, other: Settings) -> Self:
        """The settings of this group that another one has, such as one that is derived from it."""
        return cls(**{name: getattr(other, name) for name in rules_of(cls) if hasattr(other, name)})


def rules_of(kind: Any) -> dict[str, Rule]:
    """The rules of a group's settings by name, in their order."""
    return {one.name: one.metadata["rule"] for one in fields(kind) if "rule" in one.metadata}


def hints_of(kind: Any) -> dict[str, Any]:
    """The types of a group's settings by name."""
    return get_type_hints(kind)


def without_none(hint: Any) -> Any:
    """The type of a setting that is given, where None stands for one that is not."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    (given,) = (one for one in get_args(hint) if one is not type(None))
    return given


def _fit(name: str, value: Any, hint: Any, rule: Rule) -> Any:
    given = without_none(hint)
    if value is None and given is not hint:
        return None
    if get_origin(given) is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise SettingsError(f"{name} is {value!r}.", expected="a list")
        return tuple(_fit(name, one, get_args(given)[0], rule) for one in value)
    if get_origin(given) is Literal:
        if value not in get_args(given):
            raise SettingsError(f"{name} is {value!r}.", expected=" or ".join(map(str, get_args(given))))
        return value
    if given in (int, float):
        fits = isinstance(value, Integral if given is int else Real) and not isinstance(value, bool)
        fits = fits and rule.allows(int(value) if given is int else _float(value))
        if not fits:
            what = {int: "a whole number", float: "a number"}[given]
            raise SettingsError(f"{name} is {value!r}.", expected=f"{what}, {rule.expected}" if rule.expected else what)
        return given(value)
    if given in (bool, str) and not isinstance(value, given):
        raise SettingsError(f"{name} is {value!r}.", expected={bool: "True or False", str: "text"}[given])
    return value


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


def option_of(name: str, rule: Rule) -> str:
    """The option of a setting on the command line: `--batch-size` for `batch_size`."""
    return rule.option or f"--{name.replace('_', '-')}"


def parse_text(text: str, hint: Any, rule: Rule) -> Any:
    """The value of a setting from its text on the command line; a ValueError or SettingsError if it has another form."""
    if rule.parse:
        return rule.parse(text)
    given = without_none(hint)
    if get_origin(given) is not tuple:
        return given(text)
    one = get_args(given)[0]
    return tuple((one if one in (int, float) else str)(part.strip()) for part in text.split(",")) if text else ()


def value_text(value: Any, rule: Rule) -> str:
    """The text of a value, as `parse_text` reads it."""
    if rule.text and value is not None:
        return rule.text(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)


def options_for(*groups: Settings, changed: bool = False) -> list[str]:
    """The words of the command line that stand for all values of some groups; each option is there once.

    A flag that is off and a setting without a value are left out; with `changed`, those that have their default value, too.
    """
    words: dict[str, list[str]] = {}
    for group in groups:
        for name, rule in rules_of(type(group)).items():
            value, option = getattr(group, name), option_of(name, rule)
            if changed and value == default_of(type(group), name):
                continue
            if isinstance(value, bool):
                off = [f"--no-{option.removeprefix('--')}"] if default_of(type(group), name) is True else []
                words.setdefault(option, [option] if value else off)
            elif rule.each:
                words.setdefault(option, [word for one in value for word in (option, str(one))])
            elif (text := value_text(value, rule)) != "":
                words.setdefault(option, [option, text])
    return [word for some in words.values() for word in some]


def default_of(kind: type[Settings], name: str) -> Any:
    """The default of a setting; None where it must be given."""
    (found,) = (one.default for one in fields(kind) if one.name == name)
    return None if found is MISSING else found
