"""Thresholds of confidence: counts by brute force, the bound by its definition, and what it promises by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from coreml_pareto.objectives.accuracy import wilson
from coreml_pareto.search.delivery.thresholds import GRID, LEVEL, lowest, table


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_each_row_counts_what_is_above_its_threshold(pictures: list[tuple[float, bool]]) -> None:
    confidence, right = np.array([c for c, _ in pictures]), np.array([r for _, r in pictures])
    rows = table(confidence, right)
    assert [row.threshold for row in rows] == list(GRID)
    for row in rows:
        kept = [was for sure, was in pictures if sure >= row.threshold]
        assert (row.answered, row.right, row.images) == (len(kept), sum(kept), len(pictures))
        assert row.coverage == len(kept) / len(pictures)
        if kept:
            assert row.accuracy == pytest.approx(sum(kept) / len(kept))
            assert (row.low, row.high) == wilson(sum(kept), len(kept))
            assert row.floor <= row.accuracy
        else:
            assert row.accuracy is None and row.floor == 0


def test_the_floor_is_clopper_and_pearsons_shared_among_the_rows() -> None:
    confidence, right = np.full(100, 0.97), np.arange(100) < 93
    rows = table(confidence, right)
    exact = binomtest(93, 100, alternative="greater").proportion_ci(1 - (1 - LEVEL) / len(GRID), method="exact")
    assert rows[0].floor == pytest.approx(exact.low)
    assert rows[-1].answered == 0


def test_the_floor_holds_for_whichever_row_is_picked() -> None:
    """Draw validation splits of a model whose accuracy at each threshold is known; how often does any floor exceed it?"""
    random = np.random.default_rng(0)
    broken = 0
    for _ in range(400):
        confidence = random.uniform(0.2, 1, 300)
        right = random.uniform(size=300) < confidence
        for row in table(confidence, right):
            begin = max(row.threshold, 0.2)
            broken += row.floor > (1 + begin) / 2  # the mean of a uniform confidence above it
            if row.floor > (1 + begin) / 2:
                break
    assert broken / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_the_lowest_threshold_answers_most() -> None:
    confidence = np.concatenate([np.full(1000, 0.55), np.full(1000, 0.92)])
    right = np.concatenate([np.arange(1000) < 600, np.arange(1000) < 990])
    rows = table(confidence, right)
    found = lowest(rows, 0.95)
    assert found is not None and found.threshold == 0.6 and found.coverage == 0.5
    assert lowest(rows, 0.999) is None
