"""How many published latencies stand behind a device's estimates, and what else was published of it?

Two counts that must not be confused. Estimates are fitted to the figures of `latencies.csv` (`published`), all chips at
once; what the fit knows of a device is its chip, so figures count by chip. A chip without any is not given those of one
other chip: its effects follow all that have some, by their distance in the fit's prior, the nearest generation the most.

`coverage.csv` counts everything that was published, one row per device, unit, harness, form of the weights and source
(tags of `CITATIONS.md`); a blank unit or harness means that the source does not say. Figures that are not in the fit are
those of networks that could not be built, of compressed networks other than W8A8, or of other units; and, told apart by
`calibrates`, those too coarse to carry an estimate: in whole milliseconds, of systems before iOS 15, from plots, from
users or at second hand.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import final

from coreml_pareto.objectives.devices import published as fitted_figures
from coreml_pareto.objectives.devices.catalogue import Device, devices
from coreml_pareto.objectives.devices.fit import generations_apart


@final
@dataclass(frozen=True)
class Published:
    """So many latencies of one source. `units` and `harness` are None where it does not say."""

    device: str
    units: str | None
    harness: str | None
    scheme: str
    calibrates: bool
    source: str
    measurements: int


@final
@dataclass(frozen=True)
class Neighbour:
    """Another chip with figures in the fit, and how far its effects and this chip's go together before any is seen."""

    chip: str
    generations_apart: float
    in_fit: int


@final
@dataclass(frozen=True)
class Coverage:
    """What stands behind a device's estimates, and what was published of it.

    Attributes:
        in_fit: figures of its chip in the fit.
        neighbours: the other chips with figures in the fit, the nearest first.
        own: what was published of the device itself.
        chip: what was published of its chip, its own among it.
    """

    in_fit: int
    neighbours: tuple[Neighbour, ...]
    own: tuple[Published, ...]
    chip: tuple[Published, ...]


def coverage(device: Device) -> Coverage:
    """Which figures of a device's chip are in the fit, and which were published."""
    chip, counts = _of_chip().get(device.soc, ()), in_fit()
    neighbours = [
        Neighbour(other, generations_apart(device.soc, other), count)
        for other, count in counts.items()
        if other != device.soc
    ]
    nearest = sorted(neighbours, key=lambda one: (one.generations_apart, -one.in_fit))
    return Coverage(
        counts.get(device.soc, 0), tuple(nearest), tuple(row for row in chip if row.device == device.name), chip
    )


@cache
def in_fit() -> Mapping[str, int]:
    """Figures that the estimates are fitted to, by chip."""
    return Counter(figure.chip for figure in fitted_figures.published())


def count(rows: Iterable[Published]) -> int:
    """How many latencies these rows count."""
    return sum(row.measurements for row in rows)


def calibrating(rows: Iterable[Published]) -> int:
    """How many of these figures are fine enough to carry an estimate, whether in the fit or not."""
    return count(row for row in rows if row.calibrates)


@cache
def published() -> tuple[Published, ...]:
    """All rows of the table, in the catalogue's order."""
    text = (files(__package__) / "coverage.csv").read_text(encoding="utf-8")
    return tuple(_row(row) for row in csv.DictReader(text.splitlines()))


@cache
def _of_chip() -> Mapping[str, tuple[Published, ...]]:
    chips = {device.name: device.soc for device in devices()}
    found: dict[str, tuple[Published, ...]] = {}
    for row in published():
        chip = chips[row.device]
        found[chip] = (*found.get(chip, ()), row)
    return found


def _row(row: Mapping[str, str]) -> Published:
    return Published(
        device=row["device"],
        units=row["units"] or None,
        harness=row["harness"] or None,
        scheme=row["scheme"],
        calibrates=row["calibrates"] == "yes",
        source=row["source"],
        measurements=int(row["measurements"]),
    )
