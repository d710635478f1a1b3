"""Corrections against devices whose true parameters are known: what is fitted, how far off, how honest the interval."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.correction import (
    FEW,
    MANY,
    Fit,
    Kind,
    Sample,
    _ridge,
    fit,
    floor_of,
    terms_of,
    unseen,
)  # fmt: skip
from coreml_pareto.objectives.latency import latency
from coreml_pareto.objectives.program import Cost

FLOOR = 0.05
SLOPES = np.array([0.064, 0.3, 0.012, 0.01])
OWN = 2.0


@dataclass(frozen=True)
class Phone:
    """What is true of a synthetic device: its own floor and slopes, and the noise of its stopwatch."""

    floor: float
    slopes: NDArray[np.float64]
    noise: float = 0.0

    def samples(self, draws: np.random.Generator, count: int) -> list[Sample]:
        size = 10 ** draws.uniform(-1.5, 0.8, count)
        shares = (draws.uniform(0.7, 1, count), draws.uniform(0, 0.2, count), 10 ** draws.uniform(0.7, 1.5, count))
        terms = np.column_stack(
            [size * shares[0], size * shares[1], 10 ** draws.uniform(-0.3, 1.7, count), size * shares[2]]
        )
        measured = (self.floor + terms @ self.slopes) * np.exp(draws.normal(0, self.noise, count))
        return [
            Sample(tuple(row), FLOOR + float(row @ SLOPES), float(m)) for row, m in zip(terms, measured, strict=True)
        ]


def drawn_phone(draws: np.random.Generator) -> Phone:
    """Another stopwatch and other slopes than the estimator's."""
    own = SLOPES * np.exp(draws.normal(0, 0.3, 4)) * np.exp(draws.normal(0, 0.3))
    return Phone(FLOOR * np.exp(draws.normal(0, 1)) + draws.uniform(0, 0.4), own, 0.05)


def errors(found: Fit, samples: list[Sample]) -> NDArray[np.float64]:
    return np.array([found.correction.apply(s.terms, s.estimated_ms) / s.measured_ms - 1 for s in samples])


def uncorrected(samples: list[Sample]) -> NDArray[np.float64]:
    return np.array([s.estimated_ms / s.measured_ms - 1 for s in samples])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_small_networks_find_another_floor(count: int) -> None:
    small = [Sample((0.001 * n, 0.0, 0.0, 0.0), FLOOR + 0.001 * n, 0.3 + 0.001 * n) for n in range(1, count + 1)]
    found = fit(small, FLOOR, OWN)
    assert found.correction.kind == "t0" and found.correction.t0 == pytest.approx(0.3)
    assert found.left_out is None and found.factor == pytest.approx(OWN)


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_large_networks_find_another_scale(count: int) -> None:
    large = [Sample((10.0 * n, 0.0, 0.0, 0.0), FLOOR + n, 1.7 * (FLOOR + n)) for n in range(1, count + 1)]
    found = fit(large, FLOOR, OWN)
    assert found.correction.kind == "scale" and found.correction.scale == pytest.approx(1.7)
    assert found.after == pytest.approx(0, abs=1e-12)


def test_a_much_faster_phone_never_gets_a_negative_time() -> None:
    found = fit([Sample((0.0,) * 4, 0.06, 0.001), Sample((0.0,) * 4, 0.07, 0.002)], FLOOR, OWN)
    assert found.correction.apply((0.0,) * 4, FLOOR) > 0


def test_eight_networks_without_noise_recover_the_phone() -> None:
    draws = np.random.default_rng(3)
    phone = Phone(0.4, SLOPES * [1.5, 2.0, 3.0, 1.2])
    seen, others = phone.samples(draws, 16), phone.samples(draws, 40)
    found = fit(seen, FLOOR, OWN)
    assert found.correction.kind == "full"
    assert np.abs(errors(found, others)).mean() < 0.02 < 0.3 < np.abs(uncorrected(others)).mean()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8, 12])
def test_a_correction_is_never_worse_in_the_median_than_none(count: int) -> None:
    before, after = [], []
    for seed in range(50):
        draws = np.random.default_rng([seed, count])
        phone = drawn_phone(draws)
        found = fit(phone.samples(draws, count), FLOOR, OWN)
        others = phone.samples(draws, 40)
        before.append(np.abs(uncorrected(others)).mean())
        after.append(np.abs(errors(found, others)).mean())
    assert np.median(after) <= np.median(before)
    assert count < 5 or np.median(after) < 0.5 * np.median(before)


@pytest.mark.parametrize("count", [5, 12])
def test_where_the_estimate_is_right_nothing_is_made_worse(count: int) -> None:
    """Only the stopwatch's noise is left to fit."""
    worse = []
    for seed in range(30):
        draws = np.random.default_rng(seed)
        phone = Phone(FLOOR, SLOPES, 0.05)
        found = fit(phone.samples(draws, count), FLOOR, OWN)
        others = phone.samples(draws, 40)
        worse.append(np.abs(errors(found, others)).mean() - np.abs(uncorrected(others)).mean())
    assert np.median(worse) < 0.02


@pytest.mark.parametrize("count", [3, 5, 8, 16])
def test_intervals_hold_what_they_promise(count: int) -> None:
    inside = []
    for seed in range(40):
        draws = np.random.default_rng([seed, count])
        phone = drawn_phone(draws)
        found = fit(phone.samples(draws, count), FLOOR, OWN)
        inside += list(np.abs(np.log1p(errors(found, phone.samples(draws, 20)))) <= np.log(found.factor))
    assert np.mean(inside) >= 0.75


def test_more_measurements_narrow_the_interval() -> None:
    draws = np.random.default_rng(0)
    samples = drawn_phone(draws).samples(draws, 20)
    assert 1.1 <= fit(samples, FLOOR, OWN).factor < fit(samples[:1], FLOOR, OWN).factor == pytest.approx(OWN)


