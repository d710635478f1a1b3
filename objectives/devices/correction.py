"""How wrong is the estimate on one device, by what was measured there?  A correction from one to many measurements.

An estimate is a sum of parts: what every call costs, what each term of the fit costs (`devices/priors.py`), what a
fallback adds. The corrected one has a factor for each,

    t = f_0 t0 + sum_j f_j part_j + f_F fallback            f > 0

so that more work never costs less. Fitted to n networks by a

    ridge       the mode of log f, whose prior has mean 0 and the estimator's own covariance (what the figures that were
                published could not tell, `fit.Fit.doubt`), widened by what a device has of its own (OWN, KIND, FLOOR): the
                floor and the common speed of all terms move first, then terms that nobody knows well, those of one kind of
                operation together; of one network next to nothing else moves
    full        n >= 8: the same, the pull down to almost nothing where that makes the error of networks left out FREER
                times smaller

The errors are log(predicted / measured), their scatter and its Student's t those of the estimator's fit. Nothing is
corrected where the ridge's error on networks left out is not UNSURE times smaller than uncorrected and the estimate is sure
of itself (its own interval at most x/÷SURE), because a device that was published with this stopwatch needs less than noise
suggests. The floor alone or one factor for everything, of one or two networks, were up to 1.70 times as far off as an
estimator that has seen the whole group, this is up to 1.46 times; in single cases they were nearer by half a point.
`benchmarks/corrections.py` shows what few networks are good for.

The interval is 80 %: value / f .. value * f. For one or two networks log f is the estimate's own times sqrt(1 + 1/n), for
what they say of the device has the scatter of n networks, and at least what follows with S = 0.217^2; from 3 on

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
from coreml_pareto.objectives.devices.fit import Z80

Kind = Literal["none", "ridge", "full"]
Array = NDArray[np.float64]
FEW, MANY = 3, 8
FULL: Final = (1.0, 0.1, 0.01, 1e-4)
"""What the prior's precision is multiplied by."""
SURE, UNSURE, FREER = 1.25, 1.1, 1.1
FLOORS_SHARE: Final = 0.3
"""Of a typical published network's time (the median is 0.26)."""
OWN, KIND, FLOOR = 0.2, 0.2, 0.2
"""Standard deviations of log f that are a device's own: of one term, of the terms of one kind (`priors.KINDS`), of the
floor (judgements: about what two chips differ by; between 0.1 and 0.3 `benchmarks/corrections.py` hardly changes)."""
STOPWATCH: Final = 0.1
"""Floors of stopwatches differ by that much of a typical network's time, however small the estimator's own floor is."""
_STEPS: Final = 40
_SETTLED: Final = 1e-6
_LONGEST: Final = 0.7
"""No step changes a factor by more than two."""
PRIOR_SPREAD: Final = math.log(1.43) / 1.645
NARROWEST: Final = math.log(1.1)


@dataclass(frozen=True)
class Sample:
    """One network on the device: its estimate in parts, the floor first, and what the stopwatch said; ms."""

    parts: tuple[float, ...]
    measured_ms: float

    @property
    def estimated_ms(self) -> float:
        """All parts together."""
        return sum(self.parts)


@dataclass(frozen=True)
class Correction:
    """What each part of an estimate is multiplied by."""

    kind: Kind
    factors: tuple[float, ...]

    def apply(self, parts: Sequence[float]) -> float:
        """The corrected milliseconds of a network."""
        return sum(factor * part for factor, part in zip(self.factors, parts, strict=True))


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


def unseen(factor: float) -> float:
    """The factor of an estimate's interval once the stopwatch is one that no published figure was taken with."""
    share = FLOORS_SHARE
    added = math.hypot(share * priors.STOPWATCH_T0, (1 - share) * priors.STOPWATCH_SPEED)
    return math.exp(math.hypot(math.log(factor), Z80 * priors.CALIBRATION * added))


def strange(doubt: Array) -> Array:
    """The covariance of the parts' logarithms once the stopwatch is one that no published figure was taken with."""
    widened = doubt.copy()
    widened[0, 0] += priors.STOPWATCH_T0**2
    widened[1:, 1:] += priors.STOPWATCH_SPEED**2
    return widened


