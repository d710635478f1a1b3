"""Tables of the least squared error: against coremltools' exact clustering, brute force and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import coremltools as ct
import numba
import numpy as np
import pytest
from coremltools.models.neural_network.quantization_utils import _get_kmeans_lookup_table_and_weight
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coreml_pareto.search.stages.palettes import _compiled, best_cuts, kmeans_tables, nearest, uniform_tables

Array = np.ndarray[Any, Any]
DRAWS = {
    "normal": lambda rng, size: rng.normal(0, 0.05, size),
    "laplace": lambda rng, size: rng.laplace(0, 0.04, size),
    "student": lambda rng, size: rng.standard_t(3, size) * 0.03,
    "two humps": lambda rng, size: rng.normal(0, 0.01, size) + rng.choice([-0.3, 0.4], size),
}


def error(value: Array, found: tuple[Array, Array]) -> float:
    table, indices = found
    return float(((table.astype(np.float64)[indices] - value.astype(np.float64).reshape(-1)) ** 2).sum())


def squared(values: Array, counts: Array, cuts: Array) -> float:
    """The squared error of a clustering."""
    parts = [(values[a:b], counts[a:b]) for a, b in pairwise(cuts)]
    return float(sum(n @ (v - n @ v / n.sum()) ** 2 for v, n in parts))


def least(values: Array, counts: Array, clusters: int) -> float:
    """The least squared error, from all clusterings: cluster by cluster the best of all cuts before it."""
    places = range(len(values) + 1)
    costs = {(a, b): squared(values[a:b], counts[a:b], np.array([0, b - a])) for a in places for b in places if a < b}
    best = [costs.get((0, end), np.inf) for end in places]
    for _ in range(clusters - 1):
        best = [min((best[a] + costs[a, end] for a in range(end)), default=np.inf) for end in places]
    return best[-1]


def optimum(value: Array, bits: int) -> float:
    """The least squared error of any table, before it is rounded."""
    values, counts = np.unique(value.astype(np.float64), return_counts=True)
    return least(values, counts, 2**bits) if len(values) > 2**bits else 0.0


@st.composite
def histograms(draw: st.DrawFn) -> tuple[Array, Array, int]:
    """Different whole numbers, near each other so that many clusterings are equally good, counts, and clusters."""
    values = sorted(draw(st.sets(st.integers(-25, 25), min_size=3, max_size=14)))
    counts = draw(st.lists(st.integers(1, 4), min_size=len(values), max_size=len(values)))
    return np.array(values, float), np.array(counts, float), draw(st.integers(2, len(values) - 1))


@given(histograms())
@settings(max_examples=300, deadline=None)
def test_no_clustering_is_better(drawn: tuple[Array, Array, int]) -> None:
    values, counts, clusters = drawn
    cuts = best_cuts(values, counts, clusters)
    assert (len(cuts), cuts[0], cuts[-1]) == (clusters + 1, 0, len(values))
    assert (np.diff(cuts) > 0).all()
    assert squared(values, counts, cuts) == pytest.approx(least(values, counts, clusters), rel=1e-12)


@pytest.mark.parametrize("clusters", [2, 3, 7, 255, 256, 332, 334, 700, 999])
def test_numbers_of_clusters_that_share_a_price(clusters: int) -> None:
    """The best clusters of 1,000 evenly spaced values differ by one at most: all of threes and fours have one price."""
    values, counts = np.arange(1000.0), np.ones(1000)
    sizes = (1000 + np.arange(clusters)) // clusters
    best = (sizes * (sizes**2 - 1) / 12).sum()
    assert squared(values, counts, best_cuts(values, counts, clusters)) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("clusters", [2, 5, 16, 64, 256])
def test_as_good_as_the_exact_clustering_of_coremltools(draw: str, clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    for size in (700, 20_000, 200_000):
        weights = DRAWS[draw](rng, size).astype(np.float16).astype(np.float64)
        values, counts = np.unique(weights, return_counts=True)
        theirs = ct._deps._kmeans1d.cluster(values, clusters, weights=counts).clusters
        edges = np.flatnonzero(np.diff(theirs, prepend=-1, append=clusters))
        ours = best_cuts(values, counts, clusters)
        assert squared(values, counts, ours) == pytest.approx(squared(values, counts, edges), rel=1e-9)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_no_more_error_than_coremltools(bits: int) -> None:
    """They cluster 10,000 weights or more exactly, fewer by Lloyd's iteration from one random start."""
    rng = np.random.default_rng(bits)
    tensors = [draw(rng, size).astype(np.float16) for draw in DRAWS.values() for size in (700, 5000, 30_000)]
    for tensor, found in zip(tensors, kmeans_tables(tensors, bits), strict=True):
        table, indices = _get_kmeans_lookup_table_and_weight(bits, tensor)
        assert error(tensor, found) <= error(tensor, (table.astype(np.float16).reshape(-1), indices)) * (1 + 1e-12)


