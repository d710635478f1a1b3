"""How far are the readings of several packages off, where they are not off alike?  Draws of the errors, by objective.

An error that all packages of one device share moves none of them past another and is not drawn. What is drawn (log-normal,
the readings' 80 % intervals):

| reading                     | shared, in other proportions             | of one network           | of one package |
|-----------------------------|------------------------------------------|--------------------------|----------------|
| latency, Neural Engine      | slopes of the terms, floor and speed given | scatter around the fit   |                |
| latency, GPU and CPU        | the unit, where packages run on several  | `priors.UNIT_MISS`       |                |
| latency, corrected          | slopes, below three measured networks    | left-out error, or as above |             |
| latency, measured           |                                          |                          |                |
| memory                      | the planner: one place between the ends  |                          |                |
| energy                      | constants of the terms; the unit         | what the terms miss      | `UNSEEN`       |
| size, MACs                  |                                          |                          |                |

Two packages of one network share that network's draw. What a weight-only compression really saves in latency is known to
be of one sign and the same for all; like the estimates' own intervals the draws leave it out. Two networks are drawn apart
however alike they are, so that sisters of one family come out less certain than they may be.

Every network and package has random numbers of its own, seeded by its digest: others that come or go change nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import groupby
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives import energy_ratio
from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.devices.fit import Z80
from coreml_pareto.objectives.latency_terms import SCATTER, Parts, slope_errors
from coreml_pareto.objectives.reading import Reading

Array = NDArray[np.float64]

ENOUGH: Final = 3
"""Measured networks from which on a correction tells its own error (`devices/correction.py`)."""
_UNSEEN: Final = math.log(energy_ratio.UNSEEN) / Z80 / math.sqrt(2)
"""Standard deviation of each of two packages' energies whose ratio is known that well."""
_MEAN_OF_NORMAL: Final = math.sqrt(2 / math.pi)
"""Mean absolute value of a standard normal."""


@final
@dataclass(frozen=True)
class Subject:
    """A package by what it shares with others: the digests of its network and of itself."""

    network: str
    package: str


@final
@dataclass(frozen=True, eq=False)
class Errors:
    """Logarithms of drawn over told values, [draws, packages].

    Attributes:
        between: all that may put one package before another.
        own: of it what no other network shares: what may take a package over a limit. An error that all share would take
            them there together, and tells nothing of one of them.
    """

    between: Array
    own: Array


def errors(
    name: str, readings: Sequence[Reading], subjects: Sequence[Subject], target: Target, draws: int
) -> Errors | None:
    """Draw the errors of one objective's readings; None where nothing of them is uncertain.

    Args:
        name: of the objective; accuracies are drawn from images, not here.
        readings: one for each package.
        subjects: the packages.
        target: whose estimates these are.
        draws: how many.
    """
    model = _MODELS.get(name)
    if model is None or all(reading.how in ("exact", "measured") for reading in readings):
        return None
    return model(readings, subjects, target, draws)


def _latency(readings: Sequence[Reading], subjects: Sequence[Subject], target: Target, draws: int) -> Errors:
    own, between = _of_networks("latency", readings, subjects, draws, _scatter), _units(readings, draws)
    found = [Parts.of(reading) if _by_terms(reading) else None for reading in readings]
    if known := [part for part in found if part is not None]:
        normals = _normals(draws, len(priors.TERMS) + 1, "latency")
        between[:, [part is not None for part in found]] += slope_errors(known, target, normals)
    return Errors(between + own, own)


def _by_terms(reading: Reading) -> bool:
    """Whether an estimate stands behind a reading that is as good as its terms."""
    return reading.how == "estimated" or (reading.how == "corrected" and _measured_networks(reading) < ENOUGH)


def _scatter(reading: Reading) -> float:
    """Standard deviation of the logarithm of one network's latency."""
    if reading.how in ("exact", "measured"):
        return 0.0
    if not _by_terms(reading):
        count = _measured_networks(reading)
        return _deviation(reading) / math.sqrt(1 + 2 / count)  # without the part of the correction's parameters
    miss = priors.UNIT_MISS.get(_unit(reading))
    return SCATTER if miss is None else miss / _MEAN_OF_NORMAL


def _measured_networks(reading: Reading) -> int:
    """By how many a latency was corrected."""
    return int(reading.conditions["corrected_by"].split()[0])


