"""Which packages are worth a look, and which one to take?  Minimisation only: points are losses, one row each.

Dominance and hypervolume are moocore's (M. López-Ibáñez and others), which implement Kung et al. 1975 and Guerreiro and
Fonseca 2018. The recommendation is the smallest augmented Chebyshev distance to the ideal point (R. E. Steuer and
E.-U. Choo, Mathematical Programming 26, 1983): max over the axes, plus rho times the sum, which breaks ties in favour of
the point that is better on the rest. Costs rise together (a smaller network is faster, too): in the sum they count as one,
or on a front of two packages the smaller one would always win.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit
from scipy.stats import rankdata

Points = NDArray[np.float64]  # n points × m losses

Scale = Literal["plain", "ratio", "odds"]
"""How an axis is compared: by difference; a cost by its ratio; minus a share by the odds of its error."""
RHO: Final = 1e-3
LEAST_RANGE: Final = math.log(2.0)
"""By ratio or odds, a front's range counts as a factor of two at least."""
LEAST_SHARE: Final = 1e-3
"""Shares, and what lacks to one, are taken as that at least: beyond, odds say more than images can."""


def dominates(a: ArrayLike, b: ArrayLike) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better."""
    left, right = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return bool((left <= right).all() and (left < right).any())


def front(points: ArrayLike) -> NDArray[np.intp]:
    """Indices of the points that no other point dominates, in ascending order; equal points stay together.

    Infinite losses are compared like any number; nan is a ValueError.
    """
    table = _table(points)
    if not len(table):
        return np.empty(0, dtype=np.intp)
    if not np.isfinite(table).all():  # moocore 0.3 miscounts infinities from four axes on; only the order counts
        table = rankdata(table, method="dense", axis=0).astype(float)
    undominated: NDArray[np.bool_] = moocore.is_nondominated(table, keep_weakly=True)
    return np.flatnonzero(undominated)


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the points dominate below the reference point; points that are not below it add nothing."""
    table, corner = _table(points), np.asarray(reference, dtype=float)
    if table.size == 0:
        return 0.0
    if table.shape[1:] != corner.shape:
        raise ValueError(f"the reference has one number per axis; got {corner.shape} for points {table.shape}")
    if np.isneginf(table).any() or not np.isfinite(corner).all():
        raise ValueError("a hypervolume needs a finite reference and points above -inf")
    inside = table[(table < corner).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=corner)) if len(inside) else 0.0


def balanced_distance(points: ArrayLike, scales: Sequence[Scale]) -> NDArray[np.float64]:
    """Augmented Chebyshev distance of each point to the ideal, axes scaled to the range of the finite front points.

    By ratio or by odds that range counts as a factor of two at least: where all differ by a few percent, or by images
    that may be luck, that must not weigh as much as a real choice. An axis on which all front points agree says nothing
    and is left out. Points with an infinite loss are infinitely far.

    Args:
        points: n × m losses.
        scales: m of them; `ratio` needs positive losses, `odds` minus a share.
    """
    table = _table(points)
    finite = np.isfinite(table).all(axis=1)
    distance = np.full(len(table), np.inf)
    if not finite.any():
        return distance
    compared = _compared(table[finite], scales)
    best = compared[front(compared)]
    ideal, extent = best.min(axis=0), np.ptp(best, axis=0)
    told = extent > 0
    least = np.array([0.0 if scale == "plain" else LEAST_RANGE for scale in scales])
    gap = (compared[:, told] - ideal[told]) / np.maximum(extent, least)[told]
    distance[finite] = gap.max(axis=1, initial=0.0) + RHO * gap @ _weights(np.array(scales)[told])
    return distance


def _weights(scales: NDArray[np.str_]) -> NDArray[np.float64]:
    """1 for each axis, and for all costs together."""
    costs = scales == "ratio"
    return np.where(costs, 1 / max(1, costs.sum()), 1.0)


def shortlist(points: ArrayLike, scales: Sequence[Scale], priority: int | None = None) -> NDArray[np.intp]:
    """Indices of the front's finite points, the recommended one first.

    By `balanced_distance`, or by one objective (its index), ties then broken by that distance; remaining ties go to
    the lower index. Empty where no point is finite.
    """
    table = _table(points)
    if not len(table):
        return np.empty(0, dtype=np.intp)
    distance = balanced_distance(table, scales)
    kept = front(table)
    kept = kept[np.isfinite(distance[kept])]
    first = np.zeros(len(table)) if priority is None else table[:, priority]
    order: NDArray[np.intp] = kept[np.lexsort((distance[kept], first[kept]))]
    return order


def best(points: ArrayLike, scales: Sequence[Scale], priority: int | None = None) -> int:
    """Index of the recommended point: the first of `shortlist`. ValueError where no point is finite."""
    order = shortlist(points, scales, priority)
    if not len(order):
        raise ValueError("nothing to recommend: no point with finite losses")
    return int(order[0])


def rank_correlation(points: ArrayLike) -> NDArray[np.float64]:
    """Spearman's rho between the axes, m × m; nan where an axis is constant or there are fewer than three points.

    Near 1 the two axes say the same; near -1 they are the conflict.
    """
    table = _table(points)
    width = table.shape[1]
    if len(table) < 3:
        return np.full((width, width), np.nan)
    ranks = rankdata(table, axis=0)
    ranks -= ranks.mean(axis=0)
    norms = np.sqrt((ranks**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation: NDArray[Any] = ranks.T @ ranks / np.outer(norms, norms)
    return np.clip(correlation, -1.0, 1.0)


def _table(points: ArrayLike) -> Points:
    table = np.asarray(points, dtype=float)
    if table.shape == (0,):
        return np.empty((0, 0))
    if table.ndim != 2:
        raise ValueError(f"points are a table, one row per point; got shape {table.shape}")
    if np.isnan(table).any():
        raise ValueError("losses are numbers or infinite; got nan")
    return table


def _compared(table: Points, scales: Sequence[Scale]) -> Points:
    """Losses as logarithms where they are compared by ratio or odds."""
    chosen = np.asarray(scales, dtype=str)
    if chosen.shape != table.shape[1:]:
        raise ValueError(f"one scale per axis; got {len(chosen)} for {table.shape[1]} axes")
    ratio, odds = chosen == "ratio", chosen == "odds"
    if (table[:, ratio] <= 0).any():
        raise ValueError("an axis that is compared by ratio has positive losses only")
    compared = table.copy()
    compared[:, ratio] = np.log(table[:, ratio])
    compared[:, odds] = -logit(np.clip(-table[:, odds], LEAST_SHARE, 1 - LEAST_SHARE))
    return compared
