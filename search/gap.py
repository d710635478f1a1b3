"""How much does validation flatter the front?  Mean validation minus mean test top-1 of its packages.

What is chosen by its validation top-1 was, in part, lucky there: the winner's curse. Test images, by which nothing was
chosen, do not share that luck. The interval is the bootstrap's at 95 % (percentiles; Efron & Tibshirani, "An Introduction
to the Bootstrap", 1993, ch. 13): images of either split are drawn anew, the same ones for all packages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from coreml_pareto.objectives.accuracy import right_of
from coreml_pareto.search.run import Result

DRAWS: Final = 2000
SEED: Final = 0


@final
@dataclass(frozen=True)
class Gap:
    """Mean validation top-1 minus mean test top-1, as a share, over so many packages."""

    value: float
    low: float
    high: float
    packages: int


def gap(results: Iterable[Result]) -> Gap | None:
    """The gap over packages whose test top-1 was read; None without any, or where images are not on record."""
    tested = [result for result in results if result.test_top1 is not None and "top1" in result.score]
    pairs = [(right_of(r.score["top1"]), right_of(r.test_top1)) for r in tested if r.test_top1 is not None]
    known = [(own, test) for own, test in pairs if own is not None and test is not None]
    if not known or len(known) < len(tested):
        return None
    validation, test = (np.mean(np.stack(column), axis=0) for column in zip(*known, strict=True))
    low, high = _interval(validation, test)
    return Gap(float(validation.mean() - test.mean()), low, high, len(known))


def _interval(validation: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the interval of the difference of two means, from how often each image was right [images]."""
    found = bootstrap(
        (validation, test), _difference, n_resamples=DRAWS, method="percentile", batch=100,
        random_state=np.random.default_rng(SEED),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def _difference(first: NDArray[np.float64], second: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    difference: NDArray[np.float64] = first.mean(axis) - second.mean(axis)
    return difference
