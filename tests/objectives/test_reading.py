"""Readings keep their promises, survive JSON, and lose in the right direction."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.reading import (
    Reading,
    exact,
    losses,
    may_exceed,
    score_from_dict,
    score_to_dict,
    violation,
)

ROWS = list(OBJECTIVES.values())
numbers = st.floats(-1e9, 1e9)


@given(
    st.tuples(numbers, numbers, numbers).map(sorted), st.sampled_from(["exact", "measured", "estimated", "corrected"])
)
def test_json_round_trip(ends: list[float], how: str) -> None:
    score = {"x": Reading(ends[1], "ms", ends[0], ends[2], how, {"device": "iPhone 15 Pro"})}  # type: ignore[arg-type]
    assert score_from_dict(json.loads(json.dumps(score_to_dict(score)))) == score


@pytest.mark.parametrize(
    "ends", [(1.0, 2.0, 3.0), (3.0, 2.0, 2.5), (math.nan, 0.0, 1.0), (math.inf, 0.0, math.inf), (0.5, math.nan, 1.0)]
)
def test_value_outside_its_interval_or_not_finite_is_refused(ends: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"reading is finite|low <= value"):
        Reading(ends[0], "ms", ends[1], ends[2], "estimated")


def test_unknown_origin_is_refused() -> None:
    with pytest.raises(ValueError, match="how is one of exact, measured"):
        Reading(1, "ms", 1, 1, "guessed")  # type: ignore[arg-type]


def test_unknown_json_key_is_refused() -> None:
    with pytest.raises(TypeError):
        Reading.from_dict(exact(1, "B").to_dict() | {"sigma": 2})


@pytest.mark.parametrize("objective", ROWS, ids=lambda row: row.name)
def test_the_better_reading_has_the_smaller_loss(objective) -> None:  # type: ignore[no-untyped-def]
    worse, better = (2.0, 3.0) if objective.direction == "maximize" else (3.0, 2.0)
    assert losses({objective.reading: exact(better, "")}, [objective]) < losses(
        {objective.reading: exact(worse, "")}, [objective]
    )


def test_unknown_readings_are_infinitely_bad_and_order_is_that_of_the_objectives() -> None:
    score = {"size_bytes": exact(5, "B")}
    assert losses(score, [OBJECTIVES["accuracy"], OBJECTIVES["size"]]) == (math.inf, 5.0)


def test_limits_know_the_direction_and_strict_takes_the_worse_end() -> None:
    latency = Reading(2.0, "ms", 1.0, 4.0, "estimated")
    assert violation(latency, OBJECTIVES["latency"], 3.0) == -1.0
    assert violation(latency, OBJECTIVES["latency"], 3.0, strict=True) == 1.0
    assert may_exceed(latency, OBJECTIVES["latency"], 3.0)
    assert not may_exceed(latency, OBJECTIVES["latency"], 4.0)
    assert not may_exceed(latency, OBJECTIVES["latency"], 1.5)  # broken already
    top1 = Reading(0.9, "share", 0.85, 0.95, "measured")
    assert violation(top1, OBJECTIVES["accuracy"], 0.88) == pytest.approx(-0.02)
    assert violation(top1, OBJECTIVES["accuracy"], 0.88, strict=True) == pytest.approx(0.03)
