"""Paired differences against enumeration, published numbers and coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from coreml_pareto.objectives.paired import compare


def pair(both: int, first: int, second: int, none: int) -> tuple[np.ndarray, np.ndarray]:
    one = [True] * both + [True] * first + [False] * second + [False] * none
    other = [True] * both + [False] * first + [True] * second + [False] * none
    return np.array(one), np.array(other)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 1), (5, 5), (2, 9)])
def test_the_p_value_counts_all_ways_at_least_as_uneven(first: int, second: int) -> None:
    found = compare(*pair(7, first, second, 4))
    ways = itertools.product([0, 1], repeat=first + second)
    uneven = [abs(2 * sum(way) - (first + second)) >= abs(first - second) for way in ways]
    assert found.p_value == pytest.approx(sum(uneven) / len(uneven))
    assert (found.only_first, found.only_second, found.images) == (first, second, 11 + first + second)
    assert found.value == pytest.approx((first - second) / found.images)


def test_the_interval_of_the_approval_ratings() -> None:
    """Agresti's panel of 1,600 British voters (Categorical Data Analysis, table 10.1): 0.04, 0.02 to 0.06."""
    found = compare(*pair(794, 150, 86, 570))
    assert found.value == pytest.approx(0.04)
    assert found.low == pytest.approx(0.021, abs=5e-4)
    assert found.high == pytest.approx(0.059, abs=5e-4)
    assert found.p_value == pytest.approx(3.7e-5, rel=0.1)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        kind = generator.choice(4, size=200, p=[0.7, 0.08, 0.03, 0.19])
        found = compare((kind == 0) | (kind == 1), (kind == 0) | (kind == 2))
        inside += found.low <= 0.05 <= found.high
    assert 0.93 <= inside / 2000 <= 0.975


def test_swapped_packages_give_the_opposite() -> None:
    one, other = pair(10, 6, 2, 3)
    there, back = compare(one, other), compare(other, one)
    assert (there.value, there.low, there.high) == (-back.value, -back.high, -back.low)
    assert there.p_value == back.p_value
    assert math.isclose(compare(one, one).p_value, 1)


@pytest.mark.parametrize("images", [1, 2, 5, 40])
def test_a_difference_of_shares_stays_one(images: int) -> None:
    found = compare(*pair(0, images, 0, 0))
    assert found.low <= found.value == found.high == 1
    assert compare(*pair(0, 0, images, 0)).low == -1


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="the same images"):
        compare(np.ones(3, bool), np.ones(4, bool))
