"""Ratios of readings: what two estimates share cancels, what they do not share stays."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from coreml_pareto.objectives import energy_ratio
from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.errors import Subject
from coreml_pareto.objectives.latency_terms import SCATTER, TERMS, Parts
from coreml_pareto.objectives.reading import Reading, exact
from coreml_pareto.objectives.reading_ratio import ratio, ratios

TARGET = Target(find_device("iPhone 15 Pro"), 17)
ONE, OTHER, SISTER = Subject("n1", "p1"), Subject("n2", "p2"), Subject("n1", "p3")
Z80 = 1.2815515655446004


def latency(spatial: float) -> Reading:
    parts = Parts(0.1, (spatial, *[0.0] * (len(priors.TERMS) - 1)), 0.0)
    conditions = {"unit": "Neural Engine", TERMS: parts.text}
    value = parts.milliseconds
    return Reading(value, "ms", value / 2, value * 2, "estimated", conditions)


def test_counted_figures_have_no_doubt() -> None:
    found = ratio("size", exact(3e5, "B"), exact(1e6, "B"), (ONE, OTHER), TARGET)
    assert (found.value, found.low, found.high) == (0.3, 0.3, 0.3) and found.ranks


def test_forms_of_one_network_share_its_scatter() -> None:
    first = second = latency(0.4)
    alike = ratio("latency", first, second, (ONE, SISTER), TARGET)
    apart = ratio("latency", first, second, (ONE, OTHER), TARGET)
    assert alike.high == pytest.approx(energy_ratio.UNSEEN) and alike.low == pytest.approx(1 / energy_ratio.UNSEEN)
    alone = math.hypot(Z80 * math.sqrt(2) * SCATTER, math.log(energy_ratio.UNSEEN))  # equal parts: slopes cancel
    assert math.log(apart.high) == pytest.approx(alone, rel=0.06)
    assert -math.log(apart.low) == pytest.approx(alone, rel=0.06)


def test_it_is_narrower_than_independent_intervals() -> None:
    first, second = latency(0.4), latency(0.9)
    shared = ratio("latency", first, second, (ONE, OTHER), TARGET)
    measured = tuple(replace(one, how="measured") for one in (first, second))
    apart = ratio("latency", *measured, (ONE, OTHER), TARGET)
    assert apart.low < shared.low < shared.value < shared.high < apart.high
    assert apart.high / apart.value == pytest.approx(math.exp(math.hypot(math.log(2), math.log(2))))


@pytest.mark.parametrize("name", ["latency", "memory", "energy"])
def test_swapping_gives_the_reciprocal(name: str) -> None:
    first, second = (
        Reading(v, "x", v / 2, v * 2, "estimated", {"unit": "Neural Engine", "device": "d"}) for v in (2.0, 3.0)
    )
    there = ratio(name, first, second, (ONE, OTHER), TARGET)
    back = ratio(name, second, first, (OTHER, ONE), TARGET)
    assert there.value * back.value == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1) and there.high * back.low == pytest.approx(1)


def test_only_what_both_have_is_compared() -> None:
    score = {"size_bytes": exact(10, "B"), "latency_ms": latency(0.4)}
    assert set(ratios(score, {"size_bytes": exact(5, "B")}, (ONE, OTHER), TARGET)) == {"size"}


def test_an_objective_without_a_model_of_its_errors_is_refused() -> None:
    first = Reading(1, "x", 0.5, 2, "estimated")
    with pytest.raises(ValueError, match="latency, size, memory, energy"):
        ratio("accuracy", first, first, (ONE, OTHER), TARGET)
