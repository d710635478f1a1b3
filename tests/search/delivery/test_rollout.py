"""Sample sizes against published figures and against simulated tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from coreml_pareto.search.delivery.rollout import paired, per_arm


@pytest.mark.parametrize(
    ("first", "second", "power", "published"),
    [
        (0.50, 0.75, 0.9, 77),  # R, help of power.prop.test: n = 76.7
        (0.60, 0.70, 0.8, 356),  # the same function, n = 355.9
    ],
)
def test_the_size_of_an_arm_is_the_published_one(first: float, second: float, power: float, published: int) -> None:
    assert per_arm(first, second, power=power) == published == per_arm(second, first, power=power)


def test_an_arm_of_that_size_sees_the_difference_four_times_of_five() -> None:
    random, size = np.random.default_rng(0), per_arm(0.9, 0.87)
    one, other = (random.binomial(size, share, 20_000) / size for share in (0.9, 0.87))
    pooled = (one + other) / 2
    z = (one - other) / np.sqrt(2 * pooled * (1 - pooled) / size)
    assert (np.abs(z) > norm.isf(0.025)).mean() == pytest.approx(0.8, abs=0.01)


def test_pairs_of_that_number_see_the_difference_four_times_of_five() -> None:
    """McNemar's test without correction, on pictures of which 10 % are right by one model only."""
    random, size = np.random.default_rng(0), paired(0.1, 0.02)
    assert size is not None
    better, worse = 0.06, 0.04
    b, c = random.multinomial(size, [better, worse, 1 - better - worse], 20_000)[:, :2].T
    z = (b - c) / np.sqrt(np.maximum(b + c, 1))
    assert (np.abs(z) > norm.isf(0.025)).mean() == pytest.approx(0.8, abs=0.01)
    exact = [binomtest(int(x), int(x + y)).pvalue < 0.05 for x, y in zip(b[:300], c[:300], strict=True)]
    assert 0.65 < np.mean(exact) < 0.85  # the exact test is a little more careful


def test_what_cannot_differ_has_no_size() -> None:
    assert paired(0.01, 0.02) is None
    for shares in ((0.5, 0.5), (1.2, 0.5)):
        with pytest.raises(ValueError, match="two different shares"):
            per_arm(*shares)
    with pytest.raises(ValueError, match="above 0"):
        paired(0.1, 0)
