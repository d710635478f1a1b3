"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.search.duration import parse_duration, spell_duration
from coreml_pareto.spaces.errors import UserError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("8h", 28800),
        ("1h30m", 5400),
        ("90s", 90),
        ("45", 45),
        ("1.5h", 5400),
        ("2d", 172800),
        (" 10M ", 600),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0m", "-5m", "5 parsecs", "m", "9" * 400])
def test_nonsense_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="30m, 8h or 1h30m"):
        parse_duration(text)


@given(st.integers(0, 3), st.integers(0, 59), st.integers(1, 59))
def test_parts_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds


def test_durations_are_spelled_for_people() -> None:
    assert [spell_duration(s) for s in (8.4, 125, 12000)] == ["8 s", "2 min 05 s", "3 h 20 min"]
