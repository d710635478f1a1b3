"""How many times as much does one package take as another?  The ratio of two readings, with what they share cancelled.

Two estimates for one device are off alike: the device's own factor, the floor of each call and the fit's doubt move both.
What is left is drawn by `objectives.errors` (latency, memory), or reckoned by `objectives.energy_ratio` (energy); the ends
are the 10 % and 90 % quantiles, widened by x/÷`energy_ratio.UNSEEN`, as there: no estimate tells less than that apart
(what a compression of the weights saves in latency is not drawn, for one). Counted figures have a ratio without doubt.
What was measured, or is not of one kind, has errors of its own: half widths of the logarithms are then added in
quadrature.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from coreml_pareto.objectives import energy_ratio
from coreml_pareto.objectives.catalogue import OBJECTIVES
from coreml_pareto.objectives.devices.catalogue import Target
from coreml_pareto.objectives.energy_ratio import Ratio
from coreml_pareto.objectives.errors import Subject, errors
from coreml_pareto.objectives.reading import Reading, Score

DRAWS: Final = 4000
COMPARED: Final = ("latency", "size", "memory", "energy")
"""The objectives that a ratio is a comparison of; top-1 is compared image by image (`objectives.paired`)."""


def ratio(name: str, first: Reading, second: Reading, subjects: tuple[Subject, Subject], target: Target) -> Ratio:
    """The first reading over the second, with its 80 % interval.

    Args:
        name: of the objective, one of COMPARED.
        first, second: both above 0, in one unit, for one target.
        subjects: which network and package each is of: forms of one network share what estimates miss of it.
        target: the one of both.
    """
    if name == "energy":
        return energy_ratio.ratio(first, second, same_network=subjects[0].network == subjects[1].network)
    value = first.value / second.value
    if first.how == second.how == "exact":
        return Ratio(value, value, value)
    if first.how != second.how or first.how == "measured":
        half = math.hypot(*(math.log(one.high / one.low) / 2 for one in (first, second)))
        return Ratio(value, value * math.exp(-half), value * math.exp(half))
    drawn = errors(name, (first, second), subjects, target, DRAWS)
    if drawn is None:
        raise ValueError(f"an objective with estimates is one of {', '.join(COMPARED)}; got {name!r}")
    low, high = np.quantile(drawn.between[:, 0] - drawn.between[:, 1], (0.1, 0.9))
    unseen = math.log(energy_ratio.UNSEEN)
    below, above = math.hypot(min(low, 0.0), unseen), math.hypot(max(high, 0.0), unseen)
    return Ratio(value, value * math.exp(-below), value * math.exp(above))


def ratios(first: Score, second: Score, subjects: tuple[Subject, Subject], target: Target) -> dict[str, Ratio]:
    """By objective, where both packages have the reading."""
    rows = ((name, OBJECTIVES[name].reading) for name in COMPARED)
    return {
        name: ratio(name, first[key], second[key], subjects, target)
        for name, key in rows
        if key in first and key in second
    }
