"""How wrong is the estimate on one device, by what was measured there?  A correction from one to many measurements.

With the estimator's floor t0 (its estimate of an empty program) an estimate is t0 + work, and the corrected one

    t = t0' + s work + sum_j b_j x_j        t0', s, b_j >= 0;  x: dense GMAC, depthwise GMAC, weight MB, activation MB

so that what costs more by the estimate never costs less by the correction. Fitted to n networks:

    n = 1, 2    t0' alone (s = 1), or one scale of everything (t0' = k t0, s = k): whichever explains two better; of one,
                t0' where the floor is at least half of its estimate
    n = 3 .. 7  ridge: t0', s and b are pulled towards t0, 1 and 0, as hard as two devices or stopwatches are alike by the
                estimator's own priors (`devices/priors.py`): s by CHIP_SPEED; b_j by the share OWN of what the term costs;
                t0' by STOPWATCH_T0, and by STOPWATCH of a typical time, which a small floor does not hide
    n >= 8      full: the same, the pull down to almost nothing where that makes the error of networks left out FREER times
                smaller

The errors are log(predicted / measured), their scatter and its Student's t those of the estimator's fit. Something
simpler is taken where it is clearly better on networks left out: the floor or the scale alone where the ridge's error is
ALONE times as large; no correction where it is UNSURE times as large and the estimate is sure of itself (its own interval
at most x/÷SURE), because a device that was published needs less correction than noise suggests.
`benchmarks/corrections.py` shows what five networks are good for.

The interval is 80 %: value / f .. value * f. For one or two networks f is the estimate's own; from 3 on

    log f = t(0.9, n) * sqrt(S (1 + 2/n)),   S = (0.217^2 + sum of the squared left-out log residuals) / (1 + n)

an inverse-gamma prior worth one observation (Gelman et al., Bayesian Data Analysis, 3.3) of log(1.43) / 1.645 = 0.217:
1.43 is the 90th percentile of the factor between two published sources that measured one network on one chip; 2 is the
number of parameters of the simplest full correction, floor and scale. f >= 1.1: a device differs by as much from day to
day (a judgement); f may exceed the estimate's own, which does not know this stopwatch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.fit import Z80
from coreml_pareto.objectives.latency import latency
from coreml_pareto.objectives.program import Cost
from coreml_pareto.objectives.workload import eta, total

Kind = Literal["none", "t0", "scale", "ridge", "full"]
FEW, MANY = 3, 8
RIDGE: Final = 1.0
FULL: Final = (RIDGE, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-5)
SURE, UNSURE, ALONE, FREER = 1.25, 1.1, 1.5, 1.1
LEAST_FLOOR: Final = 0.1
STOPWATCH: Final = 0.1
"""Floors of stopwatches differ by that much of a typical network's time, however small the estimator's own floor is."""
FLOORS_SHARE: Final = 0.3
"""Of a typical published network's time (the median is 0.26)."""
OWN: Final = 0.3
"""Share of a term's cost by which a device's own differs (standard deviation, judgement: as much as chips do)."""
SLOPES: Final = tuple(priors.TERMS[name].value for name in ("spatial", "depthwise", "weights", "activations"))
"""What the terms cost, one against the other."""
_STEPS: Final = 5
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


def unseen(factor: float) -> float:
    """The factor of an estimate's interval once the stopwatch is one that no published figure was taken with."""
    share = FLOORS_SHARE
    added = math.hypot(share * priors.STOPWATCH_T0, (1 - share) * priors.STOPWATCH_SPEED)
    return math.exp(math.hypot(math.log(factor), Z80 * priors.CALIBRATION * added))


def fit(samples: Sequence[Sample], floor: float, factor: float) -> Fit:
    """The correction of a device from one or more measured networks.

    Args:
        samples: one for each network.
        floor: the estimator's milliseconds for an empty program on that target.
        factor: of the estimate's own 80 % interval, value / factor .. value * factor; for a stopwatch that the estimator
            does not know, `unseen` of that.
    """
    if not samples:
        raise ValueError("a correction needs at least one measurement")
    fitter = _fitter(samples, floor, sure=factor <= SURE)
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


