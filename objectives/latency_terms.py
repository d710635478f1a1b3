"""What is an estimated latency made of, and how may those of several programs be off against each other?

    t = floor + sum over the terms of `priors.TERMS` + what falling off the Neural Engine adds           ms

Floor and speed of a device are the same for all its programs and cancel between two of them. What does not: the slopes
of the terms, which all programs share and use in different proportions (their joint doubt in the fit, floor and speed
given: `fit.Fit.slopes_doubt`; that of the added milliseconds by `priors.FALLBACK`), and the scatter of one network
around the fit, which its compressions share: they differ in the terms alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.fit import Z80, Setting, fitted
from coreml_pareto.objectives.devices.published import stopwatch_of
from coreml_pareto.objectives.reading import Reading

TERMS: Final = "terms"
"""The condition of an estimated latency under which its parts stand, as `Parts.text`."""

SCATTER: Final = priors.CALIBRATION * priors.SCATTER
"""Standard deviation of one network's logarithm around the fit, as the estimates' intervals count it."""
_NAMES: Final = ("floor", *priors.TERMS, "fallback")


@final
@dataclass(frozen=True)
class Parts:
    """An estimate on the Neural Engine in ms: each call's floor, the terms in the order of `priors.TERMS`, what is added."""

    floor: float
    work: tuple[float, ...]
    fallback: float

    @property
    def milliseconds(self) -> float:
        """Their sum."""
        return self.floor + sum(self.work) + self.fallback

    @property
    def text(self) -> str:
        """`floor 0.21, spatial 0.013, …, fallback 0 ms`; `of` reads it back."""
        parts = zip(_NAMES, (self.floor, *self.work, self.fallback), strict=True)
        return f"{', '.join(f'{name} {ms:.9g}' for name, ms in parts)} ms"

    @classmethod
    def of(cls, reading: Reading) -> Parts | None:
        """The parts that a reading carries; None of other units, of measurements, and of other terms."""
        text = reading.conditions.get(TERMS)
        if text is None:
            return None
        told = dict(part.split()[:2] for part in text.split(", "))
        if tuple(told) != _NAMES:
            return None
        floor, *work, fallback = map(float, told.values())
        return cls(floor, tuple(work), fallback)


def setting_of(target: Target) -> Setting:
    """Where and with which stopwatch a target's estimates are."""
    chip = target.device.soc
    return Setting(chip, stopwatch_of(chip), target.os)


def slope_errors(parts: Sequence[Parts], target: Target, normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of estimates with other slopes over those that were told, [draws, programs].

    Args:
        parts: of each program.
        target: the one of all estimates.
        normals: standard normals, [draws, terms + 1]; the last is the added milliseconds'.
    """
    table = np.array([(one.floor, *one.work, one.fallback) for one in parts])
    logs = priors.CALIBRATION * normals[:, :-1] @ _root(fitted().slopes_doubt(setting_of(target))).T
    added = math.log(priors.FALLBACK.high / priors.FALLBACK.low) / 2 / Z80 * normals[:, -1:]
    factors = np.hstack([np.ones((len(normals), 1)), np.exp(logs), np.exp(added)])
    errors: NDArray[np.float64] = np.log(factors @ table.T / table.sum(1))
    return errors


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix whose product with its transpose is the covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    root: NDArray[np.float64] = vectors * np.sqrt(np.maximum(values, 0.0))
    return root
