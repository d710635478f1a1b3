"""Which figures does a guide promise?  Choice of units, thresholds, sample sizes and alarms, computed once for all papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from scipy.stats import binom

from coreml_pareto.objectives.accuracy import right_of, wilson
from coreml_pareto.objectives.devices.catalogue import ComputeUnits
from coreml_pareto.objectives.explanation import Explanation, explain
from coreml_pareto.search.choose import RunnerUp
from coreml_pareto.search.delivery import rollout, thresholds, units
from coreml_pareto.search.delivery.subject import Subject
from coreml_pareto.search.delivery.thresholds import Row

DIFFERENCES: Final = (0.01, 0.02, 0.03, 0.05, 0.1)
WATCHED: Final = (1_000, 10_000)
"""Predictions in one look at the monitoring."""
FALSE_ALARMS: Final = 0.001
WATCHED_SHARE: Final = 0.9
"""Where no goal can be reached, the threshold is watched whose share of answered pictures is nearest to this."""


@final
@dataclass(frozen=True)
class Arms:
    """Answers per arm for a drop, and for a rise, of `difference` from the baseline; None where there is no room for it."""

    difference: float
    drop: int | None
    rise: int | None
    paired: int | None


@final
@dataclass(frozen=True)
class Alarm:
    """Within which counts of unsure answers among `predictions` a healthy app stays, at least 999 times of 1,000."""

    predictions: int
    low: int
    high: int


@final
@dataclass(frozen=True, eq=False)
class Measures:
    """What the guide says in numbers.

    Attributes:
        units: each choice of compute units, the one to take, and why.
        explanation: where the estimated latency goes.
        thresholds: accuracy and coverage at thresholds of confidence.
        goals: for each accuracy above the model's own the lowest threshold that surely reaches it; None without one.
        arms: sample sizes of an A/B test; `discordant` against which runner-up the paired ones are reckoned.
        watched: the threshold whose unsure answers are watched, and `alarms` for it.
        confidence: mean and quantiles (10, 50, 90 %) of the probability of the answer on the validation pictures.
        answers: share of each label among the answers, the most frequent first.
    """

    units: tuple[units.Row, ...]
    chosen_units: ComputeUnits
    units_reason: str
    explanation: Explanation
    thresholds: tuple[Row, ...]
    goals: tuple[tuple[float, Row | None], ...]
    arms: tuple[Arms, ...]
    discordant: tuple[RunnerUp, float] | None
    watched: Row
    alarms: tuple[Alarm, ...]
    confidence: tuple[float, float, float, float]
    answers: tuple[tuple[str, float], ...]


def measure(subject: Subject) -> Measures:
    """Compute them all; reading the record and the answers, nothing is trained or run."""
    answers, target = subject.answers, subject.run.target
    choices = units.rows(subject.program, target, subject.result.score)
    chosen, reason = units.recommended(choices, target.compute_units)
    rows = thresholds.table(answers.confidence, answers.right)
    goals = tuple((goal, thresholds.lowest(rows, goal)) for goal in thresholds.GOALS if goal > answers.right.mean())
    watched = _watched(rows, goals)
    discordant = _discordant(subject)
    tenth, middle, ninth = (float(value) for value in np.quantile(answers.confidence, [0.1, 0.5, 0.9]))
    return Measures(
        units=choices,
        chosen_units=chosen,
        units_reason=reason,
        explanation=explain(subject.program, target),
        thresholds=rows,
        goals=goals,
        arms=tuple(_arms(subject.top1.value, step, discordant) for step in DIFFERENCES),
        discordant=discordant,
        watched=watched,
        alarms=tuple(alarm(watched, count) for count in WATCHED),
        confidence=(float(answers.confidence.mean()), tenth, middle, ninth),
        answers=_mix(subject),
    )


def alarm(row: Row, predictions: int) -> Alarm:
    """The central 99.9 % of a binomial count of unsure answers, over all shares in the 95 % interval of the one seen."""
    low, high = wilson(row.images - row.answered, row.images)
    fewest, most = binom.ppf(FALSE_ALARMS / 2, predictions, low), binom.ppf(1 - FALSE_ALARMS / 2, predictions, high)
    return Alarm(predictions, max(0, int(fewest)), int(most))


def _watched(rows: Sequence[Row], goals: Sequence[tuple[float, Row | None]]) -> Row:
    """The threshold of the first goal that can be reached, else one that leaves some pictures unanswered."""
    reached = [row for _, row in goals if row is not None and row.threshold > 0]
    return reached[0] if reached else min(rows[1:], key=lambda row: abs(row.coverage - WATCHED_SHARE))


def _discordant(subject: Subject) -> tuple[RunnerUp, float] | None:
    """The first runner-up that tells which pictures it got right, and the share that only one of the two has right."""
    answer = subject.choice.recommendation
    own = right_of(subject.result.score["top1"])
    if answer is None or own is None:
        return None
    for other in answer.runners_up:
        theirs = right_of(other.result.score["top1"]) if "top1" in other.result.score else None
        if theirs is not None and len(theirs) == len(own):
            return other, float(np.mean(own != theirs))
    return None


def _arms(share: float, difference: float, discordant: tuple[RunnerUp, float] | None) -> Arms:
    lower, higher = share - difference, share + difference
    return Arms(
        difference,
        drop=rollout.per_arm(share, lower) if lower >= 0 else None,
        rise=rollout.per_arm(share, higher) if higher <= 1 else None,
        paired=None if discordant is None else rollout.paired(discordant[1], difference),
    )


def _mix(subject: Subject) -> tuple[tuple[str, float], ...]:
    counts = np.bincount(subject.answers.predicted, minlength=len(subject.labels))
    order = np.argsort(-counts, kind="stable")
    return tuple((subject.labels[i], float(counts[i] / counts.sum())) for i in order)
