"""How many users, or pictures, does a comparison of two models need?

Two independent arms: J. L. Fleiss, B. Levin and M. C. Paik, "Statistical Methods for Rates and Proportions", 3rd edition,
Wiley 2003, chapter 4, two-sided test of two proportions, without continuity correction:

    n = (z_a sqrt(2 p q) + z_b sqrt(p1 q1 + p2 q2))^2 / (p1 - p2)^2        per arm, p the mean of p1 and p2

Both models on the same pictures: R. J. Connor, "Sample size for testing differences in proportions for the paired-sample
design", Biometrics 43, 1987, for McNemar's test, psi the share of pictures that only one of the two has right:

    n = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2                      pictures
"""

from __future__ import annotations

import math
from typing import Final

from scipy.stats import norm

SIGNIFICANCE: Final = 0.05
POWER: Final = 0.8


def per_arm(first: float, second: float, *, significance: float = SIGNIFICANCE, power: float = POWER) -> int:
    """Answers in each of two arms, so that shares `first` and `second`, which differ, are told apart.

    Raises:
        ValueError: not two different shares from 0 to 1.
    """
    if not (0 <= first <= 1 and 0 <= second <= 1 and first != second):
        raise ValueError(f"two different shares from 0 to 1; got {first} and {second}")
    mean = (first + second) / 2
    alone = math.sqrt(first * (1 - first) + second * (1 - second))
    a, b = _quantiles(significance, power)
    return math.ceil((a * math.sqrt(2 * mean * (1 - mean)) + b * alone) ** 2 / (first - second) ** 2)


def paired(
    discordant: float, difference: float, *, significance: float = SIGNIFICANCE, power: float = POWER
) -> int | None:
    """Pictures that both models see; None where they disagree too rarely to differ by so much.

    Args:
        discordant: share of pictures that only one of the two has right.
        difference: of their accuracies, a share above 0.
    """
    if difference <= 0:
        raise ValueError(f"a difference is above 0; got {difference}")
    if discordant < difference:
        return None
    a, b = _quantiles(significance, power)
    found = (a * math.sqrt(discordant) + b * math.sqrt(discordant - difference**2)) ** 2 / difference**2
    return math.ceil(found)


def _quantiles(significance: float, power: float) -> tuple[float, float]:
    return float(norm.isf(significance / 2)), float(norm.ppf(power))