def _units(readings: Sequence[Reading], draws: int) -> Array:
    """One factor for each unit but one, [draws, packages]: what the packages on one unit share does not cancel elsewhere."""
    first, found = _reference(readings), np.zeros((draws, len(readings)))
    for place, reading in enumerate(readings):
        if reading.how == "estimated" and _unit(reading) not in ("", first):
            found[:, place] = _deviation(reading) * _normals(draws, 1, "latency", _unit(reading))[:, 0]
    return found


def _memory(readings: Sequence[Reading], subjects: Sequence[Subject], target: Target, draws: int) -> Errors:
    place = _normals(draws, 1, "memory") / Z80
    low, high = (np.array([math.log(getattr(r, end) / r.value) for r in readings]) for end in ("low", "high"))
    return Errors(np.where(place > 0, place * high, -place * low), np.zeros((draws, len(readings))))


def _energy(readings: Sequence[Reading], subjects: Sequence[Subject], target: Target, draws: int) -> Errors:
    """As `energy_ratio` compares two; what carries no terms has an interval of its own."""
    own = _of_networks("energy", readings, subjects, draws, lambda r: 0.0 if _terms(r) is not None else _deviation(r))
    between, columns = own.copy(), len(energy_ratio.OWN)
    constants = energy_ratio.constants(_normals(draws, columns, "energy"))
    shares = {place: terms / terms.sum() for place, r in enumerate(readings) if (terms := _terms(r)) is not None}
    first = _on_reference([readings[place] for place in shares])
    by_network = sorted(shares, key=lambda place: subjects[place].network)
    for network, places in groupby(by_network, key=lambda place: subjects[place].network):
        misses = energy_ratio.misses(_normals(draws, columns, "energy", network))
        for place in places:
            unseen = _UNSEEN * _normals(draws, 1, "energy", subjects[place].package)[:, 0]
            own[:, place] = np.log(misses @ shares[place]) + unseen
            between[:, place] = np.log((constants * misses) @ shares[place]) + unseen
            if first is not None and (
                apart := energy_ratio.between_units(first.conditions, readings[place].conditions)
            ):
                between[:, place] += apart / Z80 * _normals(draws, 1, "energy", _unit(readings[place]))[:, 0]
    return Errors(between, own)


def _terms(reading: Reading) -> Array | None:
    terms = energy_ratio.Terms.of(reading)
    return None if terms is None else np.array(astuple(terms))


def _of_networks(
    name: str,
    readings: Sequence[Reading],
    subjects: Sequence[Subject],
    draws: int,
    deviation: Callable[[Reading], float],
) -> Array:
    """One normal for each network and draw, times each reading's own deviation, [draws, packages]."""
    drawn: dict[str, Array] = {}
    found = np.zeros((draws, len(readings)))
    for place, (reading, subject) in enumerate(zip(readings, subjects, strict=True)):
        if spread := deviation(reading):
            if subject.network not in drawn:
                drawn[subject.network] = _normals(draws, 1, name, "network", subject.network)[:, 0]
            found[:, place] = spread * drawn[subject.network]
    return found


def _deviation(reading: Reading) -> float:
    """Standard deviation of the logarithm, from the upper end of the 80 % interval."""
    return math.log(reading.high / reading.value) / Z80


def _unit(reading: Reading) -> str:
    return reading.conditions.get("unit", "")


def _reference(readings: Sequence[Reading]) -> str:
    """The unit that others are compared with: the Neural Engine where any package runs there."""
    names = {_unit(reading) for reading in readings}
    return "Neural Engine" if "Neural Engine" in names else min(names)


def _on_reference(readings: Sequence[Reading]) -> Reading | None:
    """One that runs on the unit that others are compared with; None without any reading."""
    return next((reading for reading in readings if _unit(reading) == _reference(readings)), None)


def _normals(draws: int, columns: int, *names: str) -> Array:
    """Standard normals, [draws, columns], the same for the same names."""
    seed = hashlib.sha256("/".join(names).encode()).digest()[:16]
    return np.random.default_rng(int.from_bytes(seed)).standard_normal((draws, columns))


_MODELS: Final[Mapping[str, Callable[[Sequence[Reading], Sequence[Subject], Target, int], Errors]]] = {
    "latency": _latency,
    "memory": _memory,
    "energy": _energy,
}
