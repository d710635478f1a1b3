"""When should an app trust the answer?  Accuracy and share of answered pictures at thresholds of confidence.

The risk-coverage table of selective classification (R. El-Yaniv and Y. Wiener, "On the foundations of noise-free selective
classification", Journal of Machine Learning Research 11, 2010; for the softmax response Y. Geifman and R. El-Yaniv,
"Selective classification for deep neural networks", NeurIPS 2017). Each row has Wilson's 95 % interval of its own. A
threshold that is picked from the table because it looks good needs more: `floor` is the exact one-sided lower bound (C. J.
Clopper and E. S. Pearson, Biometrika 26, 1934) at 95 % for all rows together (Bonferroni), as Geifman and El-Yaniv's
algorithm does it, so it holds for whichever row is picked. It holds for pictures like those of validation, no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from coreml_pareto.objectives.accuracy import wilson

GRID: Final = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
GOALS: Final = (0.8, 0.9, 0.95, 0.98, 0.99)
LEVEL: Final = 0.95


@final
@dataclass(frozen=True)
class Row:
    """What happens when only answers of at least this probability count; shares 0 to 1, `accuracy` None without answers.

    Attributes:
        answered: pictures that get an answer, of `images`.
        low, high: 95 % interval of the accuracy of these answers, of this row alone.
        floor: what it is at least, at 95 % for all rows together.
    """

    threshold: float
    images: int
    answered: int
    right: int
    low: float
    high: float
    floor: float

    @property
    def coverage(self) -> float:
        """Share of the pictures that get an answer."""
        return self.answered / self.images

    @property
    def accuracy(self) -> float | None:
        """Share of the answers that are right."""
        return self.right / self.answered if self.answered else None


def table(confidence: NDArray[np.float64], right: NDArray[np.bool_], grid: Sequence[float] = GRID) -> tuple[Row, ...]:
    """One row for each threshold of a grid that was fixed before.

    Args:
        confidence: probability of the answer to each of n >= 1 pictures.
        right: whether it was right.
    """
    return tuple(_row(threshold, confidence, right, len(grid)) for threshold in grid)


def lowest(rows: Sequence[Row], goal: float) -> Row | None:
    """The row that answers most pictures and is right in at least the share `goal` of them, surely; None without one."""
    return next((row for row in rows if row.floor >= goal), None)


def _row(threshold: float, confidence: NDArray[np.float64], right: NDArray[np.bool_], rows: int) -> Row:
    kept = confidence >= threshold
    answered, correct = int(kept.sum()), int((kept & right).sum())
    if not answered:
        return Row(threshold, len(kept), 0, 0, 0.0, 1.0, 0.0)
    share = (1 - LEVEL) / rows
    floor = float(beta.ppf(share, correct, answered - correct + 1)) if correct else 0.0
    return Row(threshold, len(kept), answered, correct, *wilson(correct, answered), floor)