def own(doubt: Array) -> Array:
    """The covariance of the parts' logarithms on one device: what is not known of all, and what this one has of its own.

    Args:
        doubt: [p, p], the floor first, then the terms in the order of `priors.TERMS`; further parts are left as they are.
    """
    widened, terms = doubt.copy(), tuple(priors.TERMS)
    widened[0, 0] += FLOOR**2
    for kind in priors.KINDS:
        rows = [1 + terms.index(term) for term in kind]
        widened[np.ix_(rows, rows)] += KIND**2 + OWN**2 * np.eye(len(rows))
    return widened


def fit(samples: Sequence[Sample], doubt: Array, factor: float) -> Fit:
    """The correction of a device from one or more measured networks.

    Args:
        samples: one for each network, all with parts [p] in one order.
        doubt: [p, p], covariance of the logarithms of the parts' factors (`own`, `strange`).
        factor: of the estimate's own 80 % interval, value / factor .. value * factor; for a stopwatch that the estimator
            does not know, `unseen` of that.
    """
    if not samples:
        raise ValueError("a correction needs at least one measurement")
    fitter = _fitter(samples, doubt, sure=factor <= SURE)
    correction = fitter(samples)
    residuals = _left_out(samples, fitter) if len(samples) >= FEW else []
    return Fit(
        correction=correction,
        factor=math.exp(_half_width(residuals) if residuals else _of_few(math.log(factor), len(samples))),
        networks=len(samples),
        before=_mean_error([s.estimated_ms for s in samples], samples),
        after=_mean_error([correction.apply(s.parts) for s in samples], samples),
        left_out=float(np.mean(np.abs(np.expm1(residuals)))) if residuals else None,
    )


def _fitter(samples: Sequence[Sample], doubt: Array, *, sure: bool) -> _Fitter:
    """The ridge, unless a sure estimate is as good on networks left out."""
    ridge = _Ridge(doubt, 1.0, "ridge") if len(samples) < MANY else _freest(samples, doubt)
    unneeded = sure and len(samples) >= FEW and UNSURE * _loss(samples, ridge) > _loss(samples, _none)
    return _none if unneeded else ridge


def _freest(samples: Sequence[Sample], doubt: Array) -> _Fitter:
    """The ridge as it is, or with a weaker pull where that is clearly better on networks left out."""
    best, least = None, math.inf
    for pull in FULL:
        ridge = _Ridge(doubt, pull, "full")
        error = _loss(samples, ridge)
        if best is None or FREER * error < least:
            best, least = ridge, error
    assert best is not None
    return best


def _loss(samples: Sequence[Sample], fitter: _Fitter) -> float:
    """Mean absolute log error of networks left out."""
    return float(np.mean(np.abs(_left_out(samples, fitter))))


def _left_out(samples: Sequence[Sample], fitter: _Fitter) -> list[float]:
    """log(predicted / measured) of each network under the fit to the others."""
    rows = list(samples)
    if isinstance(fitter, _Ridge):
        corrections = fitter.without_each(rows)
    else:
        corrections = [fitter(rows[:i] + rows[i + 1 :]) for i in range(len(rows))]
    return [_residual(correction, row) for correction, row in zip(corrections, rows, strict=True)]


def _residual(correction: Correction, sample: Sample) -> float:
    return math.log(correction.apply(sample.parts) / sample.measured_ms)


def _none(samples: Sequence[Sample]) -> Correction:
    return Correction("none", (1.0,) * len(samples[0].parts))


