"""Settings: what a group accepts, and that the command line's words mean the same as the values."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pocketrec.cli.options import with_options
from pocketrec.errors import SettingsError
from pocketrec.gru4rec.options import DemoSettings, RankSettings, TrainSettings
from pocketrec.lite.options import Gru4RecSettings, ModelSettings, VerifySettings
from pocketrec.sessions.options import BatchSettings, SplitSettings
from pocketrec.settings import (
    Settings,
    again,
    hints_of,
    options_for,
    parse_text,
    rules_of,
    setting,
    value_text,
    without_none,
)
from pocketrec.sources.options import ReadSettings, SynthSettings

GROUPS: list[type[Settings]] = [
    BatchSettings, SplitSettings, ReadSettings, SynthSettings, ModelSettings, TrainSettings, RankSettings, VerifySettings,
    DemoSettings,
]  # fmt: skip


def values_of(kind: type[Settings], name: str) -> st.SearchStrategy[Any]:
    """Values that a setting can have, and a few more; what a group does not accept is not drawn on."""
    hint, rule = without_none(hints_of(kind)[name]), rules_of(kind)[name]
    if name == "columns":
        return st.none() | st.just({"session": "a b", "item": "i", "time": "t=1"})
    if name == "time_format":
        return st.sampled_from(["", "%Y%m%d", "%d/%m/%Y %H:%M:%S"])
    if name == "where":
        return st.just(("event=view,detail", "a b=")) | st.just(())
    if name == "session_gap":
        return st.none() | st.sampled_from([1800.0, 0.5])
    if name == "gap_over":
        return st.just("kept")  # all needs a gap and a where
    if name == "separator":
        return st.sampled_from(["", ",", "\t", " ", "::", "\x01", "~"])
    if name == "encoding":
        return st.sampled_from(["utf-8", "latin-1"])
    if name == "like":
        return st.sampled_from(["", "otto", "none"])
    if name == "member":
        return st.sampled_from(["", "a b.csv"])
    if name == "timezone":
        return st.sampled_from(["UTC", "Asia/Shanghai"])
    one = get_args(hint)[0] if get_origin(hint) is tuple else hint
    if get_origin(one) is Literal:
        some = st.sampled_from(get_args(one))
    elif one is bool:
        some = st.booleans()
    elif one is int:
        some = st.integers(int(rule.least or 0), int(min(rule.most or 10**6, 10**6)))
    else:
        some = st.floats(rule.least or 0, rule.most or 1e6, exclude_min=rule.above is not None).filter(rule.allows)
    return st.lists(some, min_size=1, max_size=3, unique=True).map(tuple) if get_origin(hint) is tuple else some


@st.composite
def groups(draw: st.DrawFn) -> Settings:
    kind = draw(st.sampled_from(GROUPS))
    values = {name: draw(values_of(kind, name)) for name in rules_of(kind)}
    if "momentum" in values and values["optimizer"] != "adagrad":
        values["momentum"] = 0.0
    if values.get("time_format"):
        values["time_unit"] = "auto"
    return kind(**values)


@given(groups())
def test_options_stand_for_the_same_values(group: Settings) -> None:
    """What a record keeps as its command makes the same group again, through typer, option by option."""
    found: list[Settings] = []
    app = typer.Typer()

    def command(*, group: Settings) -> None:
        found.append(group)

    command.__annotations__ = {"group": type(group), "return": None}
    app.command()(with_options(command))
    result = CliRunner().invoke(app, options_for(group), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert found == [group]


@pytest.mark.parametrize("kind", GROUPS)
def test_without_options_a_command_has_the_defaults_of_the_library(kind: type[Settings]) -> None:
    found: list[Settings] = []
    app = typer.Typer()

    def command(*, group: Settings) -> None:
        found.append(group)

    command.__annotations__ = {"group": kind, "return": None}
    app.command()(with_options(command))
    assert CliRunner().invoke(app, [], catch_exceptions=False).exit_code == 0
    assert found == [kind()]


@pytest.mark.parametrize("kind", GROUPS)
def test_every_setting_has_a_help_that_says_something(kind: type[Settings]) -> None:
    assert {one.name for one in fields(kind)} == set(rules_of(kind)), "each field is made by setting()"
    for name, rule in rules_of(kind).items():
        assert len(rule.help.split()) >= 4, (kind, name)
        assert rule.help.endswith("."), (kind, name)


@dataclass(frozen=True)
class Some(Settings):
    count: int = setting(3, "How many there are.", least=1, most=9)
    share: float = setting(0.5, "A share of the whole.", least=0, below=1)
    word: Literal["a", "b"] = setting("a", "One of two words.")
    numbers: tuple[int, ...] = setting((1, 2), "A list of numbers.", least=1)
    flag: bool = setting(False, "Whether it is so.")
    maybe: int | None = setting(None, "A number, or none.", least=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count is 0.\nExpected: a whole number, 1 or more, at most 9"),
        ({"count": 10}, "count is 10.\nExpected: a whole number, 1 or more, at most 9"),
        ({"count": 2.5}, "count is 2.5."),
        ({"count": True}, "count is True."),
        ({"count": "3"}, "count is '3'."),
        ({"share": 1}, "share is 1.\nExpected: a number, 0 or more, less than 1"),
        ({"share": float("nan")}, "share is nan."),
        ({"share": float("inf")}, "share is inf."),
        ({"share": True}, "share is True."),
        ({"word": "c"}, "word is 'c'.\nExpected: a or b"),
        ({"word": ["a"]}, "word is ['a']."),
        ({"numbers": "12"}, "numbers is '12'.\nExpected: a list"),
        ({"numbers": [1, 0]}, "numbers is 0."),
        ({"flag": 1}, "flag is 1.\nExpected: True or False"),
        ({"maybe": 0}, "maybe is 0."),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        Some(**wrong)
    assert str(error.value).startswith(message)


def test_lists_become_tuples_and_whole_numbers_floats() -> None:
    made = Some(numbers=[3, 4], share=0, maybe=None)  # type: ignore[arg-type]
    assert (made.numbers, made.share, type(made.share)) == ((3, 4), 0.0, float)


def test_a_derived_group_states_another_default_and_nothing_else() -> None:
    assert rules_of(TrainSettings)["embedding"] is rules_of(Gru4RecSettings)["embedding"]
    assert (TrainSettings().embedding, Gru4RecSettings().embedding) == ("shared", "none")
    assert Gru4RecSettings.part_of(ModelSettings(hidden_size=7, top_k=3)) == Gru4RecSettings(hidden_size=7)
    assert again(SynthSettings, "seed", 5).default == 5


@given(st.floats(1e-3, 1e9) | st.sampled_from([86400.0, 10800.0, 1.5]))
def test_a_time_is_read_as_it_was_written(seconds: float) -> None:
    rule = rules_of(SplitSettings)["holdout"]
    assert parse_text(value_text(seconds, rule), float, rule) == pytest.approx(seconds, rel=1e-12)


def test_options_are_stated_without_numpy() -> None:
    """The command line imports them for its help; nothing heavy may come along."""
    modules = "sources.options", "sessions.options", "lite.options", "gru4rec.options"
    code = "import sys\n" + "".join(f"import pocketrec.{name}\n" for name in modules)
    code += "print([name for name in ('polars', 'tensorflow', 'ai_edge_litert', 'pyarrow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
