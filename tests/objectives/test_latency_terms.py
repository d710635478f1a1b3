"""The parts of an estimated latency, and how estimates of several programs may be off against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target, find_device
from coreml_pareto.objectives.devices.fit import fitted
from coreml_pareto.objectives.latency import latency
from coreml_pareto.objectives.latency_terms import Parts, setting_of, slope_errors
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.reading import Reading

TARGET = Target(find_device("iPhone 15 Pro"), 17)
COUNT = len(priors.TERMS)


def cost(macs: int, *, group: str = "dense", off: str = "") -> Cost:
    return Cost(
        name="conv", kind="conv", group=group, macs=macs, weight_bytes=2000, read_bytes=40_000, written_bytes=30_000,
        aligned_bytes=0, weight_elements=1000, kernel=9, precision="fp16", off_engine=off, note="",
    )  # fmt: skip


def only(term: str, ms: float = 1.0, floor: float = 0.0) -> Parts:
    return Parts(floor, tuple(ms if name == term else 0.0 for name in priors.TERMS), 0.0)


@pytest.mark.parametrize("off", ["", "a dilated convolution"])
def test_an_estimate_carries_its_parts_and_they_add_up(off: str) -> None:
    reading = latency([cost(20_000_000_000, off=off), cost(500_000, group="depthwise")], TARGET)["latency_ms"]
    parts = Parts.of(reading)
    assert parts is not None
    assert parts.milliseconds == pytest.approx(reading.value, rel=1e-7)
    assert (parts.fallback > 0) == bool(off)
    assert Parts.of(Reading(1, "ms", 1, 1, "measured", {"terms": parts.text})) == parts


def test_other_units_and_older_records_have_none() -> None:
    reading = latency([cost(20_000_000)], Target(find_device("iPhone 15 Pro"), 17, "CPU_ONLY"))["latency_ms"]
    assert Parts.of(reading) is None and Parts.of(Reading(1, "ms", 0.5, 2, "estimated")) is None


def test_the_doubt_of_the_slopes_is_what_floor_and_speed_leave_of_it() -> None:
    """By a regression on draws of all parameters: a second way to the same covariance."""
    fit, setting = fitted(), setting_of(TARGET)
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(len(fit.mode)), fit.covariance, 100_000)
    given = np.column_stack([draws @ row[0] for row in fit.layout.indicators([setting])])
    slopes = draws[:, fit.layout.terms]
    left = slopes - given @ np.linalg.lstsq(given, slopes, rcond=None)[0]
    assert np.cov(left.T) == pytest.approx(fit.slopes_doubt(setting), abs=0.02 * np.var(slopes, axis=0).max())


def test_estimates_of_the_floor_alone_and_of_one_term_are_off_as_the_fit_says() -> None:
    normals = np.random.default_rng(1).standard_normal((20_000, COUNT + 1))
    terms = ["spatial", "depthwise"]
    drawn = slope_errors([only("spatial", 0.0, floor=1.0), *map(only, terms)], TARGET, normals)
    assert not drawn[:, 0].any()
    for column, term in enumerate(terms, 1):
        place = list(priors.TERMS).index(term)
        doubt = fitted().slopes_doubt(setting_of(TARGET))[place, place]
        assert drawn[:, column].std() == pytest.approx(priors.CALIBRATION * math.sqrt(doubt), rel=0.03)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_programs_of_the_same_mixture_are_off_alike(factor: float) -> None:
    """So that no draw puts one past the other: the larger one stays the slower one."""
    one = Parts(0.0, tuple(0.1 * place for place in range(COUNT)), 0.0)
    other = Parts(0.0, tuple(factor * ms for ms in one.work), 0.0)
    normals = np.random.default_rng(2).standard_normal((50, COUNT + 1))
    drawn = slope_errors([one, other], TARGET, normals)
    assert drawn[:, 0] == pytest.approx(drawn[:, 1])


def test_more_work_is_slower_in_every_draw() -> None:
    rng = np.random.default_rng(3)
    small = [Parts(0.1, tuple(rng.uniform(0, 1, COUNT)), 0.0) for _ in range(20)]
    large = [Parts(0.1, tuple(ms * rng.uniform(1, 2) for ms in one.work), 0.0) for one in small]
    normals = rng.standard_normal((100, COUNT + 1))
    told: Sequence[Parts] = [*small, *large]
    drawn = np.array([one.milliseconds for one in told]) * np.exp(slope_errors(told, TARGET, normals))
    assert (drawn[:, 20:] >= drawn[:, :20]).all()
