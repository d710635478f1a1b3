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

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.correction import (
    FEW,
    FULL,
    KIND,
    MANY,
    OWN,
    Fit,
    Kind,
    Sample,
    _floors_too,
    _Ridge,
    fit,
    own,
    strange,
    unseen,
)  # fmt: skip
from coreml_pareto.objectives.latency import doubt, latency, parts
from coreml_pareto.objectives.program import Cost

FLOOR = 0.05
SLOPES = np.array([0.064, 0.3, 0.012, 0.01])
WIDTH = 2.0
DOUBT = np.diag([0.5**2, *[0.3**2] * 4])
DOUBT[1:, 1:] += 0.3**2  # and a common speed


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
        return [Sample((FLOOR, *(row * SLOPES)), float(m)) for row, m in zip(terms, measured, strict=True)]


def drawn_phone(draws: np.random.Generator) -> Phone:
    """Another stopwatch and other slopes than the estimator's."""
    own = SLOPES * np.exp(draws.normal(0, 0.3, 4)) * np.exp(draws.normal(0, 0.3))
    return Phone(FLOOR * np.exp(draws.normal(0, 1)) + draws.uniform(0, 0.4), own, 0.05)


def errors(found: Fit, samples: list[Sample]) -> NDArray[np.float64]:
    return np.array([found.correction.apply(s.parts) / s.measured_ms - 1 for s in samples])


def uncorrected(samples: list[Sample]) -> NDArray[np.float64]:
    return np.array([s.estimated_ms / s.measured_ms - 1 for s in samples])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_small_networks_find_another_floor(count: int) -> None:
    small = [Sample((FLOOR, 0.001 * n, 0.0, 0.0, 0.0), 0.3 + 0.001 * n) for n in range(1, count + 1)]
    found = fit(small, DOUBT, WIDTH)
    floor, *others = found.correction.factors
    assert found.correction.kind == "ridge" and floor > 3 and others == pytest.approx([1, 1, 1, 1], abs=0.1)
    assert found.left_out is None and found.factor >= WIDTH ** np.sqrt(1 + 1 / count)


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_large_networks_find_another_scale(count: int) -> None:
    """Of all terms: also of those that they do not have."""
    large = [Sample((FLOOR, float(n), 0.0, 0.0, 0.0), 1.7 * (FLOOR + n)) for n in range(1, count + 1)]
    found = fit(large, DOUBT, WIDTH)
    _, *scales = found.correction.factors
    assert found.correction.kind == "ridge" and scales[0] > 1.5 and min(scales[1:]) > 1.2
    assert found.after < 0.1 < found.before


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_a_device_far_off_is_no_outlier(factor: float, count: int) -> None:
    far = [Sample((FLOOR, float(n), 0.1, 0.1, 0.1), factor * (FLOOR + n + 0.3)) for n in range(1, count + 1)]
    found = fit(far, DOUBT, WIDTH)
    assert found.after < 0.2 * found.before


def test_an_estimate_that_is_right_is_left_alone() -> None:
    for count in (1, 2, 5):
        right = [Sample((FLOOR, float(n), 0.0, 0.0, 0.0), FLOOR + n) for n in range(1, count + 1)]
        assert fit(right, DOUBT, WIDTH).correction.factors == pytest.approx((1,) * 5, abs=1e-3)


def test_a_much_faster_phone_never_gets_a_negative_time() -> None:
    found = fit([Sample((FLOOR, 0.01, 0, 0, 0), 0.001), Sample((FLOOR, 0.02, 0, 0, 0), 0.002)], DOUBT, WIDTH)
    assert found.correction.apply((FLOOR, 0, 0, 0, 0)) > 0


def test_eight_networks_without_noise_recover_the_phone() -> None:
    draws = np.random.default_rng(3)
    phone = Phone(0.4, SLOPES * [1.5, 2.0, 3.0, 1.2])
    seen, others = phone.samples(draws, 16), phone.samples(draws, 40)
    found = fit(seen, DOUBT, WIDTH)
    assert found.correction.kind == "full"
    assert np.abs(errors(found, others)).mean() < 0.02 < 0.3 < np.abs(uncorrected(others)).mean()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8, 12])
