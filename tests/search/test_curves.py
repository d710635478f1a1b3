"""The end of a learning curve, foretold: closed forms, coverage on drawn curves, and what may never happen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from coreml_pareto.search.curves import CONFIDENCE, LEAST_CURVES, LOOKS, due, reachable_top1

SHARES = st.floats(0, 1)


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


def _curve(rng: np.random.Generator, epochs: int = 12) -> list[float]:
    """Log-odds that rise to a final level, with the noise of 512 images."""
    final, rate = rng.normal(2.5, 0.8), rng.uniform(2, 4)
    odds = final - 4 * np.exp(-rate * np.arange(1, epochs + 1) / epochs)
    return list(rng.binomial(512, 1 / (1 + np.exp(-odds))) / 512)


def test_the_bound_is_a_prediction_interval_of_the_gains() -> None:
    """Curves that gain 1.0, 1.2, 1.4 and 1.6 in log-odds from the middle to the end; by the formula, by hand."""
    curves = [(_logistic(0.0), _logistic(gain)) for gain in (1.0, 1.2, 1.4, 1.6)]
    gains = np.array([1.0, 1.2, 1.4, 1.6])
    most = 1.3 + t.ppf(1 - (1 - CONFIDENCE) / len(LOOKS), 3) * gains.std(ddof=1) * math.sqrt(1 + 1 / 4)
    assert reachable_top1([_logistic(0.5)], 2, curves, 10**6) == pytest.approx(_logistic(0.5 + most), rel=1e-9)


def test_between_two_epochs_of_another_length_the_curve_is_straight() -> None:
    """After half of 4 epochs a curve of 3 epochs stands half-way between its first and second."""
    curves = [(0.2, 0.4, 0.5)] * LEAST_CURVES
    gain = math.log(0.5 / 0.5) - math.log(0.3 / 0.7)
    assert reachable_top1([0.1, 0.25], 4, curves, 10**6) == pytest.approx(_logistic(math.log(0.25 / 0.75) + gain))


def test_nothing_is_foretold_from_too_few_curves_or_too_early() -> None:
    curves = [(0.2, 0.4, 0.5, 0.6)] * LEAST_CURVES
    assert reachable_top1([0.1], 8, curves, 512) == 1.0
    assert reachable_top1([0.1, 0.1], 8, curves[1:], 512) == 1.0
    assert reachable_top1([0.1, 0.1], 8, curves, 512) < 0.6


def test_the_confidence_is_that_of_a_training_over_all_its_looks() -> None:
    """Of trainings drawn like those before them, and that need exactly what they reach, at most one in twenty is stopped."""
    rng = np.random.default_rng(0)
    stopped = 0
    for _ in range(2000):
        curves, new = [_curve(rng) for _ in range(6)], _curve(rng)
        looks = [done for done in range(1, 13) if due(done, 12)]
        stopped += any(new[-1] > reachable_top1(new[:done], 12, curves, 512) for done in looks)
    assert 0.02 < stopped / 2000 < 0.055


def test_a_training_is_looked_at_three_times_and_never_at_its_end() -> None:
    assert [done for done in range(1, 13) if due(done, 12)] == [3, 6, 9]
    assert [done for done in range(1, 4) if due(done, 3)] == [1, 2]
    assert not due(1, 1)
    assert all(sum(due(done, epochs) for done in range(1, epochs + 1)) == 3 for epochs in range(4, 100))


def test_curves_without_an_epoch_by_then_tell_nothing() -> None:
    """After 3 of 12 epochs a training of 2 has not ended its first: what it gained since is not known."""
    short = [(0.5, 0.9), (0.4, 0.8), (0.6, 0.9), (0.5, 0.8)]
    assert reachable_top1([0.1] * 3, 12, short, 512) == 1.0
    assert reachable_top1([0.1] * 6, 12, short, 512) < 1.0
    assert reachable_top1([0.1] * 3, 12, [*short[:3], *[(0.2, 0.4, 0.5, 0.6)] * 3], 512) == 1.0
    assert reachable_top1([0.1], 1, [()] * LEAST_CURVES, 512) == 1.0


@given(st.lists(SHARES, min_size=3, max_size=6), st.lists(st.lists(SHARES, min_size=6, max_size=6), max_size=8))
def test_it_is_a_share_and_never_below_what_is_reached(so_far: list[float], curves: list[list[float]]) -> None:
    bound = reachable_top1(so_far, 6, curves, 512)
    assert min(so_far[-1], 1 - 0.5 / 512) <= bound + 1e-12 and bound <= 1
