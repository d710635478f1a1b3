"""Where do bits buy the most accuracy?  One form for each layer, so that the whole harm is least within a budget of bits.

A multiple-choice knapsack: every layer takes exactly one of its options, the sum of their bits stays within the budget,
and the sum of their harms is as small as possible. Harms add up where layers disturb the answer independently and a
little (Taylor to second order; Choi, El-Khamy & Lee 2017, arXiv:1612.01543, section 3; Dong et al. 2020, HAWQ-V2,
arXiv:1911.03852, equation 7). Solved exactly, to a relative gap of `GAP`, by HiGHS through `scipy.optimize.milp`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

GAP = 1e-4
"""How far from the least harm an allocation may be, as a share of it."""


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
    bound = _by_price(options, budget)
    most = sum(option.harm for option in bound.values())
    if not most:
        return bound
    flat = [(layer, option) for layer, own in options.items() for option in own if option.harm <= most]
    harms, bits = (np.array([getattr(option, name) for _, option in flat]) for name in ("harm", "bits"))
    solved = milp(
        harms / most,  # the solver's absolute tolerance is 1e-6: the least harm is near 1 now
        integrality=np.ones(len(flat)),
        bounds=Bounds(0, 1),
        constraints=[_one_each(flat), LinearConstraint(bits[None] / budget, ub=1.0)],
        options={"mip_rel_gap": GAP},
    )
    if solved.x is None:
        raise RuntimeError(f"no allocation was found: {solved.message}")
    return {layer: option for (layer, option), taken in zip(flat, solved.x, strict=True) if taken > 0.5}


def _by_price(options: Mapping[str, Sequence[Option]], budget: float) -> dict[str, Option]:
    """A good choice within the budget: of each layer the option of least harm + price · bits, at the least such price."""

    def at(price: float) -> dict[str, Option]:
        return {
            layer: min(own, key=lambda option: (option.harm + price * option.bits, option.bits))
            for layer, own in options.items()
        }

    def bits(chosen: Mapping[str, Option]) -> float:
        return sum(option.bits for option in chosen.values())

    low, high = -40.0, 40.0  # powers of ten
    best = {layer: min(own, key=lambda option: (option.bits, option.harm)) for layer, own in options.items()}
    for _ in range(60):
        middle = (low + high) / 2
        if bits(chosen := at(10**middle)) <= budget:
            best, high = chosen, middle
        else:
            low = middle
    return best


def least_bits(options: Mapping[str, Sequence[Option]]) -> float:
    """Bits of the smallest forms of all layers together."""
    return sum(min(option.bits for option in own) for own in options.values())


def _one_each(flat: Sequence[tuple[str, Option]]) -> LinearConstraint:
    """Every layer takes exactly one option."""
    _, rows = np.unique([layer for layer, _ in flat], return_inverse=True)
    matrix = csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))))
    return LinearConstraint(matrix, lb=1.0, ub=1.0)
