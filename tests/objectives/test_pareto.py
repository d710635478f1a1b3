"""Dominance, fronts, hypervolume and recommendation against brute force and closed forms."""

from __future__ import annotations

import itertools
import math
import time
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.pareto import (
    Scale,
    balanced_distance,
    best,
    dominates,
    front,
    hypervolume,
    rank_correlation,
    shortlist,
)

# Few distinct values, so that ties, duplicates and infinities are common.
values = st.sampled_from([-math.inf, -1.0, 0.0, 1.0, 2.0, 3.5, math.inf])
tables = st.tuples(st.integers(0, 12), st.integers(1, 5)).flatmap(lambda shape: arrays(float, shape, elements=values))
cubes = st.tuples(st.integers(1, 6), st.integers(1, 4)).flatmap(
    lambda shape: arrays(float, shape, elements=st.floats(0, 1, width=16))
)


def brute_force_front(table: np.ndarray) -> list[int]:
    return [i for i, a in enumerate(table) if not any(dominates(b, a) for b in table)]


@given(tables)
def test_front_is_brute_forces(table: np.ndarray) -> None:
    assert front(table).tolist() == brute_force_front(table)


@given(tables)
def test_nothing_on_the_front_dominates_anything_on_it_and_the_rest_is_dominated(table: np.ndarray) -> None:
    kept = table[front(table)]
    assert not any(dominates(a, b) for a, b in itertools.product(kept, kept))
    rest = np.delete(table, front(table), axis=0)
    assert all(any(dominates(a, b) for a in kept) for b in rest)


def test_dominance_by_hand() -> None:
    assert dominates([1, 1], [1, 2])
    assert not dominates([1, 1], [1, 1])
    assert not dominates([0, 2], [1, 1])
    assert dominates([1, 5], [1, math.inf])


def test_equal_points_stay_together() -> None:
    assert front([[1, 2], [2, 2], [1, 2], [0, 3]]).tolist() == [0, 2, 3]


def test_empty_tables_are_empty() -> None:
    assert front(np.empty((0, 3))).tolist() == []
    assert hypervolume(np.empty((0, 2)), [1, 1]) == 0
    assert shortlist(np.empty((0, 2)), ["plain", "plain"]).tolist() == []


@pytest.mark.parametrize("bad", [[[1, math.nan]], [1, 2, 3]])
def test_nan_and_misshapen_points_are_refused(bad: list) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="got"):
        front(bad)


@pytest.mark.parametrize("kind", ["cloud", "sphere"])
def test_ten_thousand_points_in_five_dimensions_take_less_than_a_second(kind: str) -> None:
    points = np.random.default_rng(0).random((10_000, 5))
    if kind == "sphere":  # everything is on the front
        points = -points / np.linalg.norm(points, axis=1, keepdims=True)
    started = time.perf_counter()
    kept = front(points)
    assert time.perf_counter() - started < 1
    assert (len(kept) == 10_000) == (kind == "sphere")


# Hypervolume


@pytest.mark.parametrize("steps", [1, 2, 10, 100])
def test_hypervolume_of_a_staircase(steps: int) -> None:
    # points (i/n, (n-1-i)/n): n steps of width 1/n and heights (i+1)/n below the corner (1, 1)
    points = [[i / steps, (steps - 1 - i) / steps] for i in range(steps)]
    assert hypervolume(points, [1, 1]) == pytest.approx((steps + 1) / (2 * steps))


@given(cubes)
def test_hypervolume_is_inclusion_and_exclusion(table: np.ndarray) -> None:
    volume = 0.0
    for size in range(1, len(table) + 1):
        for chosen in itertools.combinations(table, size):
            volume -= (-1) ** size * float(np.prod(1 - np.max(chosen, axis=0)))
    assert hypervolume(table, np.ones(table.shape[1])) == pytest.approx(volume, abs=1e-9)


@given(cubes, st.data())
def test_another_point_never_takes_volume_away(table: np.ndarray, data: st.DataObject) -> None:
    point = data.draw(arrays(float, table.shape[1], elements=st.floats(0, 2, width=16)))
    corner = np.ones(table.shape[1])
    before = hypervolume(table, corner)
    after = hypervolume(np.vstack([table, point]), corner)
    assert after >= before - 1e-12
    if any(np.all(row <= point) for row in table) or (point >= 1).any():
        assert after == pytest.approx(before)


def test_points_beyond_the_corner_add_nothing() -> None:
    assert hypervolume([[0.5, 0.5], [2, 0], [math.inf, 0], [1, 0]], [1, 1]) == 0.25


def test_a_corner_of_the_wrong_size_or_infinite_is_refused() -> None:
    with pytest.raises(ValueError, match="one number per axis"):
        hypervolume([[1, 2]], [1, 1, 1])
    with pytest.raises(ValueError, match="finite reference"):
        hypervolume([[1, 2]], [math.inf, 1])


# Recommendation

SCALES: Final[list[Scale]] = [OBJECTIVES[name].scale for name in ("accuracy", "size", "latency", "memory", "energy")]


def test_balanced_by_hand() -> None:
    # scaled to the front's range: (0, 1), (1, 0), (0.4, 0.3); the last is nearest, 0.4 + 0.001 * 0.7
    points = [[0, 10], [10, 0], [4, 3], [9, 9]]
    scales: list[Scale] = ["plain", "plain"]
    assert best(points, scales) == 2
    assert balanced_distance(points, scales)[2] == pytest.approx(0.4 + 1e-3 * 0.7)
    assert shortlist(points, scales).tolist() == [2, 0, 1]


