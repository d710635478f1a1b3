"""How much of the box would a training win?  Its expected gain of hypervolume, all its packages together.

A package's readings are known before it is trained, but for its accuracy; of that a normal distribution of its logit is
known. So at each place of the box the probability that the training dominates it has a closed form: that its top-1
reaches the least that any of its packages, no worse there on every other axis, needs. The expected gain of hypervolume
(Emmerich, Giannakoglou and Naujoks 2006, IEEE Trans. Evol. Comput. 10(4)) is the mean of that probability over the
part of the box that nothing dominates yet; over it is summed by a Sobol sequence, exactly in the accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import qmc

Vector = NDArray[np.float64]
Table = NDArray[np.float64]

PLACES: Final = 2048
"""Places of the box at which the gain is summed: a power of two, as Sobol sequences want."""

TOGETHER: Final = 0.5
"""Of the places where all axes but accuracy are equally far along: size, latency, memory and energy rise together, and in a
box of independent axes what is small would count for each of them again (weighted hypervolume: Zitzler, Brockhoff and
Thiele 2007, EMO, LNCS 4403)."""


@final
@dataclass(frozen=True)
class Prospect:
    """What a training may yield.

    Attributes:
        packages: losses of each package, accuracy left out; packages × axes.
        drops: what each package lies below the training's best top-1, as shares; packages.
        mean, deviation: of the logit of that top-1.
    """

    packages: Table
    drops: Vector
    mean: float
    deviation: float

    def only(self, package: int) -> Prospect:
        """Return the prospect of one of its packages alone."""
        return Prospect(self.packages[[package]], self.drops[[package]], self.mean, self.deviation)


@final
class Box:
    """The part of objective space that counts, and what is dominated of it.

    Args:
        low, high: its corners on the axes other than accuracy.
        error: the error from which on nothing is worth anything; it is counted from 0.
        seed: of the places.
        together: the share of the places that lie as far along each axis as along any other.
    """

    def __init__(self, low: Vector, high: Vector, error: float, seed: int = 0, together: float = TOGETHER) -> None:
        self.error = error
        points = qmc.Sobol(len(low) + 1, rng=np.random.default_rng(seed)).random(PLACES)
        joint = slice(0, round(together * PLACES))
        points[joint, 1:] = points[joint, 1:2]
        self.statics: Table = low + points[:, 1:] * (high - low)
        self.errors: Vector = error * points[:, 0]
        self.free: Vector = np.ones(PLACES)

    def take(self, packages: Table, errors: Vector) -> None:
        """Count what these packages dominate as won."""
        for package, error in zip(packages, errors, strict=True):
            self.free[(package <= self.statics).all(axis=1) & (error <= self.errors)] = 0.0

    def expect(self, prospect: Prospect) -> None:
        """Count what a training at work will probably win as probably won."""
        self.free *= 1 - self._won(prospect, np.arange(PLACES))

    def gain(self, prospect: Prospect) -> float:
        """Return the expected gain, as a share of the box."""
        left = np.flatnonzero(self.free)
        return float(self._won(prospect, left) @ self.free[left]) / PLACES

    def _won(self, prospect: Prospect, places: NDArray[np.intp]) -> Vector:
        """The probability that each of these places is dominated by some package of the training."""
        statics, errors = self.statics[places], self.errors[places]
        allowed = np.full(len(places), -np.inf)  # the greatest error of the training that still does
        for package, drop in zip(prospect.packages, prospect.drops, strict=True):
            below = (package <= statics).all(axis=1)
            allowed[below] = np.maximum(allowed[below], errors[below] - drop)
        won = np.zeros(len(places))
        possible = allowed > 0
        wanted = np.log1p(-allowed[possible]) - np.log(allowed[possible])  # the logit of the top-1 that is needed
        won[possible] = ndtr((prospect.mean - wanted) / prospect.deviation)
        return won
