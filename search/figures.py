"""How is a reading said to people?  `97.2 %`, `~0.61 ms`, `0.412 MB`; differences as `1.2 points of top-1`.

A tilde stands before estimated figures. Three significant digits; percentages with one decimal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, final

from coreml_pareto.objectives.reading import Reading


@final
@dataclass(frozen=True)
class Scale:
    """Screen units of one objective: value × factor is shown in `unit`; `difference` names a change of it."""

    factor: float
    unit: str
    difference: str
    noun: str


SCALES: Final[Mapping[str, Scale]] = {
    "accuracy": Scale(100.0, "%", "points of top-1", "top-1"),
    "latency": Scale(1.0, "ms", "ms", "latency"),
    "size": Scale(1e-6, "MB", "MB", "size"),
    "memory": Scale(1e-6, "MB", "MB of memory", "memory"),
    "energy": Scale(1.0, "mJ", "mJ", "energy"),
}

ESTIMATE: Final = "~"


def significant(value: float, digits: int = 3) -> str:
    """The number in so many significant digits, never in exponent notation."""
    return f"{Decimal(f'{value:#.{digits}g}'):f}"


def number(objective: str, value: float, digits: int = 3) -> str:
    """The value in the screen's unit, without it."""
    shown = value * SCALES[objective].factor
    return f"{shown:.1f}" if objective == "accuracy" else significant(shown, digits)


def mark(reading: Reading) -> str:
    """A tilde for estimates (corrected ones included), nothing for what was counted or measured."""
    return ESTIMATE if reading.how in ("estimated", "corrected") else ""


def figure(objective: str, reading: Reading) -> str:
    """`97.2 %`, `~0.61 ms`."""
    return f"{mark(reading)}{number(objective, reading.value)} {SCALES[objective].unit}"


def interval(objective: str, reading: Reading, digits: int = 3) -> str:
    """`95.1–98.4` in the screen's unit; empty for exact readings."""
    if reading.how == "exact":
        return ""
    return f"{number(objective, reading.low, digits)}–{number(objective, reading.high, digits)}"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign: `+1.2`, `−0.4` with the sign for minus, never `−0.0`."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def unsigned(value: float, digits: int = 1) -> str:
    """A figure that may lie below zero: `1.2`, `−0.4`, never `−0.0`."""
    return signed(value, digits).removeprefix("+")


def amount(objective: str, change: float) -> str:
    """The size of a difference: `1.2 points of top-1`, `0.31 MB`."""
    return f"{number(objective, abs(change))} {SCALES[objective].difference}"