def _fitter(samples: Sequence[Sample], floor: float, *, sure: bool) -> _Fitter:
    """The ridge, unless something simpler is clearly better on networks left out."""
    if len(samples) < FEW:
        return lambda chosen: _one_parameter(chosen, floor)
    ridge = _ridge(floor, RIDGE, "ridge") if len(samples) < MANY else _freest(samples, floor)
    error, none = _loss(samples, ridge), _none(floor)
    if sure and error > UNSURE * _loss(samples, none):
        return none
    best = min(_alone(floor), key=lambda fitter: _loss(samples, fitter))
    return best if error > ALONE * _loss(samples, best) else ridge


def _freest(samples: Sequence[Sample], floor: float) -> _Fitter:
    """The ridge as it is, or with a weaker pull where that is clearly better on networks left out."""
    best, least = None, math.inf
    for pull in FULL:
        ridge = _ridge(floor, pull, "full")
        error = _loss(samples, ridge)
        if best is None or FREER * error < least:
            best, least = ridge, error
    assert best is not None
    return best


def _alone(floor: float) -> list[_Fitter]:
    """The floor alone, the scale alone."""
    return [lambda s: _shift(s, floor), lambda s: _scale(s, floor)]


def _loss(samples: Sequence[Sample], fitter: _Fitter) -> float:
    """Mean absolute log error of networks left out."""
    return float(np.mean(np.abs(_left_out(samples, fitter))))


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
    """Non-negative least squares on log errors, an outlier counting less each time; rows below pull the parameters."""

    def fitted(samples: Sequence[Sample]) -> Correction:
        from scipy.optimize import nnls

        estimates, measured = (np.array([getattr(s, n) for s in samples]) for n in ("estimated_ms", "measured_ms"))
        terms, work = np.array([s.terms for s in samples]), np.maximum(estimates - floor, 0.0)
        columns = np.column_stack([np.ones(len(samples)), work, terms])
        doubts = np.array([_floors_doubt(floor, measured), priors.CHIP_SPEED, *_slopes_doubt(terms, work)])
        expected = np.array([floor / doubts[0], 1 / doubts[1], *np.zeros(terms.shape[1])])
        prior = math.sqrt(pull) * np.eye(len(doubts))
        predicted, weights = measured, np.full(len(samples), 1 / priors.SCATTER)
        for _ in range(_STEPS):
            rows = columns * doubts * (weights / predicted)[:, None]
            aim = weights * (1 - np.log(predicted / measured))
            solution, _ = nnls(np.vstack([rows, prior]), np.append(aim, math.sqrt(pull) * expected))
            predicted = np.maximum(columns @ (solution * doubts), _least(measured))
            weights = _weights(np.log(predicted / measured))
        t0, scale, *slopes = (float(value) for value in solution * doubts)
        return Correction(kind, floor, max(t0, _least(measured)), scale, tuple(slopes))

    return fitted


def _floors_doubt(floor: float, measured: NDArray[np.float64]) -> float:
    """Standard deviation of the floor, in ms."""
    return max(priors.STOPWATCH_T0 * floor, STOPWATCH * float(np.median(measured)))


def _slopes_doubt(terms: NDArray[np.float64], work: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each term's own slope: SLOPES, so that they make up the estimated work of most samples."""
    typical = np.array(SLOPES[: terms.shape[1]])
    told = terms @ typical
    level = float(np.median(work / told)) if told.all() else 0.0
    return OWN * level * typical


def _weights(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square roots of what each counts, in units of the scatter: Student's t (Lange, Little & Taylor 1989)."""
    surprise = (residuals / priors.SCATTER) ** 2
    found: NDArray[np.float64] = np.sqrt((priors.FREEDOM + 1) / (priors.FREEDOM + surprise)) / priors.SCATTER
    return found


def _least(measured: NDArray[np.float64]) -> float:
    """No time is shorter, in ms."""
    return 1e-3 * float(measured.min())


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
    return max(NARROWEST, width)
