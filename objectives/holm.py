"""Which of several differences are shown, when all were looked for at once?  Holm's step-down p-values.

S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979: the k-th
smallest of m p-values times m - k + 1, never below the one before it. Among all hypotheses that hold, the chance that any
is rejected at a level stays below that level, however the tests depend on each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the order given: compare each with the level itself."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return tuple(adjusted.tolist())