def test_the_left_out_error_is_what_refitting_by_hand_gives() -> None:
    draws = np.random.default_rng(5)
    samples = drawn_phone(draws).samples(draws, 10)
    found = fit(samples, FLOOR, OWN)
    candidates = [_ridge(FLOOR, pull, "full") for pull in (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-5)]
    by_hand = []
    for fitter in candidates:
        rests = [(samples[:i] + samples[i + 1 :], s) for i, s in enumerate(samples)]
        predicted = [(fitter(rest).apply(s.terms, s.estimated_ms), s.measured_ms) for rest, s in rests]
        by_hand.append(float(np.mean([abs(p / m - 1) for p, m in predicted])))
    assert found.left_out is not None and min(abs(found.left_out - other) for other in by_hand) < 1e-9


def test_the_solution_of_the_ridge_is_the_least_of_a_grid() -> None:
    """Brute force over floor and scale where no other term exists."""
    draws = np.random.default_rng(1)
    estimates = FLOOR + draws.uniform(0.1, 2, 5)
    measured = 0.3 + 1.4 * (estimates - FLOOR)
    samples = [Sample((), float(e), float(m)) for e, m in zip(estimates, measured, strict=True)]
    correction = _ridge(FLOOR, 1e-9, "ridge")(samples)
    grid = itertools.product(np.linspace(0, 1, 101), np.linspace(0.5, 2, 151))
    best = min(grid, key=lambda point: float(np.sum(((point[0] + point[1] * (estimates - FLOOR)) / measured - 1) ** 2)))
    assert (correction.t0, correction.scale) == (pytest.approx(best[0], abs=0.01), pytest.approx(best[1], abs=0.01))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 3))
def test_more_work_never_costs_less(seed: int, count: int, term: int) -> None:
    draws = np.random.default_rng(seed)
    found = fit(drawn_phone(draws).samples(draws, count), FLOOR, OWN)
    (one,) = drawn_phone(draws).samples(draws, 1)
    more = list(one.terms)
    more[term] *= 1.5
    estimate = one.estimated_ms + 0.5 * one.terms[term] * SLOPES[term]
    assert 0 < found.correction.apply(one.terms, one.estimated_ms) <= found.correction.apply(more, estimate)


def test_a_sure_estimate_that_is_right_stays_as_it_is() -> None:
    """Of a device that was published, noise is no reason to correct; of one that was not, the same noise may be."""
    kinds: dict[float, list[Kind]] = {1.2: [], 2.0: []}
    for factor, seed in itertools.product(kinds, range(20)):
        draws = np.random.default_rng(seed)
        kinds[factor].append(fit(Phone(FLOOR, SLOPES, 0.12).samples(draws, 5), FLOOR, factor).correction.kind)
    assert kinds[1.2].count("none") > 10 and kinds[2.0].count("none") == 0


def test_a_sure_estimate_that_is_wrong_is_corrected() -> None:
    for seed in range(20):
        found = fit(Phone(0.3, 1.4 * SLOPES, 0.05).samples(np.random.default_rng(seed), 5), FLOOR, 1.2)
        assert found.correction.kind != "none"


@pytest.mark.parametrize("count", [5, 12])
def test_an_outlier_counts_less(count: int) -> None:
    """One of the measurements is three times too long, a phone that was too warm perhaps."""
    drawn = []
    for seed in range(20):
        draws = np.random.default_rng(seed)
        samples = Phone(FLOOR, 1.2 * SLOPES, 0.03).samples(draws, count)
        warm = [Sample(samples[0].terms, samples[0].estimated_ms, 3 * samples[0].measured_ms), *samples[1:]]
        others = Phone(FLOOR, 1.2 * SLOPES).samples(draws, 40)
        drawn.append(np.median(np.abs(errors(fit(warm, FLOOR, OWN), others))))
    assert np.median(drawn) < 0.12


@given(st.floats(1.01, 10))
def test_a_stopwatch_that_nobody_published_widens_the_interval(factor: float) -> None:
    assert factor < unseen(factor) < 1.3 * factor
    assert unseen(factor) / factor < unseen(1.0)


def test_an_interval_may_be_wider_than_the_estimates_own() -> None:
    """Networks left out are off by half: the estimate's own 10 % is not believed."""
    draws = np.random.default_rng(0)
    assert fit(Phone(FLOOR, SLOPES, 0.7).samples(draws, 6), FLOOR, 1.1).factor > 1.4


def test_the_kinds_follow_the_number_of_measurements() -> None:
    draws = np.random.default_rng(2)
    samples = Phone(0.4, SLOPES * [1.5, 2.0, 3.0, 1.2], 0.02).samples(draws, 20)
    kinds: dict[int, Kind] = {count: fit(samples[:count], FLOOR, OWN).correction.kind for count in (1, 2, 5, 7, 8, 20)}
    assert {kinds[1], kinds[2]} <= {"t0", "scale"}
    assert all(kinds[n] != "full" for n in (5, 7)) and kinds[20] == "full" and (FEW, MANY) == (3, 8)
    with pytest.raises(ValueError, match="one measurement"):
        fit([], FLOOR, OWN)


def test_terms_and_floor_are_the_estimators(target: Callable[..., Target], row: Callable[..., Cost]) -> None:
    where: Any = target()
    rows = [row(macs=2 * 10**9, weight_elements=10**6, read_bytes=3 * 10**6), row(group="depthwise", macs=10**8)]
    assert terms_of(rows, where) == pytest.approx((2.0, 0.1, 2.0, 3.0))
    assert floor_of(where) <= latency(rows, where)["latency_ms"].value