def test_logarithmic_axes_compare_ratios() -> None:
    # in log, 1 to 10000 with 100 in the middle; linear, 100 is next to 1
    points = [[1, 1.0], [100, 0.6], [10_000, 0.0]]
    assert balanced_distance(points, ["ratio", "plain"])[1] == pytest.approx(0.6 + 1e-3 * 1.1)
    assert balanced_distance(points, ["plain", "plain"])[1] == pytest.approx(0.6 + 1e-3 * (0.6 + 99 / 9999))
    with pytest.raises(ValueError, match="positive"):
        balanced_distance([[0, 1], [1, 0]], ["ratio", "plain"])


def test_a_few_percent_are_no_choice() -> None:
    """Latencies 4 % apart must not outweigh half the size; a factor of two and more counts whole."""
    points = [[0.36, 1.04, 4.0], [0.47, 1.0, 1.0]]
    assert balanced_distance(points, ["plain", "ratio", "ratio"]).tolist() == [
        pytest.approx(1 + 1e-3 * (math.log(1.04) / math.log(2) + 1) / 2),
        pytest.approx(1 + 1e-3),
    ]
    near = [[0.30, 1.04, 2.0], [0.40, 1.0, 1.0], [0.28, 1.05, 8.0]]
    assert best(near, ["plain", "ratio", "ratio"]) == 0
    with_floor = balanced_distance(near, ["plain", "ratio", "ratio"])
    assert with_floor[0] == pytest.approx(1 / 3 + 1e-3 * (1 / 6 + (math.log(1.04) / math.log(2) + 1 / 3) / 2))


def test_costs_that_rise_together_do_not_outvote_accuracy() -> None:
    """Two packages: half of the error is worth a fifth more size, whose latency, memory and energy follow."""
    points = [[-0.933, 0.082, 0.10, 0.19, 0.09], [-0.978, 0.107, 0.12, 0.23, 0.10]]
    assert best(points, SCALES) == 1
    apart = [[-0.164, 0.13, 0.138, 0.19, 0.0924], [-0.483, 0.43, 0.146, 0.47, 0.097]]
    assert best(apart, SCALES) == 1
    assert best([[-0.970, 1.0, 1.0, 1.0, 1.0], [-0.974, 3.0, 3.0, 3.0, 3.0]], SCALES) == 0, "four images of a thousand"


def test_shares_are_compared_by_the_odds_of_their_error() -> None:
    # in odds of the error, 1:1, 1:4 and 1:16 lie at equal distances
    points = [[-1 / 2, 1.0], [-4 / 5, 4.0], [-16 / 17, 16.0]]
    assert balanced_distance(points, ["odds", "ratio"]) == pytest.approx([1 + 1e-3, 0.5 + 1e-3, 1 + 1e-3])
    none_and_all = balanced_distance([[0.0, 1.0], [-1.0, 2.0]], ["odds", "ratio"])
    assert np.isfinite(none_and_all).all()


def test_priority_takes_the_best_of_one_axis_and_breaks_ties_by_balance() -> None:
    points = [[1, 9, 0], [1, 0, 9], [1, 2, 2], [0, 10, 10]]
    scales: list[Scale] = ["plain"] * 3
    assert best(points, scales, priority=0) == 3
    assert best(points[:3], scales, priority=0) == 2
    assert best(points, scales, priority=1) == 1


def test_a_constant_axis_says_nothing_and_a_single_point_wins() -> None:
    flat = [[5, 0, 10], [5, 10, 0], [5, 4, 4]]
    assert balanced_distance(flat, ["ratio", "plain", "plain"]) == pytest.approx(
        balanced_distance([row[1:] for row in flat], ["plain", "plain"])
    )
    assert best([[3, 4]], ["plain", "plain"]) == 0


def test_infinite_points_are_never_recommended() -> None:
    points = [[math.inf, 0], [1, 1]]
    assert shortlist(points, ["plain", "plain"]).tolist() == [1]
    with pytest.raises(ValueError, match="nothing to recommend"):
        best([[math.inf, 0]], ["plain", "plain"])


@given(cubes, st.booleans())
def test_the_recommended_point_is_on_the_front_and_no_other_is_nearer(table: np.ndarray, log: bool) -> None:
    scales: list[Scale] = ["ratio" if log else "plain"] * table.shape[1]
    table = table + 1
    chosen = best(table, scales)
    distance = balanced_distance(table, scales)
    assert chosen in front(table)
    assert distance[chosen] == distance[front(table)].min()


@given(cubes)
def test_recommendation_ignores_units(table: np.ndarray) -> None:
    scaled = table * np.arange(2, 2 + table.shape[1]) + 7
    scales: list[Scale] = ["plain"] * table.shape[1]
    assert balanced_distance(scaled, scales) == pytest.approx(balanced_distance(table, scales), abs=1e-6)


# Correlation


def test_rank_correlation_is_scipys() -> None:
    points = np.random.default_rng(1).integers(0, 6, (50, 4)).astype(float)
    assert rank_correlation(points) == pytest.approx(spearmanr(points).statistic)


def test_axes_that_say_the_same_and_axes_in_conflict() -> None:
    x = np.arange(5.0)
    found = rank_correlation(np.column_stack([x, np.exp(x), -x, np.ones(5)]))
    assert found[0, 1] == pytest.approx(1)
    assert found[0, 2] == pytest.approx(-1)
    assert np.isnan(found[3]).all()
    assert np.isnan(rank_correlation([[1, 2], [2, 1]])).all()
