"""Which 2^n values stand best for the weights of a tensor? One-dimensional k-means, solved exactly.

Sorted, the clusters of one-dimensional k-means are intervals, so a clustering is a row of cuts, and its squared error a
sum of interval costs that prefix sums give at once (Wang & Song 2011, R Journal 3/2; Grønlund et al. 2017,
arXiv:1701.07204). fp16 tensors have few different values, so everything works on sorted values with counts.

The number of clusters is relaxed to a price for each (Aggarwal, Schieber & Tokuyama 1994, Discrete & Computational
Geometry 12; Grønlund et al., section 3). The costs have Monge's property: of four cuts a < b < c < d,
cost(a, c) + cost(b, d) <= cost(a, d) + cost(b, c). From it follows

- that the cheapest clustering at a price takes O(n log n): a later start of the last cluster, once better than an
  earlier one, stays so, and a queue knows which is best from where on (Galil & Park 1992, Theoretical Computer
  Science 92, section 3);
- that the least error is convex in the number of clusters. A clustering that is cheapest at some price is therefore the
  best with as many clusters, and every number of them has such a price.

The price is searched for between the two best clusterings known with fewer and with more clusters. Where a price is
that of several numbers of clusters, the one wanted is spliced together from those two.

At last the table is rounded to the weights' own type and every weight goes to the nearest entry of it. A search among
the fp16 numbers around every entry finds nothing to speak of: 10⁻⁴ less error at 8 bits, 10⁻⁵ at 6 (MobileNetV2).

Each position depends on those before it, some hundred thousand of them in a network, which numpy cannot do side by
side: numba compiles these loops, in about three seconds on first use, and keeps the result next to this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CELLS = 8
"""A first price comes from a grid of as many cells for each cluster."""

_NUMBERS = np.unique(np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64))
_NUMBERS = _NUMBERS[np.isfinite(_NUMBERS)]
"""All fp16 numbers, ascending, in fp64; 0 and -0 are one."""

_RANKS = np.searchsorted(_NUMBERS, np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64))
"""The place among them of every pattern of 16 bits."""


def kmeans_tables(tensors: Sequence[Array], bits: int) -> list[tuple[Array, Array]]:
    """Return for each tensor its best table [2^bits] of the tensor's type, and all its weights' indices (uint8).

    A tensor of fewer different values than entries is stored exactly; the rest of its table is zero.
    """
    return [nearest(tensor, _centres(*_histogram(tensor), 2**bits), bits) for tensor in tensors]


def uniform_tables(tensors: Sequence[Array], bits: int) -> list[tuple[Array, Array]]:
    """Return for each tensor an evenly spaced table [2^bits] and all its weights' indices (uint8)."""
    return [nearest(t, np.linspace(float(t.min()), float(t.max()), 2**bits), bits) for t in tensors]


def nearest(tensor: Array, centres: Array, bits: int) -> tuple[Array, Array]:
    """Return the table of these centres in the tensor's type and the index of the entry nearest to each weight."""
    rounded = np.unique(centres.astype(tensor.dtype).astype(np.float64))
    table = np.zeros(2**bits, tensor.dtype)
    table[: len(rounded)] = rounded
    limits = np.searchsorted(_NUMBERS, (rounded[1:] + rounded[:-1]) / 2, side="right")
    entries = np.repeat(np.arange(len(rounded), dtype=np.uint8), np.diff(limits, prepend=0, append=len(_NUMBERS)))
    return table, entries[_ranks(tensor)]


def _ranks(weights: Array) -> Array:
    ranks: Array = _RANKS[weights.reshape(-1).view(np.uint16)]
    return ranks


def _histogram(weights: Array) -> tuple[Array, Array]:
    """The different values of fp16 weights, ascending, in fp64, and how often each occurs.

    Not sorted as they are: numpy 2.3.5 does so wrongly with large fp16 arrays of many equal values under AVX-512.
    """
    occurrences = np.bincount(_ranks(weights))
    present = np.flatnonzero(occurrences > 0)
    return _NUMBERS[present], occurrences[present].astype(np.float64)


def _centres(values: Array, counts: Array, entries: int) -> Array:
    """The means of the best clusters, at most `entries`."""
    if len(values) <= entries:
        return values
    starts = best_cuts(values, counts, entries)[:-1]
    means: Array = np.add.reduceat(counts * values, starts) / np.add.reduceat(counts, starts)
    return means


def best_cuts(values: Array, counts: Array, clusters: int) -> Array:
    """Return the cuts [clusters + 1] of the least squared error; cluster i is values[cuts[i] : cuts[i + 1]].

    Args:
        values: ascending, all different, more than clusters.
        counts: how often each occurs.
        clusters: at least 2.
    """
    centred = values - np.average(values, weights=counts)  # so that nothing cancels when sums are squared
    sizes, sums = _prefix(counts), _prefix(counts * centred)
    cuts: Array = _search(sizes, sums, clusters, _first_price(sizes, sums, clusters))[0]
    return cuts


def _prefix(values: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(values)])