@dataclass(frozen=True, eq=False)
class _Ridge:
    """Squared log errors, an outlier counting less, and the prior's pull."""

    doubt: Array
    pull: float
    kind: Kind

    def __call__(self, samples: Sequence[Sample]) -> Correction:
        """The correction by all samples."""
        return self._corrections(samples, np.ones((1, len(samples)), bool))[0]

    def without_each(self, samples: Sequence[Sample]) -> list[Correction]:
        """The correction without each of the samples; all of them at once, because benchmarks ask for many."""
        return self._corrections(samples, ~np.eye(len(samples), dtype=bool))

    def _corrections(self, samples: Sequence[Sample], counted: NDArray[np.bool_]) -> list[Correction]:
        """One for each row of `counted` [fits, samples]."""
        parts, log_ms = np.array([s.parts for s in samples]), np.log([s.measured_ms for s in samples])
        typical = [float(np.exp(np.median(log_ms[row]))) for row in counted]
        precision = self.pull * np.asarray(
            np.linalg.inv([_floors_too(self.doubt, parts[0, 0], ms) for ms in typical]), np.float64
        )
        logs = _modes(parts, log_ms, counted, precision)
        return [Correction(self.kind, tuple(row)) for row in np.exp(logs).tolist()]


def _modes(parts: Array, log_ms: Array, counted: NDArray[np.bool_], precision: Array) -> Array:
    """The mode of log f: [fits, parts].

    There may be two, for errors have long tails: by no correction all of a much faster device's figures are outliers.
    """
    ratios = log_ms - np.log(parts.sum(1))
    everything = np.array([np.median(ratios[row]) for row in counted])[:, None] * np.ones(parts.shape[1])
    ends = [_steps(start, parts, log_ms, counted, precision) for start in (np.zeros_like(everything), everything)]
    losses = [_ridge_loss(logs, parts, log_ms, counted, precision) for logs in ends]
    modes: Array = np.where((losses[0] <= losses[1])[:, None], ends[0], ends[1])
    return modes


def _ridge_loss(logs: Array, parts: Array, log_ms: Array, counted: NDArray[np.bool_], precision: Array) -> Array:
    residual = (np.log((parts * np.exp(logs)[:, None]).sum(2)) - log_ms) / priors.SCATTER
    data = (counted * (priors.FREEDOM + 1) / 2 * np.log1p(residual**2 / priors.FREEDOM)).sum(1)
    pulled: Array = data + np.einsum("fp,fpq,fq->f", logs, precision, logs) / 2
    return pulled


def _steps(logs: Array, parts: Array, log_ms: Array, counted: NDArray[np.bool_], precision: Array) -> Array:
    """Gauss-Newton steps from a start."""
    for _ in range(_STEPS):
        times = parts * np.exp(logs)[:, None]
        total = times.sum(2)
        residual = (np.log(total) - log_ms) / priors.SCATTER
        slope = times / total[..., None] / priors.SCATTER
        weighted = slope * (counted * (priors.FREEDOM + 1) / (priors.FREEDOM + residual**2))[..., None]
        hessian = np.swapaxes(weighted, 1, 2) @ slope + precision
        gradient = np.swapaxes(weighted, 1, 2) @ residual[..., None] + precision @ logs[..., None]
        step = np.linalg.solve(hessian, gradient)[..., 0]
        logs = logs - np.clip(step, -_LONGEST, _LONGEST)
        if np.abs(step).max() < _SETTLED:
            break
    return logs


def _floors_too(doubt: Array, floor: float, typical_ms: float) -> Array:
    """The same, wide enough for another stopwatch's floor where the estimator's is small."""
    widened = doubt.copy()
    widened[0, 0] += math.log1p(STOPWATCH * typical_ms / floor) ** 2
    return widened


def _mean_error(predicted: Sequence[float], samples: Sequence[Sample]) -> float:
    return float(np.mean([abs(p / s.measured_ms - 1) for p, s in zip(predicted, samples, strict=True)]))


def _of_few(own: float, count: int) -> float:
    """log f of the interval where no network can be left out; `own` is the estimate's."""
    return max(own * math.sqrt(1 + 1 / count), Z80 * PRIOR_SPREAD * math.sqrt(1 + 2 / count))


def _half_width(residuals: Sequence[float]) -> float:
    """log f of the interval, from log residuals of networks left out."""
    from scipy.stats import t

    count = len(residuals)
    variance = (PRIOR_SPREAD**2 + sum(r**2 for r in residuals)) / (1 + count)
    width = float(t.ppf(0.9, count)) * math.sqrt(variance * (1 + 2 / count))
    return max(NARROWEST, width)
