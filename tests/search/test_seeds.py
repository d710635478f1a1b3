"""The mean of a recipe over other seeds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.seeds import fact_of, mean_top1, repetitions


def reading(value: float) -> Reading:
    return Reading(value, "share", value, value, "measured", {"images": "10"})


@given(st.lists(st.integers(40, 60).map(lambda k: k / 100), min_size=2, max_size=6))
def test_the_interval_is_that_of_a_t_test(values: list[float]) -> None:
    found = mean_top1({seed: reading(value) for seed, value in enumerate(values)})
    assert found is not None and found.value == pytest.approx(sum(values) / len(values))
    if len(set(values)) == 1:
        assert found.low == found.value == found.high
        return
    other = ttest_1samp(values, 0.5).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((max(0, other.low), min(1, other.high)))


def test_a_share_stays_one_and_one_seed_tells_nothing() -> None:
    found = mean_top1({1: reading(1.0), 2: reading(0.98)})
    assert found is not None and found.high == 1.0 and found.low < 0.98 and found.conditions["seeds"] == "1, 2"
    assert mean_top1({1: reading(0.9)}) is None and mean_top1({}) is None


def test_facts_read_back() -> None:
    plain = json.loads(json.dumps({"4": reading(0.5).to_dict(), "5": reading(0.6).to_dict()}))
    assert repetitions({fact_of(12): plain, "classes": []}) == {12: {4: reading(0.5), 5: reading(0.6)}}
