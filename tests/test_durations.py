"""Times as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.durations import parse_duration, round_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("1d", 86400), ("3h", 10800), ("86400s", 86400), ("90", 90), (" 1.5m ", 90), ("2w", 1209600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1 d", "1y", "1d2h", "one day", "1e3", "inf"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.floats(0, 1e8))
def test_a_rounded_duration_is_near(seconds: float) -> None:
    assert parse_duration(round_duration(seconds)) == pytest.approx(seconds, rel=0.5, abs=1)
