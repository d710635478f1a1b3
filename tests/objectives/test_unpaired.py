"""Newcombe's interval against his own table, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest

from coreml_pareto.objectives.unpaired import Count, gap


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),  # Newcombe 1998, table II, method 10, contrasts (a) to (h)
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_published_examples(first: tuple[int, int], second: tuple[int, int], low: float, high: float) -> None:
    found = gap(Count(*first), Count(*second))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    back = gap(Count(*second), Count(*first))
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    random, inside = np.random.default_rng(0), 0
    for _ in range(4000):
        found = gap(Count(int(random.binomial(500, 0.97)), 500), Count(int(random.binomial(270, 0.93)), 270))
        inside += found.low <= 0.04 <= found.high
    assert 0.94 <= inside / 4000 <= 0.965
