"""The names of the columns of ratings: from the command line, from the library, and back into a record's command."""

from __future__ import annotations

import pytest

from pocketrec.dnn.options import DnnPrepSettings
from pocketrec.errors import SettingsError
from pocketrec.ncf.options import NcfPrepSettings
from pocketrec.settings import options_for, parse_text, rules_of

RULES = {kind: rules_of(kind)["columns"] for kind in (NcfPrepSettings, DnnPrepSettings)}


def test_a_user_stands_in_for_a_session() -> None:
    text = "time=when,user=who,item=what"
    found = NcfPrepSettings(columns=parse_text(text, str, RULES[NcfPrepSettings]))
    assert found.columns == {"session": "who", "item": "what", "time": "when"}
    assert found == NcfPrepSettings(columns={"user": "who", "item": "what", "time": "when"})
    assert found == NcfPrepSettings(columns={"session": "who", "item": "what", "time": "when"})
    words = options_for(found)
    assert words[words.index("--columns") + 1] == "user=who,item=what,time=when"
    assert NcfPrepSettings(columns=parse_text("", str, RULES[NcfPrepSettings])).columns is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (NcfPrepSettings, "user=who,item=what"),
        (NcfPrepSettings, "user=who,item=what,time="),
        (NcfPrepSettings, "user=who,item=what,time=when,rating=stars"),
        (NcfPrepSettings, "user=who,session=who,item=what,time=when"),
        (NcfPrepSettings, "user=who,user=whom,item=what,time=when"),
        (DnnPrepSettings, "user=who,item=what,time=when"),
    ],
)
def test_columns_that_are_not_named_as_they_should_be(kind: type[NcfPrepSettings | DnnPrepSettings], text: str) -> None:
    with pytest.raises(SettingsError, match=r"does not name the columns of ratings(.|\n)*user=NAME,item=NAME,time=NAME"):
        parse_text(text, str, RULES[kind])


def test_what_determines_a_split_has_the_names_it_always_had() -> None:
    """Records of earlier versions are compared with these."""
    assert NcfPrepSettings().split_settings == {
        "min_ratings": 20, "duplicates": "stop", "split": "leave-one-out", "validation": False,
    }  # fmt: skip
    assert NcfPrepSettings(split="time").split_settings["holdout"] == 0.1
    assert DnnPrepSettings().split_settings == {
        "min_ratings": 1, "duplicates": "stop", "split": "random", "test": 0.2, "validation": 0.1, "tags": 0, "seed": 42,
    }  # fmt: skip