def test_a_correction_is_never_worse_in_the_median_than_none(count: int) -> None:
    before, after = [], []
    for seed in range(50):
        draws = np.random.default_rng([seed, count])
        phone = drawn_phone(draws)
        found = fit(phone.samples(draws, count), DOUBT, WIDTH)
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
        found = fit(phone.samples(draws, count), DOUBT, WIDTH)
        others = phone.samples(draws, 40)
        worse.append(np.abs(errors(found, others)).mean() - np.abs(uncorrected(others)).mean())
    assert np.median(worse) < 0.02


@pytest.mark.parametrize("count", [3, 5, 8, 16])
def test_intervals_hold_what_they_promise(count: int) -> None:
    inside = []
    for seed in range(40):
        draws = np.random.default_rng([seed, count])
        phone = drawn_phone(draws)
        found = fit(phone.samples(draws, count), DOUBT, WIDTH)
        inside += list(np.abs(np.log1p(errors(found, phone.samples(draws, 20)))) <= np.log(found.factor))
    assert np.mean(inside) >= 0.75


def test_more_measurements_narrow_the_interval() -> None:
    draws = np.random.default_rng(0)
    samples = drawn_phone(draws).samples(draws, 20)
    assert 1.1 <= fit(samples, DOUBT, WIDTH).factor < fit(samples[:1], DOUBT, WIDTH).factor


def test_the_left_out_error_is_what_refitting_by_hand_gives() -> None:
    draws = np.random.default_rng(5)
    samples = drawn_phone(draws).samples(draws, 10)
    found = fit(samples, DOUBT, WIDTH)
    by_hand = []
    for fitter in (_Ridge(DOUBT, pull, "full") for pull in FULL):
        rests = [(samples[:i] + samples[i + 1 :], s) for i, s in enumerate(samples)]
        predicted = [(fitter(rest).apply(s.parts), s.measured_ms) for rest, s in rests]
        by_hand.append(float(np.mean([abs(p / m - 1) for p, m in predicted])))
    assert found.left_out is not None and min(abs(found.left_out - other) for other in by_hand) < 1e-9


def test_the_solution_of_the_Ridge_is_the_least_of_a_grid() -> None:
    """Brute force over the factors of the floor and of all work: squared log errors and the prior's pull."""
    draws = np.random.default_rng(1)
    work = draws.uniform(0.1, 2, 5)
    samples = [Sample((FLOOR, float(w)), float(0.15 + 1.3 * w)) for w in work]
    wide = np.array([[0.4, 0.1], [0.1, 0.2]])
    found = _Ridge(wide, 1.0, "ridge")(samples)
    precision = np.linalg.inv(_floors_too(wide, FLOOR, float(np.median([s.measured_ms for s in samples]))))

    def loss(logs: tuple[float, float]) -> float:
        told = np.exp(logs[0]) * FLOOR + np.exp(logs[1]) * work
        residual = np.log(told / np.array([s.measured_ms for s in samples])) / priors.SCATTER
        data = (priors.FREEDOM + 1) / 2 * np.log1p(residual**2 / priors.FREEDOM).sum()
        return float(data + np.array(logs) @ precision @ np.array(logs) / 2)

    grid = itertools.product(np.linspace(0, 2, 401), np.linspace(-0.5, 0.8, 521))
    assert np.log(found.factors) == pytest.approx(np.array(min(grid, key=loss)), abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 3))
def test_more_work_never_costs_less(seed: int, count: int, term: int) -> None:
    draws = np.random.default_rng(seed)
    found = fit(drawn_phone(draws).samples(draws, count), DOUBT, WIDTH)
    (one,) = drawn_phone(draws).samples(draws, 1)
    more = list(one.parts)
    more[1 + term] *= 1.5
    assert 0 < found.correction.apply(one.parts) <= found.correction.apply(more)


def test_a_sure_estimate_that_is_right_stays_as_it_is() -> None:
    """Of a device that was published, noise is no reason to correct; of one that was not, the same noise may be."""
    kinds: dict[float, list[Kind]] = {1.2: [], 2.0: []}
    for factor, seed in itertools.product(kinds, range(20)):
        draws = np.random.default_rng(seed)
        kinds[factor].append(fit(Phone(FLOOR, SLOPES, 0.12).samples(draws, 5), DOUBT, factor).correction.kind)
    assert kinds[1.2].count("none") > 10 and kinds[2.0].count("none") == 0


def test_a_sure_estimate_that_is_wrong_is_corrected() -> None:
    for seed in range(20):
        found = fit(Phone(0.3, 1.4 * SLOPES, 0.05).samples(np.random.default_rng(seed), 5), DOUBT, 1.2)
        assert found.correction.kind != "none"


