"""How wrong is the estimate on one device, by what was measured there?  A correction from one to many measurements.

With the estimator's floor t0 (its estimate of an empty program) an estimate is t0 + work, and the corrected one

    t = t0' + s work + sum_j b_j x_j        t0', s, b_j >= 0;  x: dense GMAC, depthwise GMAC, weight MB, activation MB

so that what costs more by the estimate never costs less by the correction. Fitted on relative error to n networks:

    n = 1, 2    t0' alone (s = 1), or one scale of everything (t0' = k t0, s = k): whichever explains two better; of one,
                t0' where the floor is at least half of its estimate
    n = 3 .. 7  ridge: t0', s and b are pulled towards the above and b = 0; the strength of the pull by leave-one-out
    n >= 8      full: the same, the pull down to almost nothing

From 3 on, no correction at all, the floor alone and the scale alone stand in the same leave-one-out comparison, and the
simpler one is taken unless the other's error is 2 % smaller.

The interval is 80 %: value / f .. value * f. For one or two networks f is the estimate's own; from 3 on

    log f = t(0.9, n) * sqrt(S (1 + 2/n)),   S = (0.217^2 + sum of the squared left-out log residuals) / (1 + n)

an inverse-gamma prior worth one observation (Gelman et al., Bayesian Data Analysis, 3.3) of log(1.43) / 1.645 = 0.217:
1.43 is the 90th percentile of the factor between two published sources that measured one network on one chip; 2 is the
number of parameters of the simplest full correction, floor and scale. Never wider than the estimate's own, and f >= 1.1:
a device differs by as much from day to day (a judgement).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.latency import latency
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.workload import eta, total

Kind = Literal["none", "t0", "scale", "ridge", "full"]
FEW, MANY = 3, 8
RIDGE: Final = (3.0, 1.0, 0.3, 0.1, 0.03)
FULL: Final = (*RIDGE, 0.01, 1e-3, 1e-5)
WORTH: Final = 0.98
LEAST_FLOOR: Final = 0.1
STOPWATCH: Final = 0.2
"""Floors of stopwatches differ by that much of a typical network's time, however small the estimator's own floor is."""
PRIOR_SPREAD: Final = math.log(1.43) / 1.645
NARROWEST: Final = math.log(1.1)


@dataclass(frozen=True)
class Sample:
    """One network on the device: terms of its workload, what was estimated there and what the stopwatch said."""

    terms: tuple[float, ...]
    estimated_ms: float
    measured_ms: float


@dataclass(frozen=True)
class Correction:
    """t = t0 + scale * (estimate - floor) + slopes * terms, in ms."""

    kind: Kind
    floor: float
    t0: float
    scale: float
    slopes: tuple[float, ...]

    def apply(self, terms: Sequence[float], estimated_ms: float) -> float:
        """The corrected milliseconds of a network."""
        own = sum(slope * term for slope, term in zip(self.slopes, terms, strict=True))
        return self.t0 + self.scale * max(0.0, estimated_ms - self.floor) + own


@dataclass(frozen=True)
class Fit:
    """A correction, the factor of its 80 % interval, and relative errors (mean, absolute) before and after.

    `left_out` is the error of each network under the correction fitted without it; None below three networks.
    """

    correction: Correction
    factor: float
    networks: int
    before: float
    after: float
    left_out: float | None


_Fitter = Callable[[Sequence[Sample]], Correction]


def terms_of(costs: Sequence[Cost], target: Target) -> tuple[float, ...]:
    """Dense and depthwise GMAC, weight and activation MB of a program on a target."""
    work = total(costs, eta=eta(target, "Neural Engine"))
    return (
        work.dense_macs / 1e9,
        work.depthwise_macs / 1e9,
        work.effective_weight_bytes / 1e6,
        work.activation_bytes / 1e6,
    )


def floor_of(target: Target) -> float:
    """What the estimator lets a program without operations cost."""
    return latency((), target)["latency_ms"].value


def fit(samples: Sequence[Sample], floor: float, factor: float) -> Fit:
    """The correction of a device from one or more measured networks.

    Args:
        samples: one for each network.
        floor: the estimator's milliseconds for an empty program on that target.
        factor: of the estimate's own 80 % interval, value / factor .. value * factor.
    """
    if not samples:
        raise ValueError("a correction needs at least one measurement")
    fitter = _fitter(samples, floor)
    correction = fitter(samples)
    residuals = _left_out(samples, fitter) if len(samples) >= FEW else []
    return Fit(
        correction=correction,
        factor=math.exp(_half_width(residuals, math.log(factor))),
        networks=len(samples),
        before=_mean_error([s.estimated_ms for s in samples], samples),
        after=_mean_error([correction.apply(s.terms, s.estimated_ms) for s in samples], samples),
        left_out=float(np.mean(np.abs(np.expm1(residuals)))) if residuals else None,
    )


def _fitter(samples: Sequence[Sample], floor: float) -> _Fitter:
    """What fits the samples best without overfitting them."""
    if len(samples) < FEW:
        return lambda chosen: _one_parameter(chosen, floor)
    best, least = _none(floor), math.inf
    for candidate in _candidates(len(samples), floor):
        loss = float(np.mean(np.abs(_left_out(samples, candidate))))
        if loss < WORTH * least:
            best, least = candidate, loss
    return best


def _candidates(count: int, floor: float) -> list[_Fitter]:
    """From the simplest to the freest."""
    kind: Kind = "ridge" if count < MANY else "full"
    pulls = RIDGE if count < MANY else FULL
    alone = (lambda s: _shift(s, floor), lambda s: _scale(s, floor))
    return [_none(floor), *alone, *(_ridge(floor, pull, kind) for pull in pulls)]


def _left_out(samples: Sequence[Sample], fitter: _Fitter) -> list[float]:
    """log(predicted / measured) of each network under the fit to the others."""
    rows = list(samples)
    return [_residual(fitter(rows[:i] + rows[i + 1 :]), row) for i, row in enumerate(rows)]


def _residual(correction: Correction, sample: Sample) -> float:
    return math.log(correction.apply(sample.terms, sample.estimated_ms) / sample.measured_ms)


def _none(floor: float) -> _Fitter:
    return lambda samples: Correction("none", floor, floor, 1.0, (0.0,) * len(samples[0].terms))


def _scale(samples: Sequence[Sample], floor: float) -> Correction:
    factor = _median_ratio(samples)
    return Correction("scale", floor, factor * floor, factor, (0.0,) * len(samples[0].terms))


def _shift(samples: Sequence[Sample], floor: float) -> Correction:
    """The floor that fits best in relative error; at least a tenth of the estimator's, so that times stay positive."""
    weights = [1 / s.measured_ms**2 for s in samples]
    gaps = [s.measured_ms - (s.estimated_ms - floor) for s in samples]
    t0 = float(np.average(gaps, weights=weights))
    return Correction("t0", floor, max(t0, LEAST_FLOOR * floor, 1e-6), 1.0, (0.0,) * len(samples[0].terms))


