"""Limits as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.search.limits import NOTATIONS, parse_limit, parse_size, spell_limit, spell_relaxed
from coreml_pareto.spaces.errors import UserError


@pytest.mark.parametrize(
    ("objective", "text", "value"),
    [
        ("size", "10MB", 10_000_000), ("size", "500KB", 500_000), ("size", "500 kb", 500_000), ("size", "1MiB", 2**20),
        ("size", "1.5 MB", 1_500_000), ("memory", "20MB", 20_000_000), ("memory", "12B", 12), ("size", ".5MB", 500_000),
        ("latency", "5ms", 5), ("latency", "0.2s", 200), ("latency", "300us", 0.3), ("latency", "300µs", 0.3),
        ("latency", "300μs", 0.3),  # the Greek letter instead of the micro sign
        ("energy", "1mJ", 1), ("energy", "300µJ", 0.3), ("energy", "300uJ", 0.3), ("energy", "2J", 2000),
        ("accuracy", "0.9", 0.9), ("accuracy", "90%", 0.9), ("accuracy", "90 %", 0.9), ("accuracy", "100%", 1.0),
    ],
)  # fmt: skip
def test_what_people_write(objective: str, text: str, value: float) -> None:
    assert parse_limit(objective, text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "text", ["", "MB", "-1MB", "0MB", "0ms", "0mJ", "0", "nan", "inf", "1e3", "ten", "5 parsecs", "1,5MB"]
)
def test_nonsense_is_refused_with_the_way_out(objective: str, text: str) -> None:
    with pytest.raises(UserError, match=r"write e\.g\."):
        parse_limit(objective, text)


@pytest.mark.parametrize(
    ("objective", "text"),
    [("size", "10"), ("latency", "5"), ("energy", "1"), ("accuracy", "90"), ("accuracy", "110%"), ("size", "5ms")],
)
def test_a_number_without_its_own_unit_is_refused(objective: str, text: str) -> None:
    with pytest.raises(UserError, match=f"a limit on {objective}"):
        parse_limit(objective, text)


def test_the_table_follows_the_catalogue() -> None:
    assert set(NOTATIONS) == set(OBJECTIVES)
    for name, row in OBJECTIVES.items():
        assert NOTATIONS[name].at_least == (row.bound == "min")


def test_size_is_decimal() -> None:
    assert parse_size("10MB") == 10**7


@pytest.mark.parametrize(
    ("objective", "value", "text"),
    [
        ("size", 1e7, "10MB"),
        ("size", 5e5, "500KB"),
        ("latency", 0.4, "0.4ms"),
        ("accuracy", 0.9, "90%"),
        ("energy", 1, "1mJ"),
    ],
)
def test_spelled_as_people_do(objective: str, value: float, text: str) -> None:
    assert spell_limit(objective, value) == text


@given(st.sampled_from(sorted(NOTATIONS)), st.floats(1e-6, 1.0), st.integers(0, 9))
def test_spelled_limits_read_back(objective: str, share: float, decade: int) -> None:
    value = share if objective == "accuracy" else share * 10.0**decade
    assert parse_limit(objective, spell_limit(objective, value)) == pytest.approx(value, rel=1e-11)


@given(st.sampled_from(sorted(NOTATIONS)), st.floats(1e-3, 1.0), st.integers(0, 9))
def test_relaxed_limits_admit_what_they_were_made_for(objective: str, share: float, decade: int) -> None:
    value = share if objective == "accuracy" else share * 10.0**decade
    relaxed = parse_limit(objective, spell_relaxed(objective, value))
    assert relaxed == pytest.approx(value, rel=0.011)
    slack = (value - relaxed) if objective == "accuracy" else (relaxed - value)
    assert slack >= -1e-12 * value
