"""Do the axes say the same?  Spearman's rank correlation between them over packages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from coreml_pareto.objectives.catalogue import Objective
from coreml_pareto.objectives.pareto import rank_correlation
from coreml_pareto.objectives.reading import losses
from coreml_pareto.search.run import Result

LEAST: Final = 3
"""Packages."""


@final
@dataclass(frozen=True, eq=False)
class Correlation:
    """Rho of m axes, [m, m], nan where one of them is constant, over so many packages."""

    rho: NDArray[np.float64]
    packages: int


def correlation(results: Sequence[Result], objectives: Sequence[Objective]) -> Correlation | None:
    """Return the correlation over the packages that have every reading; None below three of them or two axes."""
    points = np.array([losses(result.score, objectives) for result in results]).reshape(-1, len(objectives))
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < LEAST or len(objectives) < 2:
        return None
    return Correlation(rank_correlation(points), len(points))
