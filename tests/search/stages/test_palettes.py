"""Tables of the least squared error: against coremltools' exact clustering, brute force and closed forms."""

from __future__ import annotations

from typing import Any

import coremltools as ct
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coreml_pareto.search.stages.palettes import kmeans_tables, nearest, uniform_tables

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


def optimum(value: Array, bits: int) -> float:
    """The least squared error, with the table rounded to fp16 as it is stored."""
    levels, places, counts = np.unique(value.astype(np.float64), return_inverse=True, return_counts=True)
    best = ct._deps._kmeans1d.cluster(levels, min(len(levels), 2**bits), weights=counts)
    table = np.zeros(2**bits, np.float16)
    table[: len(best.centroids)] = best.centroids
    return error(value, (table, np.asarray(best.clusters)[places.reshape(-1)]))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_at_most_a_thousandth_from_the_optimum(bits: int) -> None:
    rng = np.random.default_rng(bits)
    tensors = [draw(rng, size).astype(np.float16) for draw in DRAWS.values() for size in (700, 5000, 30_000)]
    for tensor, found in zip(tensors, kmeans_tables(tensors, bits), strict=True):
        assert error(tensor, found) <= optimum(tensor, bits) * 1.001


@given(
    arrays(np.float16, st.integers(1, 300), elements=st.floats(-4, 4, width=16, allow_subnormal=False)),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
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
    (best,), (even,) = kmeans_tables([value], bits), uniform_tables([value], bits)
    assert error(value, best) <= error(value, even) + rounding
    assert error(value, best) <= 1.05 * optimum(value, bits) + rounding
    if len(set(value.astype(float).tolist())) <= 2**bits:
        assert error(value, best) == 0


def test_two_entries_against_brute_force() -> None:
    """Two clusters in one dimension are a cut of the sorted values."""
    value = np.random.default_rng(3).normal(0, 1, 200).astype(np.float16)
    ordered = np.sort(value.astype(np.float64))
    best = min(
        ((ordered[:i] - ordered[:i].mean()) ** 2).sum() + ((ordered[i:] - ordered[i:].mean()) ** 2).sum()
        for i in range(1, len(ordered))
    )
    assert error(value, kmeans_tables([value], 1)[0]) == pytest.approx(best, rel=1e-4)


def test_tensors_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(1)
    tensors = [rng.normal(0, 0.1, size).astype(np.float16) for size in (5, 40, 2000, 300, 9000)]
    together = kmeans_tables(tensors, 4)
    for tensor, (table, indices) in zip(tensors, together, strict=True):
        ((alone, own),) = kmeans_tables([tensor], 4)
        assert np.array_equal(alone, table)
        assert np.array_equal(own, indices)


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
