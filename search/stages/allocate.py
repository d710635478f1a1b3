"""Where do bits buy the most accuracy?  One form for each layer, so that the whole harm is least within a budget of bits.

A multiple-choice knapsack: every layer takes exactly one of its options, the sum of their bits stays within the budget,
and the sum of their harms is as small as possible. Harms add up where layers disturb the answer independently and a
little (Taylor to second order; Choi, El-Khamy & Lee 2017, arXiv:1612.01543, section 3; Dong et al. 2020, HAWQ-V2,
arXiv:1911.03852, equation 7). Solved by dynamic programming over the bits spent so far (Kellerer, Pferschy & Pisinger
2004, Knapsack Problems, section 11.5), which are counted in units of at most 1/`UNITS` of the budget, rounded up.
`scipy.optimize.milp` solves the same, but takes seconds for some budgets, and writes to stdout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

UNITS = 1 << 17
"""Into so many parts a budget is divided: with 50 layers at most 0.04 % of it stays unused by rounding."""


@final
@dataclass(frozen=True)
class Option:
    """What one layer may be: a form by its spelling (None: left as it is), the bits that it takes, and its harm."""

    form: str | None
    bits: float
    harm: float


def allocate(options: Mapping[str, Sequence[Option]], budget: float) -> dict[str, Option]:
    """Return the choice for each layer of least total harm whose bits are within the budget.

    Raises:
        ValueError: even the smallest options together take more.
    """
    if least_bits(options) > budget:
        raise ValueError(f"The smallest forms take {least_bits(options):g} bits, the budget is {budget:g}.")
    unit = max(1.0, budget / UNITS)
    room = int(budget / unit + 1e-9)
    harms = np.zeros(room + 1)  # the least harm of the layers so far that is possible with at most so many units
    choices = []
    for own in options.values():
        harms, choice = _with_layer(harms, own, unit)
        choices.append(choice)
    if not np.isfinite(harms[room]):  # only rounding is in the way
        return {layer: min(own, key=lambda option: option.bits) for layer, own in options.items()}
    chosen: dict[str, Option] = {}
    for (layer, own), choice in zip(reversed(list(options.items())), reversed(choices), strict=True):
        chosen[layer] = own[choice[room]]
        room -= _units(chosen[layer], unit)
    return {layer: chosen[layer] for layer in options}


def _with_layer(
    harms: NDArray[np.float64], own: Sequence[Option], unit: float
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The least harms with one layer more, and which of its options each takes."""
    best, choice = np.full_like(harms, np.inf), np.zeros(len(harms), np.uint8)
    for place, option in enumerate(own):
        cost = _units(option, unit)
        if cost < len(harms):
            offer = harms[: len(harms) - cost] + option.harm
            better = offer < best[cost:]
            best[cost:][better], choice[cost:][better] = offer[better], place
    return best, choice


def _units(option: Option, unit: float) -> int:
    return int(np.ceil(option.bits / unit - 1e-9))


def least_bits(options: Mapping[str, Sequence[Option]]) -> float:
    """Bits of the smallest forms of all layers together."""
    return sum(min(option.bits for option in own) for own in options.values())
