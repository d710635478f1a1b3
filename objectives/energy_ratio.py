"""Which of two packages takes less energy on a device?  By the ratio of their estimates, in which the device cancels.

An absolute energy is uncertain by the power factor of the device and unit, which two packages share. Their ratio is not:

    E1 / E2 = sum over terms (c o1 t1) / sum over terms (c o2 t2)

t are the terms of `objectives.energy` in mJ: dispatch, MACs, matrix MACs, int8 MACs, bytes. c: how far a term's
constant may be off, one for both packages, log-normal with the range in `devices/priors.py` as its 80 % interval; int8
MACs share that of the others and have their own besides. o: what the terms do not see of a network, one for each
package (`OWN`), but none between two forms of one network: the M2 takes 1.50 mJ for a product with 4096 x 4096 weights
in fp16, 0.89 in int8, 0.62 in int4 (ANEG, as in `devices/priors.py`); the terms say 1.49, 0.90 and 0.61. The ends are
the 10 % and 90 % quantiles over fixed draws, widened by x/÷`UNSEEN`: less than that is never told apart. Two packages
are ranked where both ends lie on one side of 1.

Not in it: the share of compressed weights' bytes that is really saved, which `objectives.energy` takes from latencies.
In the product above it was all of them, so that a saving may be larger than told; its direction is not in doubt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from functools import cache
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.devices import priors
from coreml_pareto.objectives.devices.catalogue import find_device
from coreml_pareto.objectives.reading import Reading

TERMS: Final = "terms"
"""The condition of an energy reading under which its terms stand, as `Terms.text`."""

OWN: Final = (1.0, 1.3, 3.4, 1.3, 1.3)
"""80 % of networks are taken to lie within x/÷ this of a term: dispatch, MACs, matrix MACs, int8 MACs, bytes. Judgement:
a dispatch is a dispatch; 1.3 because published latencies, which energy follows on one unit, scatter by 21 to 35 % around
such sums for a family that the fit has not seen; 3.4 for matrix products because the M2 Pro takes 67.9 mJ for ViT-B and
2.6 for ResNet-18, where the terms say 19 and 2.5 (ANEG)."""

UNSEEN: Final = 1.03
"""Of any ratio, two forms of one network included, 80 % are within x/÷ this: as close as the terms come to the product."""

_Z80: Final = 1.2815515655446004  # the standard normal's 90 % quantile
_DRAWS: Final = 4096


@final
@dataclass(frozen=True)
class Terms:
    """The parts of one energy in mJ."""

    dispatch: float
    macs: float
    matrix_macs: float
    int8_macs: float
    bytes: float

    @property
    def millijoules(self) -> float:
        """Their sum."""
        return self.dispatch + self.macs + self.matrix_macs + self.int8_macs + self.bytes

    @property
    def text(self) -> str:
        """`dispatch 0.09, macs 0.022, matrix_macs 0, int8_macs 0, bytes 0.081 mJ`; `of` reads it back."""
        parts = (f"{field.name} {getattr(self, field.name):.9g}" for field in fields(self))
        return f"{', '.join(parts)} mJ"

    @classmethod
    def of(cls, reading: Reading) -> Terms | None:
        """The terms that a reading carries; None where it was measured, or recorded before readings carried them."""
        text = reading.conditions.get(TERMS)
        return None if text is None else cls(*(float(part.split()[1]) for part in text.split(", ")))


@final
@dataclass(frozen=True)
class Ratio:
    """Energy of the first over energy of the second, with its 80 % interval."""

    value: float
    low: float
    high: float

    @property
    def ranks(self) -> bool:
        """Whether the interval excludes 1, so that one of the two is known to take less."""
        return not self.low <= 1 <= self.high


def ratio(first: Reading, second: Reading, *, same_network: bool = False) -> Ratio:
    """Compare two `energy_mj`.

    On two units of one device the factor between the units stays in. Where one of the two carries no terms, or they are
    of two devices, their own intervals are taken as independent.

    Args:
        first: an estimated or measured energy.
        second: what it is divided by.
        same_network: whether both are forms of one network, so that what the terms miss is the same for both.
    """
    value = first.value / second.value
    one, other = Terms.of(first), Terms.of(second)
    if one is None or other is None or first.conditions.get("device") != second.conditions.get("device"):
        low, high = -math.hypot(*map(_half_width, (first, second))), math.hypot(*map(_half_width, (first, second)))
    else:
        between = math.hypot(math.log(UNSEEN), between_units(first.conditions, second.conditions))
        ends = np.quantile(_log_ratios(one, other, same_network), (0.1, 0.9)) - math.log(value)
        low, high = -math.hypot(min(ends[0], 0.0), between), math.hypot(max(ends[1], 0.0), between)
    return Ratio(value, value * math.exp(low), value * math.exp(high))


def _log_ratios(one: Terms, other: Terms, same_network: bool) -> NDArray[np.float64]:
    """The logarithm of E1 / E2 for every draw; either package gets either of the two draws of `o`."""
    common, own = _factors()
    forms = ((own[0], own[0]),) if same_network else ((own[0], own[1]), (own[1], own[0]))
    first, second = np.array(astuple(one)), np.array(astuple(other))
    logs = [np.log((common * a) @ first) - np.log((common * b) @ second) for a, b in forms]
    drawn: NDArray[np.float64] = np.concatenate(logs)
    return drawn


@cache
def _factors() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draws of c, and two of o: each row one draw, each column one term. Fixed, and each with its mirror image."""
    drawn = np.random.default_rng(0).standard_normal((3, _DRAWS, len(OWN)))
    drawn = np.concatenate([drawn, -drawn], axis=1)
    return constants(drawn[0]), misses(drawn[1:])


def constants(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The factors c that standard normals give, [..., terms]: how far the terms' constants are off, for all packages."""
    known = (priors.DISPATCH_MJ, priors.MAC_PJ, priors.MAC_PJ, priors.W8A8_MAC_PJ, priors.BYTE_PJ)
    logs = normals * [math.log(prior.high / prior.low) / 2 / _Z80 for prior in known]
    logs[..., 2] = logs[..., 1]  # all MACs share one constant, those in int8 have one more
    logs[..., 3] += logs[..., 1]
    factors: NDArray[np.float64] = np.exp(logs)
    return factors


def misses(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The factors o that standard normals give, [..., terms]: what the terms do not see of one network."""
    logs = normals * (np.log(OWN) / _Z80)
    logs[..., 3] = logs[..., 1]  # a network's MACs are off alike in either precision
    factors: NDArray[np.float64] = np.exp(logs)
    return factors


def between_units(first: Mapping[str, str], second: Mapping[str, str]) -> float:
    """Half the width, in logarithms, of the factor between two units; 0 on one unit.

    The published range of the factor is of one Mac; a phone's wider interval off the Neural Engine adds what it adds.
    """
    if first["unit"] == second["unit"]:
        return 0.0
    published = math.log(priors.OTHER_UNITS.high / priors.OTHER_UNITS.low) / 2
    chip = priors.chip_class(find_device(first["device"]).soc)
    off, on = (math.log(priors.ENERGY_INTERVAL[chip, neural_engine]) for neural_engine in (False, True))
    return math.hypot(published, math.sqrt(max(0.0, off**2 - on**2)))


def _half_width(reading: Reading) -> float:
    return math.log(reading.high / reading.low) / 2
