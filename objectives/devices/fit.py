"""How long do networks take on a chip, by the figures that were published?  One fit of all of them, and its doubt.

    t = t0 + v sum over terms theta x                       t in ms, x as `workload.terms`
    log t0 = tau + chip + stopwatch                         what every call costs
    log v  =       chip + stopwatch + system                how much slower than the reference the work is

All parameters are logarithms, so that no term can be negative and more work never takes less time. Each has a normal
prior (`devices/priors.py`); the effects of chips are a random walk over generations, so a chip without figures is taken
to be like the nearest one that has some, older or newer, and its doubt grows with the distance: a Gaussian process
(Rasmussen & Williams, "Gaussian Processes for Machine Learning", eq. 2.22) with the kernel of the Wiener process (their
section 6.3), begun at the chip with the oldest figures. Errors are
relative and follow Student's t, so that an outlier counts less (Lange, Little & Taylor 1989, "Robust statistical
modeling using the t distribution"; weights (nu + 1) / (nu + r^2)). The mode is found by
damped Gauss-Newton steps; the doubt of an estimate is its gradient through the inverse of the Hessian there (Laplace:
MacKay 2003, "Information Theory, Inference, and Learning Algorithms", ch. 27), plus the scatter of the figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Final

import numpy as np

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.published import STOPWATCHES, Published, published

Array = np.ndarray[Any, np.dtype[np.float64]]

Z80: Final = 1.2816
"""80 % of a normal distribution lie within so many standard deviations."""
_STEPS: Final = 60
_DAMPING: Final = (1e-2, 1e-6, 1e6)  # first, least, and where no step helps any more


@dataclass(frozen=True)
class Setting:
    """Where and with what a time is taken; None where it is not known."""

    chip: str
    stopwatch: str | None
    os: int | None


@dataclass(frozen=True)
class Estimate:
    """Milliseconds, and the standard deviation of their logarithm; `t0` is the share of every call, `parts` the terms'."""

    ms: float
    deviation: float
    t0: float
    parts: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 80 % interval."""
        factor = math.exp(Z80 * priors.CALIBRATION * self.deviation)
        return self.ms / factor, self.ms * factor


class _Layout:
    """Which parameter is where, and the prior of all of them."""

    def __init__(self) -> None:
        self.chips = tuple(priors.GENERATIONS)
        self.stopwatches, self.systems = tuple(STOPWATCHES), priors.SYSTEMS
        counts = (len(priors.TERMS), 1, len(self.chips), len(self.stopwatches))
        ends = np.cumsum((*counts, len(self.chips), len(self.stopwatches), len(self.systems)))
        self.terms, self.tau, self.chip_t0, self.watch_t0, self.chip_v, self.watch_v, self.system_v = map(
            slice, (0, *ends[:-1]), ends
        )
        self.mean = np.zeros(ends[-1])
        self.mean[self.terms] = [math.log(prior.value) for prior in priors.TERMS.values()]
        self.mean[self.tau] = math.log(priors.T0.value)
        self.precision = np.linalg.inv(self._covariance(len(self.mean)))

    def _covariance(self, size: int) -> Array:
        cov = np.zeros((size, size))
        cov[self.terms, self.terms] = np.diag([math.log(p.high / p.value) ** 2 for p in priors.TERMS.values()])
        cov[self.tau, self.tau] = math.log(priors.T0.high / priors.T0.value) ** 2
        kernel = _kernel(self.chips)
        cov[self.chip_t0, self.chip_t0] = priors.CHIP_T0**2 * kernel
        cov[self.chip_v, self.chip_v] = priors.CHIP_SPEED**2 * kernel
        cov[self.watch_t0, self.watch_t0] = priors.STOPWATCH_T0**2 * np.eye(len(self.stopwatches))
        cov[self.watch_v, self.watch_v] = priors.STOPWATCH_SPEED**2 * np.eye(len(self.stopwatches))
        cov[self.system_v, self.system_v] = priors.SYSTEM_SPEED**2 * np.eye(len(self.systems))
        return cov

    def indicators(self, settings: Sequence[Setting]) -> tuple[Array, Array]:
        """Which parameters make log t0 and log v of each setting: two matrices of zeros and ones."""
        floor, speed = (np.zeros((len(settings), len(self.mean))) for _ in range(2))
        floor[:, self.tau] = 1
        for row, setting in enumerate(settings):
            chip = self.chips.index(setting.chip)
            floor[row, self.chip_t0.start + chip] = speed[row, self.chip_v.start + chip] = 1
            if setting.stopwatch in self.stopwatches:
                watch = self.stopwatches.index(setting.stopwatch)
                floor[row, self.watch_t0.start + watch] = speed[row, self.watch_v.start + watch] = 1
            if setting.os in self.systems:
                speed[row, self.system_v.start + self.systems.index(setting.os)] = 1
        return floor, speed


@dataclass(frozen=True, eq=False)
class Fit:
    """The mode of all parameters, and their covariance there."""

    mode: Array
    covariance: Array
    layout: _Layout = field(repr=False)

    def estimate(self, terms: Sequence[float], setting: Setting) -> Estimate:
        """Time of one network, of which `terms` are known, in one setting."""
        problem = _Problem(self.layout, np.array([terms]), *self.layout.indicators([setting]))
        t0, parts = problem.times(self.mode)
        gradient = problem.gradient(t0, parts)[0]
        unknown = 0.0 if setting.stopwatch else _any_stopwatch(float(t0[0] / (t0[0] + parts.sum())))
        variance = gradient @ self.covariance @ gradient + priors.SCATTER**2 + unknown
        return Estimate(float(t0[0] + parts.sum()), math.sqrt(variance), float(t0[0]), tuple(parts[0].tolist()))

    def doubt(self, setting: Setting) -> Array:
        """Covariance of log t0 and of the logarithms of v theta, term by term: [1 + terms, 1 + terms]."""
        floor, speed = self.layout.indicators([setting])
        rows = np.vstack([floor, np.repeat(speed, len(priors.TERMS), 0)])
        rows[1:, self.layout.terms] += np.eye(len(priors.TERMS))
        covariance: Array = rows @ self.covariance @ rows.T
        return covariance

    def slopes_doubt(self, setting: Setting) -> Array:
        """Covariance of the slopes' logarithms, given a setting's floor and speed: what may order networks otherwise.

        Floor and speed are the same for all networks there; what they are is no matter between two of them.
        """
        count = len(priors.TERMS)
        rows = np.vstack([np.eye(len(self.mode))[self.layout.terms], *self.layout.indicators([setting])])
        joint = rows @ self.covariance @ rows.T
        slopes, cross, given = joint[:count, :count], joint[:count, count:], joint[count:, count:]
        found: Array = slopes - cross @ np.linalg.solve(given, cross.T)
        return found

    def floor(self, chip: str, stopwatch: str) -> Estimate:
        """What every call costs."""
        return self.estimate([0.0] * len(priors.TERMS), Setting(chip, stopwatch, None))

    @cached_property
    def slopes(self) -> dict[str, float]:
        """theta of each term, in ms per unit of the term."""
        return dict(zip(priors.TERMS, np.exp(self.mode[self.layout.terms]).tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class _Problem:
    """Figures as matrices: terms of the networks, and which effects hold for each."""

    layout: _Layout
    x: Array
    floor: Array
    speed: Array

    def times(self, p: Array) -> tuple[Array, Array]:
        """t0 [n], and the time of each term [n, terms]."""
        work: Array = self.x * np.exp(p[self.layout.terms]) * np.exp(self.speed @ p)[:, None]
        return np.exp(self.floor @ p), work

    def gradient(self, t0: Array, parts: Array) -> Array:
        """Derivatives of log t [n, parameters]."""
        total = t0 + parts.sum(1)
        share = (t0 / total)[:, None]
        gradient: Array = share * self.floor + (1 - share) * self.speed
        gradient[:, self.layout.terms] += parts / total[:, None]
        return gradient


def fit(figures: Iterable[Published]) -> Fit:
    """The mode of the parameters, given the figures."""
    known, layout = list(figures), _Layout()
    settings = [Setting(figure.chip, figure.stopwatch, figure.os) for figure in known]
    x = np.array([figure.terms for figure in known]).reshape(len(known), len(priors.TERMS))
    problem = _Problem(layout, x, *layout.indicators(settings))
    mode, hessian = _descend(problem, np.log(np.array([figure.ms for figure in known])))
    covariance: Array = np.asarray(np.linalg.inv(hessian), np.float64)
    return Fit(mode, covariance, layout)


@cache
def fitted() -> Fit:
    """The fit of everything published."""
    return fit(published())


def _descend(problem: _Problem, log_ms: Array) -> tuple[Array, Array]:
    """Levenberg's steps from the prior's mean, and the Gauss-Newton Hessian at the end."""
    first, least, most = _DAMPING
    p, damping = problem.layout.mean.copy(), first
    loss = _loss(problem, log_ms, p)
    for _ in range(_STEPS):
        hessian, slope = _expansion(problem, log_ms, p)
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), slope)
        new = _loss(problem, log_ms, candidate := p - np.clip(step, -1, 1))
        if new > loss:
            damping *= 4
            if damping > most:
                break
            continue
        gain, p, loss, damping = loss - new, candidate, new, max(damping / 4, least)
        if gain < 1e-9:
            break
    return p, _expansion(problem, log_ms, p)[0]


def _expansion(problem: _Problem, log_ms: Array, p: Array) -> tuple[Array, Array]:
    t0, parts = problem.times(p)
    residual = (np.log(t0 + parts.sum(1)) - log_ms) / priors.SCATTER
    gradient = problem.gradient(t0, parts) / priors.SCATTER
    weight = (priors.FREEDOM + 1) / (priors.FREEDOM + residual**2)
    layout, weighted = problem.layout, gradient * weight[:, None]
    return weighted.T @ gradient + layout.precision, weighted.T @ residual + layout.precision @ (p - layout.mean)


def _loss(problem: _Problem, log_ms: Array, p: Array) -> float:
    t0, parts = problem.times(p)
    residual = (np.log(t0 + parts.sum(1)) - log_ms) / priors.SCATTER
    away = p - problem.layout.mean
    data = (priors.FREEDOM + 1) / 2 * np.log1p(residual**2 / priors.FREEDOM).sum()
    return float(data + away @ problem.layout.precision @ away / 2)


def generations_apart(chip: str, other: str) -> float:
    """How far the effects of two chips lie apart in the prior: the variance of their difference, in generations' steps."""
    if chip == other:
        return 0.0
    kernel = _kernel((chip, other))
    return float(kernel[0, 0] + kernel[1, 1] - 2 * kernel[0, 1])


def _kernel(chips: Sequence[str]) -> Array:
    """Covariance of chips in squares of one generation's step; Macs share one step, a little of each chip is its own."""
    steps = np.array([priors.GENERATIONS[chip] - priors.FIRST_GENERATION for chip in chips])
    macs = np.array([float(chip.startswith("M")) for chip in chips])
    apart = np.abs(steps[:, None] - steps[None])
    shared = (np.abs(steps)[:, None] + np.abs(steps)[None] - apart) / 2  # the way that two walks have in common
    kernel: Array = shared + priors.MAC_DISTANCE * np.outer(macs, macs) + priors.OWN_SHARE * np.eye(len(chips))
    return kernel


def _any_stopwatch(floor_share: float) -> float:
    """Variance of log t that a stopwatch nobody named adds."""
    return (floor_share * priors.STOPWATCH_T0) ** 2 + ((1 - floor_share) * priors.STOPWATCH_SPEED) ** 2
