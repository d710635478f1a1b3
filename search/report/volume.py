"""How did the front grow?  The share of a box that it dominates (`standing.Volume`), over the run's clock or its trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, final

from coreml_pareto.search import choose
from coreml_pareto.search.events import read_events, volumes
from coreml_pareto.search.run import Run
from coreml_pareto.search.standing import Volume

STEPS: Final = 24
"""Points of the curve where it has to be reckoned again."""


@final
@dataclass(frozen=True)
class Growth:
    """The hypervolume of the front as a share of the run's box, 0 to 1; it keeps its value until the next point.

    Attributes:
        points: (seconds on the run's clock, share) of each new front; or (trials, share).
        by: which of the two the first number is.
    """

    points: tuple[tuple[float, float], ...]
    by: Literal["seconds", "trials"]


def growth(run: Run) -> Growth | None:
    """The curve from the run's log; where that is gone, from its trials in their order; None without a package."""
    logged = _logged(run.folder)
    if logged:
        return Growth(tuple(logged), "seconds")
    found = _reckoned(run)
    return Growth(tuple(found), "trials") if found else None


def _logged(folder: Path) -> Sequence[tuple[float, float]]:
    return volumes(read_events(folder))


def _reckoned(run: Run) -> list[tuple[float, float]]:
    """The share after some of the trials, evenly spread, the first package and the last trial among them."""
    scored = run.scored()
    if not scored:
        return []
    box, count = Volume.of(run.objectives, scored[0].score), len(scored)
    places = sorted({1, count, *(round(count * step / STEPS) for step in range(1, STEPS))} - {0})
    return [
        (
            float(scored[place - 1].trial + 1),
            box.share(result.score for result in choose.front(replace(run, results=scored[:place]))),
        )
        for place in places
    ]
