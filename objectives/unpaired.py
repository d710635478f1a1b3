"""How far apart are two shares of different images?  Newcombe's interval of a difference.

R. G. Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven methods",
Statistics in Medicine 17, 1998, method 10: the two Wilson intervals, their distances from the shares added in quadrature.
On the same images, whose answers go together, it is too wide and so on the safe side; `objectives.paired` is for those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from coreml_pareto.objectives.accuracy import Z95, wilson


@final
@dataclass(frozen=True)
class Count:
    """So many right of so many images."""

    right: int
    images: int

    @property
    def share(self) -> float:
        """Right over images."""
        return self.right / self.images


@final
@dataclass(frozen=True)
class Gap:
    """The first share minus the second, with its interval."""

    value: float
    low: float
    high: float


def gap(first: Count, second: Count, z: float = Z95) -> Gap:
    """Compare two shares; `z` is the normal quantile of the interval, 95 % by default."""
    value = first.share - second.share
    (low1, high1), (low2, high2) = (wilson(one.right, one.images, z) for one in (first, second))
    below = math.hypot(first.share - low1, high2 - second.share)
    above = math.hypot(high1 - first.share, second.share - low2)
    return Gap(value, value - below, value + above)