def _one_parameter(samples: Sequence[Sample], floor: float) -> Correction:
    shift, scale = _shift(samples, floor), _scale(samples, floor)
    gain = sum(abs(_residual(scale, s)) - abs(_residual(shift, s)) for s in samples)
    if abs(gain) > 1e-9:
        return shift if gain > 0 else scale
    return shift if 2 * floor >= np.mean([s.estimated_ms for s in samples]) else scale


def _ridge(floor: float, pull: float, kind: Kind) -> _Fitter:
    """Non-negative least squares on relative errors; the rows below pull each parameter to its expected value."""

    def fitted(samples: Sequence[Sample]) -> Correction:
        from scipy.optimize import nnls

        start = _one_parameter(samples, floor)
        terms = np.array([s.terms for s in samples])
        estimates, measured = (np.array([getattr(s, n) for s in samples]) for n in ("estimated_ms", "measured_ms"))
        work = np.maximum(estimates - floor, 0.0)
        design = np.column_stack([np.ones(len(samples)), work, terms]) / measured[:, None]
        least = max(start.t0, STOPWATCH * float(np.median(measured)))
        typical = np.append([least, start.scale], _typical(terms, measured))
        expected = np.array([start.t0 / least, 1.0, *np.zeros(terms.shape[1])])
        rows = np.vstack([design * typical, math.sqrt(pull) * np.eye(len(typical))])
        solution, _ = nnls(rows, np.append(np.ones(len(samples)), math.sqrt(pull) * expected))
        t0, scale, *slopes = (float(value) for value in solution * typical)
        return Correction(kind, floor, max(t0, 1e-3 * float(measured.min())), scale, tuple(slopes))

    return fitted


def _typical(terms: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slope under which a term would explain all of a typical time; 0 for terms that are absent."""
    shares = [float(np.median(column / measured)) for column in terms.T]
    return np.array([1 / share if share > 0 else 0.0 for share in shares])


def _median_ratio(samples: Sequence[Sample]) -> float:
    return math.exp(float(np.median([math.log(s.measured_ms / s.estimated_ms) for s in samples])))


def _mean_error(predicted: Sequence[float], samples: Sequence[Sample]) -> float:
    return float(np.mean([abs(p / s.measured_ms - 1) for p, s in zip(predicted, samples, strict=True)]))


def _half_width(residuals: Sequence[float], own: float) -> float:
    """log f of the interval; `own` is that of the estimate."""
    from scipy.stats import t

    if not residuals:
        return own
    count = len(residuals)
    variance = (PRIOR_SPREAD**2 + sum(r**2 for r in residuals)) / (1 + count)
    width = float(t.ppf(0.9, count)) * math.sqrt(variance * (1 + 2 / count))
    return max(NARROWEST, min(own, width))
