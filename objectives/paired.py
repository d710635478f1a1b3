"""Is one package right more often than another?  Both judged on the same images, so that what they share cancels.

Only images on which the two differ tell anything. Whether the difference could be chance: McNemar's test (Q. McNemar,
"Note on the sampling error of the difference between correlated proportions or percentages", Psychometrika 12, 1947),
exact. How large it is: the Wald interval after half a pair is added to each of the four cells (A. Agresti and Y. Min,
"Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005, section 3),
which holds its level where the plain one does not; cut at -1 and 1, beyond which no difference of shares lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from coreml_pareto.objectives.accuracy import Z95


@final
@dataclass(frozen=True)
class Difference:
    """Top-1 of the first minus top-1 of the second, as a share, with its interval and the chance of seeing as much.

    Attributes:
        only_first, only_second: images that only one of them has right.
        images: all of them.
        p_value: of McNemar's exact test, two-sided; 1 where they differ nowhere.
    """

    value: float
    low: float
    high: float
    p_value: float
    only_first: int
    only_second: int
    images: int


def compare(first: NDArray[np.bool_], second: NDArray[np.bool_], z: float = Z95) -> Difference:
    """Compare which of the same n images two packages got right.

    Raises:
        ValueError: not the same number of images, or none.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"the same images, at least one; got {first.shape} and {second.shape}")
    images, only_first, only_second = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p_value = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    total = images + 2
    middle = (only_first - only_second) / total
    half = z / total * math.sqrt(differing + 1 - (only_first - only_second) ** 2 / total)
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return Difference((only_first - only_second) / images, low, high, p_value, only_first, only_second, images)
