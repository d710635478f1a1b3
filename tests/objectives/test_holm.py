"""Holm's p-values against a closed testing procedure over every intersection of hypotheses, and a published example."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coreml_pareto.objectives.holm import holm

P = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def closed(p: Sequence[float]) -> list[float]:
    """The largest Bonferroni p-value of all sets of hypotheses that hold one (Marcus, Peritz & Gabriel 1976)."""
    every = [s for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)]
    tests = {s: min(1.0, len(s) * min(p[i] for i in s)) for s in every}
    return [max(value for s, value in tests.items() if i in s) for i in range(len(p))]


@given(P)
def test_it_is_the_closed_test_of_bonferroni(p: list[float]) -> None:
    assert holm(p) == pytest.approx(closed(p), abs=1e-12)


@given(P)
def test_it_lies_between_the_plain_p_and_bonferroni(p: list[float]) -> None:
    for plain, adjusted in zip(p, holm(p), strict=True):
        assert plain <= adjusted <= min(1.0, len(p) * plain) + 1e-12


def test_four_p_values_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