@given(arrays(np.float16, st.integers(1, 24), elements=st.floats(-4, 4, width=16)), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_any_weights(value: Array, bits: int) -> None:
    rounding = value.size * (4 * 2**-11) ** 2
    for make in (kmeans_tables, uniform_tables):
        ((table, indices),) = make([value], bits)
        assert (table.shape, table.dtype) == ((2**bits,), np.float16)
        assert (indices.shape, indices.dtype) == (value.shape, np.uint8)
        assert indices.max() < 2**bits
        distances = np.abs(table.astype(np.float64) - value.astype(np.float64)[:, None])
        used = distances[:, : len(set(table.astype(float).tolist()))]
        assert np.take_along_axis(distances, indices[:, None].astype(int), 1)[:, 0] == pytest.approx(used.min(1))
    ((best),) = kmeans_tables([value], bits)
    assert error(value, best) <= optimum(value, bits) + rounding
    if len(set(value.astype(float).tolist())) <= 2**bits:
        assert error(value, best) == 0


def test_tensors_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(1)
    tensors = [rng.normal(0, 0.1, size).astype(np.float16) for size in (5, 40, 2000, 300, 9000)]
    together = kmeans_tables(tensors, 4)
    for tensor, (table, indices) in zip(tensors, together, strict=True):
        ((alone, own),) = kmeans_tables([tensor], 4)
        assert np.array_equal(alone, table)
        assert np.array_equal(own, indices)


UNUSUAL = {
    "one weight": lambda rng: np.array([1.5]),
    "all equal": lambda rng: np.full(300, -0.25),
    "pruned": lambda rng: np.where(rng.random(20_000) < 0.9, 0, rng.normal(0, 0.1, 20_000)),
    "subnormal": lambda rng: rng.normal(0, 1e-6, 5000),
    "far from zero": lambda rng: rng.normal(100, 3, 5000),
    "two outliers": lambda rng: np.append(rng.normal(0, 0.01, 5000), [-50, 30]),
    "the largest numbers": lambda rng: rng.uniform(-65504, 65504, 3000),
}


@pytest.mark.parametrize("make", UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_unusual_weights(make: Callable[[np.random.Generator], Array], bits: int) -> None:
    tensor = make(np.random.default_rng(bits)).astype(np.float16)
    ((table, indices),) = kmeans_tables([tensor], bits)
    best, clusters = _get_kmeans_lookup_table_and_weight(bits, tensor, force_kmeans1d=True)
    assert error(tensor, (table, indices)) <= error(tensor, (best.astype(np.float16), clusters)) * (1 + 1e-9)


def test_many_equal_weights() -> None:
    """numpy 2.3.5 sorts such arrays wrongly under AVX-512 when they are large."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.normal(0, 0.2, 16)).astype(np.float16)
    tensor = values[rng.integers(0, 16, 50_000)]
    ((table, indices),) = kmeans_tables([tensor], 4)
    assert np.array_equal(table[indices], tensor)
    assert table.astype(float).tolist() == sorted(set(tensor.astype(float).tolist()))


def test_zeros_of_both_signs_are_one_value() -> None:
    value = np.array([0.0, -0.0, 1.0, -0.0], np.float16)
    table, indices = kmeans_tables([value], 1)[0]
    assert table.tolist() == [0, 1]
    assert indices.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_even_tables_reach_from_end_to_end(bits: int) -> None:
    for seed in range(50):
        value = np.random.default_rng(seed).normal(0, 10.0 ** (seed % 7 - 3), 50).astype(np.float16)
        ((table, indices),) = uniform_tables([value], bits)
        used = table[: int(indices.max()) + 1].astype(float)
        assert (used.min(), used.max()) == (value.min(), value.max())


def test_nearest_takes_a_table_as_it_is_stored() -> None:
    """Centres that fall together in fp16 are one entry."""
    table, indices = nearest(np.array([1.0, 2.0], np.float16), np.array([1.0, 1.00001, 2.0]), 2)
    assert table.tolist() == [1, 2, 0, 0]
    assert indices.tolist() == [0, 1]


def test_compiles_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that may write neither to the installation nor to a home."""
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(twice)
    assert _compiled(twice)(2) == 4


def twice(value: int) -> int:
    return 2 * value
