"""Validation minus test over a front, with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coreml_pareto.objectives.accuracy import RIGHT, spell_right
from coreml_pareto.objectives.reading import Reading
from coreml_pareto.search.gap import Gap, gap
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.report.doubts import flattery
from coreml_pareto.search.run import Result

Make = Callable[..., Any]


def reading(right: NDArray[np.bool_]) -> Reading:
    value = float(right.mean())
    return Reading(value, "share", value, value, "measured", {"images": str(len(right)), RIGHT: spell_right(right)})


def judged(result: Result, validation: NDArray[np.bool_], test: NDArray[np.bool_]) -> Result:
    assert isinstance(result.outcome, Scored)
    scored = replace(result.outcome, score={**result.score, "top1": reading(validation)})
    return replace(result, outcome=scored, test_top1=reading(test))


def test_one_package_by_the_normal_approximation(result_at: Make) -> None:
    rng = np.random.default_rng(0)
    validation, test = rng.random(1000) < 0.92, rng.random(2000) < 0.88
    found = gap([judged(result_at(0, (0.9, 1, 1e5, 1e6, 1)), validation, test)])
    assert found is not None and found.packages == 1
    p, q = validation.mean(), test.mean()
    assert found.value == pytest.approx(p - q)
    half = 1.96 * math.sqrt(p * (1 - p) / 1000 + q * (1 - q) / 2000)
    assert (found.low, found.high) == pytest.approx((p - q - half, p - q + half), abs=0.1 * half)


def test_packages_that_err_on_the_same_images_are_no_more_certain_than_one(result_at: Make) -> None:
    """Independent ones would have an interval a third as wide."""
    rng = np.random.default_rng(1)
    validation, test = rng.random(500) < 0.9, rng.random(500) < 0.9
    results = [judged(result_at(n, (0.9, 1, 1e5, 1e6, 1)), validation, test) for n in range(9)]
    one, nine = gap(results[:1]), gap(results)
    assert one is not None and nine is not None and nine.packages == 9
    assert (nine.low, nine.high) == pytest.approx((one.low, one.high))
    apart = [judged(r, rng.random(500) < 0.9, rng.random(500) < 0.9) for r in results]
    found = gap(apart)
    assert found is not None and (found.high - found.low) / (one.high - one.low) == pytest.approx(1 / 3, rel=0.2)


def test_only_tested_packages_count_and_one_without_images_ends_it(result_at: Make, draw_run: Make) -> None:
    right = np.arange(100) < 90
    known = judged(result_at(0, (0.9, 1, 1e5, 1e6, 1)), right, right)
    untested, before = (
        result_at(1, (0.9, 1, 1e5, 1e6, 1)),
        replace(result_at(2, (0.9, 1, 1e5, 1e6, 1)), test_top1=reading(right)),
    )
    assert gap([untested]) is None and gap([]) is None and gap(draw_run(0).results) is None
    found = gap([known, untested])
    assert found is not None and (found.value, found.packages) == (0.0, 1)
    assert gap([known, before]) is None


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            Gap(0.012, 0.003, 0.021, 7),
            "7 packages: validation on average 1.2 points above test (95 %: 0.3 to 2.1): what is",
        ),
        (
            Gap(0.002, -0.011, 0.014, 1),
            "validation on average 0.2 points above test (95 %: −1.1 to 1.4): no difference",
        ),
        (Gap(-0.02, -0.03, -0.01, 3), "2.0 points below test (95 %: −3.0 to −1.0): no flattery"),
    ],
)
def test_in_words(found: Gap, said: str) -> None:
    assert said in flattery(found)
    assert ("winner's curse" in flattery(found)) == (found.low > 0)
