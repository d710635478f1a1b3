"""What is one number worth?  A value with its unit, its interval, how it was obtained and under which conditions.

A Score holds the Readings of one package by name. Here, and nowhere else, a Reading becomes a loss (everything is
minimised) and a limit becomes a violation: the only place that knows a sign.

Intervals: accuracy 95 % (Wilson), estimates 80 % (latency on the Neural Engine: held by published figures; else judgement);
exact values have low = value = high. Estimates that rest on little data are the reader's to distrust: `how` says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

How = Literal["exact", "measured", "estimated", "corrected", "at least"]
Direction = Literal["minimize", "maximize"]
Bound = Literal["max", "min"]


@dataclass(frozen=True)
class Reading:
    """One number about a package: low <= value <= high, all finite, in `unit`.

    `how`: exact (counted), at least (counted in part: value and ends are one bound from below), measured (an experiment),
    estimated (a formula), corrected (an estimate that was fitted to measurements of that device). `conditions` name what
    the number depends on: data split, device, formula, assumption.
    """

    value: float
    unit: str
    low: float
    high: float
    how: How
    conditions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)):
            raise ValueError(f"a reading is finite; got {self.low} .. {self.value} .. {self.high} {self.unit}")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"low <= value <= high; got {self.low} .. {self.value} .. {self.high} {self.unit}")
        if self.how not in get_args(How):
            raise ValueError(f"how is one of {', '.join(get_args(How))}; got {self.how!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under the names of the fields."""
        return {
            "value": self.value,
            "unit": self.unit,
            "low": self.low,
            "high": self.high,
            "how": self.how,
            "conditions": dict(self.conditions),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Reading:
        """Inverse of `to_dict`; unknown or missing keys raise TypeError."""
        return cls(**plain)


Score = Mapping[str, Reading]
"""Readings of one package: top1, top5, latency_ms, fps, size_bytes, bits_per_weight, memory_bytes, energy_mj,
energy_mah, inferences_per_percent, macs. What could not be read is absent, never zero."""


class Axis(Protocol):
    """What `losses` and `violation` need to know of an objective (a row of `catalogue.OBJECTIVES`)."""

    @property
    def reading(self) -> str: ...
    @property
    def direction(self) -> Direction: ...


def exact(value: float, unit: str, **conditions: str) -> Reading:
    """A counted number: its interval is a point."""
    return Reading(value, unit, value, value, "exact", conditions)


def at_least(value: float, unit: str, **conditions: str) -> Reading:
    """A number of which a part could be counted: the truth is this or more."""
    return Reading(value, unit, value, value, "at least", conditions)


def score_to_dict(score: Score) -> dict[str, dict[str, Any]]:
    """A Score as plain values for JSON."""
    return {name: reading.to_dict() for name, reading in score.items()}


def score_from_dict(plain: Mapping[str, Mapping[str, Any]]) -> dict[str, Reading]:
    """Inverse of `score_to_dict`."""
    return {name: Reading.from_dict(reading) for name, reading in plain.items()}


def losses(score: Score, objectives: Iterable[Axis]) -> tuple[float, ...]:
    """The point of a package in objective space, smaller is better on every axis.

    An objective that the score lacks (an accuracy never trained for, an energy without a device) counts as +inf:
    what is unknown is never better than what is known.
    """
    return tuple(
        as_loss(score[objective.reading].value, objective) if objective.reading in score else math.inf
        for objective in objectives
    )


def as_loss(value: Any, objective: Axis) -> Any:
    """A value of an objective's reading, or an array of them, as a loss."""
    return _sign(objective) * value


def violation(reading: Reading, objective: Axis, bound: float, *, strict: bool = False) -> float:
    """By how much a limit is broken, in the reading's unit; <= 0 where it holds.

    The point value is tested; `strict` tests the worse end of the interval.
    """
    sign = _sign(objective)
    value = _worse_end(reading, sign) if strict else reading.value
    return sign * (value - bound)


def may_exceed(reading: Reading, objective: Axis, bound: float) -> bool:
    """Whether the limit holds for the value but not for the whole interval."""
    return violation(reading, objective, bound) <= 0 < violation(reading, objective, bound, strict=True)


def _sign(objective: Axis) -> int:
    return -1 if objective.direction == "maximize" else 1


def _worse_end(reading: Reading, sign: int) -> float:
    return reading.high if sign > 0 else reading.low