def _first_price(sizes: Array, sums: Array, clusters: int) -> float:
    """The price on a grid where that is much coarser than the values, else that of clusters of equally many values.

    The error falls with the square of the number of clusters, so one more saves 2 / clusters of it.
    """
    end = len(sizes) - 1
    step = end // (CELLS * clusters)
    if step > 1:
        grid = np.append(np.arange(0, end, step), end)
        sizes, sums = sizes[grid], sums[grid]
        return float(_search(sizes, sums, clusters, _first_price(sizes, sums, clusters))[1])
    equal = np.linspace(0, end, clusters + 1).astype(np.int64)
    return 2 * (_explained(sizes, sums, np.arange(end + 1)) - _explained(sizes, sums, equal)) / clusters


_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    """Compile on first use, and keep that for other processes where there is a place to write to."""
    try:
        return cast(_Function, numba.njit(cache=True)(function))
    except RuntimeError:  # neither next to this file nor in the user's own cache
        return cast(_Function, numba.njit(function))


_inlined = numba.njit(inline="always")  # in the innermost loop: handing arrays on takes longer than the work


@_inlined
def _part(sizes: Array, sums: Array, first: int, last: int) -> Any:
    """What a cluster takes off the sum of squares: its size times its squared mean."""
    total = sums[last] - sums[first]
    return total * total / (sizes[last] - sizes[first])


@_compiled
def _explained(sizes: Array, sums: Array, cuts: Array) -> float:
    """What a clustering takes off the sum of squares, which leaves its squared error."""
    explained = 0.0
    for cluster in range(len(cuts) - 1):
        explained += _part(sizes, sums, cuts[cluster], cuts[cluster + 1])
    return explained


@_compiled
def _search(sizes: Array, sums: Array, clusters: int, price: float) -> tuple[Array, float]:
    """Return the best cuts, and a price at which no others are cheaper; `price` is where to begin.

    Two prices are tried. One follows from the last: the error goes with clusters^-2 and the price with clusters^-3. Where
    that leaves the range in which the price must be, or found nothing new, the other is that at which the two
    clusterings known cost the same: a number between theirs is found there, unless all between lie on that line.
    """
    end = len(sizes) - 1
    fewer, more = np.array([0, end]), np.arange(end + 1)
    low, high = 0.0, np.inf
    while True:
        even = not low < price < high
        if even:
            price = (_explained(sizes, sums, more) - _explained(sizes, sums, fewer)) / (len(more) - len(fewer))
        cuts = _cheapest(sizes, sums, price)
        found = len(cuts) - 1
        if found == clusters:
            return cuts, price
        if len(fewer) < len(cuts) < len(more):
            if found > clusters:
                more, low = cuts, price
            else:
                fewer, high = cuts, price
            price *= (found / clusters) ** 3
        elif even:
            return _spliced(fewer, more, clusters), price
        else:
            price = 0.0  # out of range


@_compiled
def _spliced(fewer: Array, more: Array, clusters: int) -> Array:
    """As good a clustering as two that are cheapest at the same price, with a number of clusters between theirs.

    The first clusters are those of `more`, up to one that lies within a cluster of `fewer`, and the rest those of
    `fewer`. The two other parts make a clustering too, and by Monge's property the two new ones cost at most what the
    two old ones did.
    """
    shift = clusters - (len(fewer) - 1)
    last = 0
    while more[last + shift + 1] > fewer[last + 1]:
        last += 1
    return np.concatenate((more[: last + shift + 1], fewer[last + 1 :]))


@_compiled
def _cheapest(sizes: Array, sums: Array, price: float) -> Array:
    """Return the cuts of the cheapest clustering when every cluster costs its error and a price.

    `starts` are the positions that are, or will be, the best start of the last cluster: number i from `since[i]` on.
    """
    end = len(sizes) - 1
    costs, before = np.zeros(end + 1), np.zeros(end + 1, np.int64)  # up to each position, less the sum of squares
    starts, since = np.zeros(end + 1, np.int64), np.ones(end + 1, np.int64)
    first = last = 0
    for position in range(1, end + 1):
        if first < last and since[first + 1] == position:
            first += 1
        start = starts[first]
        before[position] = start
        costs[position] = costs[start] - _part(sizes, sums, start, position) + price
        while last > first and _better(costs, sizes, sums, position, starts[last], since[last]):
            last -= 1
        after = max(since[last], position + 1)
        after = _overtaking(costs, sizes, sums, position, starts[last], after)
        if after <= end:
            last += 1
            starts[last], since[last] = position, after
    return _walk(before)


@_inlined
def _better(costs: Array, sizes: Array, sums: Array, later: int, earlier: int, end: int) -> Any:
    """Whether a last cluster up to `end` had better start later."""
    return costs[later] - _part(sizes, sums, later, end) < costs[earlier] - _part(sizes, sums, earlier, end)


@_inlined
def _overtaking(costs: Array, sizes: Array, sums: Array, later: int, earlier: int, position: int) -> int:
    """The first position, from this one on, from which the later start is better; beyond the end where there is none."""
    end = len(sizes) - 1
    low, high, step = position - 1, position, 1
    while high <= end and not _better(costs, sizes, sums, later, earlier, high):
        low, high, step = high, high + step, 2 * step
    high = min(high, end + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if _better(costs, sizes, sums, later, earlier, middle):
            high = middle
        else:
            low = middle
    return high


@_compiled
def _walk(before: Array) -> Array:
    """The cuts that lead to the end, ascending."""
    cuts = [len(before) - 1]
    while cuts[-1] > 0:
        cuts.append(before[cuts[-1]])
    return np.array(cuts[::-1])
