"""What is a recipe worth, beyond the one training that was lucky enough to be chosen?  Its mean over other seeds.

The mean is that of the repetitions alone: the finalist's own training was chosen for what it reached. The interval is
Student's t at 95 % over the seeds ("Student", "The probable error of a mean", Biometrika 6, 1908): all packages are
judged on the same validation images, whose choice it does not cover.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any, Final

from scipy.stats import t

from coreml_pareto.objectives.reading import Reading

FACT: Final = "seeds"
"""Begins the facts of the study `seeds TRIAL`: readings of the top-1 by seed."""
LEAST: Final = 2
"""Seeds below which nothing is known of a spread."""


def fact_of(trial: int) -> str:
    """Under which name the repetitions of a trial are kept."""
    return f"{FACT} {trial}"


def repetitions(facts: Mapping[str, Any]) -> dict[int, dict[int, Reading]]:
    """Top-1 of the packages of other seeds, by trial and seed."""
    names = [name for name in facts if name.startswith(f"{FACT} ")]
    return {int(name.removeprefix(f"{FACT} ")): _readings(facts[name]) for name in names}


def _readings(plain: Mapping[str, Any]) -> dict[int, Reading]:
    return {int(seed): Reading.from_dict(reading) for seed, reading in plain.items()}


def mean_top1(repeated: Mapping[int, Reading]) -> Reading | None:
    """The mean over the seeds with its interval, within 0 and 1; None below two seeds."""
    values = [reading.value for reading in repeated.values()]
    if len(values) < LEAST:
        return None
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    half = float(t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
    conditions = {
        "seeds": ", ".join(map(str, sorted(repeated))),
        "standard_deviation": f"{spread:.6g}",
        "interval": "95 %, Student's t over seeds",
    }
    return Reading(
        mean, "share", min(mean, max(0.0, mean - half)), max(mean, min(1.0, mean + half)), "measured", conditions
    )
