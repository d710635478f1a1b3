"""When no package keeps all limits: which come nearest, and how little would have to give way?

Relative relaxation of a limit: |new - old| / old; of several, their sum. Packages count, and only where there is none
the candidates that were given up before training: on limits that need no data, for they have no accuracy to offer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.reading import Reading, Score, violation
from coreml_pareto.search.outcome import Failed, Scored
from coreml_pareto.search.run import Result

Limits = Mapping[str, float]


@final
@dataclass(frozen=True)
class Relaxation:
    """New bounds, by objective, for those limits that have to give way, and the package that they admit.

    No bounds: a candidate that was not trained keeps these limits, as far as it is known.
    """

    limits: Limits
    admits: Result
    relative: float


@final
@dataclass(frozen=True)
class NothingFits:
    """No package keeps all limits.

    Attributes:
        limits: what was asked.
        nearest: by limit, the package that comes nearest to it: those that keep all other limits go first. Without
            any package candidates that were not trained, by those limits that need no data.
        relaxations: per limit that suffices alone, the smallest change, the smallest relative one first; where none
            does, the jointly smallest one. Empty when nothing is known.
        strict: whether the interval's worse end was tested.
    """

    limits: Limits
    nearest: Mapping[str, Result]
    relaxations: tuple[Relaxation, ...]
    strict: bool


def known(result: Result) -> Score:
    """The readings of a trial, however it ended; without training those that need no data."""
    return {} if isinstance(result.outcome, Failed) else result.outcome.score


def fits(result: Result, limits: Limits, *, strict: bool = False) -> bool:
    """Whether a result is known to keep every limit; a reading that does not exist keeps none."""
    return bool(known(result)) and all(excess(result, name, limits[name], strict=strict) <= 0 for name in limits)


def excess(result: Result, name: str, bound: float, *, strict: bool = False) -> float:
    """By how much a limit is broken, in the reading's unit; inf for an unknown reading."""
    objective = OBJECTIVES[name]
    reading = known(result).get(objective.reading)
    return math.inf if reading is None else violation(reading, objective, bound, strict=strict)


def nothing_fits(results: Sequence[Result], limits: Limits, *, strict: bool = False) -> NothingFits:
    """Describe why none of `results` keeps the limits: packages or, without any, what is known of the candidates."""
    asked, results = dict(limits), [result for result in results if known(result)]
    if not any(isinstance(result.outcome, Scored) for result in results):
        limits = {name: bound for name, bound in limits.items() if not OBJECTIVES[name].needs_data}
    whole = [admitting(result, limits, strict=strict) for result in results]
    possible = [relaxation for relaxation in whole if relaxation is not None]
    single = [relaxation for relaxation in possible if len(relaxation.limits) == 1]
    if single and all(relaxation.limits for relaxation in possible):
        chosen = [_smallest([r for r in single if name in r.limits]) for name in limits]
        relaxations = sorted((r for r in chosen if r is not None), key=lambda r: r.relative)
    else:
        joint = _smallest(possible)
        relaxations = [] if joint is None else [joint]
    nearest = {name: _nearest(results, name, limits, strict) for name in limits} if results else {}
    return NothingFits(asked, nearest, tuple(relaxations), strict)


def admitting(result: Result, limits: Limits, *, strict: bool = False) -> Relaxation | None:
    """The smallest change of the limits that admits this package; None where a limited reading is unknown."""
    broken = [name for name in limits if excess(result, name, limits[name], strict=strict) > 0]
    readings = {name: known(result).get(OBJECTIVES[name].reading) for name in broken}
    bounds = {name: tested_end(name, reading, strict) for name, reading in readings.items() if reading is not None}
    if len(bounds) < len(broken):
        return None
    relative = math.fsum(abs(bounds[name] - limits[name]) / limits[name] for name in broken)
    return Relaxation(bounds, result, relative)


def tested_end(name: str, reading: Reading, strict: bool) -> float:
    """The end of the interval that a limit is held against."""
    if not strict:
        return reading.value
    return reading.low if OBJECTIVES[name].bound == "min" else reading.high


def _smallest(relaxations: Sequence[Relaxation]) -> Relaxation | None:
    return min(relaxations, key=lambda r: (r.relative, r.admits.trial), default=None)


def _nearest(results: Sequence[Result], name: str, limits: Limits, strict: bool) -> Result:
    others = {other: limits[other] for other in limits if other != name}

    def distance(result: Result) -> tuple[bool, float, float, int]:
        whole = admitting(result, limits, strict=strict)
        away = max(0.0, excess(result, name, limits[name], strict=strict))
        joint = math.inf if whole is None else whole.relative
        return not fits(result, others, strict=strict), away, joint, result.trial

    return min(results, key=distance)