@pytest.mark.parametrize("count", [5, 12])
def test_an_outlier_counts_less(count: int) -> None:
    """One of the measurements is three times too long, a phone that was too warm perhaps."""
    drawn = []
    for seed in range(20):
        draws = np.random.default_rng(seed)
        samples = Phone(FLOOR, 1.2 * SLOPES, 0.03).samples(draws, count)
        warm = [Sample(samples[0].parts, 3 * samples[0].measured_ms), *samples[1:]]
        others = Phone(FLOOR, 1.2 * SLOPES).samples(draws, 40)
        drawn.append(np.median(np.abs(errors(fit(warm, DOUBT, WIDTH), others))))
    assert np.median(drawn) < 0.12


@given(st.floats(1.01, 10))
def test_a_stopwatch_that_nobody_published_widens_the_interval(factor: float) -> None:
    assert factor < unseen(factor) < 1.3 * factor
    assert unseen(factor) / factor < unseen(1.0)


def test_an_interval_may_be_wider_than_the_estimates_own() -> None:
    """Networks left out are off by half: the estimate's own 10 % is not believed."""
    draws = np.random.default_rng(0)
    assert fit(Phone(FLOOR, SLOPES, 0.7).samples(draws, 6), DOUBT, 1.1).factor > 1.4


def test_the_kinds_follow_the_number_of_measurements() -> None:
    draws = np.random.default_rng(2)
    samples = Phone(0.4, SLOPES * [1.5, 2.0, 3.0, 1.2], 0.02).samples(draws, 20)
    kinds: dict[int, Kind] = {
        count: fit(samples[:count], DOUBT, WIDTH).correction.kind for count in (1, 2, 5, 7, 8, 20)
    }
    assert all(kinds[n] == "ridge" for n in (1, 2, 5, 7)) and kinds[8] == kinds[20] == "full" and (FEW, MANY) == (3, 8)
    with pytest.raises(ValueError, match="one measurement"):
        fit([], DOUBT, WIDTH)


@pytest.mark.parametrize("units", ["ALL", "CPU_AND_GPU", "CPU_ONLY"])
def test_parts_are_the_estimators(target: Callable[..., Target], row: Callable[..., Cost], units: str) -> None:
    where: Any = target(compute_units=units)
    rows = [row(macs=2 * 10**9, weight_elements=10**6, read_bytes=3 * 10**6), row(group="depthwise", macs=10**8)]
    told = parts(rows, where)
    assert sum(told) == pytest.approx(latency(rows, where)["latency_ms"].value) and len(told) == len(priors.TERMS) + 2
    assert told[0] == pytest.approx(parts(rows[:1], where)[0]) and told[-1] == 0.0
    rows.append(row(macs=10**10))  # so much that the GPU is no way out
    fallen = parts([*rows, row(kind="gather", off_engine="gathering", written_bytes=2)], where)
    assert fallen[-1] == (priors.FALLBACK.value if units == "ALL" else 0.0)


def test_what_is_known_badly_moves_first() -> None:
    """Two terms explain the same surprise; the one of which little is known takes it."""
    samples = [Sample((FLOOR, 1.0, 1.0), 2 * FLOOR + 3.0)] * 4
    _, known, unknown = _Ridge(np.diag([0.01, 0.1**2, 0.5**2]), 1.0, "ridge")(samples).factors
    assert unknown > 1.5 > 1.1 > known


def test_a_device_widens_what_the_estimator_knows(target: Callable[..., Target]) -> None:
    """Kinds of operation move together; another stopwatch has another floor and another speed; all stay covariances."""
    for unit in ("Neural Engine", "CPU"):
        known = doubt(target(), unit)  # type: ignore[arg-type]
        names = ("t0", *priors.TERMS)
        added = own(known) - known
        first, second = names.index("activations"), names.index("spilled")
        assert added[first, second] == pytest.approx(KIND**2) and added[first, 0] == 0.0
        assert added[first, first] == pytest.approx(KIND**2 + OWN**2)
        assert added[first, names.index("weights")] == 0.0 and added[-1].max() == 0.0
        for matrix in (known, own(known), strange(known)):
            assert matrix == pytest.approx(matrix.T) and np.linalg.eigvalsh(matrix).min() > 0
        assert set(itertools.chain(*priors.KINDS)) == set(priors.TERMS)
