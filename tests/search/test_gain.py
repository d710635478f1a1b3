"""The expected gain of hypervolume: against areas, against draws and the hypervolume itself, and as a property."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from coreml_pareto.objectives.pareto import hypervolume
from coreml_pareto.search.gain import Box, Prospect

SURE = 1e-6


def box(error: float = 0.5, axes: int = 2, together: float = 0.0) -> Box:
    return Box(np.zeros(axes), np.ones(axes), error, together=together)


def prospect(
    packages: list[list[float]], top1: float, deviation: float = SURE, drops: list[float] | None = None
) -> Prospect:
    return Prospect(
        np.array(packages, dtype=float), np.array(drops or [0.0] * len(packages)), float(logit(top1)), deviation
    )


def test_a_sure_package_gains_the_volume_that_it_dominates() -> None:
    assert box().gain(prospect([[0.25, 0.5]], 0.9)) == pytest.approx(0.75 * 0.5 * 0.8, abs=0.01)


def test_what_is_taken_is_not_gained_again() -> None:
    half = box()
    half.take(np.array([[0.5, 0.0]]), np.array([0.0]))
    assert half.gain(prospect([[0.25, 0.5]], 0.9)) == pytest.approx(0.25 * 0.5 * 0.8, abs=0.01)
    assert half.gain(prospect([[0.6, 0.1]], 0.999)) == 0.0


def test_what_is_at_work_counts_as_far_as_it_is_expected() -> None:
    open_box = box()
    open_box.expect(prospect([[0.0, 0.0]], 0.75, 1e3))  # a coin: all or nothing
    assert open_box.gain(prospect([[0.0, 0.0]], 1 - 1e-9)) == pytest.approx(0.5, abs=0.01)


def test_packages_of_one_training_are_good_or_bad_together() -> None:
    both = prospect([[0.5, 0.0], [0.0, 0.5]], 0.75, 0.7)
    draws = expit(both.mean + both.deviation * np.random.default_rng(0).standard_normal(4000))
    volumes = [hypervolume([[0.5, 0.0, 1 - a], [0.0, 0.5, 1 - a]], [1.0, 1.0, 0.5]) / 0.5 for a in draws]
    assert box().gain(both) == pytest.approx(np.mean(volumes), abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_gain_is_that_of_the_hypervolume_over_draws_of_the_accuracy(seed: int) -> None:
    draws = np.random.default_rng(seed)
    known, errors = draws.random((4, 2)), draws.uniform(0.05, 0.5, 4)
    new = Prospect(draws.random((3, 2)), draws.uniform(0, 0.1, 3), float(logit(0.8)), 0.6)
    place = box()
    place.take(known, errors)
    corner, before = [1.0, 1.0, 0.5], np.column_stack([known, errors])
    gains = []
    for top1 in expit(new.mean + new.deviation * draws.standard_normal(2000)):
        after = np.vstack([before, np.column_stack([new.packages, 1 - top1 + new.drops])])
        gains.append((hypervolume(after, corner) - hypervolume(before, corner)) / 0.5)
    assert place.gain(new) == pytest.approx(np.mean(gains), abs=0.01)


@given(
    place=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    top1=st.floats(0.3, 0.99),
    better=st.floats(0, 1),
    deviation=st.floats(0.01, 2),
)
def test_better_in_anything_never_gains_less(place: list[float], top1: float, better: float, deviation: float) -> None:
    own = prospect([place], top1, deviation)
    cheaper = prospect([[place[0] * better, place[1]]], top1, deviation)
    surer = Prospect(own.packages, own.drops, own.mean + better, deviation)
    more = Prospect(np.vstack([own.packages, [[better, better]]]), np.zeros(2), own.mean, deviation)
    gain = box().gain(own)
    assert 0 <= gain <= 1
    for other in (cheaper, surer, more):
        assert box().gain(other) >= gain - 1e-12


def test_one_package_alone() -> None:
    both = prospect([[0.5, 0.0], [0.0, 0.5]], 0.75, 0.7, [0.0, 0.1])
    assert both.only(1).packages.tolist() == [[0.0, 0.5]]
    assert both.only(1).drops.tolist() == [0.1]
    assert math.isclose(both.only(1).mean, both.mean)


def test_without_another_axis_only_accuracy_counts() -> None:
    alone = Box(np.zeros(0), np.zeros(0), 0.5)
    alone.take(np.zeros((1, 0)), np.array([0.3]))
    assert alone.gain(prospect([[]], 0.8)) == pytest.approx(0.2, abs=0.01)


def test_where_axes_rise_together_the_worst_of_them_counts() -> None:
    assert box(together=1.0).gain(prospect([[0.25, 0.5]], 0.9)) == pytest.approx(0.5 * 0.8, abs=0.01)
    half = (0.5 + 0.75 * 0.5) / 2 * 0.8
    assert box(together=0.5).gain(prospect([[0.25, 0.5]], 0.9)) == pytest.approx(half, abs=0.01)
