"""Which packages of a run are worth a look, and which one to take?

The front holds what no other package within the limits beats on every objective. The recommendation is the front's
package with the smallest augmented Chebyshev distance to the ideal (`objectives.pareto`), or the best on one objective.
Energies are compared by their ratio (`objectives.energy_ratio`): packages that it does not tell from the lowest one are
ordered by latency, which energy follows on one unit, and the reason says so. Where a member of the front was trained again
with other seeds, the mean of these is weighed in place of its own top-1, which it was chosen by, and the reason says so.
Nothing is run again: everything here is read from the record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np

from coreml_pareto.objectives import pareto
from coreml_pareto.objectives.accuracy import right_of
from coreml_pareto.objectives.catalogue import OBJECTIVES, Objective, select
from coreml_pareto.objectives.energy_ratio import Ratio, ratio
from coreml_pareto.objectives.paired import Difference as Paired
from coreml_pareto.objectives.paired import compare
from coreml_pareto.objectives.reading import Reading, losses
from coreml_pareto.search.figures import SCALES, amount, figure, unsigned
from coreml_pareto.search.outcome import Scored
from coreml_pareto.search.relaxation import Limits, NothingFits, fits, nothing_fits
from coreml_pareto.search.run import Result, Run
from coreml_pareto.spaces.candidate import Candidate
from coreml_pareto.spaces.errors import UserError

BALANCED: Final = "balanced"
ENERGY: Final = "energy"
_MILLIJOULES: Final = OBJECTIVES[ENERGY].reading
_MILLISECONDS: Final = OBJECTIVES["latency"].reading
RUNNERS_UP: Final = 2
SLIGHT: Final = 0.01
"""Of a cost: a smaller difference of estimates is not worth a number in a sentence."""
_SUPERLATIVE: Final = {
    "accuracy": "highest top-1", "latency": "lowest latency", "size": "smallest package",
    "memory": "lowest memory", "energy": "lowest energy",
}  # fmt: skip


@final
@dataclass(frozen=True)
class Difference:
    """How another package differs from the chosen one on one objective.

    `change` is the other's reading minus the chosen one's; `overlap` says that their intervals do (of energies: that
    the interval of their ratio holds 1; of top-1: that the interval of the paired difference holds 0), so that the two
    are not distinguishable on this objective. `low` and `high` are the 95 % interval of a paired difference in top-1,
    where both tell which images they got right. `slight`: less than a hundredth of a cost, and not distinguishable.
    """

    objective: Objective
    change: float
    better: bool
    overlap: bool
    low: float | None = None
    high: float | None = None
    slight: bool = False

    @property
    def told(self) -> str:
        """`1.2 points of top-1 (0.4 to 2.0)`, `0.31 MB`: as an amount, the interval with the sign of the amount."""
        said = amount(self.objective.name, self.change)
        if self.low is None or self.high is None:
            return said
        ends = sorted(math.copysign(1.0, self.change) * end for end in (self.low, self.high))
        return f"{said} ({' to '.join(unsigned(100 * end) for end in ends)})"


@final
@dataclass(frozen=True)
class RunnerUp:
    """Another package, and what taking it instead would cost or gain."""

    result: Result
    differences: tuple[Difference, ...]

    @property
    def sentence(self) -> str:
        """For people, e.g. `gains 0.31 MB; costs 1.2 points of top-1; not distinguishable in top-1`."""
        told = [d for d in self.differences if d.change]
        parts = [
            f"{verb} {', '.join(d.told for d in told if d.better is better and not d.slight)}"
            for verb, better in (("gains", True), ("costs", False))
            if any(d.better is better and not d.slight for d in told)
        ]
        if alike := [SCALES[d.objective.name].noun for d in told if d.overlap]:
            parts.append(f"intervals overlap, not distinguishable in {_listed(alike)}")
        return "; ".join(parts) or "the same on every objective"


@final
@dataclass(frozen=True)
class Recommendation:
    """One package, the reason in a sentence, and up to two runners-up."""

    chosen: Result
    reason: str
    runners_up: tuple[RunnerUp, ...]
    priority: str
    front: tuple[Result, ...]
    objectives: tuple[str, ...]


def front(
    run: Run, objectives: Sequence[str] | None = None, limits: Limits | None = None, strict: bool = False
) -> tuple[Result, ...]:
    """The non-dominated packages within the limits (the run's own by default), by trial number.

    Args:
        run: what was found.
        objectives: names, any subset; the run's own by default.
        limits: bound by objective name.
        strict: hold limits against the interval's worse end.

    Raises:
        UserError: an objective that does not exist.
    """
    axes = run.objectives if objectives is None else select(objectives)
    bounds = run.limits if limits is None else limits
    results = [result for result in packages(run) if fits(result, bounds, strict=strict or run.strict)]
    kept = pareto.front([losses(result.score, axes) for result in results])
    return tuple(results[i] for i in kept)


def recommend(
    run: Run, limits: Limits | None = None, priority: str = BALANCED, strict: bool = False
) -> Recommendation | NothingFits:
    """The package to take within the limits (the run's own by default).

    Raises:
        UserError: an unknown priority, or a run without a single trial.
    """
    check_priority(priority)
    bounds = run.limits if limits is None else limits
    names = [objective.name for objective in run.objectives]
    if priority not in (BALANCED, *names):
        names.append(priority)
    if not run.results:
        raise UserError(f"a recommendation needs at least one finished trial; {run.folder} has none; search on")
    found = front(run, names, bounds, strict)
    if not found:
        return nothing_fits(run.scored() or run.results, bounds, strict=strict or run.strict)
    axes, averaged = select(names), [_averaged(result) for result in found]
    ranked = _ranked(averaged, axes, priority)
    chosen, others = ranked[0], ranked[1 : 1 + RUNNERS_UP]
    as_found = {result.trial: result for result in found}
    return Recommendation(
        chosen=as_found[chosen.trial],
        reason=_reason(ranked, averaged, axes, priority) + _averages(chosen, averaged, axes),
        runners_up=tuple(RunnerUp(as_found[other.trial], differences(other, chosen, axes)) for other in others),
        priority=priority,
        front=found,
        objectives=tuple(names),
    )


def check_priority(priority: str) -> str:
    """`priority` if it is an objective or `balanced`, else UserError."""
    if priority not in (BALANCED, *OBJECTIVES):
        raise UserError(f"a priority is one of {BALANCED}, {', '.join(OBJECTIVES)}; got {priority!r}; name one of them")
    return priority


def differences(other: Result, chosen: Result, objectives: Sequence[Objective]) -> tuple[Difference, ...]:
    """How `other` differs from `chosen` on the objectives that both have a reading for."""
    shared = [row for row in objectives if row.reading in other.score and row.reading in chosen.score]
    return tuple(_difference(other, chosen, row) for row in shared)


def _difference(other: Result, chosen: Result, objective: Objective) -> Difference:
    a, b = other.score[objective.reading], chosen.score[objective.reading]
    better = losses(other.score, [objective]) < losses(chosen.score, [objective])
    if objective.name == "accuracy" and (paired := _paired(a, b)) is not None:
        unsure = a.value != b.value and paired.low <= 0 <= paired.high
        return Difference(objective, a.value - b.value, better, unsure, paired.low, paired.high)
    alike = not _ratio(other, chosen).ranks if objective.name == ENERGY else a.low <= b.high and b.low <= a.high
    slight = alike and abs(a.value - b.value) < SLIGHT * b.value
    return Difference(objective, a.value - b.value, better, a.value != b.value and alike, slight=slight)


def _paired(first: Reading, second: Reading) -> Paired | None:
    """Two readings of top-1 on the same images; None where they do not tell, or were changed to a mean over seeds."""
    sides = right_of(first), right_of(second)
    if sides[0] is None or sides[1] is None or len(sides[0]) != len(sides[1]):
        return None
    return compare(sides[0], sides[1])


def _ratio(first: Result, second: Result) -> Ratio:
    """Energy of one over that of the other; both have the reading."""
    same = first.candidate.network == second.candidate.network
    return ratio(first.score[_MILLIJOULES], second.score[_MILLIJOULES], same_network=same)


def _averaged(result: Result) -> Result:
    """The result with the mean over other seeds for its top-1, where there is one."""
    if result.mean_top1 is None or not isinstance(result.outcome, Scored):
        return result
    return replace(result, outcome=replace(result.outcome, score={**result.score, "top1": result.mean_top1}))


def _averages(chosen: Result, found: Sequence[Result], axes: Sequence[Objective]) -> str:
    """Whose top-1 counted as a mean, for the end of a reason; empty where nobody's did."""
    repeated = [str(result.trial) for result in found if result.mean_top1 is not None]
    if not repeated or OBJECTIVES["accuracy"] not in axes:
        return ""
    whose = f"Of trial{'s' if len(repeated) > 1 else ''} {_listed(repeated)} the mean top-1 of other seeds counts"
    return f" {whose}." if chosen.mean_top1 is not None else f" {whose}; this one was trained once."


def packages(run: Run) -> tuple[Result, ...]:
    """The packages of a run, by trial number; a candidate that was tried twice is one package and counts once."""
    unique: dict[Candidate, Result] = {}
    for result in sorted(run.scored(), key=lambda result: result.trial):
        unique.setdefault(result.candidate, result)
    return tuple(unique.values())


def _ranked(results: Sequence[Result], objectives: Sequence[Objective], priority: str) -> list[Result]:
    """The front in the order of preference; packages with every reading go before those that lack one."""
    complete = [r for r in results if all(row.reading in r.score for row in objectives)]
    if not complete:
        objectives = [row for row in objectives if all(row.reading in r.score for r in results)]
        complete = list(results)
    names = [row.name for row in objectives]
    if not names:
        return complete
    points = np.array([losses(result.score, objectives) for result in complete])
    first = names.index(priority) if priority in names else None
    ranked = [complete[i] for i in pareto.shortlist(points, [row.scale for row in objectives], first)]
    return _by_latency_where_energy_is_alike(ranked) if first is not None and priority == ENERGY else ranked


def _by_latency_where_energy_is_alike(ranked: Sequence[Result]) -> list[Result]:
    """Those not told from the lowest energy, which comes first, by latency; then the others as they are."""
    alike = alike_in_energy(ranked)
    return sorted(alike, key=_milliseconds) + [result for result in ranked if result not in alike]


def alike_in_energy(results: Sequence[Result]) -> list[Result]:
    """The result with the lowest energy, and those whose ratio to it does not exclude 1."""
    lowest = min(results, key=lambda result: result.score[_MILLIJOULES].value)
    return [result for result in results if result is lowest or not _ratio(result, lowest).ranks]


def _milliseconds(result: Result) -> float:
    reading = result.score.get(_MILLISECONDS)
    return math.inf if reading is None else reading.value


def _reason(ranked: Sequence[Result], found: Sequence[Result], axes: Sequence[Objective], priority: str) -> str:
    chosen = ranked[0]
    known = [row for row in axes if row.reading in chosen.score]
    if len(found) == 1:
        return f"The only package on the front: {_listed([_figure(chosen, row) for row in known])}."
    if not any(d.change for other in found for d in differences(other, chosen, known)):
        said = _listed([_figure(chosen, row) for row in known])
        return f"All {len(found)} packages on the front are equal ({said}): the earliest trial is taken."
    if priority != BALANCED and all(OBJECTIVES[priority].reading in result.score for result in ranked):
        told = _energy_reason if priority == ENERGY and len(ranked) > 1 else _priority_reason
        return told(ranked, found, OBJECTIVES[priority])
    compared = [f"{_figure(chosen, row)} ({_best_of(found, chosen, row)})" for row in known]
    return f"The best balance among {len(found)} packages on the front: {_listed(compared)}."


def _priority_reason(ranked: Sequence[Result], found: Sequence[Result], row: Objective) -> str:
    chosen = ranked[0]
    said = f"The {_SUPERLATIVE[row.name]} among {len(found)} packages on the front: {_figure(chosen, row)}"
    if len(ranked) == 1:
        return f"{said}."
    (gap,) = differences(ranked[1], chosen, [row])
    if not gap.change:
        return f"{said}, as trial {ranked[1].trial} has; the better balance on the other objectives decides."
    overlap = " (intervals overlap)" if gap.overlap else ""
    return f"{said}, {amount(row.name, gap.change)} ahead of trial {ranked[1].trial}{overlap}."


def _energy_reason(ranked: Sequence[Result], found: Sequence[Result], row: Objective) -> str:
    """Whether energy decides, or latency among those that energy does not tell apart."""
    chosen, alike = ranked[0], alike_in_energy(ranked)
    if len(alike) == 1:
        apart = _ratio(ranked[1], chosen)
        return (
            f"The lowest energy among {len(found)} packages on the front: {_figure(chosen, row)}; trial "
            f"{ranked[1].trial} takes {apart.value:.3g} times as much ({apart.low:.3g}–{apart.high:.3g})."
        )
    others = f"{len(alike) - 1} other{'s' if len(alike) > 2 else ''}"
    if not math.isfinite(_milliseconds(chosen)):
        return f"Energy ({_figure(chosen, row)}) does not tell it from {others}; the balance on the other objectives decides."
    lowest = min(alike, key=lambda result: result.score[_MILLIJOULES].value)
    apart = _ratio(chosen, lowest)
    against = (
        "" if chosen is lowest else (f", {apart.value:.3g} times the lowest (80 %: {apart.low:.3g}–{apart.high:.3g})")
    )
    return (
        f"Decided by latency: {_figure(chosen, OBJECTIVES['latency'])}, the lowest of {len(alike)} packages that energy "
        f"does not tell apart ({_figure(chosen, row)}{against})."
    )


def _best_of(found: Sequence[Result], chosen: Result, row: Objective) -> str:
    best = min(found, key=lambda result: losses(result.score, [row]))
    if math.isclose(best.score[row.reading].value, chosen.score[row.reading].value):
        return "the best"
    return f"best {figure(row.name, best.score[row.reading])}"


def _figure(result: Result, row: Objective) -> str:
    noun = {"accuracy": " top-1", "memory": " memory"}.get(row.name, "")
    return figure(row.name, result.score[row.reading]) + noun


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else "nothing known"
